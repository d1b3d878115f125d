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
        states = np.concatenate([start[None], states]) if ahead else states  # (S, 3, 7)
        if (
            not np.all(np.diff(self._times) > 0)
            or not np.all(np.isfinite(states))
            or not times[-1] > 0
        ):
            raise ValueError(
                "times must increase and end after the start, and every number be finite"
            )
        self._end = np.stack([states[-1, 0], np.zeros(7), np.zeros(7)])
        self._coefficients = _coefficients(states, np.diff(self._times)[:, None])

    def at(self, t: float) -> np.ndarray:
        """Position, velocity and acceleration (3, 7) at ``t`` [s]; at rest after the last point."""
        if t >= self._times[-1]:
            return self._end
        i = int(np.searchsorted(self._times, t, side="right")) - 1
        s = float(t - self._times[i])
        s2, s3, s4 = s * s, s**3, s**4
        powers = np.array(
            [
                [1.0, s, s2, s3, s4, s4 * s],
                [0.0, 1.0, 2.0 * s, 3.0 * s2, 4.0 * s3, 5.0 * s4],
                [0.0, 0.0, 2.0, 6.0 * s, 12.0 * s2, 20.0 * s3],
            ]
        )
        return powers @ self._coefficients[i]


def _coefficients(states: np.ndarray, T: np.ndarray) -> np.ndarray:
    """Coefficients (S - 1, 6, 7) by ascending power of the segments between states (S, 3, 7).

    Args:
        T: durations (S - 1, 1) [s].
    """
    (a, da, dda), (b, db, ddb) = states[:-1].swapaxes(0, 1), states[1:].swapaxes(0, 1)
    gap = b - a - da * T - dda * T**2 / 2
    dgap = (db - da - dda * T) * T
    ddgap = (ddb - dda) * T**2
    c3 = 10 * gap - 4 * dgap + ddgap / 2
    c4 = -15 * gap + 7 * dgap - ddgap
    c5 = 6 * gap - 3 * dgap + ddgap / 2
    return np.stack([a, da, dda / 2, c3 / T**3, c4 / T**4, c5 / T**5], axis=1)
