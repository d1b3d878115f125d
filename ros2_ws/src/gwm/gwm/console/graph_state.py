"""The newest reports of gate, recorder, imagination and simulation, for the console's page."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

import cv2
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.node import Node
from std_msgs.msg import Float64MultiArray, String

from gwm.console.command_checks import refusals
from gwm.console.commands import object_of
from gwm.ros import messages
from gwm.ros.gate_messages import status_of
from gwm.ros.node import NEWEST, RELIABLE
from gwm_core import topics
from gwm_core.gate_status import GateStatus

# [s] without a report, after which nothing is known of its sender
REPORT_TIMEOUT = {"gate": 1.0, "recorder": 5.0, "imagination": 20.0}
FORGOTTEN = 60.0  # [s] after which a node that reports no more is left out
TRIAL_TIMEOUT = 2.0  # [s] after the last message of a protocol's trial


class GraphState:
    """Subscribes to the graph's reports and keeps the newest of each.

    Args:
        node: that subscribes.
        changed: called after each report, in the executor's thread.

    Attributes:
        reports: status name -> values, as they are on the wire.
        result: the simulation's result.
        future: the newest predicted future, by name.
        divergence: the newest divergence, by name.
        gate_ms: stamp of the gate's newest status [ms]; None before the first.
        unreadable: topic -> what is wrong with its last message.
    """

    def __init__(self, node: Node, changed: Callable[[], None]):
        self._node = node
        self._changed = changed
        self.reports: dict[str, dict[str, str]] = {}
        self._gate: GateStatus | None = None
        self.result: dict = {}
        self.future: dict = {}
        self.divergence: dict = {}
        self.gate_ms: float | None = None
        self.unreadable: dict[str, str] = {}
        self._received_at: dict[str, float] = {}  # [s] of the newest report, by name
        self._trial: dict = {}
        self._trial_at = 0.0
        callbacks = {
            topics.STATUS: (DiagnosticArray, self._on_status, NEWEST),
            topics.DIAGNOSTICS: (DiagnosticArray, self._on_report, RELIABLE),
            topics.SIM_RESULT: (String, self._on_result, NEWEST),
            topics.TRIAL: (String, self._on_trial, NEWEST),
            topics.IMAGINED: (Float64MultiArray, self._on_future, NEWEST),
            topics.DIVERGENCE: (Float64MultiArray, self._on_divergence, NEWEST),
        }
        for topic, (kind, callback, qos) in callbacks.items():
            node.create_subscription(kind, topic, self.guarded(topic, callback), qos)

    def guarded(self, topic: str, callback: Callable) -> Callable:
        """Return a callback that reports an unreadable message instead of ending the console."""

        def take(message) -> None:
            try:
                callback(message)
                self.unreadable.pop(topic, None)
            except (ValueError, KeyError, TypeError, cv2.error) as error:
                self.unreadable[topic] = f"{topic}: {error}"
                logger = self._node.get_logger()
                logger.error(f"{topic} refused: {error}", throttle_duration_sec=2.0)

        return take

    def report(self, name: str) -> dict[str, str]:
        """Return the newest report of a name; empty when it is older than its timeout."""
        age = time.monotonic() - self._received_at.get(name, -math.inf)
        return {} if age > REPORT_TIMEOUT[name] else self.reports[name]

    @property
    def gate(self) -> GateStatus | None:
        """The gate's newest status; None when the gate is silent."""
        return self._gate if self.report("gate") else None

    @property
    def trial(self) -> dict:
        """The running trial of a protocol; empty without one."""
        return self._trial if time.monotonic() - self._trial_at < TRIAL_TIMEOUT else {}

    @property
    def nodes(self) -> dict[str, dict]:
        """Name of every node that reports -> its words, and the age of its report [s].

        The policy's name is left out: who rates a blind trial must not see it.
        """
        now = time.monotonic()
        found = {}
        for name, values in list(self.reports.items()):
            age = now - self._received_at[name]
            named = values["message"] == values.get("policy")
            if age < FORGOTTEN:
                text = "running" if named else values["message"]
                found[name] = {"text": text, "age_s": round(age, 1)}
        return found

    @property
    def viewer_port(self) -> int:
        """Port of the 3D scene on this machine; 0 without one."""
        return int(self.reports.get("viewer", {}).get("port", 0))

    def refusals(self) -> dict[str, str]:
        """Return the commands that would be refused now, and why."""
        future = str(self.future.get("plan", "")) if self.report("imagination") else None
        return refusals(self.gate, self.report("recorder"), future, bool(self.trial))

    def _on_status(self, message) -> None:
        self._gate = status_of(message)
        self._take({"gate": messages.read_diagnostics(message)["gate"]})
        self.gate_ms = messages.stamp_ns(message.header.stamp) * 1e-6

    def _on_report(self, message) -> None:
        reports = messages.read_diagnostics(message)
        if not reports.get("viewer", {}).get("port", "0").isdecimal():
            raise ValueError("the viewer's port is no number")
        self._take({name: values for name, values in reports.items() if name != "gate"})

    def _take(self, reports: dict[str, dict[str, str]]) -> None:
        self._received_at |= dict.fromkeys(reports, time.monotonic())
        self.reports = self.reports | reports
        self._changed()

    def _on_result(self, message) -> None:
        self.result = object_of(message.data)
        self._changed()

    def _on_trial(self, message) -> None:
        trial = object_of(message.data)
        if not isinstance(trial.get("task", ""), str):
            raise ValueError('"task" is no text')
        self._trial = trial
        self._trial_at = time.monotonic()

    def _on_future(self, message) -> None:
        self.future = messages.read_numbers(message)

    def _on_divergence(self, message) -> None:
        self.divergence = messages.read_numbers(message)
