"""Joint and gripper states as drivers send them: read by name, or refused with the reason. Pure: no
clock, no ROS.

A message is anything with the fields of sensor_msgs/JointState. Every reason starts with its kind
and a colon.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gwm_core import topics
from gwm_core.types import OPEN_WIDTH, ArmState

# [ns] from the joints beyond which a measured opening says nothing of the gripper
GRIPPER_TIMEOUT = 300_000_000
# [ns] that a message may be stamped after it came: what two hosts' clocks may differ by
AHEAD = 20_000_000
LARGEST_ANGLE = 2 * np.pi  # [rad] no joint of an FR3 turns further (its datasheet: 4.6 at most)
LARGEST_WIDTH = 0.12  # [m] Franka hand: 0.08


@dataclass(frozen=True)
class GripperState:
    """A measured finger opening."""

    stamp: int  # [ns]
    width: float  # [m]


def by_name(
    names: Sequence[str], values: Sequence[float], wanted: Sequence[str]
) -> np.ndarray | None:
    """Values in the order of ``wanted``; None when one is missing."""
    index = {name: i for i, name in enumerate(names)}
    if any(name not in index or index[name] >= len(values) for name in wanted):
        return None
    return np.array([values[index[name]] for name in wanted], float)


def read_joint_state(
    message, width: float = np.nan, width_command: float = OPEN_WIDTH, velocity: bool = True
) -> tuple[ArmState | None, str]:
    """The arm's joints in a JointState.

    Args:
        width: measured finger opening [m], NaN = unknown. width_command: the last one commanded
            [m].
        velocity: whether a message without velocities is refused; else they count as 0.

    Returns:
        (ArmState, "") or (None, why the message cannot be used).
    """
    reason = _unfit(message, topics.ARM_JOINTS)
    if reason:
        return None, reason
    q = by_name(message.name, message.position, topics.ARM_JOINTS)
    largest = int(np.argmax(np.abs(q)))
    if abs(q[largest]) > LARGEST_ANGLE:
        return (
            None,
            (
                f"unit: {topics.ARM_JOINTS[largest]} is at {q[largest]:.1f}; radians are wanted,"
                " not degrees"
            ),
        )
    dq = by_name(message.name, message.velocity, topics.ARM_JOINTS)
    if dq is None and velocity:
        return (
            None,
            (
                f"velocity: {len(message.velocity)} given; one of each of the seven joints is"
                " wanted [rad/s]"
            ),
        )
    dq = np.zeros(7) if dq is None else dq
    if not np.isfinite(dq).all():
        return (
            None,
            f"not finite: the velocity of {topics.ARM_JOINTS[int(np.argmin(np.isfinite(dq)))]}",
        )
    return ArmState(_stamp(message), q, dq, width, width_command), ""


def read_gripper_state(message) -> tuple[GripperState | None, str]:
    """(GripperState, "") of a JointState with both fingers [m], or (None, why it cannot be
    used).
    """
    reason = _unfit(message, topics.FINGER_JOINTS)
    if reason:
        return None, reason
    width = float(by_name(message.name, message.position, topics.FINGER_JOINTS).sum())
    if not -0.01 <= width <= LARGEST_WIDTH:
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
    """Joint states completed with the gripper's opening, as long as that is known.

    Attributes:
        width_command: the last finger opening commanded [m].
    """

    def __init__(self):
        self.width_command = OPEN_WIDTH
        self._gripper: GripperState | None = None

    def gripper(self, message) -> str:
        """Take a gripper state. Returns "" or why it cannot be used."""
        state, reason = read_gripper_state(message)
        if state is not None:
            self._gripper = state
        return reason

    def joints(self, message, velocity: bool = True) -> tuple[ArmState | None, str]:
        """(ArmState, "") or (None, reason). Its width is NaN where the gripper's opening is
        unknown.
        """
        state, reason = read_joint_state(message, velocity=velocity)
        if state is None:
            return None, reason
        known = self.unknown_width(state.stamp) == ""
        width = self._gripper.width if known else np.nan
        return ArmState(state.stamp, state.q, state.dq, width, self.width_command), ""

    def complete(self, message, now: int, velocity: bool = True) -> tuple[ArmState | None, str]:
        """As ``joints``; refused where it is stamped after ``now`` [ns] of the host, or the opening
        is unknown.
        """
        state, reason = self.joints(message, velocity)
        if state is None:
            return None, reason
        reason = ahead("a joint state", state.stamp, now) or self.unknown_width(state.stamp)
        return (None, reason) if reason else (state, "")

    def unknown_width(self, stamp: int) -> str:
        """Why the opening at ``stamp`` [ns] is not known, or ""."""
        return unknown_width(self._gripper, stamp)


def unknown_width(gripper: GripperState | None, stamp: int) -> str:
    """Why a gripper state does not tell the opening at ``stamp`` [ns], or ""."""
    if gripper is None:
        return f"gripper: no usable state yet on {topics.GRIPPER_STATES}"
    late = stamp - gripper.stamp
    if abs(late) <= GRIPPER_TIMEOUT:
        return ""
    way = "older" if late > 0 else "newer"
    return (
        f"gripper: its state is {abs(late) * 1e-9:.1f} s {way} than the joints;"
        f" {GRIPPER_TIMEOUT * 1e-9:g} s at most"
    )


def ahead(what: str, stamp: int, now: int) -> str:
    """Why a stamp [ns] of what came at ``now`` [ns] is of another clock than the host's, or ""."""
    if stamp - now <= AHEAD:
        return ""
    return (
        f"clocks: {what} is stamped {(stamp - now) * 1e-6:.0f} ms after it came; stamps of this"
        " host's clock are wanted (chrony between hosts; realsense-ros: global_time_enabled)"
    )


def _stamp(message) -> int:
    return message.header.stamp.sec * 1_000_000_000 + message.header.stamp.nanosec


def _unfit(message, wanted: tuple[str, ...]) -> str:
    """Why the positions of ``wanted`` joints cannot be read, or ""."""
    missing = [name for name in wanted if name not in message.name]
    if missing:
        given = ", ".join(list(message.name)[:3]) + (", ..." if len(message.name) > 3 else "")
        return (
            f"names: no {missing[0]} in [{given}]; {wanted[0]} to {wanted[-1]} are"
            f" wanted{_prefix(message, missing)}"
        )
    position = by_name(message.name, message.position, wanted)
    if position is None:
        return f"position: {len(message.position)} given for {len(message.name)} joints"
    if not np.isfinite(position).all():
        return f"not finite: the position of {wanted[int(np.argmin(np.isfinite(position)))]}"
    if _stamp(message) <= 0:
        return "stamp: 0; the time of the measurement is wanted in the header"
    return ""


def _prefix(message, missing: list[str]) -> str:
    """A hint where the joints are there under another robot's name."""
    ending = missing[0].removeprefix("fr3")
    other = next(
        (str(name).removesuffix(ending) for name in message.name if str(name).endswith(ending)),
        None,
    )
    return f" (the driver calls the robot '{other}': its robot_type or arm_prefix)" if other else ""
