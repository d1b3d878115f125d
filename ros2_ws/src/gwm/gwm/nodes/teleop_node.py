"""The operator's process: a device in, chunks out.

With a policy beside it, it passes on the chunks of the one that leads.
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.node import Node
from sensor_msgs.msg import JointState, Joy
from std_msgs.msg import UInt64
from std_srvs.srv import Trigger
from trajectory_msgs.msg import JointTrajectory

from gwm.ros import messages
from gwm.ros.node import RELIABLE, SENSOR, STEADY, declare, now_ns, spin
from gwm_core import topics
from gwm_core.control.authority import Authority
from gwm_core.control.devices import DEVICES
from gwm_core.control.teleop import Teleop, TeleopConfig
from gwm_core.errors import one_of
from gwm_core.site import motion_site

HEARTBEAT_PERIOD = 0.02  # [s]


@dataclass(frozen=True)
class TeleopParameters:
    """Parameters of the node."""

    robot: str = "sim"
    site: str = ""
    device: str = "gamepad"
    shared: bool = False  # a policy runs beside it


class TeleopNode(Node):
    """Publishes chunks and policy heartbeats in the policy's place, from an operator's device."""

    def __init__(self):
        super().__init__("teleop")
        p = declare(self, TeleopParameters)
        config = declare(self, TeleopConfig)
        leader = one_of("device", p.device, (*DEVICES, "leader")) == "leader"
        self._input = topics.LEADER if leader else topics.JOY
        device = DEVICES["gamepad" if leader else p.device]
        site = motion_site(p.robot, p.site)
        self._teleop = Teleop(device, config, site.workspace, site.limits)
        self._authority = Authority("policy" if p.shared else "operator")
        self._shared = p.shared
        self._leader = leader
        self._chunks = 0  # sent
        self._logged = ""  # last trouble that was logged
        self._chunk = self.create_publisher(JointTrajectory, topics.CHUNK, RELIABLE)
        self._heartbeat = self.create_publisher(UInt64, topics.ALIVE, SENSOR)
        self._diagnostics = self.create_publisher(DiagnosticArray, topics.DIAGNOSTICS, RELIABLE)
        if leader:
            self.create_subscription(JointState, self._input, self._on_leader, SENSOR)
        else:
            self.create_subscription(Joy, self._input, self._on_joy, SENSOR)
        self.create_subscription(JointState, topics.COMMAND, self._on_command, SENSOR)
        if p.shared:
            self.create_subscription(JointTrajectory, topics.PROPOSAL, self._on_proposal, RELIABLE)
            self.create_subscription(
                UInt64, topics.PROPOSAL_ALIVE, self._on_policy_heartbeat, SENSOR
            )
        for name, act in {"take": self._take, "give": self._give}.items():
            self.create_service(Trigger, f"teleop/{name}", self._service(act))
        self.create_timer(HEARTBEAT_PERIOD, self._send_heartbeat, clock=STEADY)
        self.create_timer(config.period, self._send_chunk, clock=STEADY)
        self.create_timer(0.1, self._report, clock=STEADY)

    def _service(self, act):
        def serve(request, response):
            response.message = act()
            response.success = response.message == ""
            return response

        return serve

    def _take(self) -> str:
        if self._leader and (reason := self._teleop.engage(True)):
            return reason  # who led before goes on
        self._authority.give("operator", now_ns(self))
        return self._teleop.trouble

    def _give(self) -> str:
        if not self._shared:
            return "no policy runs beside it: mode:=shared"
        self._teleop.engage(False)
        self._authority.give("policy", now_ns(self))
        return ""

    def _on_joy(self, message) -> None:
        self._teleop.joy(message.axes, message.buttons, time.monotonic())
        if self._teleop.engaged:
            self._authority.give("operator", now_ns(self))
        elif self._teleop.gives_back and self._shared:
            self._authority.give("policy", now_ns(self))

    def _on_leader(self, message) -> None:
        q = messages.by_name(message.name, message.position, topics.ARM_JOINTS)
        width = messages.by_name(message.name, message.position, (topics.WIDTH,))
        q = np.full(7, np.nan) if q is None else q
        self._teleop.leader(q, None if width is None else float(width[0]), time.monotonic())

    def _on_command(self, message) -> None:
        state = messages.by_name(message.name, message.position, (*topics.ARM_JOINTS, topics.WIDTH))
        if state is not None:
            self._teleop.reference(state[:7], state[7], time.monotonic())

    def _on_proposal(self, message) -> None:
        if self._authority.passes("policy", messages.stamp_ns(message.header.stamp), now_ns(self)):
            self._chunk.publish(message)

    def _on_policy_heartbeat(self, message) -> None:
        if self._authority.holder == "policy":
            self._heartbeat.publish(UInt64(data=self._authority.last))

    def _send_heartbeat(self) -> None:
        if self._authority.holder == "operator":
            self._heartbeat.publish(UInt64(data=self._authority.last))

    def _send_chunk(self) -> None:
        self._teleop.rivals(self.count_publishers(self._input))
        # also while the policy leads: it notices a device that falls silent
        chunk = self._teleop.make_chunk(now_ns(self), time.monotonic())
        if chunk is not None and self._authority.passes("operator", chunk.stamp, now_ns(self)):
            self._chunk.publish(messages.trajectory(chunk, topics.BY_OPERATOR))
            self._chunks += 1

    def _report(self) -> None:
        teleop = self._teleop
        if teleop.trouble not in ("", self._logged):
            self.get_logger().warn(teleop.trouble, throttle_duration_sec=1.0)
        self._logged = teleop.trouble
        values = {
            "holder": self._authority.holder,
            "engaged": teleop.engaged,
            "plans": self._chunks,
            "ready": True,
        }
        text = teleop.trouble or ("moving" if teleop.engaged else "clutch not held")
        self._diagnostics.publish(
            messages.diagnostics(now_ns(self), "teleop", text, values, teleop.trouble == "")
        )


def main() -> int:
    """Entry point."""
    return spin(TeleopNode)


if __name__ == "__main__":
    sys.exit(main())
