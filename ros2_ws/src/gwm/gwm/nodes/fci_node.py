"""The arm and its hand through Franka's FCI: the gate's references in, states out."""

from __future__ import annotations

import math
import sys
import time
from dataclasses import replace

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.node import Node
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64MultiArray

from gwm.graph.environment import prioritize, simulated_robot
from gwm.hardware.fci.control_process import ControlProcess, check_installed
from gwm.hardware.fci.hand import Hand
from gwm.hardware.fci.link import RobotState
from gwm.ros import messages
from gwm.ros.late_service import LateAnswer, serve_later
from gwm.ros.node import (
    GATE_PRIORITY,
    NEWEST,
    RELIABLE,
    STEADY,
    now_ns,
    spin,
    subscribe_to_all,
    take_waiting,
)
from gwm_core import topics
from gwm_core.control.recovery import MODES, SILENCE
from gwm_core.control.stop_trajectory import Reference
from gwm_core.errors import InputError
from gwm_core.joint_states import by_name
from gwm_core.site import motion_site

POLL = 0.005  # [s]
REST = 2.5  # [s] for the gate to bring the arm to rest when the graph ends
GATE_GONE = 0.1  # [s] without a reference


class FciNode(Node):
    """Passes references to the process that controls the arm, and publishes what it reports."""

    def __init__(self):
        prioritize(GATE_PRIORITY)  # before DDS starts its threads, which inherit it
        super().__init__("fci")
        check_installed()
        robot = self.declare_parameter("robot", "sim").value
        site = motion_site(robot, self.declare_parameter("site", "").value)
        address, settings = site.robot_ip, site.fci
        if robot == "sim":
            address, settings = simulated_robot(), replace(settings, real_time=False)
        if not address:
            raise InputError("controller:=fci needs the robot's address: robot.ip in the site file")
        self._state: RobotState | None = None
        self._state_at = -SILENCE  # [s]
        self._received = 0  # references
        self._received_at = -1.0  # [s] the last reference
        self._joints = self.create_publisher(JointState, topics.JOINT_STATES, RELIABLE)
        self._gripper = self.create_publisher(JointState, topics.GRIPPER_STATES, RELIABLE)
        self._status = self.create_publisher(DiagnosticArray, topics.FCI_STATE, RELIABLE)
        self._diagnostics = self.create_publisher(DiagnosticArray, topics.DIAGNOSTICS, RELIABLE)
        self._references = subscribe_to_all(
            self, JointState, topics.FCI_REFERENCE, self._on_reference, RELIABLE
        )
        self.create_subscription(Float64MultiArray, topics.GRIPPER_COMMAND, self._on_grip, NEWEST)
        serve_later(self, topics.FCI_RECOVER, self._recover)
        serve_later(self, topics.FCI_HOME_HAND, self._home_hand)
        self._rival = False  # another process publishes references beside the gate
        self._width: float | None = None
        self._homed: tuple[LateAnswer, str] | None = None
        self._hand = Hand(address, self._on_width)
        self._control = ControlProcess(address, settings, self._on_state)
        self.create_timer(POLL, self._poll, clock=STEADY)
        self.create_timer(0.05, self._report, clock=STEADY)
        self.create_timer(
            0.5, lambda: self._diagnostics.publish(self._state_message()), clock=STEADY
        )
        self.get_logger().info(f"fci: robot at {address}; software, not a safety-rated function")

    def _on_reference(self, message) -> None:
        rows = [
            by_name(message.name, values, topics.ARM_JOINTS)
            for values in (message.position, message.velocity, message.effort)
        ]
        if any(row is None for row in rows):
            self.get_logger().error(
                f"{topics.FCI_REFERENCE} ignored: malformed", throttle_duration_sec=2.0
            )
            return
        if self._rival:
            return
        self._received += 1
        self._received_at = time.monotonic()
        self._control.send(Reference(*rows))

    def _on_grip(self, message) -> None:
        if len(message.data) == 1 and math.isfinite(message.data[0]):
            self._hand.move(message.data[0])
        else:
            self.get_logger().error(
                f"{topics.GRIPPER_COMMAND} ignored: one finite width wanted, got {message.data}"
            )

    def _on_width(self, width: float) -> None:
        self._width = width

    def _on_state(self, state: RobotState) -> None:
        self._state = state
        self._state_at = time.monotonic()
        self._joints.publish(
            messages.joint_state(now_ns(self), topics.ARM_JOINTS, state.q, state.dq)
        )

    def _recover(self, answer: LateAnswer) -> None:
        self._control.recover(lambda error: answer.give(error == "", error))

    def _home_hand(self, answer: LateAnswer) -> None:
        self._hand.home(lambda error: setattr(self, "_homed", (answer, error)))

    def _poll(self) -> None:
        self._control.poll(time.monotonic())
        width, self._width = self._width, None
        if width is not None:
            self._gripper.publish(
                messages.joint_state(now_ns(self), topics.FINGER_JOINTS, [width / 2] * 2)
            )
        if self._homed is not None:
            (answer, error), self._homed = self._homed, None
            answer.give(error == "", error)

    def _report(self) -> None:
        self._rival = self.count_publishers(topics.FCI_REFERENCE) > 1
        self._status.publish(self._state_message())

    def _state_message(self) -> DiagnosticArray:
        state, trouble = self._state, self._control.trouble
        if self._rival:
            trouble = f"a second process writes to {topics.FCI_REFERENCE}"
        values = {
            "trouble": trouble,
            "hand": self._hand.trouble,
            f"received {topics.FCI_REFERENCE}": self._received,
        }
        if time.monotonic() - self._state_at < SILENCE:
            values |= {
                "mode": MODES[state.mode],
                "in_control": state.in_control,
                "success_rate": f"{state.success_rate:.3f}",
                "robot_time": f"{state.time:.3f}",
            }
        text = trouble or values.get("mode", "no state")
        return messages.diagnostics(now_ns(self), "fci", text, values, not trouble)

    def rest(self) -> None:
        """Follow the gate to rest before the process ends."""
        deadline = time.monotonic() + REST
        while self._control.in_control and time.monotonic() < deadline:
            waiting = list(take_waiting(self._references))
            for reference in waiting:
                self._on_reference(reference)
            if not waiting and time.monotonic() - self._received_at > GATE_GONE:
                self._control.leave()
            self._control.poll(time.monotonic())
            time.sleep(POLL)

    def close(self) -> None:
        """End the control process and the hand's thread."""
        self._control.close()
        self._hand.close()


def main() -> int:
    """Entry point."""
    return spin(FciNode, FciNode.rest)


if __name__ == "__main__":
    sys.exit(main())
