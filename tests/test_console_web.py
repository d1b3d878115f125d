"""The console's server over real sockets, with a backend that keeps its commands: no ROS."""

import contextlib
import http.client
import json
import re
import socket
import threading
import time

import pytest
import websockets
from gwm.console.access import LATE, OPERATOR, VIEWER, Access, cookie_name
from gwm.console.page_socket import MAX_MESSAGE
from gwm.console.server import FILES, MAX_CLIENTS, PAGE, ConsoleServer, Server
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect


class FakeBackend:
    """Knows two commands and shows one picture."""

    def __init__(self):
        self.pictures, self.done, self.viewer_port = {"live/front": (1, b"\xff\xd8jpeg")}, [], 0

    def state(self):
        return {"gate": {"state": "HOLD"}}

    def act(self, command, answer):
        if command["do"] not in ("stop", "hold", "arm", "beat"):
            raise ValueError(f"no such command: {command}")
        self.done.append(command["do"])
        # as the node would
        threading.Thread(target=answer, args=(command["do"] != "hold", "so it is")).start()


TOKENS = {"right": OPERATOR, "look": VIEWER}


class Site:
    def __init__(self, port=0, tokens=TOKENS):
        self.backend, self.log = FakeBackend(), []
        sock = socket.create_server(("127.0.0.1", port))
        self.port = sock.getsockname()[1]
        self.host = f"127.0.0.1:{self.port}"
        self.console = ConsoleServer(
            self.backend, Access(tokens, (self.host,)), self.log.append, "here/console.url"
        )
        self.server = Server(self.console, sock)
        self.server.start()

    def get(self, path="/", **headers):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=15)
        connection.request(
            "GET", path, headers={"Host": self.host, **{k.title(): v for k, v in headers.items()}}
        )
        answer = connection.getresponse()
        return answer.status, dict(answer.getheaders()), answer.read()

    def cookie(self, token):
        return f"{cookie_name(TOKENS.get(token, OPERATOR), self.host)}={token}"

    def open(self, token="right", origin=None):
        path = "/look/socket" if token == "look" else "/socket"
        return connect(
            f"ws://{self.host}{path}",
            origin=origin or f"http://{self.host}",
            additional_headers={"Cookie": self.cookie(token)},
            max_queue=None,
        )

    def until(self, done, limit=5.0):
        end = time.monotonic() + limit
        while not done():
            assert time.monotonic() < end, (self.backend.done, self.log[-3:])
            time.sleep(0.01)


@pytest.fixture
def site():
    site = Site()
    yield site
    site.server.stop()


def frame(page, limit=5.0):
    """Read until a frame's state, and say that it was seen."""
    while True:
        data = page.recv(timeout=limit)
        if isinstance(data, str) and "frame" in json.loads(data):
            page.send(json.dumps({"do": "here", "frame": json.loads(data)["frame"]}))
            return json.loads(data)


def say(page, what, **more):
    """As a page does that shows the newest frame."""
    page.send(json.dumps({"do": what, "frame": frame(page)["frame"], **more}))


def answer(page, number, limit=5.0):
    """Read until the answer to a command."""
    while True:
        data = page.recv(timeout=limit)
        message = json.loads(data) if isinstance(data, str) else {}
        if "frame" in message:
            page.send(json.dumps({"do": "here", "frame": message["frame"]}))
        if message.get("answer") == number and "answer" in message:
            return message["ok"], message["text"]


def states(page, enough, limit=5.0):
    """Read until a state for which ``enough`` holds."""
    end = time.monotonic() + limit
    while time.monotonic() < end:
        if enough(state := frame(page, limit)):
            return state
    raise AssertionError("no such state")


def closed(page):
    with pytest.raises(websockets.ConnectionClosed) as found:
        while True:
            page.recv(timeout=15)
    return found.value.rcvd.code if found.value.rcvd else None


def test_the_token_becomes_a_cookie_and_leaves_the_address_bar(site):
    status, headers, _ = site.get("/?token=right")
    cookie = headers["set-cookie"]
    assert (
        status == 303
        and headers["location"] == "/"
        and "HttpOnly" in cookie
        and "samesite=strict" in cookie.lower()
    )
    assert str(site.port) in cookie.partition("=")[0]  # another console's cookie is another
    status, headers, page = site.get("/", cookie=cookie.split(";")[0])
    assert (
        status == 200
        and b"STOP" in page
        and "default-src 'none'" in headers["content-security-policy"]
    )
    for name in FILES:
        assert site.get(f"/{name}", cookie=site.cookie("look"))[0] == 200


@pytest.mark.parametrize(
    "path, headers, status",
    [
        ("/", {}, 401),
        ("/?token=wrong", {}, 401),
        ("/console.js", {}, 401),
        ("/?token=right", {"host": "evil.example"}, 421),
        ("/?token=right", {"origin": "http://evil.example"}, 403),
        ("/../console_web.py", {"cookie": "right"}, 404),
        ("/%2e%2e%2fconsole_web.py", {"cookie": "right"}, 404),
        ("/docs", {"cookie": "right"}, 404),
        ("/openapi.json", {"cookie": "right"}, 404),
    ],
)
def test_strangers_get_nothing_and_are_written_down(site, path, headers, status):
    headers = {
        name: site.cookie(value) if name == "cookie" else value for name, value in headers.items()
    }
    found, _, body = site.get(path, **headers)
    assert found == status and b"Traceback" not in body and b"STOP" not in body
    assert status == 404 or site.log[-1]["refused"]


@pytest.mark.parametrize(
    "token, origin", [("wrong", None), ("right", "http://evil.example"), ("", None)]
)
def test_sockets_of_strangers_are_not_opened(site, token, origin):
    with pytest.raises(websockets.InvalidStatus):
        site.open(token, origin)
    assert site.log[-1]["refused"] and site.console.clients == 0


def test_a_page_sees_state_and_pictures_and_is_obeyed(site):
    with site.open() as page:
        assert frame(page)["gate"] == {"state": "HOLD"}
        states(page, lambda s: s["control"] == "yours")
        frame(page)
        site.backend.pictures["live/front"] = 1795617706349959571, b"\xff\xd8jpeg"
        found = b""
        while not found.startswith(b"live/front 1795617706349959571\0"):
            found = page.recv(timeout=15)
            if isinstance(found, str):
                found = (
                    page.send(json.dumps({"do": "here", "frame": json.loads(found)["frame"]}))
                    or b""
                )
        assert found.endswith(b"\0\xff\xd8jpeg")
        say(page, "arm")
        say(page, "beat")
        site.until(lambda: site.backend.done == ["arm", "beat"])
        say(page, "explode", id=7)
        site.until(lambda: "refused" in site.log[-1])
        assert answer(page, 7) == (False, "no such command: {'do': 'explode'}")
    commands = [entry for entry in site.log if "command" in entry]
    assert [c["command"]["do"] for c in commands] == [
        "arm",
        "explode",
    ] and "no such command" in commands[1]["refused"]


def test_one_operator_at_a_time_but_anyone_stops(site):
    with site.open() as first, site.open() as second, site.open("look") as third:
        say(first, "arm")
        site.until(lambda: site.backend.done == ["arm"])
        states(second, lambda s: s["control"] == "other")
        states(third, lambda s: s["control"] == "view")
        say(second, "arm")
        say(third, "arm")
        site.until(lambda: len([e for e in site.log if "refused" in e]) == 2)
        say(second, "stop")
        say(third, "hold")
        site.until(lambda: sorted(site.backend.done) == ["arm", "hold", "stop"])
        first.close()
        site.until(lambda: site.console.clients == 2)
        say(second, "arm")
        site.until(lambda: site.backend.done[-1] == "arm")


def test_a_flood_is_cut_off_and_a_stop_within_it_is_obeyed(site):
    with site.open() as page, site.open() as other:
        seen = frame(page)["frame"]
        with contextlib.suppress(ConnectionClosed):
            for _ in range(60):
                page.send(json.dumps({"do": "arm", "frame": seen}))
        assert closed(page) == 1008
        assert 20 <= site.backend.done.count("arm") <= 60
        say(other, "stop")
        site.until(lambda: site.backend.done[-1] == "stop")


@pytest.mark.parametrize(
    "message",
    [
        "x" * (MAX_MESSAGE + 1),
        "no json",
        "[]",
        "{}",
        '{"do"',
        "1e999",
        '{"do": ["stop"]}',
        '{"do": {}}',
        "[" * MAX_MESSAGE,
    ],
)
def test_nonsense_is_cut_off(site, message):
    with site.open() as page:
        page.send(message)
        assert closed(page) in (1008, 1009)
    site.until(lambda: site.log[-1].get("dropped"))
    assert site.backend.done == []


@pytest.mark.parametrize("number", ["1e999", "[]", '"x"'])
def test_what_is_no_number_or_no_frame_hurts_nobody(site, number):
    with site.open() as page:
        page.send(f'{{"do": "stop", "id": {number}, "frame": {number}}}')
        assert answer(page, None) == (True, "so it is")
        page.send(f'{{"do": "arm", "id": 1, "frame": {number}}}')
        assert answer(page, 1)[0] is False and site.backend.done == ["stop"]


def test_every_command_is_answered_with_what_came_of_it(site):
    with site.open() as page, site.open() as other:
        say(page, "arm", id=1)
        assert answer(page, 1) == (True, "so it is")
        say(page, "hold", id=2)
        assert answer(page, 2) == (False, "so it is")
        say(other, "arm", id=1)
        assert answer(other, 1) == (False, "another page has control")
        say(other, "stop", id=2)
        assert answer(other, 2) == (True, "so it is")
    assert [entry["refused"] for entry in site.log if "refused" in entry] == [
        "so it is",
        "another page has control",
    ]


def test_the_next_frame_comes_when_the_last_was_seen_and_is_the_newest(site):
    """A page that does not read finds one frame when it reads again, and then the present."""
    with site.open() as page:
        first = frame(page)
        for number in range(100, 120):
            site.backend.pictures = {"live/front": (number, bytes(1000))}
            site.backend.state = lambda number=number: {"number": number}
            time.sleep(0.05)
        behind = [page.recv(timeout=15) for _ in range(2)]  # what was on its way
        with pytest.raises(TimeoutError):
            page.recv(timeout=0.5)
        page.send(json.dumps({"do": "here", "frame": first["frame"] + 1}))
        assert page.recv(timeout=15).startswith(b"live/front 119\0")
        assert (
            json.loads(page.recv(timeout=15))["number"] == 119
            and b"live/front 119" not in behind[0]
        )


def test_a_command_that_answers_to_what_is_long_past_is_refused_but_a_stop_is_obeyed(site):
    """Nothing was frozen into the socket and moves the arm when it thaws."""
    with site.open() as page:
        seen = frame(page)["frame"]
        time.sleep(LATE + 0.2)
        page.send(json.dumps({"do": "arm", "id": 1, "frame": seen}))
        page.send(json.dumps({"do": "beat", "frame": seen}))
        page.send(json.dumps({"do": "stop", "id": 2, "frame": seen}))
        assert "too late" in answer(page, 1)[1] and answer(page, 2)[0] is True
        assert site.backend.done == ["stop"]
        say(page, "arm", id=3)
        assert answer(page, 3)[0] is True
        page.send(json.dumps({"do": "arm", "id": 4}))  # of no frame at all
        assert "too late" in answer(page, 4)[1]


def test_numbers_that_json_has_not_reach_the_page_as_nothing(site):
    site.backend.state = lambda: {
        "score": float("nan"),
        "all": [float("inf"), 1.5, {"x": -float("inf")}],
    }
    with site.open() as page:
        assert frame(page)["all"] == [None, 1.5, {"x": None}]


def test_a_desk_that_fails_ends_the_socket_so_that_the_page_knows(site):
    with site.open() as page:
        frame(page)
        site.backend.state = lambda: {}["gone"]
        assert closed(page) != 1000
    site.until(lambda: site.console.clients == 0)


def test_looking_on_in_the_operators_browser_leaves_the_operators_cookie_alone(site):
    jar = {}
    for token in ("right", "look"):
        status, headers, _ = site.get(f"/?token={token}")
        name, _, value = headers["set-cookie"].split(";")[0].partition("=")
        jar[name] = value
        assert status == 303 and headers["location"] == {"right": "/", "look": "/look"}[token]
    assert sorted(jar.values()) == ["look", "right"]
    cookies = {"Cookie": "; ".join(f"{name}={value}" for name, value in jar.items())}
    for path, control in {"/socket": "yours", "/look/socket": "view"}.items():
        origin = f"http://{site.host}"
        with connect(
            f"ws://{site.host}{path}", origin=origin, additional_headers=cookies, max_queue=None
        ) as page:
            assert frame(page)["control"] == control
    status, headers, _ = site.get("/", cookie=site.cookie("look"))
    assert status == 303 and headers["location"] == "/look"
    with pytest.raises(websockets.InvalidStatus):  # the look-on cookie operates nothing
        connect(
            f"ws://{site.host}/socket",
            origin=f"http://{site.host}",
            additional_headers={"Cookie": site.cookie("look")},
        )


def test_who_comes_without_an_address_is_told_where_it_is(site):
    status, headers, body = site.get("/")
    assert (
        status == 401
        and headers["content-type"].startswith("text/html")
        and b"here/console.url" in body
    )
    assert b"token=" in body and b"right" not in body and headers["content-security-policy"]


def test_a_huge_frame_is_refused_before_it_is_read(site):
    with site.open() as page:
        page.socket.sendall(b"\x81\xff" + (100 << 20).to_bytes(8, "big") + b"mask" + bytes(65536))
        assert closed(page) == 1009
    assert site.get("/?token=right")[0] == 303


def test_too_many_pages_are_refused(site):
    pages = [site.open() for _ in range(MAX_CLIENTS)]
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
            site.backend.pictures["live/front"] = number, bytes(200_000)
            time.sleep(0.01)

    thread = threading.Thread(target=draw)
    thread.start()
    try:
        slow.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        with site.open() as page:
            for turn in range(20):
                begun = time.monotonic()
                say(page, "stop")
                site.until(lambda turn=turn: site.backend.done.count("stop") == turn + 1)
                assert time.monotonic() - begun < 1.0
    finally:
        stop.set()
        thread.join()
        slow.close()


def test_the_page_asks_nothing_of_other_hosts():
    text = "".join((PAGE / name).read_text() for name in ("console.html", *FILES))
    assert not re.search(r"https?://|//[a-z]+\.[a-z]", text.replace("ws:", ""))
    assert "not an emergency stop" in text
    assert not re.search(
        r"<script(?![^>]* src=)|<style|\son\w+=", (PAGE / "console.html").read_text()
    )
