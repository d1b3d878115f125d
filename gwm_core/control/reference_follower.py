"""Move the reference by one period at a time, inside all limits.

Every step proposes a constant-jerk move towards the target. The proposal is accepted only if a full
stop inside all limits exists from where it ends; Ruckig plans that stop. Otherwise the reference
takes the first step of the last accepted stop. So by induction the reference can always be stopped
inside the limits, whatever is requested.

Aiming Ruckig itself at a moving target every 10 ms works too, but chatters between the acceleration
limits: 3.8 rad/s2 rms against 1.2 on the same pick-and-place path.
"""

from __future__ import annotations

import numpy as np

from gwm_core.control.stop_trajectory import Reference, StopPlanner
from gwm_core.geometry.capsules import Clearance
from gwm_core.geometry.kinematics import condition, fk_jacobian
from gwm_core.geometry.limits import DESK, FR3, ArmLimits, Profile, Workspace

POSITION_GAIN = 8.0  # [1/s] from a position error to a velocity
VELOCITY_GAIN = 25.0  # [1/s] from a velocity error to an acceleration
# condition numbers of the Jacobian from which the motion slows down and stops: the defaults of
# MoveIt Servo
SINGULAR_SLOW = 17.0
SINGULAR_STOP = 30.0
SLOWEST = 0.2  # fraction of the speed just before that stop, so that it is reached at all
LOOK_AHEAD = 0.05  # [s] to see whether a motion leads into a singularity


class Follower:
    """Follows joint targets inside every limit.

    The limits are position, velocity, acceleration, jerk, TCP speed, workspace and clearance.

    Args:
        dt: period of ``step`` [s].
        profile: fractions of the published limits, and the TCP speed [m/s].
        workspace: box for the TCP.
        arm: the robot's published limits.

    Attributes:
        reference: the present state.
        into_singularity: the last step led into a singularity and was held back.
    """

    def __init__(
        self,
        dt: float = 0.01,
        profile: Profile = DESK,
        workspace: Workspace = Workspace(),
        arm: ArmLimits = FR3,
    ):
        self.dt = dt
        self.profile = profile
        self.arm = arm
        self._low = np.array(workspace.low)
        self._high = np.array(workspace.high)
        self._ddq_max = profile.acceleration * arm.ddq_max
        self._dddq_max = profile.jerk * arm.dddq_max
        self._stop_planner = StopPlanner(dt, profile, arm)
        self._clearance = Clearance()
        self.into_singularity = False
        self._move(Reference(np.zeros(7), np.zeros(7), np.zeros(7)))

    def reset(self, q: np.ndarray) -> None:
        """Start at rest at ``q`` (7,) [rad]."""
        q = np.array(q, float)
        if q.shape != (7,) or not np.all(np.isfinite(q)):
            raise ValueError(f"seven finite joint positions wanted, got {q}")
        self._move(Reference(q, np.zeros(7), np.zeros(7)))

    @property
    def at_rest(self) -> bool:
        """Whether the reference has come to a full stop."""
        return bool(
            np.abs(self.reference.dq).max() < 1e-6 and np.abs(self.reference.ddq).max() < 1e-4
        )

    def step(self, q_goal: np.ndarray, dq_goal: np.ndarray, ddq_goal: np.ndarray) -> Reference:
        """Move for ``dt`` towards the state that the target will have then.

        Args:
            q_goal, dq_goal, ddq_goal: (7,) each, [rad], [rad/s], [rad/s2].
        """
        q, dq, ddq = self.reference
        error = q_goal - q
        # never faster than half the acceleration can brake, so a large error causes no overshoot
        catch_up = np.minimum(POSITION_GAIN * np.abs(error), np.sqrt(self._ddq_max * np.abs(error)))
        velocity = self._slowed(dq_goal + np.sign(error) * catch_up)
        acceleration = ddq_goal + VELOCITY_GAIN * (velocity - dq)
        acceleration = np.clip(acceleration, -self._ddq_max, self._ddq_max)
        jerk = np.clip((acceleration - ddq) / self.dt, -self._dddq_max, self._dddq_max)
        candidate = self._after(self.dt, jerk)
        jacobian = self._can_stop_from(candidate, passing=self._after(self.dt / 2, jerk))
        if jacobian is None:
            return self.stop()
        self._move(candidate, jacobian)
        return candidate

    def _move(self, reference: Reference, jacobian: np.ndarray | None = None) -> None:
        """Set a new reference, with its Jacobian where that is known already."""
        self.reference = reference
        self._jacobian = jacobian

    def _after(self, t: float, jerk: np.ndarray) -> Reference:
        q, dq, ddq = self.reference
        return Reference(
            q + dq * t + ddq * t**2 / 2 + jerk * t**3 / 6,
            dq + ddq * t + jerk * t**2 / 2,
            ddq + jerk * t,
        )

    def stop(self) -> Reference:
        """Move for ``dt`` along the quickest stop."""
        self._move(
            Reference(*map(np.array, self._stop_planner.plan(self.reference).at_time(self.dt)))
        )
        return self.reference

    def _slowed(self, dq: np.ndarray) -> np.ndarray:
        """Scale joint velocities (7,) [rad/s] to the TCP's speed, and on into a singularity."""
        if self._jacobian is None:
            self._jacobian = fk_jacobian(self.reference.q)[1]
        dq = dq * min(
            1.0, 0.92 * self.profile.tcp_speed / max(np.linalg.norm(self._jacobian[:3] @ dq), 1e-9)
        )
        here = condition(self._jacobian)
        if (
            here <= SINGULAR_SLOW
            or condition(fk_jacobian(self.reference.q + LOOK_AHEAD * dq)[1]) <= here
        ):
            self.into_singularity = False
            return dq
        self.into_singularity = bool(here >= SINGULAR_STOP)
        if self.into_singularity:
            return np.zeros(7)
        return dq * max(SLOWEST, (SINGULAR_STOP - here) / (SINGULAR_STOP - SINGULAR_SLOW))

    def _can_stop_from(self, start: Reference, passing: Reference) -> np.ndarray | None:
        """The Jacobian (6, 7) at ``start``, if the way there and a stop from there keep all limits.

        Both are checked every half period: between two points a period apart the TCP's speed can
        peak.
        """
        stop = self._stop_planner.plan(start)
        times = np.arange(0.0, stop.duration + self.dt, self.dt / 2).tolist()
        states = np.array([passing[:2], *(stop.at_time(t)[:2] for t in times)])  # (S, 2, 7)
        q, dq = states[:, 0], states[:, 1]
        if not (np.all(q >= self.arm.q_low - 1e-9) and np.all(q <= self.arm.q_high + 1e-9)):
            return None
        low, high = self.arm.velocity_bounds(q)
        fraction = self.profile.velocity
        if not (np.all(dq >= fraction * low - 1e-9) and np.all(dq <= fraction * high + 1e-9)):
            return None
        T, jacobian = fk_jacobian(q)
        tcp, velocity = T[:, :3, 3], (jacobian[:, :3] @ dq[..., None])[..., 0]
        if not (np.all(tcp >= self._low) and np.all(tcp <= self._high)):
            return None
        if (
            not np.einsum("si,si->s", velocity, velocity).max()
            <= (0.95 * self.profile.tcp_speed) ** 2
        ):
            return None
        return jacobian[1] if self._clearance.holds(q) else None
