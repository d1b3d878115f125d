"""``gwm bench console``: STOP in a real browser during full load, and attacks on the console."""

from __future__ import annotations

import http.client
import os
import random
import shutil
import socket
import statistics
import tempfile
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import numpy as np
import websockets
from gwm.console.access import OPERATOR, cookie_name
from gwm.graph.config import GraphConfig
from gwm.graph.process_list import processes
from gwm.process.session import ending, live
from gwm.process.supervisor import Supervisor
from gwm.ros.operator_client import OperatorClient
from websockets.sync.client import connect

from gwm_core.errors import InputError
from gwm_core.files.json_files import write_json
from gwm_core.gate_status import State

CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
START_TIME = 90.0  # [s]
WINDOW = 10.0  # [s] for the gate's lateness without attacks
MOVING = 0.05  # [rad/s]


@dataclass
class RunningConsole:
    """A running graph, its operator, and the address of its console."""

    operator: OperatorClient
    supervisor: Supervisor
    host: str
    token: str

    def need(self, what: str, until, limit: float = 20.0) -> None:
        """Spin until ``until()`` holds."""
        self.operator.require(what, until, limit, self.supervisor.poll_all)

    def pass_time(self, seconds: float) -> None:
        """Spin for ``seconds``."""
        self.operator.wait("time", lambda: False, seconds, self.supervisor.poll_all)

    def memory(self) -> float:
        """Resident memory of the console's process [MB]."""
        pid = self.supervisor.processes["console"].pid
        return (
            int(Path(f"/proc/{pid}/statm").read_text().split()[1])
            * os.sysconf("SC_PAGE_SIZE")
            / 1e6
        )


@contextmanager
def running(policy: str, **more):
    """Run the graph against the simulation, with a console."""
    out = Path(tempfile.mkdtemp(prefix="gwm_console_"))
    nodes = processes(GraphConfig(policy=policy, record=str(out), **more))
    try:
        with live(nodes, out / "nodes.log") as (operator, supervisor):
            operator.require("start", lambda: operator.ready, START_TIME, supervisor.poll_all)
            operator.require(
                "console", (out / "console.url").exists, START_TIME, supervisor.poll_all
            )
            url = urlsplit((out / "console.url").read_text().split()[0])
            yield RunningConsole(operator, supervisor, url.netloc, parse_qs(url.query)["token"][0])
    finally:
        shutil.rmtree(out)


@contextmanager
def browser_page(url: str, width: int = 1280, height: int = 900):
    """Open the page in headless Chromium. Raises InputError where there is none."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        raise InputError(
            "no playwright: `.venv/bin/pip install playwright`, and a Chromium on the path"
        ) from None
    program = next(filter(None, map(shutil.which, CHROMIUM)), None)
    if program is None:
        raise InputError(f"no browser: one of {', '.join(CHROMIUM)} on the path is wanted")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": width, "height": height})
        page.goto(url)
        yield page
        browser.close()


def bench_console(stops: int, seed: int, policy: str, json_file: str | None) -> int:
    """Run both parts and print their results. Returns 1 where one could not be finished."""
    delays: list[float] = []
    attacks: dict = {}
    with ending() as end, running(policy) as run:
        with browser_page(f"http://{run.host}/?token={run.token}") as page:
            for n in range(stops):
                delays.append(_stop(run, page, random.Random(seed + n), seed + n))
        _attacks(run, attacks)
    within = {f"within_{limit}_ms": sum(ms <= limit for ms in delays) for limit in (150, 300)}
    result = {"stops": len(delays), **within, **attacks, "trouble": end.trouble}
    if delays:
        result["click_to_ramp_ms"] = {"median": statistics.median(delays), "max": max(delays)}
        print(
            f"STOP in Chromium, all streams on: {len(delays)} presses, from click to ramp median"
            f" {statistics.median(delays):.0f} ms, longest {max(delays):.0f},"
            f" {within['within_150_ms']} within 150"
        )
    if json_file:
        write_json(json_file, result)
    print("\n".join(f"{name:<44} {answer}" for name, answer in attacks.get("answers", {}).items()))
    if gate := attacks.get("gate"):
        print(
            f"gate, periods over 15 ms: {100 * gate['late_before']:.2f} % before,"
            f" {100 * gate['late_during']:.2f} % then; console grew by"
            f" {attacks['console_grew_mb']:.1f} MB"
        )
    if end.trouble:
        print(f"it failed: {end.trouble}")
    return end.code


def _stop(run: RunningConsole, page, rng: random.Random, seed: int) -> float:
    """Press STOP while the arm moves.

    Returns:
        host time from before the click to the gate's state that ramps down [ms].
    """
    operator = run.operator
    operator.home(run.supervisor.poll_all)
    operator.reset_simulation("pick_place", 9000 + seed % 1000, "nominal")
    operator.arm(run.supervisor.poll_all)
    operator.commands.clear()
    run.need(
        "motion", lambda: operator.commands and np.abs(operator.commands[-1][1]).max() > MOVING
    )
    run.pass_time(rng.uniform(0.0, 1.5))
    button = page.locator("#stop").bounding_box()
    operator.state_changes.clear()
    begun = time.time_ns()
    page.mouse.move(button["x"] + button["width"] / 2, button["y"] + button["height"] / 2)
    page.mouse.down()
    run.need(
        "ramp",
        lambda: any(
            state in (State.STOPPING, State.DISARMED) for _, state in operator.state_changes
        ),
        5.0,
    )
    page.mouse.up()
    run.need("rest", lambda: operator.state is State.DISARMED, 5.0)
    return (
        next(
            stamp - begun
            for stamp, state in operator.state_changes
            if state in (State.STOPPING, State.DISARMED)
        )
        * 1e-6
    )


def _attacks(run: RunningConsole, found: dict) -> None:
    """Attack the console. Adds answers, the gate's lateness and the memory growth to ``found``."""
    run.operator.arm(run.supervisor.poll_all)
    before = _lateness(run, lambda: run.pass_time(WINDOW))
    memory = run.memory()
    answers = found["answers"] = {}

    def attack() -> None:
        for name, act in ATTACKS.items():
            answers[name] = act(run)

    found["gate"] = {"late_before": before, "late_during": _lateness(run, attack)}
    run.pass_time(2.0)
    found["console_grew_mb"] = run.memory() - memory


def _lateness(run: RunningConsole, act) -> float:
    """Return the fraction of the gate's periods over 15 ms while ``act`` runs."""
    first = run.operator.last_status
    act()
    run.pass_time(0.5)
    last = run.operator.last_status
    return (last.late - first.late) / max(last.periods - first.periods, 1)


def _get(run: RunningConsole, path: str, method: str = "GET", **headers) -> int:
    connection = http.client.HTTPConnection(*run.host.split(":"), timeout=5)
    connection.request(
        method, path, headers={"Host": run.host, **{k.title(): v for k, v in headers.items()}}
    )
    return connection.getresponse().status


def _socket(run: RunningConsole, token: str | None = None, origin: str | None = None):
    cookie = {"Cookie": _cookie(run, run.token if token is None else token)}
    address, page = f"ws://{run.host}/socket", origin or f"http://{run.host}"
    return connect(
        address, origin=page, additional_headers=cookie, ping_interval=None, close_timeout=0.5
    )


def _cookie(run: RunningConsole, token: str) -> str:
    return f"{cookie_name(OPERATOR, run.host)}={token}"


def _opened(run: RunningConsole, **more) -> str:
    try:
        _socket(run, **more).close()
    except websockets.InvalidStatus as error:
        return f"refused ({error.response.status_code})"
    return "OPENED"


def _answer(status: int) -> str:
    return f"refused ({status})" if status >= 400 else f"ANSWERED ({status})"


def _until_closed(page, send) -> str:
    try:
        send(page)
        while True:
            page.recv(timeout=10)
    except websockets.ConnectionClosed as error:
        return f"cut off ({error.rcvd.code if error.rcvd else 'reset'})"
    except ConnectionError:
        return "cut off (reset)"
    except TimeoutError:
        return "NOT CUT OFF"


def _flood(run: RunningConsole) -> str:
    def send(page) -> None:
        for _ in range(30_000):
            page.send('{"do": "hold"}')

    return _until_closed(_socket(run), send)


def _big_frame(run: RunningConsole) -> str:
    def send(page) -> None:
        page.socket.sendall(b"\x81\xff" + (100 << 20).to_bytes(8, "big") + b"mask")
        for _ in range(100):
            page.socket.sendall(bytes(1 << 20))

    return _until_closed(_socket(run), send)


def _sockets(run: RunningConsole) -> str:
    """Many that ask for a page and never finish, then as many pages as are let in, then one
    more.
    """
    host, port = run.host.split(":")
    with ExitStack() as stack:
        for _ in range(900):
            idle = stack.enter_context(socket.create_connection((host, int(port)), timeout=5))
            idle.sendall(b"GET / HTTP/1.1\r\nHost: ")
        beside = _opened(run)
    with ExitStack() as stack:
        opened = 0
        for _ in range(100):
            try:
                stack.enter_context(_socket(run))
            except (websockets.InvalidStatus, OSError):
                break
            opened += 1
    return f"900 idle: another is {beside}; {opened} pages at once; afterwards {_opened(run)}"


ATTACKS = {
    "page without a token": lambda run: _answer(_get(run, "/")),
    "page with a wrong token": lambda run: _answer(_get(run, "/?token=" + "A" * 43)),
    "page under another name (rebinding)": lambda run: _answer(
        _get(run, f"/?token={run.token}", host="evil.example")
    ),
    "page asked for by another page": lambda run: _answer(
        _get(run, "/", origin="http://evil.example")
    ),
    "form of another page (POST)": lambda run: _answer(
        _get(run, f"/?token={run.token}", "POST", origin="http://evil.example")
    ),
    "file outside (traversal)": lambda run: _answer(
        _get(run, "/..%2fconsole_web.py", cookie=_cookie(run, run.token))
    ),
    "socket of another page": lambda run: _opened(run, origin="http://evil.example"),
    "socket without a token": lambda run: _opened(run, token=""),
    "30 000 messages at once": _flood,
    "a frame of 100 MB": _big_frame,
    "1000 sockets": _sockets,
}
