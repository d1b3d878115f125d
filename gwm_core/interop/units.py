"""Units of the datasets of others. They do not state their units, so the user does.

Values that are impossible in the stated unit are refused. Values that are not finite pass here, and
``untrusted.check_table`` refuses them.
"""

from __future__ import annotations

import numpy as np

from gwm_core.errors import InputError
from gwm_core.geometry.limits import FR3, PANDA
from gwm_core.types import OPEN_WIDTH

JOINT_UNITS = {"rad": 1.0, "degrees": np.pi / 180}  # name -> [rad]
# name -> [m]; a fraction is 0 closed, 1 open
GRIPPER_UNITS = {"m": 1.0, "mm": 1e-3, "fraction": OPEN_WIDTH}
# [rad] of either arm
_LOW, _HIGH = np.minimum(FR3.q_min, PANDA.q_min), np.maximum(FR3.q_max, PANDA.q_max)
_TOLERANCE = 0.05  # [rad] measurements and commands may be this far outside
_MAXIMUM_WIDTH = 0.1  # [m] no gripper of these arms opens farther, a Robotiq 2F-85 included
_MINIMUM_DEGREES = 2 * np.pi  # joint 4 alone is farther from 0 than this, in degrees


def in_radians(where: str, q: np.ndarray, unit: str) -> np.ndarray:
    """Joints (T, 7) [rad] from ``unit``. Raises InputError beyond the reach of FR3 and Panda."""
    made = q * JOINT_UNITS[unit]
    if _within(made) and not (unit == "degrees" and np.abs(q).max() < _MINIMUM_DEGREES):
        return made
    others = [name for name, factor in JOINT_UNITS.items() if name != unit and _within(q * factor)]
    row, joint = np.unravel_index(np.argmax(np.maximum(_LOW - made, made - _HIGH)), made.shape)
    fault = (
        f"{where}: joint {joint + 1} is {q[row, joint]:.5g} in row {row}, which no FR3 reaches in"
        f" {unit}"
    )
    if others:
        raise InputError(f"{fault}: --joint-unit {others[0]}")
    raise InputError(f"{fault}: joint positions in {' or '.join(JOINT_UNITS)} are wanted")


def in_metres(where: str, width: np.ndarray, unit: str) -> np.ndarray:
    """Openings [m] from ``unit``. Raises InputError where no gripper of these arms opens so far."""
    made = width * GRIPPER_UNITS[unit]
    if not made.max() > _MAXIMUM_WIDTH:
        return made
    fault = f"{where}: the gripper opens to {width.max():.5g}, which it cannot in {unit}"
    if unit == "m" and width.max() <= 1.0:
        raise InputError(f"{fault}: --gripper-unit fraction, if 1 is open")
    raise InputError(
        f"{fault}: an opening in {', '.join(GRIPPER_UNITS)} is wanted (--gripper-unit)"
    )


def _within(q: np.ndarray) -> bool:
    return not ((q < _LOW - _TOLERANCE) | (q > _HIGH + _TOLERANCE)).any()
