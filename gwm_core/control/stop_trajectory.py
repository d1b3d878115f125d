"""The quickest stop: what the follower makes sure of before each step, and what a trajectory
controller is sent.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from ruckig import ControlInterface, InputParameter, Result, Ruckig, Synchronization, Trajectory

from gwm_core.errors import InputError
from gwm_core.geometry.limits import DESK, FR3, ArmLimits, Profile

# [s] a stop may take: longer ones are as good as none, and each is looked at whole, every period
_LONGEST = 5.0


class Reference(NamedTuple):
    """Position [rad], velocity [rad/s] and acceleration [rad/s2] of the seven joints."""

    q: np.ndarray
    dq: np.ndarray
    ddq: np.ndarray


class StopPlanner:
    """Plans stops, each joint as quickly as its acceleration and jerk allow.

    Args:
        dt: between the states of a tail [s].
        profile: shares of the published limits.
        arm: those limits.

    Raises:
        InputError: with these shares a stop may take too long.
    """

    def __init__(self, dt: float = 0.01, profile: Profile = DESK, arm: ArmLimits = FR3):
        self._dt, self._otg, self._trajectory, self._request = (
            dt,
            Ruckig(7),
            Trajectory(7),
            InputParameter(7),
        )
        self._request.control_interface = ControlInterface.Velocity
        self._request.synchronization = Synchronization.No
        a, j = profile.acceleration * arm.ddq_max, profile.jerk * arm.dddq_max
        longest = float(np.max(profile.velocity * arm.dq_max / a + a / j))
        if longest > _LONGEST:
            raise InputError(
                f"a stop would take up to {longest:.1f} s, {_LONGEST:.0f} are allowed: acceleration"
                f" {profile.acceleration} and jerk {profile.jerk} are too small for velocity"
                f" {profile.velocity}"
            )
        self._request.max_acceleration = (profile.acceleration * arm.ddq_max).tolist()
        self._request.max_jerk = (profile.jerk * arm.dddq_max).tolist()

    def plan(self, start: Reference) -> Trajectory:
        """The stop from ``start``. The same object is filled anew by the next call."""
        self._request.current_position = start.q.tolist()
        self._request.current_velocity = start.dq.tolist()
        self._request.current_acceleration = start.ddq.tolist()
        result = self._otg.calculate(self._request, self._trajectory)
        if result not in (Result.Working, Result.Finished):
            raise RuntimeError(f"Ruckig found no stop from {start}: {result}")
        return self._trajectory

    def tail(self, start: Reference) -> list[Reference]:
        """States ``dt``, 2 ``dt``, ... after ``start``; the last is at rest. Empty where ``start``
        is.
        """
        if not (np.any(start.dq) or np.any(start.ddq)):
            return []
        stop = self.plan(start)
        count = int(np.ceil(stop.duration / self._dt))
        states = [Reference(*map(np.array, stop.at_time(self._dt * k))) for k in range(1, count)]
        return [
            *states,
            Reference(np.array(stop.at_time(stop.duration)[0]), np.zeros(7), np.zeros(7)),
        ]
