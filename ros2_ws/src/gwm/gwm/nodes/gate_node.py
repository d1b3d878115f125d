"""The gate's process: the only one that writes to the arm. No torch, no images, no
garbage-collector pauses.
"""

from __future__ import annotations

import ctypes
import gc
import sys
import time
from collections import deque

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.node import Node
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64MultiArray, Header, String, UInt64
from std_srvs.srv import Trigger
from trajectory_msgs.msg import JointTrajectory

from gwm.hardware.arm_adapters import ArmAdapter
from gwm.hardware.franka import FrankaRobot, best_gripper, has
from gwm.ros import messages
from gwm.ros.node import (
    GATE_PRIORITY,
    RELIABLE,
    SENSOR,
    STEADY,
    declare,
    now_ns,
    prioritize,
    spin,
    wait_to_be_alone,
)
from gwm_core import topics
from gwm_core.control.gate.gate import Command, Gate, GateConfig, State
from gwm_core.control.loop_timing import PeriodMonitor
from gwm_core.errors import InputError
from gwm_core.joint_states import ArmReader
from gwm_core.reasons import Reasons
from gwm_core.site import motion_site


def real_time() -> str:
    """Ask the system for real-time priority and locked memory; says what it was given."""
    gc.freeze()
    gc.disable()
    given = ["garbage collector off", prioritize(GATE_PRIORITY)]
    locked = ctypes.CDLL(None, use_errno=True).mlockall(1) == 0  # MCL_CURRENT
    given.append("memory locked" if locked else "memory not locked (raise memlock)")
    return ", ".join(given)


class GateNode(Node):
    """Subscribes to plans, beats and joints; steps the gate at its rate; publishes what was
    sent.
    """

    def __init__(self):
        # before DDS starts its threads, which inherit it: a lock they hold is waited for
        prioritize(GATE_PRIORITY)
        super().__init__("gate")
        config = declare(self, GateConfig)
        robot = self.declare_parameter("robot", "sim").value
        site = motion_site(robot, self.declare_parameter("site", "").value)
        controller = self.declare_parameter("controller", "crisp").value
        gripper = self.declare_parameter("gripper", "auto").value
        if config.auto_arm and robot != "sim":
            raise InputError(
                "auto_arm is for robot:=sim alone: a real arm is armed by its operator"
            )
        profile = site.named_profile(self.declare_parameter("profile", "").value)
        profile = profile.slowed(self.declare_parameter("speed", 1.0).value)
        self._gate = Gate(config, profile, site.workspace, site.limits, np.array(site.home))
        self._pace, self._reader = PeriodMonitor(1.0 / config.rate_hz), ArmReader()
        self._reasons = Reasons(self.get_logger().warn)
        self._beats, self._joints = (
            PeriodMonitor(0.02, config.alive_timeout),
            PeriodMonitor(0.01, config.state_timeout),
        )
        self._plan, self._latency_ms, self._told = 0, 0.0, self._gate.state
        self._costs = deque([0.0], maxlen=1000)  # [ms] of a period's work, the last ten seconds
        self._command = self.create_publisher(JointState, topics.COMMAND, RELIABLE)
        if gripper == "auto":
            gripper = "forward" if robot == "sim" else best_gripper()
        self._arm = ArmAdapter(
            self, controller, gripper, 1.0 / config.rate_hz, robot == "sim", profile, site.limits
        )
        for topic in self._arm.topics:
            wait_to_be_alone(self, topic, own=1)  # only one process may write to the arm
        watched = robot != "sim" and has("franka_msgs")
        self._robot = (
            FrankaRobot(self, self._arm.controller_name, self._gate.fault, self._place)
            if watched
            else None
        )
        if watched:
            self.create_timer(0.1, self._robot.tick, clock=STEADY)
        elif robot != "sim":
            self.get_logger().warn(
                "franka_msgs is not installed: reflexes show by stale joints and the leash alone"
            )
        self._status = self.create_publisher(DiagnosticArray, topics.STATUS, RELIABLE)
        self.create_subscription(JointState, topics.JOINT_STATES, self._on_joints, SENSOR)
        self.create_subscription(JointState, topics.GRIPPER_STATES, self._on_gripper, SENSOR)
        self.create_subscription(JointTrajectory, topics.CHUNK, self._on_chunk, RELIABLE)
        self.create_subscription(UInt64, topics.ALIVE, self._on_alive, SENSOR)
        self.create_subscription(Header, topics.HEARTBEAT, self._on_heartbeat, SENSOR)
        self.create_subscription(String, topics.APPROVE, self._wish(self._approve), RELIABLE)
        self.create_subscription(String, topics.MODE, self._wish(self._supervise), RELIABLE)
        self.create_subscription(
            Float64MultiArray, topics.DIVERGENCE, self._on_divergence, RELIABLE
        )
        self._shadow = self.create_publisher(JointState, topics.SHADOW, RELIABLE)
        # to the last approval or change of mode, and how many there were
        self._answer, self._answered = "", 0
        for name, wish in {
            "arm": lambda: self._forbids() or self._explained(self._gate.arm(time.monotonic())),
            "hold": self._gate.hold,
            "stop": self._gate.stop,
            "reset": self._reset,
            "home": lambda: self._forbids() or self._explained(self._gate.home(time.monotonic())),
        }.items():
            self.create_service(Trigger, f"gate/{name}", self._service(wish))
        self.create_timer(1.0 / config.rate_hz, self._step, clock=STEADY)
        self.create_timer(0.1, self._report, clock=STEADY)
        self.get_logger().info(f"gate: {real_time()}; software gate, not a safety-rated function")

    def _service(self, wish):
        def serve(request, response):
            reason = wish()
            response.success, response.message = reason == "", reason or self._gate.cause
            return response

        return serve

    def _wish(self, act):
        """A callback that obeys a message, or says why not."""

        def take(message):
            try:
                self._answer = act(message)
            except ValueError as error:
                self._answer = str(error)
            self._answered += 1
            if self._answer:
                self.get_logger().warn(f"refused: {self._answer}", throttle_duration_sec=1.0)

        return take

    def _approve(self, message) -> str:
        approval = messages.approval_of(message)
        return self._gate.approve(
            approval, (approval.expires - now_ns(self)) * 1e-9, time.monotonic()
        )

    def _supervise(self, message) -> str:
        return self._gate.supervise(messages.mode_of(message))

    def _on_divergence(self, message) -> None:
        score, now = messages.read_numbers(message).get("score"), time.monotonic()
        self._reasons.note(
            topics.DIVERGENCE, "" if score is not None else "names: no 'score' among them", now
        )
        if score is not None:
            self._gate.diverged(score, now)

    def _forbids(self) -> str:
        """Why the arm may not be moved, as far as the gate itself cannot know."""
        if self.count_publishers(topics.JOINT_STATES) > 1:
            return (
                f"two processes write to {topics.JOINT_STATES}: a simulation beside a real arm, or"
                " a recording"
            )
        return self._robot.trouble if self._robot else ""

    def _explained(self, reason: str) -> str:
        """Why the gate refuses, and what is wrong with the states it was sent."""
        unread = "; ".join(f"{topic} {why}" for topic, why in self._reasons.current.items())
        return f"{reason} ({unread})" if reason and unread else reason

    def _reset(self) -> str:
        """Recover the robot first where it needs it; the gate leaves FAULT when that is done."""
        if self._robot and self._robot.needs_recovery(self._gate.cause):
            return self._robot.recover(self._gate.reset)
        return self._gate.reset()

    def _place(self) -> str:
        """Tell the controller that is to be activated to stay where the arm is; returns "" or why
        that is not known.
        """
        q = self._gate.resting_place(time.monotonic())
        if q is None:
            return "no fresh joint state"
        self._arm.place(q, now_ns(self))
        return ""

    def _on_joints(self, message) -> None:
        now = time.monotonic()
        state, reason = self._reader.joints(message)
        self._reasons.note(topics.JOINT_STATES, reason, now)
        if state is not None:
            self._joints.tick(now)
            self._gate.measure(state, now)

    def _on_gripper(self, message) -> None:
        self._reasons.note(topics.GRIPPER_STATES, self._reader.gripper(message), time.monotonic())

    def _on_heartbeat(self, message) -> None:
        self._gate.heartbeat(time.monotonic())

    def _on_alive(self, message) -> None:
        self._beats.tick(time.monotonic())
        self._gate.beat(message.data, time.monotonic())

    def _on_chunk(self, message) -> None:
        chunk = messages.chunk_of(message)
        if chunk is None:
            wanted = "the seven joints and the finger width, in 2-256 evenly spaced rows"
            reason = self._gate.refuse(f"names: not {wanted}")
            self.get_logger().warn(f"plan refused: {reason}", throttle_duration_sec=1.0)
            return
        # on receipt, once; from here on the monotonic clock alone
        age = (now_ns(self) - chunk.stamp) * 1e-9
        sha256 = messages.sha256(message) if self._gate.mode == "approve" else ""
        reason = self._gate.accept(chunk, age, time.monotonic(), sha256)
        if reason and self._gate.armed:
            self.get_logger().warn(
                f"plan {chunk.stamp} refused: {reason}", throttle_duration_sec=1.0
            )

    def _step(self) -> None:
        now = time.monotonic()
        self._pace.tick(now)
        command = self._gate.step(now)
        if command is not None:
            self._send(command)
        elif self._gate.shadowed is not None:
            reference = self._gate.shadowed.reference
            self._shadow.publish(messages.joint_state(now_ns(self), topics.ARM_JOINTS, *reference))
        self._costs.append(1e3 * (time.monotonic() - now))
        if self._gate.state is not self._told:
            self._report()

    def _send(self, command: Command) -> None:
        stamp = now_ns(self)
        command = self._arm.send(command, stamp)  # as it really went out
        q, dq, ddq = command.reference
        latched = "latched" if command.latched else ""
        names = (*topics.ARM_JOINTS, topics.WIDTH)
        self._command.publish(
            messages.joint_state(
                stamp, names, [*q, command.width], [*dq, 0.0], [*ddq, 0.0], latched
            )
        )
        if command.plan not in (0, self._plan):
            self._latency_ms = (stamp - command.plan) * 1e-6
        self._plan = command.plan

    def _report(self) -> None:
        gate, pace = self._gate, self._pace
        self._told = gate.state
        for topic in self._arm.topics:
            if self.count_publishers(topic) > 1:
                gate.fault(f"second publisher: another process writes to {topic}")
        if self.count_publishers(topics.JOINT_STATES) > 1:
            gate.fault(
                f"second publisher: another process writes to {topics.JOINT_STATES}", doubtful=True
            )
        values = {
            "state": gate.state.name,
            "cause": gate.cause,
            "armed": gate.armed,
            "plan": self._plan,
            "mode": gate.mode,
            "surprise": f"{gate.surprise.score:.2f}",
            "answer": self._answer,
            **self._waits(),
            "answered": self._answered,
            "latency_ms": f"{self._latency_ms:.2f}",
            "sent": self._arm.sent,
            "rate_hz": f"{pace.rate_hz:.3f}",
            "periods": pace.periods,
            "late": pace.late,
            "longest_ms": f"{1e3 * pace.longest:.1f}",
            "step_ms_p99": f"{np.percentile(self._costs, 99):.2f}",
            "joints_hz": f"{self._joints.rate_hz:.0f}",
            "joints_late": self._joints.late,
            "joints_longest_ms": f"{1e3 * self._joints.longest:.1f}",
            "beats_late": self._beats.late,
            "beats_longest_ms": f"{1e3 * self._beats.longest:.1f}",
            "accepted": gate.counts.accepted,
            **self._reasons.values(),
            "trouble": "; ".join(
                filter(
                    None, [self._robot.trouble if self._robot else "", self._arm.gripper.trouble]
                )
            ),
            **{f"refused {k}": v for k, v in gate.counts.refused.items()},
            **{f"stops {k}": v for k, v in gate.counts.stops.items()},
        }
        text = f"{gate.state.name}: {gate.cause}"
        self._status.publish(
            messages.diagnostics(now_ns(self), "gate", text, values, gate.state is not State.FAULT)
        )

    def _waits(self) -> dict:
        waiting = self._gate.waiting
        if waiting is None:
            return {}
        left = self._gate.config.approval_time - (time.monotonic() - waiting.since)
        return {
            "waiting": waiting.chunk.stamp,
            "waiting_sha256": waiting.sha256,
            "waiting_s": f"{left:.1f}",
        }

    def rest(self) -> None:
        """Ramp to rest before the process ends."""
        self._gate.stop()
        deadline = time.monotonic() + 2.0
        while self._gate.state is State.STOPPING and time.monotonic() < deadline:
            self._step()
            time.sleep(1.0 / self._gate.config.rate_hz)
        print(f"gate: at rest, {self._gate.state.name}", flush=True)


def main() -> int:
    """Entry point."""
    return spin(GateNode, GateNode.rest)


if __name__ == "__main__":
    sys.exit(main())
