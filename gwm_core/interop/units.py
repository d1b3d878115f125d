"""Units of other people's datasets, which say nothing about them: taken as told, refused where they
cannot be true.

What is not finite passes: ``untrusted.checked`` names it.
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
_BEYOND = 0.05  # [rad] what is measured or commanded may be outside
_WIDEST = 0.1  # [m] no gripper of these arms opens farther, a Robotiq 2F-85 included
_LEAST_DEGREES = 2 * np.pi  # joint 4 alone is farther from 0 than this, in degrees


def in_radians(where: str, q: np.ndarray, unit: str) -> np.ndarray:
    """Joints (T, 7) [rad] from ``unit``. Raises InputError where no FR3 or Panda can have been
    there.
    """
    made = q * JOINT_UNITS[unit]
    if _within(made) and not (unit == "degrees" and np.abs(q).max() < _LEAST_DEGREES):
        return made
    others = [name for name, factor in JOINT_UNITS.items() if name != unit and _within(q * factor)]
    row, joint = np.unravel_index(np.argmax(np.maximum(_LOW - made, made - _HIGH)), made.shape)
    said = (
        f"{where}: joint {joint + 1} is {q[row, joint]:.5g} in row {row}, which no FR3 reaches in"
        f" {unit}"
    )
    if others:
        raise InputError(f"{said}: --joint-unit {others[0]}")
    raise InputError(f"{said}: joint positions in {' or '.join(JOINT_UNITS)} are wanted")


def in_metres(where: str, width: np.ndarray, unit: str) -> np.ndarray:
    """Openings [m] from ``unit``. Raises InputError where no gripper of these arms opens as far."""
    made = width * GRIPPER_UNITS[unit]
    if not made.max() > _WIDEST:
        return made
    said = f"{where}: the gripper opens to {width.max():.5g}, which it cannot in {unit}"
    if unit == "m" and width.max() <= 1.0:
        raise InputError(f"{said}: --gripper-unit fraction, if 1 is open")
    raise InputError(f"{said}: an opening in {', '.join(GRIPPER_UNITS)} is wanted (--gripper-unit)")


def _within(q: np.ndarray) -> bool:
    return not ((q < _LOW - _BEYOND) | (q > _HIGH + _BEYOND)).any()
