"""Make one smooth reference, at any time, of the references that arrive every 10 ms.

The interpolator follows the gate's references with a constant delay, which absorbs the jitter of
their arrival. Where they end, it stops. Where they go on after a gap, or jump, it adds the offset
between its own state and the next reference, and lets the offset vanish. So position, velocity and
acceleration are continuous, whatever arrives.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from ruckig import InputParameter, Result, Ruckig, Synchronization, Trajectory

from gwm_core.control.stop_trajectory import Reference, StopPlanner
from gwm_core.errors import InputError
from gwm_core.geometry.limits import FR3, ArmLimits, Profile
from gwm_core.geometry.quintic import Quintic

DELAY = 0.02  # [s] from the arrival of a reference to its time
LEAST_SLACK = 0.002  # [s] a reference that arrives later than this before its time begins anew
# of a period, by which the times drift towards DELAY: 0.6 rad/s2 at 1 rad/s
DRIFT = 0.001
SAMPLES = 10  # of a segment: one for each command of the client
MAX_JUMP = 0.2  # [rad] from one reference to the next
# Shares of the limits. The robot's torques change by 1 N m/ms, and the first joints have up to
# 2 kg m2: an arm that is asked for a harder stop swings back, and rests later.
STOP = Profile(velocity=1.0, acceleration=0.7, jerk=0.1)
# An offset vanishes with less than what the gate's widest profile leaves.
OFFSET = Profile(velocity=0.05, acceleration=0.15, jerk=0.04)


class _Point(NamedTuple):
    due: float  # [s]
    state: np.ndarray  # (3, 7)
    joined: bool  # to the point before, by a segment within the limits


class ReferenceInterpolator:
    """References in, one continuous reference out. It reads no clock; times are monotonic [s].

    Args:
        q: where the arm is at rest (7,) [rad].
        period: [s] between two references.
        limits: the arm's.
    """

    def __init__(self, q: np.ndarray, period: float = 0.01, limits: ArmLimits = FR3):
        self._period = period
        self._limits = limits
        self._stop_planner = StopPlanner(period, STOP, limits)
        self._points: deque[_Point] = deque()  # of the future
        self._path = _rest(np.array(q, float))
        self._offset = _no_offset
        self._latest = self._path(0.0)
        self._following = False  # a segment, not a stop

    def receive(self, reference: Reference, now: float) -> None:
        """Take a reference that arrived at ``now``.

        Raises InputError for a number that is not finite, and for a jump of more than
        ``MAX_JUMP``.
        """
        state = np.array(reference, float)
        if state.shape != (3, 7) or not np.all(np.isfinite(state)):
            raise InputError("a reference is not three rows of seven finite numbers")
        last = self._points[-1] if self._points else None
        jump = np.abs(state[0] - (self._latest if last is None else last.state)[0]).max()
        if jump > MAX_JUMP:
            raise InputError(f"a reference jumps by {jump:.2f} rad, {MAX_JUMP} are allowed")
        due = self._due(last, now)
        ahead = int(self._following)  # points that stay: the end of the segment under way
        consecutive = True
        while len(self._points) > ahead and self._points[-1].due >= due:
            self._points.pop()  # many came at once: the newest counts
            consecutive = False
        last = self._points[-1] if self._points else None
        if last is not None:
            due = max(due, last.due + self._period)
        joined = last is not None and consecutive and self._feasible(last, state, due)
        self._points.append(_Point(due, state, joined))

    def at(self, now: float) -> Reference:
        """The reference at ``now``, not earlier than in the call before."""
        while self._points and self._points[0].due <= now:
            self._pass(self._points.popleft())
        self._latest = self._state(now)
        return Reference(*self._latest)

    def _state(self, now: float) -> np.ndarray:
        return self._path(now) + self._offset(now)

    def _pass(self, point: _Point) -> None:
        """Go on from a point whose time has come: to the next one, or into a stop."""
        base = point.state if point.joined else self._path(point.due)
        state = base + self._offset(point.due)
        if not point.joined:
            self._offset = _vanishing(state - point.state, point.due, self._limits)
        following = self._points[0] if self._points else None
        if following is not None and following.joined:
            self._path = _segment(point, following)
            self._following = True
        else:
            self._path = self._stop(state, point.due)
            self._offset = _no_offset
            self._following = False

    def _stop(self, state: np.ndarray, start: float) -> Callable[[float], np.ndarray]:
        trajectory = self._stop_planner.plan(Reference(*state))
        duration = trajectory.duration
        end = np.array(trajectory.at_time(duration)[0])
        rest = _rest(end)
        return lambda now: (
            np.array(trajectory.at_time(now - start)) if now - start < duration else rest(now)
        )

    def _due(self, last: _Point | None, now: float) -> float:
        """The time of a reference: one period after the last one, if it arrived in time."""
        if last is None:
            return now + DELAY
        slack = last.due + self._period - now
        if not LEAST_SLACK <= slack <= 2 * DELAY:
            return now + DELAY
        drift = DRIFT * self._period
        return now + slack + float(np.clip(DELAY - slack, -drift, drift))

    def _feasible(self, last: _Point, state: np.ndarray, due: float) -> bool:
        """Whether the segment to ``state``, with a vanishing offset, keeps the limits."""
        samples = np.linspace(0.0, 1.0, SAMPLES + 1) * (due - last.due)
        segment = _quintic(last.state, state, due - last.due)
        acceleration = np.array([segment.at(t)[2] for t in samples[:-1]] + [state[2]])
        jerk = np.diff(acceleration, axis=0) / samples[1]
        return bool(
            np.all(np.abs(acceleration) <= (1.0 - OFFSET.acceleration) * self._limits.ddq_max)
            and np.all(np.abs(jerk) <= (1.0 - OFFSET.jerk) * self._limits.dddq_max)
        )


def _rest(q: np.ndarray) -> Callable[[float], np.ndarray]:
    state = np.stack([q, np.zeros(7), np.zeros(7)])
    return lambda now: state


def _no_offset(now: float) -> np.ndarray:
    return np.zeros((3, 7))


def _quintic(start: np.ndarray, end: np.ndarray, duration: float) -> Quintic:
    return Quintic(np.array([duration]), *end[:, None], start)


def _segment(start: _Point, end: _Point) -> Callable[[float], np.ndarray]:
    quintic = _quintic(start.state, end.state, end.due - start.due)
    return lambda now: quintic.at(now - start.due)


def _vanishing(
    offset: np.ndarray, start: float, limits: ArmLimits
) -> Callable[[float], np.ndarray]:
    """The way of an offset (3, 7) at ``start`` [s] to none, at rest."""
    request = InputParameter(7)
    request.synchronization = Synchronization.No
    request.current_position, request.current_velocity, request.current_acceleration = (
        offset.tolist()
    )
    request.target_position = [0.0] * 7
    request.max_velocity = (OFFSET.velocity * limits.dq_max).tolist()
    request.max_acceleration = (OFFSET.acceleration * limits.ddq_max).tolist()
    request.max_jerk = (OFFSET.jerk * limits.dddq_max).tolist()
    trajectory = Trajectory(7)
    result = Ruckig(7).calculate(request, trajectory)
    if result not in (Result.Working, Result.Finished):
        raise RuntimeError(f"Ruckig found no way from the offset {offset}: {result}")
    return lambda now: (
        np.array(trajectory.at_time(now - start))
        if now - start < trajectory.duration
        else np.zeros((3, 7))
    )
