"""The simulated arm's commands, taken as the real controllers take them."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import yaml
from geometry_msgs.msg import PoseStamped
from rclpy.node import Node
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64MultiArray
from trajectory_msgs.msg import JointTrajectory

from gwm.graph.config import CONTROLLERS
from gwm.graph.environment import resource
from gwm.ros import messages
from gwm.ros.node import RELIABLE, now_ns, subscribe_to_all
from gwm_core import topics
from gwm_core.errors import one_of
from gwm_core.joint_states import by_name
from gwm_core.sim.simulator import Simulator


def _configured(controller: str) -> dict:
    """Return the parameters of a real controller, which the simulated one follows."""
    text = resource("launch/controllers.yaml").read_text()
    return yaml.safe_load(text)["/**"][CONTROLLERS[controller]]["ros__parameters"]


class SimCommands:
    """Subscribes for one controller and the gripper, and passes their commands to the physics.

    Args:
        sim: stepped by the same executor.
        behind: [s] how late the physics is, which is stepped every 10 ms.
        controller: one of CONTROLLERS.
    """

    def __init__(self, node: Node, sim: Simulator, behind: Callable[[], float], controller: str):
        self._node = node
        self._sim = sim
        self._behind = behind
        self._count = 0
        self._q_null = sim.q
        # The controller's own default is False.
        self._from_desired = _configured("jtc").get("interpolate_from_desired_state", False)
        self._topic = self._subscribe_as(controller)
        node.create_subscription(Float64MultiArray, topics.GRIPPER_COMMAND, self._on_grip, RELIABLE)

    @property
    def counts(self) -> dict[str, int]:
        """Commands received, for diagnostics."""
        return {f"received {self._topic}": self._count}

    def _subscribe_as(self, controller: str) -> str:
        """Subscribe and behave as that controller. Returns the topic of its commands."""
        node = self._node
        kind, topic, act = {
            "crisp": (JointState, topics.TARGET_JOINT, self._on_target),
            "crisp_pose": (PoseStamped, topics.TARGET_POSE, self._on_pose),
            "jtc": (JointTrajectory, topics.TRAJECTORY, self._on_trajectory),
            "forward": (Float64MultiArray, topics.FORWARD, self._on_positions),
        }[one_of("controller", controller, CONTROLLERS)]

        def take(message):
            if act(message):
                self._count += 1
            else:
                self._node.get_logger().error(
                    f"{topic} ignored: malformed", throttle_duration_sec=2.0
                )

        # All waiting commands are taken at once, also on a busy machine.
        subscribe_to_all(node, kind, topic, take, RELIABLE)
        if controller == "crisp_pose":
            self._node.create_subscription(
                JointState, topics.TARGET_JOINT, self._on_null_space, RELIABLE
            )
        return topic

    def _on_target(self, message) -> bool:
        q = by_name(message.name, message.position, topics.ARM_JOINTS)
        dq = by_name(message.name, message.velocity, topics.ARM_JOINTS)
        if q is None or not np.all(np.isfinite(q)):
            return False
        self._sim.command(q, np.zeros(7) if dq is None else dq)
        return True

    def _on_null_space(self, message) -> None:
        q = by_name(message.name, message.position, topics.ARM_JOINTS)
        if q is not None:
            self._q_null = q

    def _on_pose(self, message) -> bool:
        self._sim.reach(messages.transform(message.pose), self._q_null)
        return True

    def _on_positions(self, message) -> bool:
        q = np.array(message.data, float)
        if q.shape != (7,) or not np.all(np.isfinite(q)):
            return False
        self._sim.command(q, np.zeros(7))
        return True

    def _on_trajectory(self, message) -> bool:
        stamp = messages.stamp_ns(message.header.stamp)  # 0: it starts now
        start = self._behind() + (stamp - now_ns(self._node)) * 1e-9 if stamp else 0.0
        try:
            times, *states = messages.joint_states_of(message)
            if times[-1] + start <= 0:  # refused by the real controller too
                reason = (
                    f"a trajectory came {-start:.3f} s after its stamp, when it was over: ignored"
                )
                self._node.get_logger().warn(reason, throttle_duration_sec=2.0)
                return True
            self._sim.follow(times + start, *states, self._from_desired)
        except ValueError:
            return False
        return True

    def _on_grip(self, message) -> None:
        if len(message.data) == 1 and math.isfinite(message.data[0]):
            self._sim.grip(message.data[0])
        else:
            self._node.get_logger().error(
                f"{topics.GRIPPER_COMMAND} ignored: one finite width wanted, got {message.data}"
            )
