"""The console's server over real sockets, with a desk that keeps what it was told: no ROS."""

import contextlib
import http.client
import json
import re
import socket
import threading
import time

import pytest
import websockets
from gwm.console_web import BIGGEST, FILES, MOST_CLIENTS, PAGE, Console, Server
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from gwm_core.control.access import OPERATOR, VIEWER, Access


class Desk:
    """Knows two commands and shows one picture."""

    def __init__(self):
        self.pictures, self.done, self.viewer_port = {"live/front": (1, b"\xff\xd8jpeg")}, [], 0

    def state(self):
        return {"gate": {"state": "HOLD"}}

    def act(self, command):
        if command["do"] not in ("stop", "hold", "arm", "beat"):
            raise ValueError(f"no such command: {command}")
        self.done.append(command["do"])


class Site:
    def __init__(self):
        self.desk, self.log = Desk(), []
        sock = socket.create_server(("127.0.0.1", 0))
        self.port = sock.getsockname()[1]
        self.host = f"127.0.0.1:{self.port}"
        self.console = Console(self.desk, Access({"right": OPERATOR, "look": VIEWER}, (self.host,)), self.log.append)
        self.server = Server(self.console, sock)
        self.server.start()

    def get(self, path="/", **headers):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        connection.request("GET", path, headers={"Host": self.host, **{k.title(): v for k, v in headers.items()}})
        answer = connection.getresponse()
        return answer.status, dict(answer.getheaders()), answer.read()

    def open(self, token="right", origin=None):
        return connect(f"ws://{self.host}/socket", origin=origin or f"http://{self.host}",
                       additional_headers={"Cookie": f"gwm_console={token}"}, max_queue=None)  # fmt: skip

    def until(self, done, limit=5.0):
        end = time.monotonic() + limit
        while not done():
            assert time.monotonic() < end, (self.desk.done, self.log[-3:])
            time.sleep(0.01)


@pytest.fixture
def site():
    site = Site()
    yield site
    site.server.stop()


def say(page, what, **more):
    page.send(json.dumps({"do": what, **more}))


def states(page, enough, limit=5.0):
    """Read until a state for which ``enough`` holds."""
    end = time.monotonic() + limit
    while time.monotonic() < end:
        data = page.recv(timeout=limit)
        if isinstance(data, str) and enough(json.loads(data)):
            return json.loads(data)
    raise AssertionError("no such state")


def closed(page):
    with pytest.raises(websockets.ConnectionClosed) as found:
        while True:
            page.recv(timeout=5)
    return found.value.rcvd.code if found.value.rcvd else None


def test_the_token_becomes_a_cookie_and_leaves_the_address_bar(site):
    status, headers, _ = site.get("/?token=right")
    cookie = headers["set-cookie"]
    assert status == 303 and headers["location"] == "/" and "HttpOnly" in cookie and "samesite=strict" in cookie.lower()
    status, headers, page = site.get("/", cookie=cookie.split(";")[0])
    assert status == 200 and b"STOP" in page and "default-src 'none'" in headers["content-security-policy"]
    for name in FILES:
        assert site.get(f"/{name}", cookie="gwm_console=look")[0] == 200


@pytest.mark.parametrize("path, headers, status", [
    ("/", {}, 401),
    ("/?token=wrong", {}, 401),
    ("/console.js", {}, 401),
    ("/?token=right", {"host": "evil.example"}, 421),
    ("/?token=right", {"origin": "http://evil.example"}, 403),
    ("/../console_web.py", {"cookie": "gwm_console=right"}, 404),
    ("/%2e%2e%2fconsole_web.py", {"cookie": "gwm_console=right"}, 404),
    ("/docs", {"cookie": "gwm_console=right"}, 404),
    ("/openapi.json", {"cookie": "gwm_console=right"}, 404),
])  # fmt: skip
def test_strangers_get_nothing_and_are_written_down(site, path, headers, status):
    found, _, body = site.get(path, **headers)
    assert found == status and b"Traceback" not in body and b"STOP" not in body
    assert status == 404 or site.log[-1]["refused"]


@pytest.mark.parametrize("token, origin", [("wrong", None), ("right", "http://evil.example"), ("", None)])
def test_sockets_of_strangers_are_not_opened(site, token, origin):
    with pytest.raises(websockets.InvalidStatus):
        site.open(token, origin)
    assert site.log[-1]["refused"] and site.console.clients == 0


def test_a_page_sees_state_and_pictures_and_is_obeyed(site):
    with site.open() as page:
        assert states(page, lambda s: s["control"] == "yours")["gate"] == {"state": "HOLD"}
        picture = next(data for data in iter(lambda: page.recv(timeout=5), None) if isinstance(data, bytes))
        assert picture == b"live/front\0\xff\xd8jpeg"
        say(page, "arm")
        say(page, "beat")
        site.until(lambda: site.desk.done == ["arm", "beat"])
        say(page, "explode")
        site.until(lambda: "refused" in site.log[-1])
    commands = [entry for entry in site.log if "command" in entry]
    assert [c["command"]["do"] for c in commands] == ["arm", "explode"] and "no such command" in commands[1]["refused"]


def test_one_operator_at_a_time_but_anyone_stops(site):
    with site.open() as first, site.open() as second, site.open("look") as third:
        say(first, "arm")
        site.until(lambda: site.desk.done == ["arm"])
        states(second, lambda s: s["control"] == "other")
        states(third, lambda s: s["control"] == "view")
        say(second, "arm")
        say(third, "arm")
        site.until(lambda: len([e for e in site.log if "refused" in e]) == 2)
        say(second, "stop")
        say(third, "hold")
        site.until(lambda: sorted(site.desk.done) == ["arm", "hold", "stop"])
        first.close()
        site.until(lambda: site.console.clients == 2)
        say(second, "arm")
        site.until(lambda: site.desk.done[-1] == "arm")


def test_a_flood_is_cut_off_and_a_stop_within_it_is_obeyed(site):
    with site.open() as page, site.open() as other:
        with contextlib.suppress(ConnectionClosed):
            for _ in range(60):
                say(page, "arm")
        assert closed(page) == 1008
        assert 20 <= site.desk.done.count("arm") <= 60
        say(other, "stop")
        site.until(lambda: site.desk.done[-1] == "stop")


@pytest.mark.parametrize("message", ["x" * (BIGGEST + 1), "no json", "[]", "{}", '{"do"', "1e999", '{"do": ["stop"]}'])
def test_nonsense_is_cut_off(site, message):
    with site.open() as page:
        page.send(message)
        if message == '{"do": ["stop"]}':
            site.until(lambda: any("refused" in entry for entry in site.log))
        else:
            assert closed(page) in (1008, 1009)
    assert site.desk.done == []


def test_a_huge_frame_is_refused_before_it_is_read(site):
    with site.open() as page:
        page.socket.sendall(b"\x81\xff" + (100 << 20).to_bytes(8, "big") + b"mask" + bytes(65536))
        assert closed(page) == 1009
    assert site.get("/?token=right")[0] == 303


def test_too_many_pages_are_refused(site):
    pages = [site.open() for _ in range(MOST_CLIENTS)]
    with pytest.raises(websockets.InvalidStatus):
        site.open()
    for page in pages:
        page.close()
    site.until(lambda: site.console.clients == 0)
    site.open().close()


def test_a_client_that_does_not_read_delays_nobody(site):
    slow, stop = site.open(), threading.Event()
    slow.recv_events_paused = True

    def draw():
        number = 1
        while not stop.is_set():
            number += 1
            site.desk.pictures["live/front"] = number, bytes(200_000)
            time.sleep(0.01)

    thread = threading.Thread(target=draw)
    thread.start()
    try:
        slow.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        with site.open() as page:
            for turn in range(20):
                begun = time.monotonic()
                say(page, "stop")
                site.until(lambda turn=turn: site.desk.done.count("stop") == turn + 1)
                assert time.monotonic() - begun < 1.0
    finally:
        stop.set()
        thread.join()
        slow.close()


def test_the_page_asks_nothing_of_other_hosts_and_stops_on_press():
    text = "".join((PAGE / name).read_text() for name in ("console.html", *FILES))
    assert not re.search(r"https?://|//[a-z]+\.[a-z]", text.replace("ws:", ""))
    assert '$("stop").onpointerdown' in text and "not an emergency stop" in text
    assert not re.search(r"<script(?! src)|<style|\son\w+=", (PAGE / "console.html").read_text())
