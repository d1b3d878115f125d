"""The operator's console: what the graph says for a page, and what the page wants for the graph."""

from __future__ import annotations

import math
import os
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.node import Node
from sensor_msgs.msg import Joy
from std_msgs.msg import Float64MultiArray, Header, String
from std_srvs.srv import Trigger

from gwm.console.access import Access
from gwm.console.address import FILE, address, keep, starter_of, to_say
from gwm.console.command_checks import refusals
from gwm.console.commands import (
    SERVICES,
    Outcome,
    gate_said,
    object_of,
    recorder_saved,
    table_laid,
    wish_of,
)
from gwm.console.page_socket import Answer
from gwm.console.pictures import LatestImages
from gwm.console.server import ConsoleServer, Server
from gwm.ros import messages
from gwm.ros.node import NEWEST, RELIABLE, SENSOR, STEADY, declare, now_ns, spin
from gwm_core import topics
from gwm_core.control.gate.supervision import MODES
from gwm_core.errors import InputError
from gwm_core.files.json_files import to_json
from gwm_core.site import site_of
from gwm_core.types import CHUNK_DT, CHUNK_ROWS

# [s] without a word, after which nothing is known of it
SILENT = {"gate": 1.0, "recorder": 5.0, "imagination": 20.0}
TOLD = 2.0  # [s] a trial is one, after it was last spoken of
DRIVES = 2.0  # [s] a page does, after the last of its sticks
AWAITED = 16  # answers that come by a topic, at most; the oldest is given up


@dataclass(frozen=True)
class ConsoleParameters:
    """Parameters of the node."""

    robot: str = "sim"
    site: str = ""
    task: str = "pick_place"
    record: str = "runs"
    host: str = "127.0.0.1"
    port: int = 8600
    certificate: str = ""  # for another host than 127.0.0.1: PEM files
    key: str = ""


class ConsoleNode(Node):
    """Subscribes to what is to be seen, publishes and calls what the operator wants, keeps the
    audit log.
    """

    def __init__(self):
        super().__init__("console")
        self._settings = p = declare(self, ConsoleParameters)
        self._site = site_of(p.robot, p.site)
        self._unread: dict[str, str] = {}  # topic -> what is wrong with its last message
        self._pictures = LatestImages(self, self._site.cameras, self._heard)
        self._reports, self._at, self._result = {}, {}, {}  # _at: [s] when a report of a name came
        self._future, self._divergence, self._stages = {}, {}, {}
        self._gate_ms: float | None = None  # [ms] stamp of the gate's status
        self._awaited: list[tuple[Callable[[], Outcome | None], Answer]] = []
        self._settling = threading.Lock()  # pages have a thread of their own
        self._wishes = {
            name: self.create_client(Trigger, topic) for name, topic in SERVICES.items()
        }
        self._says = {
            topic: self.create_publisher(String, topic, RELIABLE)
            for topic in (
                topics.APPROVE,
                topics.MODE,
                topics.MARK,
                topics.DECISION,
                topics.SIM_EPISODE,
            )
        }
        self._beat = self.create_publisher(Header, topics.HEARTBEAT, SENSOR)
        self._driving = threading.Lock()
        # a publisher while the page drives: two are rivals to the operator's node
        self._joy, self._joy_at = None, 0.0
        self._trial, self._trial_at = {}, 0.0
        heard = {
            topics.STATUS: (DiagnosticArray, self._on_status, NEWEST),
            topics.DIAGNOSTICS: (DiagnosticArray, self._on_report, RELIABLE),
            topics.SIM_RESULT: (String, self._on_result, NEWEST),
            topics.TRIAL: (String, self._on_trial, NEWEST),
            topics.IMAGINED: (Float64MultiArray, self._numbers("_future"), NEWEST),
            topics.DIVERGENCE: (Float64MultiArray, self._numbers("_divergence"), NEWEST),
            topics.STAGES: (Float64MultiArray, self._numbers("_stages"), NEWEST),
        }
        for topic, (kind, take, qos) in heard.items():
            self.create_subscription(kind, topic, self._heard(topic, take), qos)
        self._audit = (_made(Path(p.record)) / "console_audit.jsonl").open("a", buffering=1)
        self._console, self._server = self._serve()
        self.create_timer(0.5, self._look, clock=STEADY)

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

    # ---- from the graph
    # ------------------------------------------------------------------------------

    def _heard(self, topic: str, take: Callable) -> Callable:
        """A callback that refuses a message which it cannot read, and says so: the console outlives
        it.
        """

        def guarded(message) -> None:
            try:
                take(message)
                self._unread.pop(topic, None)
            except (ValueError, KeyError, TypeError, cv2.error) as error:
                self._unread[topic] = f"{topic}: {error}"
                self.get_logger().error(f"{topic} refused: {error}", throttle_duration_sec=2.0)

        return guarded

    def _on_status(self, message) -> None:
        self._take({"gate": messages.read_diagnostics(message)["gate"]})
        self._gate_ms = messages.stamp_ns(message.header.stamp) * 1e-6

    def _on_report(self, message) -> None:
        reports = messages.read_diagnostics(message)
        if not reports.get("viewer", {}).get("port", "0").isdecimal():
            raise ValueError("the viewer's port is no number")
        self._take({name: values for name, values in reports.items() if name != "gate"})

    def _take(self, reports: dict[str, dict[str, str]]) -> None:
        self._at |= dict.fromkeys(reports, time.monotonic())
        self._reports = self._reports | reports
        self._settle()

    def _on_result(self, message) -> None:
        self._result = object_of(message.data)
        self._settle()

    def _on_trial(self, message) -> None:
        trial = object_of(message.data)
        if not isinstance(trial.get("task", ""), str):
            raise ValueError('"task" is no text')
        self._trial, self._trial_at = trial, time.monotonic()

    def _numbers(self, name: str) -> Callable:
        return lambda message: setattr(self, name, messages.read_numbers(message))

    def _settle(self) -> None:
        """Give the answers that came by a topic."""
        with self._settling:
            found = [(came(), came, answer) for came, answer in self._awaited]
            self._awaited = [(came, answer) for outcome, came, answer in found if outcome is None]
        for outcome, _, answer in found:
            if outcome is not None:
                answer(*outcome)

    def _look(self) -> None:
        """Pictures are asked for while somebody looks, sticks are there while somebody drives."""
        with self._driving:
            if self._joy and time.monotonic() - self._joy_at > DRIVES:
                self.destroy_publisher(self._joy)
                self._joy = None
        self._pictures.watch(self._console.clients > 0)

    def _last(self, name: str) -> dict[str, str]:
        """The newest report of a name; empty when it is silent."""
        silent = time.monotonic() - self._at.get(name, -math.inf) > SILENT[name]
        return {} if silent else self._reports[name]

    # ---- for the page
    # ------------------------------------------------------------------------------

    @property
    def pictures(self) -> dict[str, tuple[int, bytes]]:
        """Name -> stamp [ns], JPEG."""
        return self._pictures.newest

    @property
    def viewer_port(self) -> int:
        """Where the 3D scene is served on this machine; 0 = nowhere."""
        return int(self._reports.get("viewer", {}).get("port", 0))

    def state(self) -> dict:
        """What the page shows beside pictures. Ids are text: JavaScript's numbers are too short."""
        future = (
            self._future | {"plan": str(self._future["plan"])} if "plan" in self._future else {}
        )
        trial = self._trial_now()
        own = self._site.tasks.get(trial.get("task", self._settings.task))
        divergence = {k: v for k, v in self._divergence.items() if k != "plan"}
        return {
            "now": now_ns(self) * 1e-6,
            "gate": self._reports.get("gate", {}),
            "gate_ms": self._gate_ms,
            "future": future,
            "imagines": bool(self._last("imagination")),
            "divergence": divergence,
            "refuses": self._refusals(),
            "unread": list(self._unread.values()),
            "recorder": self._reports.get("recorder", {}),
            "result": self._result,
            "cameras": list(self._site.cameras),
            "modes": MODES,
            "steps": topics.STEPS,
            "plan_ms": 1e3 * CHUNK_ROWS * CHUNK_DT,
            "robot": self._settings.robot,
            "viewer": self.viewer_port > 0,
            "task": self._settings.task,
            "trial": trial,
            "rubric": own.rubric if own else {},
            "causes": topics.ABORTS,
        }

    def _trial_now(self) -> dict:
        return self._trial if time.monotonic() - self._trial_at < TOLD else {}

    def _refusals(self) -> dict[str, str]:
        future = str(self._future.get("plan", "")) if self._last("imagination") else None
        return refusals(self._last("gate"), self._last("recorder"), future, bool(self._trial_now()))

    def act(self, command: dict, answer: Answer) -> None:
        """Do what the operator wants. Raises ValueError for what is no command, or is refused."""
        what = command["do"]
        if what in SERVICES:
            self._wish(what, answer)
        elif what == "redo":
            self._wish("discard", answer, then="start")
        elif what == "beat":
            self._beat.publish(self._stamped(Header()))
        elif what == "joy":
            self._publish_joy(command)
        else:
            self._say(what, command, answer)
        if what not in ("beat", "joy"):
            self._says[topics.DECISION].publish(
                String(data=to_json({"time": now_ns(self), **command}))
            )

    def _say(self, what: str, command: dict, answer: Answer) -> None:
        """Publish what is no service. What came of it, the topics tell."""
        topic, wish = wish_of(
            command, self._settings.task, self._settings.robot == "sim", now_ns(self)
        )
        if reason := self._refusals().get(what):
            raise ValueError(reason)
        publisher = self._says[topic]
        if not publisher.get_subscription_count():
            raise ValueError(f"nobody listens to {topic}")
        came = self._came_of(what, wish)
        if came is not None:
            with self._settling:
                self._awaited = [*self._awaited[1 - AWAITED :], (came, answer)]
        publisher.publish(String(data=to_json(wish, ensure_ascii=False)))
        if came is None:
            answer(True, "told the recorder")

    def _came_of(self, what: str, wish: dict) -> Callable[[], Outcome | None] | None:
        """A function that tells what came of a wish, None as long as that is not known."""
        gate, recorder, result = self._last("gate"), self._last("recorder"), self._result
        if what in ("mode", "approve"):
            return lambda: gate_said(gate, self._last("gate"))
        if what == "save" and recorder.get("recording") == "True":
            return lambda: recorder_saved(recorder, self._last("recorder"))
        if what == "lay":
            return lambda: table_laid(result, self._result, wish["seed"])
        return None

    def _wish(self, what: str, answer: Answer, then: str = "") -> None:
        """Call a service, and ``then`` another one when it was done: two at once may come in any
        order.
        """
        client = self._wishes[what]
        if not client.service_is_ready():
            raise ValueError(f"nobody answers to {SERVICES[what]}")

        def answered(future) -> None:
            given = future.result()
            if not (then and given.success):
                return answer(given.success, given.message)
            try:
                self._wish(then, answer)
            except ValueError as error:
                answer(False, str(error))

        client.call_async(Trigger.Request()).add_done_callback(answered)

    def _publish_joy(self, command: dict) -> None:
        axes, buttons = command.get("axes"), command.get("buttons")
        lists = (
            isinstance(axes, list)
            and isinstance(buttons, list)
            and len(axes) <= 16
            and len(buttons) <= 32
        )
        if not lists or not all(
            isinstance(x, int | float) and abs(x) <= 1 for x in (*axes, *buttons)
        ):
            raise ValueError("joy: axes and buttons are lists of numbers from -1 to 1")
        message = Joy(axes=[float(a) for a in axes], buttons=[int(b) for b in buttons])
        self._stamped(message.header)
        with self._driving:
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


def _made(folder: Path) -> Path:
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
