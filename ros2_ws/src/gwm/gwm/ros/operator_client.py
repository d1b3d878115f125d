"""A node that stands where a person would: homes, arms, starts and ends episodes, and watches."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64MultiArray, String
from std_srvs.srv import Trigger

from gwm.ros import messages
from gwm.ros.node import EVERY, RELIABLE, SENSOR, now_ns, subscribe_to_all
from gwm_core import topics
from gwm_core.control.command_checker import CheckResult, check_commands
from gwm_core.files.json_files import to_json
from gwm_core.joint_states import read_joint_state
from gwm_core.recording.backlog import ProgressTimeout

TRIES = 8  # to bring the arm where it is to be, on a machine that is busy elsewhere
PATIENCE = 15.0  # [s] for an answer; for the recorder's: for one more message to be written
AT_REST = ("HOLD", "FAULT", "DISARMED")  # states of the gate
GRANTED = 10.0  # [s] for what is refused for the moment


class RequestFailed(RuntimeError):
    """What was asked for did not come; the graph goes on, and so may who asked."""


class RequestRefused(RequestFailed):
    """It was answered: not now, and why."""


class GraphEnded(RequestFailed):
    """The graph ended."""


class OperatorClient(Node):
    """Stands where a person would: homes, arms, starts and ends episodes, and watches."""

    def __init__(self):
        super().__init__("operator")
        self.say: Callable[[str], None] = lambda text: print(text, file=sys.stderr, flush=True)
        self.status: dict[str, str] = {}
        self.last_status: dict[str, str] = {}  # the same, also when a newer one is waited for
        self._status_from = 0  # [ns] of a status that counts
        # stamp [ns] of a status, and the gate's state in it
        self.changes: list[tuple[int, str]] = []
        self.reports: dict[str, dict[str, str]] = {}
        self.result: dict = {}
        self.latencies: dict[int, float] = {}  # [ms] from frame to first command, by plan
        self.stages: dict[int, dict[str, float]] = {}  # [ms] of it, by plan
        # joints, velocities, accelerations, latched, stamp [s], and joints measured last: NaN where
        # they are not known
        self.commands: list[tuple] = []
        self._measured = (np.nan,) * 7
        self.waits_for = ("sim", "policy")  # nodes that say when they are ready
        self._episode = self.create_publisher(String, topics.SIM_EPISODE, RELIABLE)
        self.create_subscription(DiagnosticArray, topics.STATUS, self._on_status, RELIABLE)
        self.create_subscription(DiagnosticArray, topics.DIAGNOSTICS, self._on_report, RELIABLE)
        self.futures: dict[int, dict[str, float]] = {}  # what was imagined, by plan
        self.create_subscription(Float64MultiArray, topics.IMAGINED, self._on_future, RELIABLE)
        self.create_subscription(Float64MultiArray, topics.STAGES, self._on_stages, RELIABLE)
        self.create_subscription(String, topics.SIM_RESULT, self._on_result, RELIABLE)
        subscribe_to_all(self, JointState, topics.COMMAND, self._on_command, EVERY)
        self.create_subscription(JointState, topics.JOINT_STATES, self._on_joints, SENSOR)
        wishes = [f"gate/{w}" for w in ("arm", "home", "hold", "stop", "reset")]
        wishes += [f"recorder/{w}" for w in ("start", "save", "discard")]
        self._wishes = {name: self.create_client(Trigger, name) for name in wishes}
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self)

    def _on_status(self, message) -> None:
        stamp, status = (
            messages.stamp_ns(message.header.stamp),
            messages.read_diagnostics(message)["gate"],
        )
        self.last_status = status
        self.changes.append((stamp, status["state"]))
        plan, latency = int(status["plan"]), float(status["latency_ms"])
        if plan and latency:
            self.latencies[plan] = latency
        if stamp >= self._status_from:  # an older one was on its way while the gate answered
            self.status = status

    def _on_stages(self, message) -> None:
        values = messages.read_numbers(message)
        self.stages[values.pop("plan")] = values

    def _on_future(self, message) -> None:
        values = messages.read_numbers(message)
        self.futures[values.pop("plan")] = values

    def _on_report(self, message) -> None:
        self.reports |= messages.read_diagnostics(message)

    def _on_result(self, message) -> None:
        self.result = json.loads(message.data)

    def _on_command(self, m) -> None:
        stamp = messages.stamp_ns(m.header.stamp) * 1e-9
        latched = m.header.frame_id == "latched"
        self.commands.append(
            (m.position[:7], m.velocity[:7], m.effort[:7], latched, stamp, self._measured)
        )

    def _on_joints(self, message) -> None:
        state, _ = read_joint_state(message)
        self._measured = (np.nan,) * 7 if state is None else tuple(state.q)

    def verdict(self, **limits) -> CheckResult:
        """The judge's, on all commands that came; ``limits`` are arguments of
        ``check_commands``.
        """
        if not self.commands:
            return CheckResult()
        q, dq, ddq, latched, stamps, measured = (np.array(column) for column in zip(*self.commands))
        return check_commands(q, dq, ddq, latched, stamps=stamps, measured=measured, **limits)

    def need(self, what: str, until, limit: float, poll) -> None:
        """Spin until ``until()`` holds. Raises Trouble when it does not within ``limit``
        seconds.
        """
        if not self.wait(what, until, limit, poll):
            raise RequestFailed(
                f"no {what} within {limit:.0f} s; the gate says {self.last_status.get('message')}"
            )

    def wait(self, what: str, until, limit: float, poll) -> bool:
        """Spin until ``until()`` holds; False after ``limit`` seconds. Raises GraphOver when the
        graph ends.
        """
        deadline = time.monotonic() + limit
        while not until():
            self._executor.spin_once(timeout_sec=0.05)
            if over := poll():
                raise GraphEnded(f"{over} while waiting for {what}")
            if time.monotonic() > deadline:
                return False
        return True

    def wish(self, name: str, poll) -> None:
        """Call a Trigger service and wait for a gate status from after it. Raises Refused with its
        reason.

        The recorder answers when what came before is on disk: it is waited for as long as it gets
        on.
        """
        client = self._wishes[name]
        self.need(name, client.service_is_ready, GRANTED, poll)
        future = client.call_async(Trigger.Request())
        self._answer(name, future, poll)
        if not future.result().success:
            raise RequestRefused(f"{name}: {future.result().message}")
        self._look(poll)

    def _look(self, poll) -> None:
        """Wait for what the gate says from now on."""
        self.status, self._status_from = {}, now_ns(self)
        self.need("gate status", lambda: self.status, GRANTED, poll)

    def _answer(self, name: str, future, poll) -> None:
        if name.startswith("recorder/"):
            self.need_written(f"answer from {name}", future.done, poll)
        else:
            self.need(f"answer from {name}", future.done, PATIENCE, poll)

    def need_written(self, what: str, until, poll) -> None:
        """``need`` what the recorder does after all it has to write: for as long as that gets
        less.
        """
        asked, patience = self.reports.get("recorder"), ProgressTimeout(PATIENCE, time.monotonic())
        while not self.wait(what, until, 1.0, poll):
            report = self.reports.get("recorder")
            if report and report is not asked:
                asked = report
                patience.report(int(report["done"]), int(report["waiting"]), time.monotonic())
                if patience.left:
                    self.say(f"{what}: {patience.left} messages are to be written before it")
            if patience.expired(time.monotonic()):
                left = (
                    f", with {patience.left} messages to be written before it"
                    if patience.left
                    else ""
                )
                raise RequestFailed(f"no {what} within {PATIENCE:.0f} s{left}")

    def insist(self, name: str, poll) -> None:
        """``wish``, again while it is refused: what a busy machine refuses now it grants in a
        moment.
        """
        deadline = time.monotonic() + GRANTED
        while True:
            try:
                self.wish(name, poll)
                return
            except RequestRefused as refused:
                if time.monotonic() > deadline:
                    raise
                self.say(f"{refused}: again")
            self.wait("another try", lambda: False, 0.5, poll)

    def arm(self, poll) -> None:
        """Arm the gate, out of a fault too."""
        if self.status.get("state") == "FAULT":
            self.insist("gate/reset", poll)
        self.insist("gate/arm", poll)

    def hold(self, poll) -> None:
        """Have the gate hold, whatever it does now, and wait until the arm rests."""
        for _ in range(TRIES):
            self._look(poll)
            if self.status.get("state") in ("FAULT", "DISARMED"):
                self.arm(poll)
            self.wish("gate/hold", poll)
            self.need("rest", lambda: self.status.get("state") in AT_REST, GRANTED, poll)
            if self.status["state"] == "HOLD":
                return
        raise RequestFailed(
            f"the arm does not hold after {TRIES} tries: {self.last_status['message']}"
        )

    def home(self, poll) -> None:
        """Home; again when it was stopped on the way, as a busy machine has the gate do."""
        for _ in range(TRIES):
            self._look(poll)
            if self.status["state"] == "FAULT":
                self.insist("gate/reset", poll)
            elif self.status["state"] != "DISARMED":
                self.hold(poll)
            self.insist("gate/home", poll)
            self.need("rest", lambda: self.status.get("state") in AT_REST, 20.0, poll)
            if self.status["cause"] == "at home":
                return
            self.say(f"not at home, {self.status['cause']}: again")
        raise RequestFailed(f"not at home after {TRIES} tries: {self.last_status['message']}")

    def record(self, poll) -> None:
        """Begin an episode; one that was left open goes to the trash."""
        try:
            self.wish("recorder/start", poll)
        except RequestRefused as refused:
            if "already recording" not in str(refused):
                raise
            self.wish("recorder/discard", poll)
            self.wish("recorder/start", poll)

    def lay(self, task: str, seed: int, difficulty: str) -> None:
        """Ask the simulation for an episode's layout."""
        wish = {"task": task, "seed": seed, "difficulty": difficulty}
        self._episode.publish(String(data=to_json(wish)))

    def film(self, on: bool) -> None:
        """Let the simulation's cameras run or rest."""
        self._episode.publish(String(data=to_json({"cameras": on})))

    @property
    def missing(self) -> list[str]:
        """Processes that are not up, or not warm."""
        cold = [
            name for name in self.waits_for if self.reports.get(name, {}).get("ready") != "True"
        ]
        return (
            ["gate"] * (not self.last_status)
            + cold
            + ["recorder"] * ("recorder" not in self.reports)
        )

    @property
    def ready(self) -> bool:
        """Whether every process is up and the policy is warm."""
        return not self.missing
