"""The operator's console: shows the graph's state on a page, and passes the page's requests on."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from rclpy.node import Node
from sensor_msgs.msg import Joy
from std_msgs.msg import Header, String
from std_srvs.srv import Trigger

from gwm.console.access import Access
from gwm.console.address import FILE, address, keep, starter_of, to_say
from gwm.console.commands import (
    SERVICES,
    Outcome,
    gate_said,
    joy_of,
    recorder_saved,
    request_of,
    table_laid,
    verdict_corrected,
)
from gwm.console.graph_state import GraphState
from gwm.console.page_socket import Answer
from gwm.console.page_state import Session, page_state
from gwm.console.pictures import LatestImages
from gwm.console.robot_view import RobotView
from gwm.console.server import ConsoleServer, Server
from gwm.ros import messages
from gwm.ros.node import RELIABLE, SENSOR, STEADY, declare, now_ns, spin
from gwm_core import topics
from gwm_core.errors import InputError
from gwm_core.files.json_files import to_json
from gwm_core.site import site_of

JOY_TIMEOUT = 2.0  # [s] after a page's last joystick message, until it no longer drives
MAX_PENDING = 16  # answers that a topic gives later; the oldest is given up


@dataclass(frozen=True)
class ConsoleParameters:
    """Parameters of the node."""

    robot: str = "sim"
    site: str = ""
    task: str = "pick_place"
    record: str = "runs"
    operator: str = ""
    plans: str = "policy"  # who plans: policy, teleop or shared
    episodes: int = 0  # to record; 0: no goal
    host: str = "127.0.0.1"
    port: int = 8600
    certificate: str = ""  # for another host than 127.0.0.1: PEM files
    key: str = ""


class ConsoleNode(Node):
    """Serves the operator's page, publishes and calls what it asks for, and keeps the audit log."""

    def __init__(self):
        super().__init__("console")
        self._settings = p = declare(self, ConsoleParameters)
        self._site = site_of(p.robot, p.site)
        # Answers that a topic gives later: a function that returns the outcome, and its receiver.
        self._pending: list[tuple[Callable[[], Outcome | None], Answer]] = []
        self._pending_lock = threading.Lock()  # pages have a thread of their own
        self._graph = GraphState(self, self._answer_pending)
        self._pictures = LatestImages(self, self._site.cameras, self._graph.guarded)
        self._view = RobotView(self, self._site, self._graph.guarded)
        self._service_clients = {
            name: self.create_client(Trigger, topic) for name, topic in SERVICES.items()
        }
        self._request_publishers = {
            topic: self.create_publisher(String, topic, RELIABLE)
            for topic in (
                topics.APPROVE,
                topics.MODE,
                topics.MARK,
                topics.DECISION,
                topics.SIM_EPISODE,
            )
        }
        self._deadman = self.create_publisher(Header, topics.HEARTBEAT, SENSOR)
        # The page publishes joystick messages only while somebody drives: the operator's node
        # refuses two publishers.
        self._joy_lock = threading.Lock()
        self._joy = None
        self._joy_at = 0.0
        folder = _make_folder(Path(p.record))
        self._audit = (folder / "console_audit.jsonl").open("a", buffering=1)
        self._console, self._server = self._serve()
        self.create_timer(0.5, self._check_pages, clock=STEADY)

    def _serve(self) -> tuple[ConsoleServer, Server]:
        p = self._settings
        if p.host != "127.0.0.1" and not (p.certificate and p.key):
            raise InputError(
                f"the console listens on {p.host} with a certificate and a key alone, or on"
                " 127.0.0.1"
            )
        file, starter = Path(p.record) / FILE, starter_of(os.getppid())
        found = address(file, p.host, p.port, starter)
        names = ("127.0.0.1", "localhost") if p.host == "127.0.0.1" else (p.host,)
        access = Access(
            found.tokens,
            tuple(f"{name}:{found.port}" for name in names),
            "https" if p.key else "http",
        )
        console = ConsoleServer(self, access, self._log, str(file))
        server = Server(console, found.sock, p.certificate, p.key)
        server.start()
        urls = keep(file, access.origins[0], found.tokens, starter)
        print(f"console: {to_say(file)}", flush=True)
        if sys.stdout.isatty():
            print(f"to look on only: {urls[1]}", flush=True)
        return console, server

    def _answer_pending(self) -> None:
        """Give the answers that came by a topic."""
        with self._pending_lock:
            found = [(outcome(), outcome, answer) for outcome, answer in self._pending]
            self._pending = [(outcome, answer) for done, outcome, answer in found if done is None]
        for done, _, answer in found:
            if done is not None:
                answer(*done)

    def _check_pages(self) -> None:
        """Subscribe to what pages alone need, and drop the joystick when nobody drives."""
        with self._joy_lock:
            if self._joy and time.monotonic() - self._joy_at > JOY_TIMEOUT:
                self.destroy_publisher(self._joy)
                self._joy = None
        self._pictures.watch(self._console.clients > 0)
        self._view.watch(self._console.clients > 0)

    # ---- for the page

    @property
    def pictures(self) -> dict[str, tuple[int, bytes]]:
        """Name -> stamp [ns], JPEG."""
        return self._pictures.newest

    @property
    def viewer_port(self) -> int:
        """Port of the 3D scene on this machine; 0 without one."""
        return self._graph.viewer_port

    def state(self) -> dict:
        """Return what the page shows."""
        p = self._settings
        session = Session(p.robot, p.task, p.operator, p.plans, p.episodes)
        return page_state(
            now_ns(self), session, self._site, self._graph, self._pictures, self._view
        )

    def act(self, command: dict, answer: Answer) -> None:
        """Do what the operator asks for. Raises ValueError for what is refused or no command."""
        what = command["do"]
        if what in SERVICES:
            self._call(what, answer)
        elif what == "redo":
            self._call("discard", answer, then="start")
        elif what == "beat":
            self._deadman.publish(self._stamped(Header()))
        elif what == "joy":
            self._publish_joy(command)
        else:
            self._publish_request(what, command, answer)
        if what not in ("beat", "joy"):
            self._request_publishers[topics.DECISION].publish(
                String(data=to_json({"time": now_ns(self), **command}))
            )

    def _publish_request(self, what: str, command: dict, answer: Answer) -> None:
        """Publish a request that is no service. A topic tells its outcome later."""
        topic, request = request_of(
            command, self._settings.task, self._settings.robot == "sim", now_ns(self)
        )
        if reason := self._graph.refusals().get(what):
            raise ValueError(reason)
        publisher = self._request_publishers[topic]
        if not publisher.get_subscription_count():
            raise ValueError(f"nobody listens to {topic}")
        outcome = self._outcome_of(what, request)
        if outcome is not None:
            with self._pending_lock:
                self._pending = [*self._pending[1 - MAX_PENDING :], (outcome, answer)]
        publisher.publish(String(data=to_json(request, ensure_ascii=False)))
        if outcome is None:
            answer(True, "told the recorder")

    def _outcome_of(self, what: str, request: dict) -> Callable[[], Outcome | None] | None:
        """Return a function that tells the outcome of a request, None while it is not known.

        None instead of a function: nothing will tell the outcome.
        """
        graph = self._graph
        gate, recorder, result = graph.gate, graph.report("recorder"), graph.result
        if what in ("mode", "approve", "decline"):
            return lambda: gate_said(gate, graph.gate)
        if what == "save" and recorder.get("recording") == "True":
            return lambda: recorder_saved(recorder, graph.report("recorder"))
        if what == "correct":
            return lambda: verdict_corrected(recorder, graph.report("recorder"))
        if what == "lay":
            return lambda: table_laid(result, graph.result, request["seed"])
        return None

    def _call(self, what: str, answer: Answer, then: str = "") -> None:
        """Call a service, and ``then`` another one after its success.

        Two calls at once may be served in any order.
        """
        client = self._service_clients[what]
        if not client.service_is_ready():
            raise ValueError(f"nobody answers to {SERVICES[what]}")

        def answered(future) -> None:
            given = future.result()
            if not (then and given.success):
                return answer(given.success, given.message)
            try:
                self._call(then, answer)
            except ValueError as error:
                answer(False, str(error))

        client.call_async(Trigger.Request()).add_done_callback(answered)

    def _publish_joy(self, command: dict) -> None:
        message = joy_of(command)
        self._stamped(message.header)
        with self._joy_lock:
            self._joy_at = time.monotonic()
            self._joy = self._joy or self.create_publisher(Joy, topics.JOY, SENSOR)
            self._joy.publish(message)

    def _stamped(self, header: Header) -> Header:
        messages.set_stamp(header, now_ns(self))
        return header

    def _log(self, entry: dict) -> None:
        self._audit.write(to_json({"time": time.time(), **entry}) + "\n")

    def close(self) -> None:
        """End the server."""
        self._server.stop()
        self._audit.close()


def _make_folder(folder: Path) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"cannot write {folder}: {error.strerror}; choose another record:="
        ) from None
    return folder


def main() -> int:
    """Entry point."""
    return spin(ConsoleNode)


if __name__ == "__main__":
    sys.exit(main())
