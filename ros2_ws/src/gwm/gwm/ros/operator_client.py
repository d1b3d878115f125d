"""An operator in code: homes, arms, starts and ends episodes, and watches the graph."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.experimental import EventsExecutor
from rclpy.node import Node
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64MultiArray, String
from std_srvs.srv import Trigger

from gwm.ros import messages
from gwm.ros.gate_messages import status_of
from gwm.ros.node import EVERY, RELIABLE, SENSOR, interrupt_held, now_ns, subscribe_to_all
from gwm_core import topics
from gwm_core.control.command_checker import CheckResult, check_commands
from gwm_core.files.json_files import to_json
from gwm_core.gate_status import GateStatus, State
from gwm_core.joint_states import read_joint_state
from gwm_core.recording.backlog import ProgressTimeout

TRIES = 8  # to home or hold the arm, on a machine that is busy elsewhere
PATIENCE = 15.0  # [s] for an answer, or for the recorder to write one more message
AT_REST = (State.HOLD, State.FAULT, State.DISARMED)  # states of the gate
GRANTED = 10.0  # [s] to repeat a request that is refused


class RequestFailed(RuntimeError):
    """A request had no effect in time. The graph goes on."""


class RequestRefused(RequestFailed):
    """A request was answered with a refusal and its reason."""


class GraphEnded(RequestFailed):
    """The graph ended."""


class OperatorClient(Node):
    """Calls the graph's services as a person would, and keeps what its topics say.

    Methods take ``poll``, which returns why the graph ended, or "".

    Attributes:
        say: prints a line for a person.
        status: the gate's status since the last request; None until a newer one arrives.
        last_status: the gate's newest status.
        state_changes: stamp [ns] and gate state of every status.
        reports: the newest diagnostics by name.
        result: the simulation's result.
        latencies: time from frame to first command [ms], by chunk id.
        stages: parts of that time [ms], by chunk id.
        futures: predicted outcomes, by chunk id.
        commands: of each command: positions, velocities, accelerations, whether the reference was
            reset, stamp [s], and the joints measured last (NaN where they are not known).
        required_nodes: nodes that must report that they are ready.
    """

    def __init__(self):
        super().__init__("operator")
        self.say: Callable[[str], None] = lambda text: print(text, file=sys.stderr, flush=True)
        self.status: GateStatus | None = None
        self.last_status: GateStatus | None = None
        self._status_from = 0  # [ns] older statuses do not count
        self.state_changes: list[tuple[int, State]] = []
        self.reports: dict[str, dict[str, str]] = {}
        self.result: dict = {}
        self.latencies: dict[str, float] = {}
        self.stages: dict[str, dict[str, float]] = {}
        self.futures: dict[str, dict[str, float]] = {}
        self.commands: list[tuple] = []
        self._measured = (np.nan,) * 7
        self.required_nodes = ("sim", "policy")
        self._episode = self.create_publisher(String, topics.SIM_EPISODE, RELIABLE)
        self.create_subscription(DiagnosticArray, topics.STATUS, self._on_status, RELIABLE)
        self.create_subscription(DiagnosticArray, topics.DIAGNOSTICS, self._on_report, RELIABLE)
        self.create_subscription(Float64MultiArray, topics.IMAGINED, self._on_future, RELIABLE)
        self.create_subscription(Float64MultiArray, topics.STAGES, self._on_stages, RELIABLE)
        self.create_subscription(String, topics.SIM_RESULT, self._on_result, RELIABLE)
        subscribe_to_all(self, JointState, topics.COMMAND, self._on_command, EVERY)
        self.create_subscription(JointState, topics.JOINT_STATES, self._on_joints, SENSOR)
        services = [f"gate/{name}" for name in ("arm", "home", "hold", "stop", "reset")]
        services += [f"recorder/{name}" for name in ("start", "save", "discard")]
        self._service_clients = {name: self.create_client(Trigger, name) for name in services}
        self._executor = EventsExecutor()
        self._executor.add_node(self)

    def destroy_node(self) -> None:
        """End the executor, which would keep the node's threads and files, and then the node."""
        self._executor.shutdown()
        super().destroy_node()

    def _on_status(self, message) -> None:
        stamp = messages.stamp_ns(message.header.stamp)
        status = status_of(message)
        self.last_status = status
        self.state_changes.append((stamp, status.state))
        if status.chunk_id != "0" and status.latency_ms:
            self.latencies[status.chunk_id] = status.latency_ms
        if stamp >= self._status_from:  # older ones were on their way during the answer
            self.status = status

    def _on_stages(self, message) -> None:
        values = messages.read_numbers(message)
        self.stages[str(values.pop("plan"))] = values

    def _on_future(self, message) -> None:
        values = messages.read_numbers(message)
        self.futures[str(values.pop("plan"))] = values

    @property
    def simulation(self) -> dict[str, str]:
        """The newest reports of all processes that stand for the robot and its cameras."""
        parts = ("sim", "sim_cameras", "fci")
        return {key: value for part in parts for key, value in self.reports.get(part, {}).items()}

    def _on_report(self, message) -> None:
        self.reports |= messages.read_diagnostics(message)

    def _on_result(self, message) -> None:
        self.result = json.loads(message.data)

    def _on_command(self, m) -> None:
        stamp = messages.stamp_ns(m.header.stamp) * 1e-9
        reference_reset = m.header.frame_id == topics.RESET_FRAME
        self.commands.append(
            (m.position[:7], m.velocity[:7], m.effort[:7], reference_reset, stamp, self._measured)
        )

    def _on_joints(self, message) -> None:
        state, _ = read_joint_state(message)
        self._measured = (np.nan,) * 7 if state is None else tuple(state.q)

    @property
    def state(self) -> State | None:
        """The gate's state since the last request; None until a newer status arrives."""
        return self.status.state if self.status else None

    @property
    def says(self) -> str:
        """The gate's newest state and cause, in words."""
        return self.last_status.text if self.last_status else "nothing"

    def command_check(self, **limits) -> CheckResult:
        """Check all commands so far; ``limits`` are arguments of ``check_commands``."""
        if not self.commands:
            return CheckResult()
        q, dq, ddq, reset, stamps, measured = (np.array(column) for column in zip(*self.commands))
        return check_commands(q, dq, ddq, reset, stamps=stamps, measured=measured, **limits)

    def require(self, what: str, until, limit: float, poll) -> None:
        """Spin until ``until()`` holds. Raises RequestFailed after ``limit`` [s]."""
        if not self.wait(what, until, limit, poll):
            raise RequestFailed(f"no {what} within {limit:.0f} s; the gate says {self.says}")

    def wait(self, what: str, until, limit: float, poll) -> bool:
        """Spin until ``until()`` holds; False after ``limit`` [s].

        Raises:
            GraphEnded: the graph ended.
        """
        deadline = time.monotonic() + limit
        while not until():
            with interrupt_held():
                self._executor.spin_once(timeout_sec=0.05)
            if over := poll():
                raise GraphEnded(f"{over} while waiting for {what}")
            if time.monotonic() > deadline:
                return False
        return True

    def request(self, name: str, poll) -> None:
        """Call a Trigger service and wait for a gate status from after its answer.

        The recorder answers when everything before the call is on disk. This call waits as long as
        the recorder makes progress.

        Raises:
            RequestRefused: with the reason of the service.
        """
        client = self._service_clients[name]
        self.require(name, client.service_is_ready, GRANTED, poll)
        future = client.call_async(Trigger.Request())
        self._answer(name, future, poll)
        if not future.result().success:
            raise RequestRefused(f"{name}: {future.result().message}")
        self._wait_for_status(poll)

    def _wait_for_status(self, poll) -> None:
        """Wait for a gate status that is newer than now."""
        self.status, self._status_from = None, now_ns(self)
        self.require("gate status", lambda: self.status, GRANTED, poll)

    def _answer(self, name: str, future, poll) -> None:
        if name.startswith("recorder/"):
            self.require_written(f"answer from {name}", future.done, poll)
        else:
            self.require(f"answer from {name}", future.done, PATIENCE, poll)

    def require_written(self, what: str, until, poll) -> None:
        """``require`` an effect that follows the recorder's backlog, while the backlog shrinks."""
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

    def request_with_retry(self, name: str, poll) -> None:
        """``request``, repeated while it is refused: a busy machine may grant it a little later."""
        deadline = time.monotonic() + GRANTED
        while True:
            try:
                self.request(name, poll)
                return
            except RequestRefused as refused:
                if time.monotonic() > deadline:
                    raise
                self.say(f"{refused}: again")
            self.wait("another try", lambda: False, 0.5, poll)

    def arm(self, poll) -> None:
        """Arm the gate; reset it first after a fault."""
        if self.state is State.FAULT:
            self.request_with_retry("gate/reset", poll)
        self.request_with_retry("gate/arm", poll)

    def hold(self, poll) -> None:
        """Have the gate hold from any state, and wait until the arm rests."""
        for _ in range(TRIES):
            self._wait_for_status(poll)
            if self.state in (State.FAULT, State.DISARMED):
                self.arm(poll)
            self.request("gate/hold", poll)
            self.require("rest", lambda: self.state in AT_REST, GRANTED, poll)
            if self.state is State.HOLD:
                return
        raise RequestFailed(f"the arm does not hold after {TRIES} tries: {self.says}")

    def home(self, poll) -> None:
        """Home, and repeat when a stop interrupts it, as happens on a busy machine."""
        for _ in range(TRIES):
            self._wait_for_status(poll)
            if self.state is State.FAULT:
                self.request_with_retry("gate/reset", poll)
            elif self.state is not State.DISARMED:
                self.hold(poll)
            self.request_with_retry("gate/home", poll)
            self.require("rest", lambda: self.state in AT_REST, 20.0, poll)
            if self.status.cause == "at home":
                return
            self.say(f"not at home, {self.status.cause}: again")
        raise RequestFailed(f"not at home after {TRIES} tries: {self.says}")

    def record(self, poll) -> None:
        """Begin an episode. An open one goes to the trash."""
        try:
            self.request("recorder/start", poll)
        except RequestRefused as refused:
            if "already recording" not in str(refused):
                raise
            self.request("recorder/discard", poll)
            self.request("recorder/start", poll)

    def reset_simulation(self, task: str, seed: int, difficulty: str) -> None:
        """Ask the simulation for an episode's object layout."""
        layout = {"task": task, "seed": seed, "difficulty": difficulty}
        self._episode.publish(String(data=to_json(layout)))

    def enable_cameras(self, on: bool) -> None:
        """Switch the simulation's cameras on or off."""
        self._episode.publish(String(data=to_json({"cameras": on})))

    @property
    def missing(self) -> list[str]:
        """Processes that are not up, or not ready."""
        cold = [
            name
            for name in self.required_nodes
            if self.reports.get(name, {}).get("ready") != "True"
        ]
        return (
            ["gate"] * (not self.last_status)
            + cold
            + ["recorder"] * ("recorder" not in self.reports)
        )

    @property
    def ready(self) -> bool:
        """Whether every process is up and ready."""
        return not self.missing
