"""The gate's only way to the arm: what one command becomes for each controller and each gripper.

crisp       CRISP joint impedance. Positions alone: it would keep a velocity for ever, and with it push the arm past
            the last target by damping / stiffness * velocity. (The simulation drops it, and is sent
            it.)
crisp_pose  CRISP Cartesian impedance: the pose of the TCP, and the joints for its null space.
jtc         joint_trajectory_controller: the next state, due in 30 ms, and the stop from there, so a gate that is gone
            means a stop. It must interpolate from the state it wished itself to be in
            (launch/controllers.yaml).
forward     forward_command_controller on positions. For simulated arms: 100 Hz steps break the FCI's conditions.

CRISP and forward hold the last target for ever. It is the reference, from which the gate made sure
of a stop: an arm that is left alone comes to rest there, within one stopping distance of where it
was.
"""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
from geometry_msgs.msg import PoseStamped
from rclpy.node import Node
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64MultiArray
from trajectory_msgs.msg import JointTrajectory

from gwm.graph.config import CONTROLLERS
from gwm.ros import messages
from gwm.ros.node import NEWEST
from gwm_core import topics
from gwm_core.control.gate.gate import Command
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
}
BASE_FRAME = "fr3_link0"
GRIPPER_REPEAT = 50  # commands: a late subscriber hears it too


class CrispJointAdapter:
    """``target_joint``. CRISP takes the values in the order of its joints and does not look at the
    names.
    """

    def __init__(self, node: Node, feed_forward: bool):
        self._feed_forward = feed_forward
        self._publisher = node.create_publisher(JointState, topics.TARGET_JOINT, NEWEST)

    def send(self, reference: Reference, stamp: int) -> None:
        """Publish it."""
        velocity = reference.dq if self._feed_forward else ()
        self._publisher.publish(
            messages.joint_state(stamp, topics.ARM_JOINTS, reference.q, velocity)
        )


class CrispPoseAdapter:
    """``target_pose``, and ``target_joint`` for the null space."""

    def __init__(self, node: Node):
        self._joints = CrispJointAdapter(node, feed_forward=False)
        self._publisher = node.create_publisher(PoseStamped, topics.TARGET_POSE, NEWEST)

    def send(self, reference: Reference, stamp: int) -> None:
        """Publish both."""
        self._joints.send(reference, stamp)
        self._publisher.publish(messages.pose(stamp, fk(reference.q), BASE_FRAME))


class TrajectoryAdapter:
    """``<controller>/joint_trajectory``: each message replaces the last and ends at rest."""

    def __init__(self, node: Node, dt: float, profile: Profile, limits: ArmLimits):
        self._dt, self._brake, self._schedule = (
            dt,
            StopPlanner(dt, profile, limits),
            CommandSchedule(dt),
        )
        self._publisher = node.create_publisher(JointTrajectory, topics.TRAJECTORY, NEWEST)

    def send(self, reference: Reference, stamp: int) -> None:
        """Publish the reference, due one period after the scheduled time, and the stop from
        there.
        """
        states = [reference, *self._brake.tail(reference)]
        self._publisher.publish(
            messages.joint_trajectory(states, self._dt, self._schedule.next(stamp))
        )


class ForwardAdapter:
    """``<controller>/commands``: positions."""

    def __init__(self, node: Node):
        self._publisher = node.create_publisher(Float64MultiArray, topics.FORWARD, NEWEST)

    def send(self, reference: Reference, stamp: int) -> None:
        """Publish it."""
        self._publisher.publish(Float64MultiArray(data=reference.q.tolist()))


class ForwardGripper:
    """A gripper that is streamed its width. ``told`` is the width it was last sent."""

    trouble = ""

    def __init__(self, node: Node):
        self.told, self._calls = None, 0
        self._publisher = node.create_publisher(Float64MultiArray, topics.GRIPPER_COMMAND, NEWEST)

    def send(self, width: float) -> None:
        """Publish it when it is new, and now and then."""
        self._calls += 1
        if width != self.told or self._calls % GRIPPER_REPEAT == 0:
            self._publisher.publish(Float64MultiArray(data=[width]))
            self.told = width


class ActionGripper:
    """A gripper with actions. ``start(goal, hand)`` sends a goal and tells the hand once what came
    of it.
    """

    def __init__(self, start):
        self._hand, self._start = GripperGoals(), start

    @property
    def told(self) -> float | None:
        """The width it was last asked for [m]."""
        return self._hand.told

    @property
    def trouble(self) -> str:
        """What is wrong with it, or ""."""
        return self._hand.trouble

    def send(self, width: float) -> None:
        """Ask for it when the last goal has ended."""
        goal: GripperGoal | None = self._hand.wish(width, time.monotonic())
        if goal is not None:
            self._start(goal, self._hand)


def gripper_of(node: Node, kind: str):
    """The gripper of that kind: forward, franka (franka_msgs) or action (control_msgs)."""
    if kind == "forward":
        return ForwardGripper(node)
    from gwm.hardware import franka  # loads the messages of the real robot

    return ActionGripper({"franka": franka.hand, "action": franka.gripper_action}[kind](node))


class ArmAdapter:
    """One controller and one gripper."""

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
        make = {
            "crisp": lambda: CrispJointAdapter(node, feed_forward=simulated),
            "crisp_pose": lambda: CrispPoseAdapter(node),
            "jtc": lambda: TrajectoryAdapter(node, dt, profile, limits),
            "forward": lambda: ForwardAdapter(node),
        }
        self.topics, self._controller = TOPICS[controller], make[controller]()
        self.controller_name = CONTROLLERS[controller]
        self.gripper = gripper_of(node, gripper)
        self.sent = 0

    def send(self, command: Command, stamp: int) -> Command:
        """Send a command at ``stamp`` [ns]; returns it with the width the gripper was really
        told.
        """
        self._controller.send(command.reference, stamp)
        self.sent += 1
        self.gripper.send(command.width)
        return replace(command, width=self.gripper.told)

    def place(self, q: np.ndarray, stamp: int) -> None:
        """Tell an inactive controller that its target is to rest at ``q`` (7,) [rad], where the arm
        is.

        CRISP takes targets while it is inactive, and goes to the last one as soon as it is active.
        """
        self._controller.send(Reference(q, np.zeros(7), np.zeros(7)), stamp)
