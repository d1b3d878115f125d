"""The gate's process: the only one that writes to the arm.

It loads no torch, receives no images, and has the garbage collector switched off.
"""

from __future__ import annotations

import ctypes
import gc
import sys
import time
from collections.abc import Callable

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64MultiArray, Header, String, UInt64
from std_srvs.srv import Trigger
from trajectory_msgs.msg import JointTrajectory

from gwm.graph.environment import prioritize
from gwm.nodes.parts.gate_monitor import GateMonitor
from gwm.nodes.parts.robot_access import arm_adapter, reporting_robot
from gwm.ros import gate_messages, messages
from gwm.ros.node import GATE_PRIORITY, RELIABLE, SENSOR, STEADY, declare, now_ns, spin
from gwm.ros.polling_node import PollingNode
from gwm_core import topics
from gwm_core.control.gate.config import GateConfig
from gwm_core.control.gate.gate import Gate
from gwm_core.control.gate.state_machine import Command
from gwm_core.errors import InputError
from gwm_core.gate_status import State
from gwm_core.joint_states import ArmReader
from gwm_core.reasons import Reasons
from gwm_core.site import motion_site


def real_time() -> str:
    """Ask the system for real-time priority and locked memory. Returns what it granted."""
    gc.freeze()
    gc.disable()
    given = ["garbage collector off", prioritize(GATE_PRIORITY)]
    locked = ctypes.CDLL(None, use_errno=True).mlockall(1) == 0  # MCL_CURRENT
    given.append("memory locked" if locked else "memory not locked (raise memlock)")
    return ", ".join(given)


class GateNode(PollingNode):
    """Feeds the gate with messages, steps it at its rate, and publishes commands and status.

    Every step takes the messages that came since the last one.
    """

    def __init__(self):
        # before DDS starts its threads, which inherit it: a lock they hold is waited for
        prioritize(GATE_PRIORITY)
        super().__init__("gate")
        config = declare(self, GateConfig)
        robot = self.declare_parameter("robot", "sim").value
        site = motion_site(robot, self.declare_parameter("site", "").value)
        if config.auto_arm and robot != "sim":
            raise InputError(
                "auto_arm is for robot:=sim alone: a real arm is armed by its operator"
            )
        profile = site.named_profile(self.declare_parameter("profile", "").value)
        profile = profile.slowed(self.declare_parameter("speed", 1.0).value)
        self._gate = Gate(config, profile, site.workspace, site.limits, np.array(site.home))
        self._reader = ArmReader(site.robot)
        self._reasons = Reasons(self.get_logger().warn)
        self._monitor = GateMonitor(config)
        self._reported_state = self._gate.state
        self._arm = arm_adapter(self, robot, config.rate_hz, profile, site.limits)
        self._robot = reporting_robot(
            self, robot, self._arm, self._gate.fault, self._set_controller_target
        )
        if self._robot is not None:
            self.create_timer(0.1, self._robot.tick, clock=STEADY)
        self._command = self.create_publisher(JointState, topics.COMMAND, RELIABLE)
        self._status = self.create_publisher(DiagnosticArray, topics.STATUS, RELIABLE)
        self._shadow = self.create_publisher(JointState, topics.SHADOW, RELIABLE)
        self._subscribe()
        self._serve()
        self.create_timer(1.0 / config.rate_hz, self._step, clock=STEADY)
        self.create_timer(0.1, self._report, clock=STEADY)
        self.get_logger().info(f"gate: {real_time()}; software gate, not a safety-rated function")

    def _subscribe(self) -> None:
        self.poll_topic(JointState, topics.JOINT_STATES, self._on_joints, SENSOR)
        self.poll_topic(JointState, topics.GRIPPER_STATES, self._on_gripper, SENSOR)
        # before the plans that they vouch for
        self.poll_topic(UInt64, topics.ALIVE, self._on_policy_heartbeat, SENSOR)
        self.poll_topic(Header, topics.HEARTBEAT, self._on_deadman, SENSOR)
        # Reading a plan takes up to 2 ms, and one of 5000 waypoints 30 ms: one in a step.
        for kind, topic, take in (
            (JointTrajectory, topics.CHUNK, self._on_chunk),
            (String, topics.APPROVE, self._answering(self._approve)),
            (String, topics.MODE, self._answering(self._set_mode)),
            (Float64MultiArray, topics.DIVERGENCE, self._on_divergence),
        ):
            self.poll_topic(kind, topic, take, RELIABLE, limit=1)

    def _serve(self) -> None:
        requests = {
            "arm": self._arm_gate,
            "hold": self._gate.hold,
            "stop": self._gate.stop,
            "reset": self._reset,
            "home": self._home,
        }
        for name, request in requests.items():
            self.create_service(Trigger, f"gate/{name}", self._service(request))

    def _service(self, act: Callable[[], str]):
        """A callback of a Trigger service; ``act()`` returns "" or why it refuses."""

        def serve(request, response):
            reason = act()
            response.success = reason == ""
            response.message = reason or self._gate.cause
            return response

        return serve

    def _answering(self, act: Callable[[String], str]):
        """A callback of a topic; the answer, "" or why not, is published with the status."""

        def receive(message):
            try:
                answer = act(message)
            except ValueError as error:
                answer = str(error)
            self._monitor.answer(answer)
            if answer:
                self.get_logger().warn(f"refused: {answer}", throttle_duration_sec=1.0)

        return receive

    def _arm_gate(self) -> str:
        return self._forbids() or self._explained(self._gate.arm(time.monotonic()))

    def _home(self) -> str:
        return self._forbids() or self._explained(self._gate.home(time.monotonic()))

    def _approve(self, message) -> str:
        declined = messages.declined_of(message)
        if declined is not None:
            return self._gate.decline(declined)
        approval = messages.approval_of(message)
        left = (approval.expires - now_ns(self)) * 1e-9
        return self._gate.approve(approval, left, time.monotonic())

    def _set_mode(self, message) -> str:
        return self._gate.set_mode(messages.mode_of(message))

    def _on_divergence(self, message) -> None:
        now = time.monotonic()
        score = messages.read_numbers(message).get("score")
        reason = "" if score is not None else "names: no 'score' among them"
        self._reasons.note(topics.DIVERGENCE, reason, now)
        if score is not None:
            self._gate.receive_divergence(score, now)

    def _forbids(self) -> str:
        """Why the arm may not move, for reasons that the gate itself cannot know, or ""."""
        if self.count_publishers(topics.JOINT_STATES) > 1:
            return (
                f"two processes write to {topics.JOINT_STATES}: a simulation beside a real arm, or"
                " a recording"
            )
        return self._robot.trouble if self._robot else ""

    def _explained(self, reason: str) -> str:
        """The gate's reason, with what is wrong in the joint states, which may be behind it."""
        unread = "; ".join(f"{topic} {why}" for topic, why in self._reasons.current.items())
        return f"{reason} ({unread})" if reason and unread else reason

    def _reset(self) -> str:
        """Leave FAULT; a robot that needs it is recovered first."""
        if self._robot and self._robot.needs_recovery(self._gate.cause):
            return self._robot.recover(self._gate.reset)
        return self._gate.reset()

    def _set_controller_target(self) -> str:
        """Set the target of a controller that is still inactive to where the arm is.

        Returns "" or why that is not known.
        """
        q = self._gate.rest_position(time.monotonic())
        if q is None:
            return "no fresh joint state"
        self._arm.set_target(q, now_ns(self))
        return ""

    def _on_joints(self, message) -> None:
        now = time.monotonic()
        state, reason = self._reader.joints(message)
        self._reasons.note(topics.JOINT_STATES, reason, now)
        if state is not None:
            self._monitor.joints.tick(now)
            self._gate.measure(state, now)

    def _on_gripper(self, message) -> None:
        self._reasons.note(topics.GRIPPER_STATES, self._reader.gripper(message), time.monotonic())

    def _on_deadman(self, message) -> None:
        self._gate.receive_deadman(time.monotonic())

    def _on_policy_heartbeat(self, message) -> None:
        self._monitor.heartbeats.tick(time.monotonic())
        self._gate.receive_policy_heartbeat(message.data, time.monotonic())

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
        begun = time.monotonic()
        self._monitor.loop.tick(begun)
        if self._gate.is_late(begun):  # it must know before it takes the messages of that time
            self._advance()
            self.take_messages()
        else:
            self.take_messages()
            self._advance()
        self._monitor.worked(time.monotonic() - begun)

    def _advance(self) -> None:
        now = time.monotonic()
        command = self._gate.step(now)
        if command is not None:
            self._send(command)
        elif self._gate.shadow_command is not None:
            reference = self._gate.shadow_command.reference
            self._shadow.publish(messages.joint_state(now_ns(self), topics.ARM_JOINTS, *reference))
        if self._gate.state is not self._reported_state:
            self._report()

    def _send(self, command: Command) -> None:
        stamp = now_ns(self)
        command = self._arm.send(command, stamp)  # as it really went out
        self._command.publish(gate_messages.command_message(stamp, command))
        self._monitor.sent(command.chunk_id, stamp)

    def _report(self) -> None:
        gate = self._gate
        self._reported_state = gate.state
        for topic in self._arm.topics:
            if self.count_publishers(topic) > 1:
                gate.fault(f"second publisher: another process writes to {topic}")
        if self.count_publishers(topics.JOINT_STATES) > 1:
            gate.fault(
                f"second publisher: another process writes to {topics.JOINT_STATES}", doubtful=True
            )
        robot_troubles = [self._robot.trouble, self._robot.hand_trouble] if self._robot else []
        trouble = "; ".join(filter(None, [*robot_troubles, self._arm.gripper.trouble]))
        status = self._monitor.status(
            gate, time.monotonic(), self._arm.sent, self._reasons, trouble
        )
        self._status.publish(gate_messages.status_message(now_ns(self), status))

    def rest(self) -> None:
        """Ramp to rest before the process ends, also where a message cannot be taken."""
        self._gate.stop()
        deadline = time.monotonic() + 2.0
        taking = True
        while self._gate.state is State.STOPPING and time.monotonic() < deadline:
            try:
                if taking:
                    self.take_messages()
            except Exception as error:  # it may be what ends this process
                print(f"gate: no more messages are taken: {error}", file=sys.stderr, flush=True)
                taking = False
            self._advance()
            time.sleep(1.0 / self._gate.config.rate_hz)
        print(f"gate: at rest, {self._gate.state.name}", flush=True)


def main() -> int:
    """Entry point."""
    return spin(GateNode, GateNode.rest)


if __name__ == "__main__":
    sys.exit(main())
