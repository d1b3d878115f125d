"""Targets over time: an accepted chunk, a blend of two targets, a posture, a move to a posture.

Times are the gate's monotonic seconds.
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
    """A joint state to reach: (7,) [rad], [rad/s], [rad/s2], and the gripper's width [m]."""

    q: np.ndarray
    dq: np.ndarray
    ddq: np.ndarray
    width: float


class Target(Protocol):
    """A goal at every time, until ``end`` [s]."""

    end: float

    def at(self, now: float) -> JointGoal:
        """The goal at time ``now``."""


class PostureTarget:
    """One posture, for ever."""

    end = np.inf

    def __init__(self, q: np.ndarray, width: float):
        self._goal = JointGoal(np.array(q, float), np.zeros(7), np.zeros(7), width)

    def at(self, now: float) -> JointGoal:
        """The posture, at rest."""
        return self._goal


class ChunkTarget:
    """Cubic spline through the waypoints of a chunk; waypoint k is due at ``start + k * dt``."""

    def __init__(self, chunk: ActionChunk, start: float):
        self._start = start
        self._dt = chunk.dt
        self._widths = chunk.width
        self._first_at = start + chunk.dt
        self.end = start + chunk.dt * len(chunk.q)
        times = chunk.dt * np.arange(len(chunk.q))
        # (H - 1, 4, 7)
        self._pieces = CubicSpline(times, chunk.q, bc_type="natural").c.swapaxes(0, 1)
        self._last = chunk.q[-1]

    def at(self, now: float) -> JointGoal:
        """The state on the spline; after its end at rest at the last waypoint."""
        # a waypoint's width counts from half a spacing before it is due
        waypoint = min(max(round((now - self._start) / self._dt), 1), len(self._widths)) - 1
        width = float(self._widths[waypoint])
        if now >= self.end:
            return JointGoal(self._last, np.zeros(7), np.zeros(7), width)
        t = now - self._first_at
        piece = min(max(int(t / self._dt), 0), len(self._pieces) - 1)
        t -= piece * self._dt
        a, b, c, d = self._pieces[piece]
        return JointGoal(
            ((a * t + b) * t + c) * t + d, (3 * a * t + 2 * b) * t + c, 6 * a * t + 2 * b, width
        )

    def path(self, samples: int) -> np.ndarray:
        """About ``samples`` postures (S, 7) [rad] along the chunk, its waypoints among them."""
        t = (
            np.arange(0.0, 1.0, 1.0 / max(1, round(samples / len(self._pieces))))[:, None, None]
            * self._dt
        )  # (K, 1, 1)
        a, b, c, d = self._pieces.swapaxes(0, 1)  # (H - 1, 7)
        between = ((a * t + b) * t + c) * t + d  # (K, H - 1, 7)
        return np.concatenate([between.swapaxes(0, 1).reshape(-1, 7), self._last[None]])


class BlendTarget:
    """Fades from one target to another over ``duration`` [s] with a smooth step.

    So a new chunk never causes a jump.
    """

    def __init__(self, old: Target, new: Target, start: float, duration: float):
        self._old = old
        self._new = new
        self._start = start
        self._duration = duration
        self.end = new.end

    def at(self, now: float) -> JointGoal:
        """The weighted mean of both goals; the gripper follows the new target."""
        s = (now - self._start) / self._duration
        new = self._new.at(now)
        if s >= 1.0:
            self._old = self._new  # releases the chain of older targets
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
        otg, request = Ruckig(7), InputParameter(7)
        self._trajectory = Trajectory(7)
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
        self._start = start
        self._width = width
        self.end = start + self._trajectory.duration

    def at(self, now: float) -> JointGoal:
        """The state on the way, and at rest at the goal afterwards."""
        t = float(np.clip(now - self._start, 0.0, self._trajectory.duration))
        q, dq, ddq = (np.array(part) for part in self._trajectory.at_time(t))
        return JointGoal(q, dq, ddq, self._width)
