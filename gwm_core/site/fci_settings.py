"""The section ``fci`` of a site file: how ``controller:=fci`` drives the arm."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np

from gwm_core.errors import InputError
from gwm_core.files.yaml_files import known_keys, numbers

_COUNTS = {
    "stiffness": 7,
    "damping": 7,
    "collision_torque": 7,
    "collision_force": 6,
    "load_center": 3,
    "load_inertia": 9,
}
MAX_STIFFNESS = (3000.0, 3000.0, 3000.0, 3000.0, 1000.0, 1000.0, 500.0)  # [N m/rad]


@dataclass(frozen=True)
class FciSettings:
    """Joint impedance, thresholds of contacts, and the load beyond the hand.

    Stiffness and damping are those of libfranka's example joint_impedance_control.cpp.
    """

    stiffness: tuple[float, ...] = (600.0, 600.0, 600.0, 600.0, 250.0, 150.0, 50.0)  # [N m/rad]
    damping: tuple[float, ...] = (50.0, 50.0, 50.0, 50.0, 30.0, 25.0, 15.0)  # [N m s/rad]
    collision_torque: tuple[float, ...] = (40.0, 40.0, 36.0, 36.0, 32.0, 28.0, 24.0)  # [N m]
    # [N] along the axes and [N m] about them
    collision_force: tuple[float, ...] = (40.0, 40.0, 40.0, 50.0, 50.0, 50.0)
    load_mass: float = 0.0  # [kg]
    load_center: tuple[float, ...] = (0.0, 0.0, 0.0)  # [m] in the flange's frame
    load_inertia: tuple[float, ...] = (0.0,) * 9  # [kg m2] about its centre, column by column
    real_time: bool = True  # refuse a kernel that is not PREEMPT_RT


def parse_fci(source: str, entry) -> FciSettings:
    """Read the section. Raises InputError naming the key that is wrong."""
    entry = known_keys(source, entry, [field.name for field in fields(FciSettings)])
    return replace(FciSettings(), **{key: _value(source, key, entry[key]) for key in entry})


def _value(source: str, key: str, value):
    if key == "real_time":
        if not isinstance(value, bool):
            raise InputError(f"{source}.{key}: true or false is wanted, got {value!r}")
        return value
    count = _COUNTS.get(key, 0)
    wanted = f"{count} finite numbers" if count else "a finite number"
    try:
        row = numbers(value)
    except ValueError as error:
        raise InputError(f"{source}.{key}: {wanted}: {error}") from None
    if row.shape != ((count,) if count else ()) or not np.all(np.isfinite(row)):
        raise InputError(f"{source}.{key}: {wanted} wanted, got {value!r}")
    if key != "load_center" and np.any(row < 0) and key != "load_inertia":
        raise InputError(f"{source}.{key}: numbers of 0 or more are wanted, got {value!r}")
    if key == "stiffness" and np.any(row > MAX_STIFFNESS):
        raise InputError(f"{source}.{key}: at most {list(MAX_STIFFNESS)} N m/rad, got {value!r}")
    if key.startswith("collision") and np.any(row <= 0):
        raise InputError(f"{source}.{key}: numbers above 0 are wanted, got {value!r}")
    return tuple(row.tolist()) if count else float(row)
