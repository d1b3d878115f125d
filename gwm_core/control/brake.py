"""The quickest stop: what goes out after each target to a controller that carries its messages to the end."""

from __future__ import annotations

import numpy as np
from ruckig import ControlInterface, InputParameter, Result, Ruckig, Synchronization, Trajectory

from gwm_core.control.controller import Reference
from gwm_core.control.limits import DDDQ_MAX, DDQ_MAX, DESK, Profile

_LONGEST = 200  # states of a tail: 2 s at 10 ms, five times the longest stop the desk profile needs


class Brake:
    """Plans the stop that the follower has made sure of before it took the step to a reference.

    Args:
        dt: between the states of a tail [s].
        profile: shares of the published limits, as the follower's.
    """

    def __init__(self, dt: float = 0.01, profile: Profile = DESK):
        self._dt, self._otg, self._trajectory, self._request = dt, Ruckig(7), Trajectory(7), InputParameter(7)
        self._request.control_interface = ControlInterface.Velocity
        self._request.synchronization = Synchronization.No
        self._request.max_acceleration = (profile.acceleration * DDQ_MAX).tolist()
        self._request.max_jerk = (profile.jerk * DDDQ_MAX).tolist()

    def tail(self, start: Reference) -> list[Reference]:
        """States ``dt``, 2 ``dt``, ... after ``start``; the last is at rest. Empty where ``start`` is."""
        if not (np.any(start.dq) or np.any(start.ddq)):
            return []
        self._request.current_position = start.q.tolist()
        self._request.current_velocity = start.dq.tolist()
        self._request.current_acceleration = start.ddq.tolist()
        result = self._otg.calculate(self._request, self._trajectory)
        if result not in (Result.Working, Result.Finished):
            raise RuntimeError(f"Ruckig found no stop from {start}: {result}")
        count = int(np.ceil(self._trajectory.duration / self._dt))
        if count > _LONGEST:
            raise RuntimeError(f"a stop of {self._trajectory.duration:.1f} s from {start}")
        states = [Reference(*map(np.array, self._trajectory.at_time(self._dt * k))) for k in range(1, count)]
        return [
            *states,
            Reference(np.array(self._trajectory.at_time(self._trajectory.duration)[0]), np.zeros(7), np.zeros(7)),
        ]
