"""Published limits of the Franka arms and the margins we keep inside them.

Sources: frankarobotics/docs, source/control-parameters-joint-fr3.csv, commit of 2026-05-04 (system image 5.9.0 on),
and the inline velocity formula of libfranka 0.21 (rate_limiting.h, "legacy"). Neither is everywhere the stricter
one, so a limit here is always the stricter of both.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


def _row(*values: float) -> np.ndarray:
    array = np.array(values)
    array.flags.writeable = False
    return array


# Joint positions: the stricter of the 5.9.0 table and franka_description 1.0.1 (2025-07).
Q_MAX = _row(2.7437, 1.7837, 2.9007, -0.1518, 2.8065, 4.5169, 3.0159)  # [rad]
Q_MIN = _row(-2.7437, -1.7837, -2.9007, -3.0421, -2.8065, 0.5445, -3.0159)  # [rad]
DQ_MAX = _row(2.62, 2.62, 2.62, 2.62, 5.26, 4.18, 5.26)  # [rad/s]
DDQ_MAX = _row(*[10.0] * 7)  # [rad/s2]
DDDQ_MAX = _row(*[5000.0] * 7)  # [rad/s3]

MARGIN = 0.1  # [rad] the gate and the inverse kinematics stay this far inside Q_MIN..Q_MAX
Q_LOW, Q_HIGH = _row(*(Q_MIN + MARGIN)), _row(*(Q_MAX - MARGIN))  # [rad]

# Position-dependent velocity: |dq| <= -offset + sqrt(2 * deceleration * distance to the end stop).
_NEW_Q_MAX = _row(2.9007, 1.8361, 2.9007, -0.1169, 2.8763, 4.6216, 3.0508)
_NEW_Q_MIN = _row(-2.9007, -1.8361, -2.9007, -3.0770, -2.8763, 0.4398, -3.0508)
_NEW_OFFSET = _row(0.6599, 0.2517, 0.2000, 0.3533, 0.5757, 0.4878, 0.4628)
_NEW_TWICE_DECELERATION = 2.0 * _row(6.0, 2.585, 3.5, 4.0, 17.0, 5.5, 17.0)
_LEGACY_Q_MAX = _row(2.75010, 1.79180, 2.90650, -0.1458, 2.81010, 4.52050, 3.01960)
_LEGACY_Q_MIN = -_row(2.75010, 1.79180, 2.90650, 3.04810, 2.81010, -0.54092, 3.01960)
_LEGACY_OFFSET = _row(0.30, 0.20, 0.20, 0.30, 0.35, 0.35, 0.35)
_LEGACY_TWICE_DECELERATION = _row(12.0, 5.17, 7.00, 8.00, 34.0, 11.0, 34.0)


def velocity_bounds(q: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Lowest and highest joint velocity [rad/s] allowed at ``q`` (..., 7): the stricter of both published formulas."""

    def bound(distance, offset, twice_deceleration):
        return np.clip(np.sqrt(np.maximum(0.0, twice_deceleration * distance)) - offset, 0.0, DQ_MAX)

    up = np.minimum(
        bound(_NEW_Q_MAX - q, _NEW_OFFSET, _NEW_TWICE_DECELERATION),
        bound(_LEGACY_Q_MAX - q, _LEGACY_OFFSET, _LEGACY_TWICE_DECELERATION),
    )
    low = np.minimum(
        bound(q - _NEW_Q_MIN, _NEW_OFFSET, _NEW_TWICE_DECELERATION),
        bound(q - _LEGACY_Q_MIN, _LEGACY_OFFSET, _LEGACY_TWICE_DECELERATION),
    )
    return -low, up


@dataclass(frozen=True)
class Profile:
    """The part of the limits the gate uses. ``desk`` is the default: TCP <= 0.25 m/s."""

    tcp_speed: float = 0.25  # [m/s]
    velocity: float = 0.90  # share of velocity_bounds(q)
    acceleration: float = 0.50  # share of DDQ_MAX
    jerk: float = 0.20  # share of DDDQ_MAX


DESK = Profile()


@dataclass(frozen=True)
class Workspace:
    """Box the TCP may move in, base frame, table top at z = 0."""

    low: tuple[float, float, float] = (0.22, -0.45, 0.005)  # [m]
    high: tuple[float, float, float] = (0.80, 0.45, 0.70)  # [m]

    def holds(self, tcp: np.ndarray) -> bool:
        """Whether all points (..., 3) [m] are inside."""
        return bool(np.all((tcp >= self.low) & (tcp <= self.high)))
