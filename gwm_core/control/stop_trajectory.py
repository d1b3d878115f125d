"""The quickest stop from a state in motion.

The follower makes sure of one before each step, and a trajectory controller is sent one with each
command.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from ruckig import ControlInterface, InputParameter, Result, Ruckig, Synchronization, Trajectory

from gwm_core.errors import InputError
from gwm_core.geometry.limits import DESK, FR3, ArmLimits, Profile

# [s] a stop may take. Longer ones are as good as none, and each is checked whole in every period.
_MAX_STOP = 5.0


class Reference(NamedTuple):
    """Position [rad], velocity [rad/s] and acceleration [rad/s2] of the seven joints."""

    q: np.ndarray
    dq: np.ndarray
    ddq: np.ndarray


class StopPlanner:
    """Plans stops. Each joint stops as quickly as its acceleration and jerk allow.

    Args:
        dt: [s] between the states of ``tail``.
        profile: fractions of the published limits.
        arm: the robot's published limits.

    Raises:
        InputError: with these fractions a stop may take too long.
    """

    def __init__(self, dt: float = 0.01, profile: Profile = DESK, arm: ArmLimits = FR3):
        self._dt = dt
        self._otg = Ruckig(7)
        self._trajectory = Trajectory(7)
        self._request = InputParameter(7)
        self._request.control_interface = ControlInterface.Velocity
        self._request.synchronization = Synchronization.No
        a, j = profile.acceleration * arm.ddq_max, profile.jerk * arm.dddq_max
        longest = float(np.max(profile.velocity * arm.dq_max / a + a / j))
        if longest > _MAX_STOP:
            raise InputError(
                f"a stop would take up to {longest:.1f} s, {_MAX_STOP:.0f} are allowed:"
                f" acceleration {profile.acceleration} and jerk {profile.jerk}"
                f" are too small for velocity {profile.velocity}"
            )
        self._request.max_acceleration = (profile.acceleration * arm.ddq_max).tolist()
        self._request.max_jerk = (profile.jerk * arm.dddq_max).tolist()

    def plan(self, start: Reference) -> Trajectory:
        """The stop from ``start``. The next call fills the same object again."""
        self._request.current_position = start.q.tolist()
        self._request.current_velocity = start.dq.tolist()
        self._request.current_acceleration = start.ddq.tolist()
        result = self._otg.calculate(self._request, self._trajectory)
        if result not in (Result.Working, Result.Finished):
            raise RuntimeError(f"Ruckig found no stop from {start}: {result}")
        return self._trajectory

    def tail(self, start: Reference) -> list[Reference]:
        """States at ``dt``, 2 ``dt``, ... after ``start``, the last at rest.

        The list is empty where ``start`` is at rest.
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
