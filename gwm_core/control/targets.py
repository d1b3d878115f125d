"""Targets over time: an accepted chunk, a blend of two, a move to a posture. Times are the gate's
monotonic seconds.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np
from ruckig import InputParameter, Result, Ruckig, Trajectory
from scipy.interpolate import CubicSpline

from gwm_core.geometry.kinematics import tcp_speed
from gwm_core.geometry.limits import FR3, ArmLimits, Profile
from gwm_core.types import ActionChunk


class JointGoal(NamedTuple):
    """Where the joints should be: (7,) [rad], [rad/s], [rad/s2] and the gripper width [m]."""

    q: np.ndarray
    dq: np.ndarray
    ddq: np.ndarray
    width: float


class Target(Protocol):
    """Anything that has a goal at every time and ends."""

    end: float

    def at(self, now: float) -> JointGoal:
        """The goal at time ``now``."""


class PostureTarget:
    """Stay at one posture for ever."""

    end = np.inf

    def __init__(self, q: np.ndarray, width: float):
        self._goal = JointGoal(np.array(q, float), np.zeros(7), np.zeros(7), width)

    def at(self, now: float) -> JointGoal:
        """The posture, at rest."""
        return self._goal


class ChunkTarget:
    """Cubic spline through the rows of a chunk; row k is due at ``start + k * dt``."""

    def __init__(self, chunk: ActionChunk, start: float):
        self._start, self._dt, self._widths = start, chunk.dt, chunk.width
        self._first, self.end = start + chunk.dt, start + chunk.dt * len(chunk.q)
        times = chunk.dt * np.arange(len(chunk.q))
        # (H - 1, 4, 7)
        self._pieces = CubicSpline(times, chunk.q, bc_type="natural").c.swapaxes(0, 1)
        self._last = chunk.q[-1]

    def at(self, now: float) -> JointGoal:
        """The spline, and at rest on the last row after its end."""
        # a row's width holds from half a period before it is due
        row = min(max(round((now - self._start) / self._dt), 1), len(self._widths)) - 1
        width = float(self._widths[row])
        if now >= self.end:
            return JointGoal(self._last, np.zeros(7), np.zeros(7), width)
        t = now - self._first
        piece = min(max(int(t / self._dt), 0), len(self._pieces) - 1)
        t -= piece * self._dt
        a, b, c, d = self._pieces[piece]
        return JointGoal(
            ((a * t + b) * t + c) * t + d, (3 * a * t + 2 * b) * t + c, 6 * a * t + 2 * b, width
        )

    def path(self, samples: int) -> np.ndarray:
        """About ``samples`` postures (S, 7) [rad] along the whole chunk, its rows among them."""
        share = (
            np.arange(0.0, 1.0, 1.0 / max(1, round(samples / len(self._pieces))))[:, None, None]
            * self._dt
        )  # (K, 1, 1)
        a, b, c, d = self._pieces.swapaxes(0, 1)  # (H - 1, 7)
        between = ((a * share + b) * share + c) * share + d  # (K, H - 1, 7)
        return np.concatenate([between.swapaxes(0, 1).reshape(-1, 7), self._last[None]])


class BlendTarget:
    """Fades from one target to another over ``duration`` [s] with a smooth step, so a new plan
    never kicks.
    """

    def __init__(self, old: Target, new: Target, start: float, duration: float):
        self._old, self._new, self._start, self._duration = old, new, start, duration
        self.end = new.end

    def at(self, now: float) -> JointGoal:
        """The weighted mean of both goals; the gripper follows the new one."""
        s = (now - self._start) / self._duration
        new = self._new.at(now)
        if s >= 1.0:
            self._old = self._new  # lets go of the chain of older plans
            return new
        s = max(s, 0.0)
        old = self._old.at(now)
        w, dw = s * s * (3 - 2 * s), 6 * s * (1 - s) / self._duration
        ddw = (6 - 12 * s) / self._duration**2
        gap, dgap = new.q - old.q, new.dq - old.dq
        return JointGoal(
            old.q + w * gap,
            old.dq + w * dgap + dw * gap,
            old.ddq + w * (new.ddq - old.ddq) + 2 * dw * dgap + ddw * gap,
            new.width,
        )


class MoveTarget:
    """A jerk-limited move from rest to rest, slow enough for the profile's TCP speed."""

    def __init__(
        self,
        q: np.ndarray,
        q_goal: np.ndarray,
        start: float,
        width: float,
        profile: Profile,
        arm: ArmLimits = FR3,
    ):
        otg, self._trajectory, request = Ruckig(7), Trajectory(7), InputParameter(7)
        request.current_position, request.target_position = list(q), list(q_goal)
        request.max_velocity = (0.5 * profile.velocity * arm.dq_max).tolist()
        request.max_acceleration = (0.5 * profile.acceleration * arm.ddq_max).tolist()
        request.max_jerk = (0.5 * profile.jerk * arm.dddq_max).tolist()
        for _ in range(8):
            result = otg.calculate(request, self._trajectory)
            if result not in (Result.Working, Result.Finished):
                raise RuntimeError(f"Ruckig found no move from {q} to {q_goal}: {result}")
            states = np.array(
                [
                    self._trajectory.at_time(t)[:2]
                    for t in np.linspace(0, self._trajectory.duration, 60)
                ]
            )
            excess = float(tcp_speed(states[:, 0], states[:, 1]).max()) / (0.9 * profile.tcp_speed)
            if excess <= 1.0:
                break
            request.max_velocity = (np.array(request.max_velocity) / max(excess, 1.05)).tolist()
        self._start, self._width = start, width
        self.end = start + self._trajectory.duration

    def at(self, now: float) -> JointGoal:
        """The state on the way, and at rest at the goal afterwards."""
        t = float(np.clip(now - self._start, 0.0, self._trajectory.duration))
        q, dq, ddq = (np.array(part) for part in self._trajectory.at_time(t))
        return JointGoal(q, dq, ddq, self._width)
