"""The gate's process: the only one that writes to the arm. No torch, no images, no garbage-collector pauses."""

from __future__ import annotations

import ctypes
import gc
import os
import sys
import time

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.node import Node
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64MultiArray, Header, UInt64
from std_srvs.srv import Trigger
from trajectory_msgs.msg import JointTrajectory

from gwm import messages
from gwm.node import NEWEST, RELIABLE, SENSOR, STEADY, declare, now_ns, spin, wait_to_be_alone
from gwm_core import topics
from gwm_core.control.gate import Command, Gate, GateConfig, State
from gwm_core.control.limits import PROFILES, Workspace
from gwm_core.control.pace import Pace
from gwm_core.errors import InputError, one_of
from gwm_core.site import DEFAULT_FILE, load_site
from gwm_core.types import ArmState


def real_time() -> str:
    """Ask the system for real-time priority and locked memory; says what it was given."""
    gc.freeze()
    gc.disable()
    given = ["garbage collector off"]
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(40))
        given.append("SCHED_FIFO 40")
    except PermissionError:
        given.append("normal priority (no right to SCHED_FIFO: set rtprio in /etc/security/limits.conf)")
    locked = ctypes.CDLL(None, use_errno=True).mlockall(1) == 0  # MCL_CURRENT
    given.append("memory locked" if locked else "memory not locked (raise memlock)")
    return ", ".join(given)


GRIPPER_REPEAT = 50  # periods


class GateNode(Node):
    """Subscribes to plans, beats and joints; steps the gate at its rate; publishes what was sent."""

    def __init__(self):
        super().__init__("gate")
        config = declare(self, GateConfig)
        robot = self.declare_parameter("robot", "sim").value
        site = self.declare_parameter("site", "").value
        profile = PROFILES[one_of("profile", self.declare_parameter("profile", "desk").value, PROFILES)]
        profile = profile.slowed(self.declare_parameter("speed", 1.0).value)
        if config.auto_arm and robot != "sim":
            raise InputError("auto_arm is for robot:=sim alone: a real arm is armed by its operator")
        self._gate = Gate(config, profile, _workspace(robot, site))
        self._pace, self._sent = Pace(1.0 / config.rate_hz), 0
        self._beats, self._joints = Pace(0.02, config.alive_timeout), Pace(0.01, config.state_timeout)
        self._width, self._width_sent, self._width_command = np.nan, None, None
        self._plan, self._latency_ms = 0, 0.0
        self._command = self.create_publisher(JointState, topics.COMMAND, RELIABLE)
        self._target = self.create_publisher(JointState, topics.TARGET_JOINT, NEWEST)
        wait_to_be_alone(self, topics.TARGET_JOINT, own=1)  # only one process may write to the arm
        self._gripper = self.create_publisher(Float64MultiArray, topics.GRIPPER_COMMAND, NEWEST)
        self._status = self.create_publisher(DiagnosticArray, topics.STATUS, RELIABLE)
        self.create_subscription(JointState, topics.JOINT_STATES, self._on_joints, SENSOR)
        self.create_subscription(JointState, topics.GRIPPER_STATES, self._on_gripper, SENSOR)
        self.create_subscription(JointTrajectory, topics.CHUNK, self._on_chunk, RELIABLE)
        self.create_subscription(UInt64, topics.ALIVE, self._on_alive, SENSOR)
        self.create_subscription(Header, topics.HEARTBEAT, self._on_heartbeat, SENSOR)
        self._shadow = self.create_publisher(JointState, topics.SHADOW, RELIABLE) if config.shadow else None
        for name, wish in {
            "arm": lambda: self._gate.arm(time.monotonic()),
            "hold": self._gate.hold,
            "stop": self._gate.stop,
            "reset": self._gate.reset,
            "home": lambda: self._gate.home(time.monotonic()),
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

    def _on_joints(self, message) -> None:
        q = messages.by_name(message.name, message.position, topics.ARM_JOINTS)
        dq = messages.by_name(message.name, message.velocity, topics.ARM_JOINTS)
        if q is not None and dq is not None:
            stamp = messages.stamp_ns(message.header.stamp)
            self._joints.tick(time.monotonic())
            self._gate.measure(ArmState(stamp, q, dq, self._width), time.monotonic())

    def _on_gripper(self, message) -> None:
        fingers = messages.by_name(message.name, message.position, topics.FINGER_JOINTS)
        if fingers is not None and np.all(np.isfinite(fingers)):
            self._width = float(fingers.sum())

    def _on_heartbeat(self, message) -> None:
        self._gate.heartbeat(time.monotonic())

    def _on_alive(self, message) -> None:
        self._beats.tick(time.monotonic())
        self._gate.beat(message.data, time.monotonic())

    def _on_chunk(self, message) -> None:
        chunk = messages.chunk_of(message)
        if chunk is None:
            reason = self._gate.refuse("names: not the seven joints and the finger width, or rows not evenly spaced")
            self.get_logger().warn(f"plan refused: {reason}", throttle_duration_sec=1.0)
            return
        age = (now_ns(self) - chunk.stamp) * 1e-9  # on receipt, once; from here on the monotonic clock alone
        reason = self._gate.accept(chunk, age, time.monotonic())
        if reason and self._gate.armed:
            self.get_logger().warn(f"plan {chunk.stamp} refused: {reason}", throttle_duration_sec=1.0)

    def _step(self) -> None:
        now = time.monotonic()
        self._pace.tick(now)
        command = self._gate.step(now)
        if command is not None:
            self._send(command)
        elif self._shadow is not None and self._gate.shadowed is not None:
            reference = self._gate.shadowed.reference
            self._shadow.publish(messages.joint_state(now_ns(self), topics.ARM_JOINTS, *reference))

    def _send(self, command: Command) -> None:
        stamp, (q, dq, ddq) = now_ns(self), command.reference
        self._target.publish(messages.joint_state(stamp, topics.ARM_JOINTS, q, dq))
        self._sent += 1
        if command.width != self._width_sent or self._sent % GRIPPER_REPEAT == 0:  # a late subscriber hears it too
            self._gripper.publish(Float64MultiArray(data=[command.width]))
            self._width_sent = command.width
        latched = "latched" if command.latched else ""
        names = (*topics.ARM_JOINTS, topics.WIDTH)
        self._command.publish(messages.joint_state(stamp, names, [*q, command.width], [*dq, 0.0], [*ddq, 0.0], latched))
        if command.plan not in (0, self._plan):
            self._latency_ms = (stamp - command.plan) * 1e-6
        self._plan = command.plan

    def _report(self) -> None:
        gate, pace = self._gate, self._pace
        if self.count_publishers(topics.TARGET_JOINT) > 1:
            gate.fault(f"second publisher: another process writes to {topics.TARGET_JOINT}")
        values = {
            "state": gate.state.name, "cause": gate.cause, "armed": gate.armed, "plan": self._plan,
            "latency_ms": f"{self._latency_ms:.2f}", "sent": self._sent, "rate_hz": f"{pace.rate_hz:.3f}",
            "periods": pace.periods, "late": pace.late, "longest_ms": f"{1e3 * pace.longest:.1f}",
            "joints_late": self._joints.late, "joints_longest_ms": f"{1e3 * self._joints.longest:.1f}",
            "beats_late": self._beats.late, "beats_longest_ms": f"{1e3 * self._beats.longest:.1f}",
            "accepted": gate.counts.accepted,
            **{f"refused {k}": v for k, v in gate.counts.refused.items()},
            **{f"stops {k}": v for k, v in gate.counts.stops.items()},
        }  # fmt: skip
        text = f"{gate.state.name}: {gate.cause}"
        self._status.publish(messages.diagnostics(now_ns(self), "gate", text, values, gate.state is not State.FAULT))

    def rest(self) -> None:
        """Ramp to rest before the process ends."""
        self._gate.stop()
        deadline = time.monotonic() + 2.0
        while self._gate.state is State.STOPPING and time.monotonic() < deadline:
            self._step()
            time.sleep(1.0 / self._gate.config.rate_hz)
        print(f"gate: at rest, {self._gate.state.name}", flush=True)


def _workspace(robot: str, site: str) -> Workspace:
    if robot == "sim" and not site:
        return Workspace()
    return load_site(site or DEFAULT_FILE).workspace


def main() -> int:
    """Entry point."""
    return spin(GateNode, GateNode.rest)


if __name__ == "__main__":
    sys.exit(main())
