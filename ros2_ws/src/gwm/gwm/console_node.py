"""The operator's console: what the graph says for a page, and what the page wants for the graph."""

from __future__ import annotations

import json
import os
import secrets
import socket
import sys
import threading
import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path

import cv2
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.node import Node
from sensor_msgs.msg import CompressedImage, Image, Joy
from std_msgs.msg import Float64MultiArray, Header, String
from std_srvs.srv import Trigger

from gwm import messages
from gwm.console_web import Console, Server
from gwm.node import NEWEST, RELIABLE, SENSOR, STEADY, declare, now_ns, spin
from gwm_core import topics
from gwm_core.control.access import OPERATOR, VIEWER, Access
from gwm_core.control.supervision import MODES
from gwm_core.errors import InputError
from gwm_core.json_files import to_json
from gwm_core.site import site_of

WISHES = {
    **{wish: f"gate/{wish}" for wish in ("stop", "hold", "arm", "home", "reset")},
    **{wish: f"recorder/{wish}" for wish in ("start", "discard", "keep")},
}
VALID = 3.0  # [s] an approval is, from the click on
LIVE_PERIOD = 0.2  # [s] between pictures of a camera
PORTS = 10  # tried, from the one that was asked for
NOTE = 500  # characters
TOLD = 2.0  # [s] a trial is one, after it was last spoken of
DRIVES = 2.0  # [s] a page does, after the last of its sticks


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
    """Subscribes to what is to be seen, publishes and calls what the operator wants, keeps the audit log."""

    def __init__(self):
        super().__init__("console")
        self._settings = p = declare(self, ConsoleParameters)
        self._site = site_of(p.robot, p.site)
        self.pictures: dict[str, tuple[int, bytes]] = {}
        self._gate, self._reports, self._result, self._answers = {}, {}, {}, deque(maxlen=4)
        self._future, self._divergence, self._stages, self._drawn = {}, {}, {}, {}
        self._wishes = {name: self.create_client(Trigger, topic) for name, topic in WISHES.items()}
        self._says = {
            topic: self.create_publisher(String, topic, RELIABLE)
            for topic in (topics.APPROVE, topics.MODE, topics.MARK, topics.DECISION, topics.SIM_EPISODE)
        }
        self._beat = self.create_publisher(Header, topics.HEARTBEAT, SENSOR)
        self._driving = threading.Lock()  # pages have a thread of their own
        self._joy, self._joy_at = None, 0.0  # a publisher while the page drives: two are rivals to the operator's node
        self.create_subscription(DiagnosticArray, topics.STATUS, self._on_status, NEWEST)
        self.create_subscription(DiagnosticArray, topics.DIAGNOSTICS, self._on_report, RELIABLE)
        self.create_subscription(String, topics.SIM_RESULT, self._on_result, NEWEST)
        self._trial, self._trial_at = {}, 0.0
        self.create_subscription(String, topics.TRIAL, self._on_trial, NEWEST)
        kept = {topics.IMAGINED: "_future", topics.DIVERGENCE: "_divergence", topics.STAGES: "_stages"}
        for topic, name in kept.items():
            self.create_subscription(Float64MultiArray, topic, self._numbers(name), NEWEST)
        self._watched = []  # subscriptions to pictures, while a page is open
        self._audit = (_made(Path(p.record)) / "console_audit.jsonl").open("a", buffering=1)
        self._console, self._server = self._serve()
        self.create_timer(0.5, self._look, clock=STEADY)

    def _serve(self) -> tuple[Console, Server]:
        p = self._settings
        if p.host != "127.0.0.1" and not (p.certificate and p.key):
            raise InputError(f"the console listens on {p.host} with a certificate and a key alone, or on 127.0.0.1")
        sock, port = _bound(p.host, p.port)
        tokens = {secrets.token_urlsafe(32): role for role in (OPERATOR, VIEWER)}
        names = ("127.0.0.1", "localhost") if p.host == "127.0.0.1" else (p.host,)
        access = Access(tokens, tuple(f"{name}:{port}" for name in names), "https" if p.key else "http")
        console = Console(self, access, self._log)
        server = Server(console, sock, p.certificate, p.key)
        server.start()
        urls = [f"{access.origins[0]}/?token={token}" for token in tokens]
        file = Path(p.record) / "console.url"
        file.unlink(missing_ok=True)
        with os.fdopen(os.open(file, os.O_CREAT | os.O_WRONLY, 0o600), "w") as out:  # nobody else's to read
            out.write("\n".join(urls) + "\n")
        print(f"console: {urls[0]}\nto look on only: {urls[1]}", flush=True)
        return console, server

    # ---- from the graph --------------------------------------------------------------------------------------------

    def _on_status(self, message) -> None:
        self._gate = messages.read_diagnostics(message)["gate"]

    def _on_report(self, message) -> None:
        self._reports = self._reports | messages.read_diagnostics(message)

    def _on_result(self, message) -> None:
        self._result = json.loads(message.data)

    def _on_trial(self, message) -> None:
        self._trial, self._trial_at = json.loads(message.data), time.monotonic()

    def _numbers(self, name: str):
        return lambda message: setattr(self, name, messages.read_numbers(message))

    def _look(self) -> None:
        """Pictures are asked for while somebody looks, sticks are there while somebody drives."""
        with self._driving:
            if self._joy and time.monotonic() - self._joy_at > DRIVES:
                self.destroy_publisher(self._joy)
                self._joy = None
        if self._console.clients and not self._watched:
            wanted = [
                (Image, topics.color(c.prefix), self._live(name), SENSOR) for name, c in self._site.cameras.items()
            ]
            wanted += [
                (CompressedImage, topics.overlay(name), self._shown(f"overlay/{name}"), NEWEST)
                for name in self._site.cameras
            ]
            wanted += [
                (CompressedImage, topics.imagined(name, step), self._shown(f"h{step}/{name}"), NEWEST)
                for name in (*self._site.cameras, topics.AFAR) for step in range(1, topics.STEPS + 1)
            ]  # fmt: skip
            self._watched = [self.create_subscription(*one) for one in wanted]
        elif not self._console.clients and self._watched:
            for subscription in self._watched:
                self.destroy_subscription(subscription)
            self._watched = []

    def _live(self, camera: str):
        def take(message):
            now = time.monotonic()
            if now - self._drawn.get(camera, 0.0) < LIVE_PERIOD:
                return
            self._drawn[camera] = now
            picture = messages.pixels(message, "color")
            ok, data = cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 80])
            if ok:
                self.pictures[f"live/{camera}"] = messages.stamp_ns(message.header.stamp), data.tobytes()

        return take

    def _shown(self, name: str):
        def take(message):
            self.pictures[name] = messages.stamp_ns(message.header.stamp), bytes(message.data)

        return take

    # ---- for the page ----------------------------------------------------------------------------------------------

    @property
    def viewer_port(self) -> int:
        """Where the 3D scene is served on this machine; 0 = nowhere."""
        return int(self._reports.get("viewer", {}).get("port", 0))

    def state(self) -> dict:
        """What the page shows beside pictures. Ids are text: JavaScript's numbers are too short."""
        future = self._future | {"plan": f"{self._future['plan']:.0f}"} if self._future else {}
        trial = self._trial if time.monotonic() - self._trial_at < TOLD else {}
        own = self._site.tasks.get(trial.get("task", self._settings.task))
        divergence = {k: v for k, v in self._divergence.items() if k != "plan"}
        return {
            "gate": self._gate, "future": future, "divergence": divergence, "stages": self._stages,
            "nodes": {name: report.get("message", "") for name, report in self._reports.items()},
            "recorder": self._reports.get("recorder", {}),
            "result": self._result, "answers": list(self._answers), "cameras": list(self._site.cameras),
            "modes": MODES, "steps": topics.STEPS, "robot": self._settings.robot, "viewer": self.viewer_port > 0,
            "task": self._settings.task, "trial": trial, "rubric": own.rubric if own else {}, "causes": topics.ABORTS,
        }  # fmt: skip

    def act(self, command: dict) -> None:
        """Do what the operator wants. Raises ValueError for what is no command."""
        what = command.get("do")
        if what in WISHES:
            self._wish(what)
        elif what == "redo":
            self._wish("discard", then="start")
        elif what == "beat":
            self._beat.publish(self._stamped(Header()))
        elif what == "joy":
            self._publish_joy(command)
        else:
            topic, wish = self._wish_of(what, command)
            self._says[topic].publish(String(data=to_json(wish)))
        if what not in ("beat", "joy"):
            self._says[topics.DECISION].publish(String(data=to_json({"time": now_ns(self), **command})))

    def _wish_of(self, what: str, command: dict) -> tuple[str, dict]:
        """The topic and the JSON of a command that is no service."""
        given = {key: value for key, value in command.items() if key != "do"}
        kinds = {key: type(value) for key, value in given.items()}
        if what == "mode" and kinds == {"mode": str}:
            return topics.MODE, given
        if what == "approve" and kinds == {"plan": str, "sha256": str} and given["plan"].isdecimal():
            return topics.APPROVE, given | {"plan": int(given["plan"]), "expires": now_ns(self) + round(VALID * 1e9)}
        if what == "mark" and (kinds == {"success": bool} or (kinds == {"note": str} and len(given["note"]) <= NOTE)):
            return topics.MARK, given
        verdict = given.keys() <= {"success", "score", "cause"} and all(
            messages.is_mark(*item) for item in given.items()
        )
        if what == "save" and verdict:
            return topics.MARK, given | {"save": True}
        if what == "lay" and kinds == {"seed": int} and self._settings.robot == "sim" and 0 <= given["seed"] < 2**31:
            return topics.SIM_EPISODE, given | {"task": self._settings.task, "difficulty": "nominal"}
        raise ValueError(f"no such command: {str(command)[:200]}")

    def _wish(self, what: str, then: str = "") -> None:
        """Call a service, and ``then`` another one when it has answered: two at once may come in any order."""
        client = self._wishes[what]
        if not client.service_is_ready():
            self._answers.append(f"{what}: nobody answers to {WISHES[what]}")
            return

        def answered(future):
            answer = future.result()
            self._answers.append(f"{what}: {'' if answer.success else 'refused: '}{answer.message}")
            if then:
                self._wish(then)

        client.call_async(Trigger.Request()).add_done_callback(answered)

    def _publish_joy(self, command: dict) -> None:
        axes, buttons = command.get("axes"), command.get("buttons")
        lists = isinstance(axes, list) and isinstance(buttons, list) and len(axes) <= 16 and len(buttons) <= 32
        if not lists or not all(isinstance(x, int | float) and abs(x) <= 1 for x in (*axes, *buttons)):
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
        raise InputError(f"cannot write {folder}: {error.strerror}; choose another record:=") from None
    return folder


def _bound(host: str, port: int) -> tuple[socket.socket, int]:
    """A listening socket, on the first free port from ``port`` on. Raises InputError where there is none."""
    reason = ""
    for number in range(port, port + PORTS):
        try:
            return socket.create_server((host, number)), number
        except OSError as error:
            reason = error.strerror
    raise InputError(f"the console cannot listen on {host}, ports {port} to {port + PORTS - 1}: {reason}")


def main() -> int:
    """Entry point."""
    return spin(ConsoleNode)


if __name__ == "__main__":
    sys.exit(main())
