"""Published limits of the Franka arms, and the margins and profiles inside them.

A robot's limits are an argument everywhere (FR3 by default): joint 6 of FR3 and Panda have
different ranges, so no table is shared. A site file may narrow them, never widen them.
"""

from __future__ import annotations

from dataclasses import astuple, dataclass, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np

from gwm_core.errors import InputError

UNITS = {
    "q_min": "rad",
    "q_max": "rad",
    "dq_max": "rad/s",
    "ddq_max": "rad/s2",
    "dddq_max": "rad/s3",
}


def _row(*values: float) -> np.ndarray:
    array = np.array(values)
    array.flags.writeable = False
    return array


class BrakingLimit(NamedTuple):
    """A published velocity limit that depends on the position, (7,) each.

    |dq| <= sqrt(twice_deceleration * distance to the end of the range) - offset
    """

    q_min: np.ndarray  # [rad]
    q_max: np.ndarray  # [rad]
    offset: np.ndarray  # [rad/s]
    twice_deceleration: np.ndarray  # [rad/s2]


@dataclass(frozen=True, eq=False)
class ArmLimits:
    """Limits of one robot, (7,) each."""

    name: str  # prefix of its joints
    q_min: np.ndarray  # [rad]
    q_max: np.ndarray  # [rad]
    dq_max: np.ndarray  # [rad/s]
    ddq_max: np.ndarray  # [rad/s2]
    dddq_max: np.ndarray  # [rad/s3]
    braking: tuple[BrakingLimit, ...] = ()  # the strictest counts
    margin: float = 0.1  # [rad] the gate stays this far inside the position limits

    @cached_property
    def q_low(self) -> np.ndarray:
        """Lowest position the gate and the inverse kinematics use (7,) [rad]."""
        return _row(*(self.q_min + self.margin))

    @cached_property
    def q_high(self) -> np.ndarray:
        """Highest position they use (7,) [rad]."""
        return _row(*(self.q_max - self.margin))

    @cached_property
    def _braking(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Ends (2, B, 7) of the ranges, the lower ones negated; offsets and factors (B, 7)."""
        ends = np.array(
            [[b.q_max for b in self.braking], [-b.q_min for b in self.braking]]
        ).reshape(2, -1, 7)
        rest = [
            np.array([getattr(b, name) for b in self.braking])
            for name in ("offset", "twice_deceleration")
        ]
        return ends, *(part.reshape(-1, 7) for part in rest)

    def velocity_bounds(self, q: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Lowest and highest joint velocity [rad/s] at ``q`` (..., 7), by the strictest formula."""
        ends, offset, factor = self._braking
        signed = np.multiply.outer(np.asarray(q), (1.0, -1.0)).swapaxes(-1, -2)  # (..., 2, 7)
        distance = ends - signed[..., :, None, :]  # (..., 2, B, 7)
        bound = np.sqrt(np.maximum(factor * distance, 0.0)) - offset
        bound = np.minimum(np.maximum(bound.min(axis=-2, initial=np.inf), 0.0), self.dq_max)
        return -bound[..., 1, :], bound[..., 0, :]

    def narrowed(self, source: str, **stricter: list[float]) -> ArmLimits:
        """These limits with some replaced by stricter ones, seven numbers each.

        Raises InputError, with ``source`` in its message, for an unknown name, a wrong count or
        number, and a wider limit.
        """
        changed = {}
        for key, values in stricter.items():
            row = _seven(source, key, values)
            own = getattr(self, key)
            wider = row < own if key == "q_min" else row > own
            if wider.any():
                joint = int(np.argmax(wider))
                raise InputError(
                    f"{source}: {key} {row[joint]:g} of joint {joint + 1} is wider than the"
                    f" {self.name}'s {own[joint]:g} {UNITS[key]}: limits may only be narrowed"
                )
            changed[key] = _row(*row)
        result = replace(self, **changed)
        if np.any(result.q_low >= result.q_high):
            joint = int(np.argmax(result.q_low >= result.q_high))
            raise InputError(
                f"{source}: no room is left between q_min and q_max of joint {joint + 1}"
            )
        return result


def _seven(source: str, key: str, values) -> np.ndarray:
    if key not in UNITS:
        raise InputError(f"{source}: no limit is called '{key}': valid are {', '.join(UNITS)}")
    try:
        row = np.array(values, float)
    except (TypeError, ValueError):
        row = np.empty(0)
    if (
        row.shape != (7,)
        or not np.all(np.isfinite(row))
        or (not key.startswith("q_") and np.any(row <= 0))
    ):
        raise InputError(
            f"{source}: {key} needs seven finite numbers in {UNITS[key]}, got {values}"
        )
    return row


# Positions: the stricter of the 5.9.0 table and franka_description 1.0.1 (2025-07). Velocity
# formulas: first the 5.9.0 one (frankarobotics/docs, source/control-parameters-joint-fr3.csv,
# 2026-05-04), then the inline one of libfranka 0.21 (rate_limiting.h, 2026-06-17). Neither is
# everywhere the stricter one, so both count.
FR3 = ArmLimits(
    name="fr3",
    q_min=_row(-2.7437, -1.7837, -2.9007, -3.0421, -2.8065, 0.5445, -3.0159),
    q_max=_row(2.7437, 1.7837, 2.9007, -0.1518, 2.8065, 4.5169, 3.0159),
    dq_max=_row(2.62, 2.62, 2.62, 2.62, 5.26, 4.18, 5.26),
    ddq_max=_row(*[10.0] * 7),
    dddq_max=_row(*[5000.0] * 7),
    braking=(
        BrakingLimit(
            _row(-2.9007, -1.8361, -2.9007, -3.0770, -2.8763, 0.4398, -3.0508),
            _row(2.9007, 1.8361, 2.9007, -0.1169, 2.8763, 4.6216, 3.0508),
            _row(0.6599, 0.2517, 0.2000, 0.3533, 0.5757, 0.4878, 0.4628),
            2.0 * _row(6.0, 2.585, 3.5, 4.0, 17.0, 5.5, 17.0),
        ),
        BrakingLimit(
            -_row(2.75010, 1.79180, 2.90650, 3.04810, 2.81010, -0.54092, 3.01960),
            _row(2.75010, 1.79180, 2.90650, -0.1458, 2.81010, 4.52050, 3.01960),
            _row(0.30, 0.20, 0.20, 0.30, 0.35, 0.35, 0.35),
            _row(12.0, 5.17, 7.00, 8.00, 34.0, 11.0, 34.0),
        ),
    ),
)

# frankarobotics/docs, "Limits for Panda" (FER), 2026-05-04: constant velocity limits.
PANDA = ArmLimits(
    name="panda",
    q_min=_row(-2.8973, -1.7628, -2.8973, -3.0718, -2.8973, -0.0175, -2.8973),
    q_max=_row(2.8973, 1.7628, 2.8973, -0.0698, 2.8973, 3.7525, 2.8973),
    dq_max=_row(2.1750, 2.1750, 2.1750, 2.1750, 2.6100, 2.6100, 2.6100),
    ddq_max=_row(15.0, 7.5, 10.0, 12.5, 15.0, 20.0, 20.0),
    dddq_max=_row(7500.0, 3750.0, 5000.0, 6250.0, 7500.0, 10000.0, 10000.0),
)


@dataclass(frozen=True)
class Profile:
    """The fraction of the limits that the gate uses."""

    tcp_speed: float = 0.25  # [m/s]
    velocity: float = 0.90  # fraction of velocity_bounds(q)
    acceleration: float = 0.50  # fraction of ddq_max
    jerk: float = 0.20  # fraction of dddq_max

    def slowed(self, fraction: float) -> Profile:
        """The same accelerations at a fraction (0 to 1] of the speeds. Raises InputError."""
        if not 0 < fraction <= 1:
            raise InputError(f"a speed fraction is above 0 and at most 1, got {fraction}")
        return replace(self, tcp_speed=fraction * self.tcp_speed, velocity=fraction * self.velocity)

    def within(self, other: Profile) -> Profile:
        """The smaller of the two profiles, number by number."""
        return Profile(*(min(pair) for pair in zip(astuple(self), astuple(other))))


DESK = Profile()  # people at the table: the default
LAB = Profile(tcp_speed=0.5)
# published TCP speed: 1.7 m/s (Panda), 3.0 (FR3)
FULL = Profile(tcp_speed=1.5, acceleration=0.8, jerk=0.4)
PROFILES = {"desk": DESK, "lab": LAB, "full": FULL}


@dataclass(frozen=True)
class Workspace:
    """The box that the TCP may move in, base frame; the table top is at z = 0."""

    low: tuple[float, float, float] = (0.22, -0.45, 0.005)  # [m]
    high: tuple[float, float, float] = (0.80, 0.45, 0.70)  # [m]

    def contains(self, tcp: np.ndarray) -> bool:
        """Whether all points (..., 3) [m] are inside."""
        return bool(np.all((tcp >= self.low) & (tcp <= self.high)))
