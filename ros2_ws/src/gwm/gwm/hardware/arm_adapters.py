"""The gate's only way to the arm: one command as messages for each controller and each gripper.

crisp: CRISP joint impedance, positions alone. It would keep a velocity for ever, and with it push
the arm past the last target by damping / stiffness * velocity. The simulation drops a velocity, and
is sent it.

crisp_pose: CRISP Cartesian impedance, the pose of the TCP, and the joints for its null space.

jtc: joint_trajectory_controller, the next state, due in 30 ms, and the stop from there. So the arm
stops when the gate is gone. The controller must interpolate from its own desired state
(launch/controllers.yaml).

forward: forward_command_controller on positions, for simulated arms. 100 Hz steps break the FCI's
conditions.

fci: our own way to the FCI, the reference with its acceleration. It stops when the gate is gone.

CRISP and forward hold the last target for ever. That target is the reference, from which the gate
made sure of a stop. An arm that is left alone comes to rest there, within one stopping distance.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
from geometry_msgs.msg import PoseStamped
from rclpy.node import Node
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64MultiArray
from trajectory_msgs.msg import JointTrajectory

from gwm.graph.config import CONTROLLERS
from gwm.ros import messages
from gwm.ros.node import NEWEST, RELIABLE
from gwm_core import topics
from gwm_core.control.gate.state_machine import Command
from gwm_core.control.gripper_goals import GripperGoal, GripperGoals
from gwm_core.control.loop_timing import CommandSchedule
from gwm_core.control.stop_trajectory import Reference, StopPlanner
from gwm_core.geometry.kinematics import fk
from gwm_core.geometry.limits import DESK, FR3, ArmLimits, Profile

TOPICS = {  # where the gate must be the only publisher
    "crisp": (topics.TARGET_JOINT,),
    "crisp_pose": (topics.TARGET_POSE, topics.TARGET_JOINT),
    "jtc": (topics.TRAJECTORY,),
    "forward": (topics.FORWARD,),
    "fci": (topics.FCI_REFERENCE,),
}
GRIPPER_REPEAT = 50  # commands between repetitions of a width, for late subscribers


def joint_names(robot: str) -> tuple[str, ...]:
    """The arm's joints as the robot's drivers call them."""
    return tuple(topics.name_of(robot, name) for name in topics.ARM_JOINTS)


def _topics_of(controller: str, robot: str) -> tuple[str, ...]:
    return tuple(topics.name_of(robot, topic) for topic in TOPICS[controller])


class CrispJointAdapter:
    """``target_joint``. CRISP takes the values in the order of its joints and ignores the names."""

    def __init__(self, node: Node, robot: str, feed_forward: bool):
        self._names = joint_names(robot)
        self._feed_forward = feed_forward
        self._publisher = node.create_publisher(JointState, topics.TARGET_JOINT, NEWEST)

    def send(self, reference: Reference, stamp: int) -> None:
        """Publish the reference."""
        velocity = reference.dq if self._feed_forward else ()
        self._publisher.publish(messages.joint_state(stamp, self._names, reference.q, velocity))


class CrispPoseAdapter:
    """``target_pose``, and ``target_joint`` for the null space."""

    def __init__(self, node: Node, robot: str):
        self._joints = CrispJointAdapter(node, robot, feed_forward=False)
        self._frame = topics.name_of(robot, "fr3_link0")
        self._publisher = node.create_publisher(PoseStamped, topics.TARGET_POSE, NEWEST)

    def send(self, reference: Reference, stamp: int) -> None:
        """Publish both."""
        self._joints.send(reference, stamp)
        self._publisher.publish(messages.pose(stamp, fk(reference.q), self._frame))


class TrajectoryAdapter:
    """``<controller>/joint_trajectory``. Each message replaces the one before and ends at rest."""

    def __init__(self, node: Node, robot: str, dt: float, profile: Profile, limits: ArmLimits):
        self._names = joint_names(robot)
        self._dt = dt
        self._stop_planner = StopPlanner(dt, profile, limits)
        self._schedule = CommandSchedule(dt)
        self._publisher = node.create_publisher(
            JointTrajectory, _topics_of("jtc", robot)[0], NEWEST
        )

    def send(self, reference: Reference, stamp: int) -> None:
        """Publish the reference, due one period after the schedule, and the stop from there."""
        states = [reference, *self._stop_planner.tail(reference)]
        self._publisher.publish(
            messages.joint_trajectory(states, self._dt, self._schedule.next(stamp), self._names)
        )


class ForwardAdapter:
    """``<controller>/commands``: positions."""

    def __init__(self, node: Node):
        self._publisher = node.create_publisher(Float64MultiArray, topics.FORWARD, NEWEST)

    def send(self, reference: Reference, stamp: int) -> None:
        """Publish the reference."""
        self._publisher.publish(Float64MultiArray(data=reference.q.tolist()))


class FciAdapter:
    """``fci/reference``: positions, velocities, and accelerations in the place of efforts."""

    def __init__(self, node: Node):
        self._publisher = node.create_publisher(JointState, topics.FCI_REFERENCE, RELIABLE)

    def send(self, reference: Reference, stamp: int) -> None:
        """Publish the reference."""
        self._publisher.publish(messages.joint_state(stamp, topics.ARM_JOINTS, *reference))


class ForwardGripper:
    """A gripper that is streamed its width.

    Attributes:
        commanded: [m] the width it was last sent.
        trouble: what is wrong with it, or "".
    """

    trouble = ""

    def __init__(self, node: Node):
        self.commanded: float | None = None
        self._calls = 0
        self._publisher = node.create_publisher(Float64MultiArray, topics.GRIPPER_COMMAND, NEWEST)

    def send(self, width: float) -> None:
        """Publish a new width, and repeat it from time to time."""
        self._calls += 1
        if width != self.commanded or self._calls % GRIPPER_REPEAT == 0:
            self._publisher.publish(Float64MultiArray(data=[width]))
            self.commanded = width


class ActionGripper:
    """A gripper with actions.

    Args:
        start: ``start(goal, goals)`` sends a goal, and reports its end to ``goals`` once.
    """

    def __init__(self, start: Callable[[GripperGoal, GripperGoals], None]):
        self._goals = GripperGoals()
        self._start = start

    @property
    def commanded(self) -> float | None:
        """The width it was last sent [m]."""
        return self._goals.requested

    @property
    def trouble(self) -> str:
        """What is wrong with it, or ""."""
        return self._goals.trouble

    def send(self, width: float) -> None:
        """Request a width, once the last goal has ended."""
        goal = self._goals.request(width, time.monotonic())
        if goal is not None:
            self._start(goal, self._goals)


def gripper_of(node: Node, kind: str):
    """The gripper of a kind: forward, franka (franka_msgs) or action (control_msgs)."""
    if kind == "forward":
        return ForwardGripper(node)
    from gwm.hardware import franka  # imports the messages of the real robot

    return ActionGripper(
        {"franka": franka.franka_hand, "action": franka.gripper_action}[kind](node)
    )


class ArmAdapter:
    """One controller and one gripper.

    Attributes:
        topics: where the gate must be the only publisher.
        sent: number of commands.
    """

    def __init__(
        self,
        node: Node,
        controller: str,
        gripper: str,
        dt: float,
        simulated: bool,
        profile: Profile = DESK,
        limits: ArmLimits = FR3,
    ):
        robot = limits.name
        make_controller = {
            "crisp": lambda: CrispJointAdapter(node, robot, feed_forward=simulated),
            "crisp_pose": lambda: CrispPoseAdapter(node, robot),
            "jtc": lambda: TrajectoryAdapter(node, robot, dt, profile, limits),
            "forward": lambda: ForwardAdapter(node),
            "fci": lambda: FciAdapter(node),
        }
        self.topics = _topics_of(controller, robot)
        self._controller = make_controller[controller]()
        self.controller_name = topics.name_of(robot, CONTROLLERS[controller])
        self.gripper = gripper_of(node, gripper)
        self.sent = 0

    def send(self, command: Command, stamp: int) -> Command:
        """Send a command at ``stamp`` [ns]. Returns it with the width the gripper was sent."""
        self._controller.send(command.reference, stamp)
        self.sent += 1
        self.gripper.send(command.width)
        return replace(command, width=self.gripper.commanded)

    def set_target(self, q: np.ndarray, stamp: int) -> None:
        """Set the target of an inactive controller to rest at ``q`` (7,) [rad], where the arm is.

        CRISP takes targets while it is inactive, and goes to the last one as soon as it is active.
        """
        self._controller.send(Reference(q, np.zeros(7), np.zeros(7)), stamp)
