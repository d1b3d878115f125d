"""The gate's access to a robot: its commands to the arm, and what the robot says of itself."""

from __future__ import annotations

from collections.abc import Callable

from rclpy.node import Node

from gwm.hardware.arm_adapters import ArmAdapter
from gwm.hardware.fci.robot import FciRobot
from gwm.hardware.franka import FrankaRobot, best_gripper, has
from gwm.hardware.reporting_robot import ReportingRobot
from gwm.ros.node import wait_to_be_alone
from gwm_core import topics
from gwm_core.geometry.limits import ArmLimits, Profile


def arm_adapter(
    node: Node, robot: str, rate_hz: float, profile: Profile, limits: ArmLimits
) -> ArmAdapter:
    """The adapter of the node's ``controller`` and ``gripper``, once no other process writes."""
    controller = node.declare_parameter("controller", "crisp").value
    gripper = node.declare_parameter("gripper", "auto").value
    if gripper == "auto":
        streamed = robot == "sim" or controller == "fci"
        gripper = "forward" if streamed else best_gripper()
    arm = ArmAdapter(node, controller, gripper, 1.0 / rate_hz, robot == "sim", profile, limits)
    wait_to_be_alone(node, arm.topics, own=1)
    return arm


def reporting_robot(
    node: Node,
    robot: str,
    arm: ArmAdapter,
    fault: Callable[..., None],
    set_target: Callable[[], str],
) -> ReportingRobot | None:
    """The robot's own state and recovery, where it reports them."""
    if topics.FCI_REFERENCE in arm.topics:
        return FciRobot(node, fault)
    if robot == "sim":
        return None
    if not has("franka_msgs"):
        node.get_logger().warn(
            "franka_msgs is not installed: reflexes show by stale joints and the leash alone"
        )
        return None
    return FrankaRobot(node, arm.controller_name, fault, set_target)
