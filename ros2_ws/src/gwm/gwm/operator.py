"""A node that stands where a person would: homes, arms, starts and ends episodes, and watches."""

from __future__ import annotations

import json
import time

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64MultiArray, String
from std_srvs.srv import Trigger

from gwm import messages
from gwm.node import EVERY, RELIABLE
from gwm_core import topics


class GraphOver(RuntimeError):
    """The graph ended while the demo was running."""


class Operator(Node):
    """Stands where a person would: homes, arms, starts and ends episodes, and watches."""

    def __init__(self):
        super().__init__("operator")
        self.status: dict[str, str] = {}
        self.changes: list[tuple[int, str]] = []  # stamp [ns] of a status, and the gate's state in it
        self.reports: dict[str, dict[str, str]] = {}
        self.result: dict = {}
        self.latencies: dict[int, float] = {}  # [ms] from frame to first command, by plan
        self.stages: dict[int, dict[str, float]] = {}  # [ms] of it, by plan
        self.commands: list[tuple] = []  # (joints, velocities, accelerations, latched, stamp [s])
        self.waits_for = ("sim", "policy")  # nodes that say when they are ready
        self._episode = self.create_publisher(String, topics.SIM_EPISODE, RELIABLE)
        self.create_subscription(DiagnosticArray, topics.STATUS, self._on_status, RELIABLE)
        self.create_subscription(DiagnosticArray, topics.DIAGNOSTICS, self._on_report, RELIABLE)
        self.futures: dict[int, dict[str, float]] = {}  # what was imagined, by plan
        self.create_subscription(Float64MultiArray, topics.IMAGINED, self._on_future, RELIABLE)
        self.create_subscription(Float64MultiArray, topics.STAGES, self._on_stages, RELIABLE)
        self.create_subscription(String, topics.SIM_RESULT, self._on_result, RELIABLE)
        self.create_subscription(JointState, topics.COMMAND, self._on_command, EVERY)
        wishes = [f"gate/{w}" for w in ("arm", "home", "hold", "stop", "reset")]
        wishes += [f"recorder/{w}" for w in ("start", "save", "discard")]
        self._wishes = {name: self.create_client(Trigger, name) for name in wishes}
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self)

    def _on_status(self, message) -> None:
        self.status = messages.read_diagnostics(message)["gate"]
        self.changes.append((messages.stamp_ns(message.header.stamp), self.status["state"]))
        plan, latency = int(self.status["plan"]), float(self.status["latency_ms"])
        if plan and latency:
            self.latencies[plan] = latency

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
        self.commands.append((m.position[:7], m.velocity[:7], m.effort[:7], m.header.frame_id == "latched", stamp))

    def need(self, what: str, until, limit: float, poll) -> None:
        """Spin until ``until()`` holds. Raises GraphOver when it does not within ``limit`` seconds."""
        if not self.wait(what, until, limit, poll):
            raise GraphOver(f"no {what} within {limit:.0f} s; the gate says {self.status.get('message')}")

    def wait(self, what: str, until, limit: float, poll) -> bool:
        """Spin until ``until()`` holds; False after ``limit`` seconds. Raises GraphOver when the graph ends."""
        deadline = time.monotonic() + limit
        while not until():
            self._executor.spin_once(timeout_sec=0.05)
            if over := poll():
                raise GraphOver(f"{over} while waiting for {what}")
            if time.monotonic() > deadline:
                return False
        return True

    def wish(self, name: str, poll) -> None:
        """Call a Trigger service and wait for a gate status from after it; a refusal is an error with its reason."""
        client = self._wishes[name]
        self.need(name, client.service_is_ready, 10.0, poll)
        future = client.call_async(Trigger.Request())
        self.need(f"answer from {name}", future.done, 15.0, poll)
        if not future.result().success:
            raise GraphOver(f"{name}: {future.result().message}")
        self.status = {}
        self.need("gate status", lambda: self.status, 5.0, poll)

    def hold(self, poll) -> None:
        """Have the gate hold, and wait until the arm rests."""
        self.wish("gate/hold", poll)
        self.need("rest", lambda: self.status.get("state") == "HOLD", 5.0, poll)

    def home(self, poll) -> None:
        """Home; anew when joint states came late on the way, as they may on a busy machine, and the gate stopped."""
        for _ in range(8):
            self.wish("gate/home", poll)
            self.need("rest", lambda: self.status.get("state") == "HOLD", 20.0, poll)
            if self.status.get("cause") != "joint state stale":
                break
        self.need("arrival at home", lambda: self.status.get("cause") == "at home", 1.0, poll)

    def lay(self, task: str, seed: int, difficulty: str) -> None:
        """Ask the simulation for an episode's layout."""
        wish = {"task": task, "seed": seed, "difficulty": difficulty}
        self._episode.publish(String(data=json.dumps(wish)))

    def film(self, on: bool) -> None:
        """Let the simulation's cameras run or rest."""
        self._episode.publish(String(data=json.dumps({"cameras": on})))

    @property
    def ready(self) -> bool:
        """Whether every process is up and the policy is warm."""
        warm = all(self.reports.get(name, {}).get("ready") == "True" for name in self.waits_for)
        return bool(self.status) and warm and "recorder" in self.reports
