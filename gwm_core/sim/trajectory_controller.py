"""The trajectory of joint_trajectory_controller: quintics through its points, then rest.

As in ros2_controllers (trajectory.cpp): a new message replaces the old one at once, even if it is
stamped for later. One segment leads from the controller's state to the first point; points in the
past are skipped.
"""

from __future__ import annotations

import numpy as np


class Quintic:
    """Joint targets over time, from the controller's state through the points of a trajectory.

    Args:
        times: (P,) [s] after the start, increasing, the last above 0.
        q, dq, ddq: (P, 7) [rad], [rad/s], [rad/s2] at those times.
        start: the state (3, 7) at time 0.
    """

    def __init__(
        self, times: np.ndarray, q: np.ndarray, dq: np.ndarray, ddq: np.ndarray, start: np.ndarray
    ):
        states = np.stack([q, dq, ddq], axis=1)
        ahead = times[0] > 0
        self._times = np.concatenate([[0.0], times]) if ahead else times
        # (P + 1 or P, 3, 7)
        self._states = np.concatenate([start[None], states]) if ahead else states
        if (
            not np.all(np.diff(self._times) > 0)
            or not np.all(np.isfinite(self._states))
            or not times[-1] > 0
        ):
            raise ValueError(
                "times must increase and end after the start, and every number be finite"
            )

    def at(self, t: float) -> np.ndarray:
        """Position, velocity and acceleration (3, 7) at ``t`` [s]; at rest after the last point."""
        if t >= self._times[-1]:
            return np.stack([self._states[-1, 0], np.zeros(7), np.zeros(7)])
        i = int(np.searchsorted(self._times, t, side="right")) - 1
        T = self._times[i + 1] - self._times[i]
        (a, da, dda), (b, db, ddb) = self._states[i], self._states[i + 1]
        gap = b - a - da * T - dda * T**2 / 2
        dgap = (db - da - dda * T) * T
        ddgap = (ddb - dda) * T**2
        c3 = 10 * gap - 4 * dgap + ddgap / 2
        c4 = -15 * gap + 7 * dgap - ddgap
        c5 = 6 * gap - 3 * dgap + ddgap / 2
        s = (t - self._times[i]) / T
        return np.stack(
            [
                a + da * T * s + dda * (T * s) ** 2 / 2 + s**3 * (c3 + s * (c4 + s * c5)),
                da + dda * T * s + s**2 * (3 * c3 + s * (4 * c4 + s * 5 * c5)) / T,
                dda + s * (6 * c3 + s * (12 * c4 + s * 20 * c5)) / T**2,
            ]
        )
