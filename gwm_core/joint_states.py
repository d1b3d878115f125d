"""Decode joint and gripper states: live messages one by one, recorded ones all at once.

Joints are read by name. A message that cannot be used is refused with the reason, which starts with
its kind and a colon. A message is anything with the fields of sensor_msgs/JointState. Pure: no
clock, no ROS.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from gwm_core import topics
from gwm_core.types import OPEN_WIDTH, ArmState

# [ns] between joints and gripper state beyond which the gripper's opening counts as unknown
GRIPPER_TIMEOUT = 300_000_000
# [ns] a stamp may lie after the arrival: the clocks of two hosts may differ by this much
AHEAD = 20_000_000
MAXIMUM_ANGLE = 2 * np.pi  # [rad] no joint of an FR3 turns further (its datasheet: 4.6 at most)
MAXIMUM_WIDTH = 0.12  # [m] Franka hand: 0.08


@dataclass(frozen=True)
class GripperState:
    """A measured finger opening."""

    stamp: int  # [ns]
    width: float  # [m]


def by_name(
    names: Sequence[str], values: Sequence[float], wanted: Sequence[str]
) -> np.ndarray | None:
    """Return the values in the order of ``wanted``; None when one is missing.

    The names may be those of any of ``topics.ROBOTS``.
    """
    places = _places(tuple(names), tuple(wanted))
    if places is None or max(places, default=-1) >= len(values):
        return None
    return np.array(values, float)[places]


@functools.lru_cache(maxsize=64)  # a driver gives its names in one order
def _places(names: tuple[str, ...], wanted: tuple[str, ...]) -> np.ndarray | None:
    """Where the wanted joints are among the names; None when one is missing, or there twice."""
    index = {topics.canonical(name): i for i, name in enumerate(names)}
    if len(index) < len(names) or any(name not in index for name in wanted):
        return None
    return np.array([index[name] for name in wanted], int)


def read_joint_state(
    message,
    width: float = np.nan,
    width_command: float = OPEN_WIDTH,
    velocity: bool = True,
    robot: str = "",
) -> tuple[ArmState | None, str]:
    """Read the arm's joints from a JointState.

    Args:
        robot: whose names are wanted, one of ``topics.ROBOTS``; "" for any of them.
        width: measured finger opening [m], NaN = unknown.
        width_command: last commanded opening [m].
        velocity: refuse a message without velocities; otherwise they count as 0.

    Returns:
        (ArmState, "") or (None, why the message cannot be used).
    """
    q, reason = _positions(message, topics.ARM_JOINTS, robot)
    if q is None:
        return None, reason
    largest = int(np.argmax(np.abs(q)))
    if abs(q[largest]) > MAXIMUM_ANGLE:
        name = topics.ARM_JOINTS[largest]
        return None, f"unit: {name} is at {q[largest]:.1f}; radians are wanted, not degrees"
    dq = by_name(message.name, message.velocity, topics.ARM_JOINTS)
    if dq is None and velocity:
        count = len(message.velocity)
        return None, f"velocity: {count} given; one of each of the seven joints is wanted [rad/s]"
    dq = np.zeros(7) if dq is None else dq
    if not np.isfinite(dq).all():
        name = topics.ARM_JOINTS[int(np.argmin(np.isfinite(dq)))]
        return None, f"not finite: the velocity of {name}"
    return ArmState(_stamp(message), q, dq, width, width_command), ""


def read_gripper_state(message, robot: str = "") -> tuple[GripperState | None, str]:
    """Read both fingers [m] from a JointState: (GripperState, "") or (None, why it is refused)."""
    fingers, reason = _positions(message, topics.FINGER_JOINTS, robot)
    if fingers is None:
        return None, reason
    width = float(fingers.sum())
    if not -0.01 <= width <= MAXIMUM_WIDTH:
        return None, f"unit: an opening of {width:.3g}; metres from 0 to {OPEN_WIDTH} are wanted"
    return GripperState(_stamp(message), width), ""


def read_command(message) -> ArmState | None:
    """The joints and the finger opening of gate/command, at zero velocity; None if one is missing.

    The gate's command is no measurement: only the names are checked.
    """
    values = by_name(message.name, message.position, (*topics.ARM_JOINTS, topics.WIDTH))
    if values is None:
        return None
    return ArmState(_stamp(message), values[:7], np.zeros(7), float(values[7]))


class ArmReader:
    """Completes live joint states with the newest opening of the gripper.

    Args:
        robot: whose names are wanted, one of ``topics.ROBOTS``; "" for any of them.

    Attributes:
        width_command: last commanded opening [m].
    """

    def __init__(self, robot: str = ""):
        self._robot = robot
        self.width_command = OPEN_WIDTH
        self._gripper: GripperState | None = None

    def gripper(self, message) -> str:
        """Take a gripper state. Returns "" or why it is refused."""
        state, reason = read_gripper_state(message, self._robot)
        if state is not None:
            self._gripper = state
        return reason

    def joints(self, message, velocity: bool = True) -> tuple[ArmState | None, str]:
        """(ArmState, "") or (None, reason). The width is NaN where the opening is unknown."""
        state, reason = read_joint_state(message, velocity=velocity, robot=self._robot)
        if state is None:
            return None, reason
        known = self.unknown_width(state.stamp) == ""
        width = self._gripper.width if known else np.nan
        return ArmState(state.stamp, state.q, state.dq, width, self.width_command), ""

    def complete(self, message, now: int, velocity: bool = True) -> tuple[ArmState | None, str]:
        """As ``joints``; refused for an unknown opening or a stamp after ``now`` [ns]."""
        state, reason = self.joints(message, velocity)
        if state is None:
            return None, reason
        reason = ahead("a joint state", state.stamp, now) or self.unknown_width(state.stamp)
        return (None, reason) if reason else (state, "")

    def unknown_width(self, stamp: int) -> str:
        """Why the opening at ``stamp`` [ns] is unknown, or ""."""
        return unknown_width(self._gripper, stamp)


def unknown_width(gripper: GripperState | None, stamp: int) -> str:
    """Why the opening at ``stamp`` [ns] is unknown by a gripper state, or ""."""
    if gripper is None:
        return f"gripper: no usable state yet on {topics.GRIPPER_STATES}"
    age = stamp - gripper.stamp
    if abs(age) <= GRIPPER_TIMEOUT:
        return ""
    order = "older" if age > 0 else "newer"
    return (
        f"gripper: its state is {abs(age) * 1e-9:.1f} s {order} than the joints;"
        f" {GRIPPER_TIMEOUT * 1e-9:g} s at most"
    )


def ahead(what: str, stamp: int, now: int) -> str:
    """Why a stamp [ns] cannot be of the host's clock, or "". ``now`` [ns] is the arrival."""
    if stamp - now <= AHEAD:
        return ""
    return (
        f"clocks: {what} is stamped {(stamp - now) * 1e-6:.0f} ms after it came; stamps of this"
        " host's clock are wanted (chrony between hosts; realsense-ros: global_time_enabled)"
    )


class RecordedJoints(NamedTuple):
    """One recorded JointState."""

    names: tuple[str, ...]
    position: np.ndarray
    velocity: np.ndarray  # may be empty


def joint_columns(
    rows: Sequence[RecordedJoints], wanted: Sequence[str]
) -> tuple[np.ndarray, np.ndarray]:
    """Positions and velocities (S, len(wanted)) of recorded states; velocity 0 where not recorded.

    Raises ValueError where a wanted joint is missing.
    """
    position, velocity = np.zeros((2, len(rows), len(wanted)))
    orders: dict[tuple[str, ...], list[int]] = {}
    for k, row in enumerate(rows):
        if row.names not in orders:
            names = [topics.canonical(name) for name in row.names]
            if len(set(names)) < len(names):
                raise ValueError(f"two of {', '.join(row.names)} are one joint")
            orders[row.names] = [names.index(name) for name in wanted]
        position[k] = row.position[orders[row.names]]
        if len(row.velocity):
            velocity[k] = row.velocity[orders[row.names]]
    return position, velocity


def recorded_states(
    joints: tuple[np.ndarray, np.ndarray, np.ndarray],
    gripper: tuple[np.ndarray, np.ndarray],
    commands: tuple[np.ndarray, np.ndarray],
) -> list[ArmState]:
    """Arm states from recorded streams, completed as ``ArmReader`` completes live ones.

    Args:
        joints: stamps (S,) [ns], positions and velocities (S, 7).
        gripper: stamps (G,) [ns] and measured openings (G,) [m].
        commands: stamps (C,) [ns] and commanded openings (C,) [m].
    """
    stamps, q, dq = joints
    gripper_stamps, openings = gripper
    newest = np.maximum(np.searchsorted(gripper_stamps, stamps, "right") - 1, 0)
    in_time = np.abs(stamps - gripper_stamps[newest]) <= GRIPPER_TIMEOUT
    widths = np.where(in_time, openings[newest], np.nan)
    command_stamps, commanded = commands
    # strictly before: what was commanded when the joints were measured
    last = np.searchsorted(command_stamps, stamps) - 1
    width_commands = np.where(last < 0, OPEN_WIDTH, commanded[np.maximum(last, 0)])
    columns = zip(stamps.tolist(), q, dq, widths.tolist(), width_commands.tolist())
    return [ArmState(*row) for row in columns]


def _stamp(message) -> int:
    return message.header.stamp.sec * 1_000_000_000 + message.header.stamp.nanosec


def _positions(message, wanted: tuple[str, ...], robot: str) -> tuple[np.ndarray | None, str]:
    """(positions of the ``wanted`` joints, "") or (None, why they cannot be read)."""
    names = tuple(message.name)
    if reason := _wrong_names(names, wanted, robot):
        return None, reason
    position = by_name(names, message.position, wanted)
    if position is None:
        return None, f"position: {len(message.position)} given for {len(names)} joints"
    if not np.isfinite(position).all():
        name = wanted[int(np.argmin(np.isfinite(position)))]
        return None, f"not finite: the position of {name}"
    if _stamp(message) <= 0:
        return None, "stamp: 0; the time of the measurement is wanted in the header"
    return position, ""


@functools.lru_cache(maxsize=64)
def _wrong_names(names: tuple[str, ...], wanted: tuple[str, ...], robot: str) -> str:
    """Why the names of a message are not those of ``wanted`` joints, or ""."""
    given = [topics.canonical(name) for name in names]
    if robot:
        others = [name for name in names if topics.name_of(robot, name) != name]
        if others:
            return f"names: {others[0]}; those of robot:={robot} are wanted"
    if len(set(given)) < len(given):
        return f"names: two of [{', '.join(names)}] are one joint"
    missing = [name for name in wanted if name not in given]
    if not missing:
        return ""
    shown = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
    missed, first, last = (
        topics.name_of(robot or topics.ROBOTS[0], name)
        for name in (missing[0], wanted[0], wanted[-1])
    )
    return (
        f"names: no {missed} in [{shown}]; {first} to {last} are"
        f" wanted{_prefix_hint(names, missing)}"
    )


def _prefix_hint(names: tuple[str, ...], missing: list[str]) -> str:
    """A hint where the joints have the prefix of another robot."""
    ending = missing[0].removeprefix("fr3")
    other = next((name.removesuffix(ending) for name in names if name.endswith(ending)), None)
    return f" (the driver calls the robot '{other}': its robot_type or arm_prefix)" if other else ""
