"""Input devices as data: what each axis and button of a sensor_msgs/Joy means.

A keyboard is turned into such a device.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gwm_core.geometry.limits import ArmLimits

DIRECTIONS = ("x", "y", "z", "roll", "pitch", "yaw")
# Drivers scale full deflection to 1. spacenav_node can exceed it a little; raw counts exceed it by
# far.
MAX_DEFLECTION = 1.5
# [s] for which a key counts as held; a terminal repeats a held key about 30 times a second
KEY_TIME = 0.15
KEYS = {  # key -> axis, direction
    "w": (0, 1),
    "s": (0, -1),
    "a": (1, 1),
    "d": (1, -1),
    "r": (2, 1),
    "f": (2, -1),
    "u": (3, 1),
    "o": (3, -1),
    "i": (4, 1),
    "k": (4, -1),
    "j": (5, 1),
    "l": (5, -1),
}
BUTTON_KEYS = {"c": 1, "v": 2, "b": 3}  # close, open, give back
GIVE_BACK_KEY = "b"


@dataclass(frozen=True)
class Device:
    """The meaning of a Joy message's axes and buttons.

    Attributes:
        axes: x, y, z, then rotations about x, y, z, all of the base frame. Each is (index, sign),
            or None where the device has no such axis.
        clutch: the button that is held to move.
        close, open: buttons of the gripper; the same index for both makes a toggle.
        give_back: the button that returns the arm to the policy.
    """

    axes: tuple[tuple[int, float] | None, ...]
    clutch: int
    close: int
    open: int
    give_back: int | None = None

    @property
    def min_counts(self) -> tuple[int, int]:
        """Numbers of axes and buttons that a message must have."""
        last = max(index for index, _ in filter(None, self.axes))
        return last + 1, max(self.clutch, self.close, self.open, self.give_back or 0) + 1

    def deflection(self, axes) -> np.ndarray:
        """Deflection (6,) in the base frame's directions, -1 to 1; 0 where there is no axis."""
        values = [0.0 if axis is None else axes[axis[0]] * axis[1] for axis in self.axes]
        return np.clip(values, -1.0, 1.0)

    def misfit(self, axes, buttons) -> str:
        """Why a message cannot be of this device, or ""."""
        wanted = self.min_counts
        if len(axes) < wanted[0] or len(buttons) < wanted[1]:
            return (
                f"joy: {wanted[0]} axes and {wanted[1]} buttons wanted, got {len(axes)} and"
                f" {len(buttons)}"
            )
        for index, value in enumerate(axes):
            if not abs(value) <= MAX_DEFLECTION:  # also true of NaN
                return f"joy: axis {index} reads {value:g}, -1 to 1 is wanted"
        return ""

    def away_from_rest(self, axes, deadband: float) -> str:
        """An axis that is not at rest, within ``deadband``, in words; "" when all are."""
        for axis, direction in zip(self.axes, DIRECTIONS):
            if axis is not None and abs(axes[axis[0]]) > deadband:
                return (
                    f"axis {axis[0]} ({direction}) reads {axes[axis[0]]:+.2f}, not at rest: let go"
                    " of all axes before the clutch, or it is a device with other axes"
                    " (docs/teleop.md)"
                )
        return ""


def leader_misfit(
    q: np.ndarray, arm: ArmLimits, reference: np.ndarray | None, max_distance: float
) -> str:
    """Why a leader arm's joints ``q`` (7,) [rad] cannot be followed, or "".

    They must lie inside the arm's limits and, where its ``reference`` (7,) is known, within
    ``max_distance`` [rad] of that.
    """
    if _fits(q, arm, reference, max_distance):
        return ""
    beyond = np.maximum(arm.q_low - q, q - arm.q_high)
    k = int(np.argmax(beyond))
    if beyond[k] > 0:
        wanted = f"{arm.q_low[k]:.2f} to {arm.q_high[k]:.2f} is wanted"
    else:
        k = int(np.argmax(np.abs(q - reference)))
        wanted = f"the arm's is at {reference[k]:.2f}, and they may be {max_distance:g} apart"
    hint = _hint(q, arm, reference, max_distance)
    return f"leader: joint {k + 1} reads {q[k]:.2f} rad, {wanted}{hint}"


def _fits(q: np.ndarray, arm: ArmLimits, reference: np.ndarray | None, max_distance: float) -> bool:
    inside = np.all((q >= arm.q_low) & (q <= arm.q_high))
    return bool(inside and (reference is None or np.abs(q - reference).max() <= max_distance))


def _hint(q: np.ndarray, arm: ArmLimits, reference: np.ndarray | None, max_distance: float) -> str:
    """The mistake that would explain such joints, or ""."""
    if not q.any():
        return ": all joints read 0, the leader is not calibrated"
    if _fits(np.deg2rad(q), arm, reference, max_distance):
        return ": these are degrees"
    turns = np.rint(
        (q - (0.5 * (arm.q_low + arm.q_high) if reference is None else reference)) / (2 * np.pi)
    )
    if turns.any() and _fits(q - 2 * np.pi * turns, arm, reference, max_distance):
        return (
            f": a whole turn off at joint {' and '.join(str(k + 1) for k in np.flatnonzero(turns))}"
        )
    return ""


DEVICES = {
    # spacenav_node: six axes, forward, left and up positive; two buttons
    "spacemouse": Device(tuple((i, 1.0) for i in range(6)), clutch=0, close=1, open=1),
    # joy_node with an Xbox pad: left stick x y, right stick z and yaw, cross roll and pitch; RB, A,
    # B, Y
    "gamepad": Device(
        ((1, 1.0), (0, 1.0), (4, 1.0), (6, 1.0), (7, 1.0), (3, 1.0)),
        clutch=5,
        close=0,
        open=1,
        give_back=3,
    ),
    "keyboard": Device(tuple((i, 1.0) for i in range(6)), clutch=0, close=1, open=2, give_back=3),
}


class Keyboard:
    """Keys pressed in a terminal, as the axes and buttons of a "keyboard" Joy.

    A terminal reports no releases.
    """

    def __init__(self):
        self._pressed: dict[str, float] = {}

    def press(self, key: str, now: float) -> None:
        """Take a key; others than those of the device are ignored."""
        if key in KEYS or key in BUTTON_KEYS:
            self._pressed[key] = now

    def joy(self, now: float) -> tuple[list[float], list[int]]:
        """Axes (6) and buttons (4). Keys hold the clutch; the one that gives back lets go of it."""
        held = [key for key, at in self._pressed.items() if now - at < KEY_TIME]
        axes, buttons = [0.0] * 6, [0] * 4
        for key in held:
            if key in KEYS:
                axis, direction = KEYS[key]
                axes[axis] += direction
            else:
                buttons[BUTTON_KEYS[key]] = 1
        buttons[0] = int(bool(held) and GIVE_BACK_KEY not in held)
        return axes, buttons
