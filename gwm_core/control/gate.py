"""The gate: the one place that decides what the arm is told. It owns no thread and reads no clock.

DISARMED sends nothing. HOLD streams a resting reference. RUNNING follows the accepted plan. STOPPING is a
jerk-limited ramp to HOLD. FAULT is latched until ``reset``. Every stop has one named cause. Only staleness recovers
by itself; a policy that died or restarted needs ``arm`` again (``auto_arm`` is for the simulation alone), and so does
the end of a homing move.
This is not a safety-rated function.
"""

from __future__ import annotations

from collections import deque
from dataclasses import asdict, dataclass, field
from enum import Enum

import numpy as np

from gwm_core.control.controller import Follower, Reference
from gwm_core.control.kinematics import HOME_Q, fk
from gwm_core.control.limits import DESK, FR3, Profile, Workspace
from gwm_core.control.plan import Blend, ChunkTarget, Move, Still, Target
from gwm_core.errors import InputError
from gwm_core.types import OPEN_WIDTH, ArmState, Chunk

MOST_ROWS = 256
NEAR = 50_000_000  # [ns] a joint state this near an observation tells where the arm was
AT_HOME = 0.02  # [rad]
State = Enum("State", "DISARMED HOLD RUNNING STOPPING FAULT")


@dataclass(frozen=True)
class GateConfig:
    """Every number of the gate. Times in seconds, angles in radians."""

    rate_hz: float = 100.0
    state_timeout: float = 0.1  # measured joints older than this stop the arm
    alive_timeout: float = 0.1  # policy beats at 50 Hz
    dead_after: float = 1.0  # a policy silent this long counts as dead: arm again
    plan_timeout: float = 1.2  # no newer plan accepted for this long while running
    max_plan_age: float = 0.48  # 30 % of the 1.6 s chunk
    least_plan_gap: float = 0.05  # between accepted plans
    max_gap: float = 0.1  # between two steps; after a longer one the arm has stopped by itself
    hold_moved: float = 0.02  # from HOLD: joints moved more than this since the observation
    max_jump: float = 0.35  # plan against reference, and row against row
    leash: float = 0.15  # commanded against measured ...
    leash_time: float = 0.1  # ... for this long is a fault
    blend: float = 0.25
    close_below: float = 0.03  # [m] gripper edges, with hysteresis
    open_above: float = 0.05  # [m]
    auto_arm: bool = False

    def __post_init__(self):
        for name, value in asdict(self).items():
            if name != "auto_arm" and not 0 < value < 1000:
                raise InputError(f"gate parameter {name} must be a positive number, got {value}")


@dataclass(frozen=True)
class Command:
    """What goes to the arm this period. ``latched``: the reference was set anew, at rest, to the measured joints."""

    reference: Reference
    width: float
    plan: int  # [ns] id of the plan it follows, 0 = none
    latched: bool = False


@dataclass
class Counts:
    """What the gate has done since it started."""

    accepted: int = 0
    refused: dict[str, int] = field(default_factory=dict)
    stops: dict[str, int] = field(default_factory=dict)


class Gate:
    """Chunks, beats, operator wishes and joint states in; one command per period out."""

    def __init__(self, config: GateConfig = GateConfig(), profile: Profile = DESK, workspace: Workspace = Workspace()):
        self.config, self.profile, self.workspace = config, profile, workspace
        self.state, self.cause, self.armed = State.DISARMED, "not armed yet", False
        self.counts = Counts()
        self._follower = Follower(1.0 / config.rate_hz, profile, workspace)
        self._measured: ArmState | None = None
        self._history: deque[ArmState] = deque()  # the last second
        self._measured_at = self._beat_at = self._accepted_at = self._stepped_at = -np.inf
        self._last_plan = self._last_beat = 0
        self._target: Target = Still(np.zeros(7), OPEN_WIDTH)
        self._plan, self._width = 0, OPEN_WIDTH
        self._homing = self._latched = self._disarm_at_rest = False
        self._stretched_since: float | None = None

    # ---- what comes in -------------------------------------------------------------------------------------------

    def measure(self, state: ArmState, now: float) -> None:
        """Take measured joints. A non-finite, misshapen or repeated state is dropped, so it soon counts as stale."""
        if state.q.shape != (7,) or not (np.all(np.isfinite(state.q)) and np.all(np.isfinite(state.dq))):
            return
        if self._measured is not None and state.stamp == self._measured.stamp:
            return
        if self._history and state.stamp < self._history[-1].stamp:  # the wall clock was set back
            self._history.clear()
        self._measured, self._measured_at = state, now
        self._history.append(state)
        while self._history[0].stamp < state.stamp - 10**9:
            self._history.popleft()

    def beat(self, last_plan: int, now: float) -> None:
        """Take a beat of the policy; an id that went back means it was restarted."""
        known = np.isfinite(self._beat_at)
        if known and (last_plan < self._last_beat or now - self._beat_at > self.config.dead_after):
            self._policy_died("policy restarted")
        self._last_beat, self._beat_at = last_plan, now

    def accept(self, chunk: Chunk, age: float, now: float) -> str:
        """Take or refuse a plan observed ``age`` seconds ago. Returns "" when accepted, else the reason."""
        reason = self._refusal(chunk, age, now)
        if reason:
            key = reason.split(":")[0]
            self.counts.refused[key] = self.counts.refused.get(key, 0) + 1
            return reason
        start = now - age if self.state is State.RUNNING else now - chunk.dt
        old = self._target if self.state is State.RUNNING else Still(self._follower.reference.q, self._width)
        self._target = Blend(old, ChunkTarget(chunk, start), now, self.config.blend)
        self._plan = self._last_plan = chunk.stamp
        self._accepted_at = now
        self.counts.accepted += 1
        self.state, self.cause = State.RUNNING, "following plans"
        return ""

    def _refusal(self, chunk: Chunk, age: float, now: float) -> str:
        c, shape = self.config, chunk.q.shape
        if len(shape) != 2 or shape[1] != 7 or not 2 <= shape[0] <= MOST_ROWS or chunk.width.shape != shape[:1]:
            return f"shape: {chunk.q.shape} and {chunk.width.shape}"
        if not (np.all(np.isfinite(chunk.q)) and np.all(np.isfinite(chunk.width)) and np.isfinite(chunk.dt)):
            return "not finite"
        if not 0.02 <= chunk.dt <= 0.5:
            return f"row spacing: {chunk.dt:.3f} s"
        if chunk.stamp <= self._last_plan:
            return f"order: id {chunk.stamp} after {self._last_plan}"
        if not -0.02 <= age <= c.max_plan_age:
            return f"age: {1e3 * age:.0f} ms"
        if now - self._accepted_at < c.least_plan_gap:
            return f"too soon: {1e3 * (now - self._accepted_at):.0f} ms after another"
        if self.state not in (State.HOLD, State.RUNNING) or not self.armed or self._homing:
            return f"state: {self.state.name}{'' if self.armed else ', not armed'}"
        if np.any(chunk.q < FR3.q_low) or np.any(chunk.q > FR3.q_high):
            return "joint limit"
        if not self.workspace.holds(fk(chunk.q)[:, :3, 3]):
            return "workspace"
        if np.abs(np.diff(chunk.q, axis=0)).max() > min(c.max_jump, FR3.dq_max.max() * chunk.dt):
            return "jump: between rows"
        row = 0 if self.state is State.HOLD else min(int(age / chunk.dt), len(chunk.q) - 1)
        if np.abs(chunk.q[row] - self._follower.reference.q).max() > c.max_jump:
            return "jump: from the reference"
        if self.state is State.HOLD:
            then = min(self._history, key=lambda s: abs(s.stamp - chunk.stamp))
            if abs(then.stamp - chunk.stamp) > NEAR:
                return "moved: no joint state near the observation"
            moved = np.abs(then.q - self._measured.q).max()
            if moved > c.hold_moved:
                return f"moved: {moved:.3f} rad since the observation"
        return ""

    # ---- what the operator wants -----------------------------------------------------------------------------------

    def arm(self, now: float) -> str:
        """Allow plans. Returns "" or why not."""
        if self.state is State.FAULT:
            return f"in FAULT ({self.cause}): reset first"
        if self.state is State.STOPPING:
            return "still coming to rest: arm again"
        if self._measured is None or now - self._measured_at > self.config.state_timeout:
            return "no fresh joint state"
        if not np.isfinite(self._measured.width):
            return "no gripper state"
        if self.state is State.DISARMED:
            if np.any(self._measured.q < FR3.q_low) or np.any(self._measured.q > FR3.q_high):
                return "a joint is within the margin of its limit: move the arm by hand first"
            if not self.workspace.holds(fk(self._measured.q)[:3, 3]):
                return "the tool is outside the workspace: move the arm by hand first"
            self._latch()
            self.state = State.HOLD
        self.armed, self.cause = True, "armed"
        self._last_plan = 0  # ids may begin anew, should the clock have been set back; a plan's age still counts
        return ""

    def hold(self) -> str:
        """Ramp to rest and take no plan until armed again."""
        self.armed = False
        if self.state is State.HOLD:
            self.cause = "held by operator"
        else:
            self._stop("held by operator")
        return ""

    def stop(self) -> str:
        """Ramp to rest, then DISARMED."""
        self.armed, self._disarm_at_rest = False, True
        self._stop("stopped by operator")
        return ""

    def fault(self, cause: str) -> None:
        """Latch a fault while the arm is commanded; the last command is the measured joints, at rest."""
        if self.state in (State.HOLD, State.RUNNING, State.STOPPING):
            self._count_stop(cause.partition(":")[0])
            self.state, self.armed, self.cause = State.FAULT, False, cause
            self._latch()

    def reset(self) -> str:
        """Leave FAULT for DISARMED."""
        if self.state is State.FAULT:
            self.state, self.cause = State.DISARMED, "reset by operator"
        return ""

    def home(self, now: float) -> str:
        """Move to HOME_Q from HOLD with the gripper open; plans need ``arm`` afterwards. Returns "" or why not."""
        if self.state is not State.HOLD:
            return f"home starts from HOLD, not from {self.state.name}"
        self._target = Move(self._follower.reference.q, HOME_Q, now, OPEN_WIDTH, self.profile)
        self._homing, self._plan, self.armed = True, 0, False
        self.state, self.cause = State.RUNNING, "going home"
        return ""

    # ---- every period ----------------------------------------------------------------------------------------------

    def step(self, now: float) -> Command | None:
        """The command of this period, or None while nothing may be sent.

        A fault ends with one command, the measured joints at rest: an arm that holds its last target must not go on
        pushing towards it.
        """
        self._watch(now)
        self._stepped_at = now
        if self.state in (State.DISARMED, State.FAULT) and not self._latched:
            return None
        latched = self._latched
        self._latched = False
        if latched:  # goes out as it was set, also when a plan was accepted in the same period
            reference = self._follower.reference
        elif self.state is State.RUNNING:
            goal = self._target.at(now + self._follower.dt)
            self._grip(goal.width)
            reference = self._follower.step(goal.q, goal.dq, goal.ddq)
            if self._homing and now > self._target.end and self._follower.at_rest:
                there = np.abs(reference.q - HOME_Q).max() < AT_HOME
                self._homing, self.state = False, State.HOLD
                self.cause = "at home" if there else "home not reached"
        elif self.state is State.STOPPING:
            reference = self._follower.stop()
            if self._follower.at_rest:
                self.state = State.DISARMED if self._disarm_at_rest else State.HOLD
                self._disarm_at_rest = False
        else:
            reference = self._follower.stop()
        return Command(reference, self._width, self._plan if self.state is State.RUNNING else 0, latched)

    def _watch(self, now: float) -> None:
        c = self.config
        if now - self._stepped_at > c.max_gap and self.state in (State.RUNNING, State.STOPPING):
            self._count_stop("gate late")
            self._latch()
            self.state, self.cause = State.HOLD, "gate late"
            if self._disarm_at_rest:
                self.state, self._disarm_at_rest = State.DISARMED, False
        if np.isfinite(self._beat_at) and now - self._beat_at > c.dead_after:
            self._policy_died("policy died")
        if self.state in (State.HOLD, State.RUNNING, State.STOPPING):
            self._leash(now)
        if self.state is State.RUNNING:
            if now - self._measured_at > c.state_timeout:
                self._stop("joint state stale")
            elif self._homing:
                return
            elif now - self._beat_at > c.alive_timeout:
                self._stop("policy silent")
            elif now > self._target.end or now - self._accepted_at > c.plan_timeout:
                self._stop("plan stale")

    def _leash(self, now: float) -> None:
        gap = np.abs(self._follower.reference.q - self._measured.q).max()
        if gap <= self.config.leash:
            self._stretched_since = None
        elif self._stretched_since is None:
            self._stretched_since = now
        elif now - self._stretched_since > self.config.leash_time:
            self.fault(f"leash: {gap:.2f} rad from the measured joints")

    def _policy_died(self, cause: str) -> None:
        if self.config.auto_arm or not self.armed:
            return
        self.armed = False
        if self.state is State.RUNNING and not self._homing:
            self._stop(cause)
        self.cause = cause

    def _latch(self) -> None:
        self._follower.reset(self._measured.q)
        if np.isfinite(self._measured.width):
            self._width = OPEN_WIDTH if self._measured.width > self.config.open_above else 0.0  # as found
        self._stretched_since, self._latched, self._homing, self._plan = None, True, False, 0

    def _stop(self, cause: str) -> None:
        if self.state in (State.HOLD, State.RUNNING, State.STOPPING):
            self._count_stop(cause)
            self.state, self.cause, self._homing = State.STOPPING, cause, False

    def _count_stop(self, cause: str) -> None:
        self.counts.stops[cause] = self.counts.stops.get(cause, 0) + 1

    def _grip(self, width: float) -> None:
        if width < self.config.close_below:
            self._width = 0.0
        elif width > self.config.open_above:
            self._width = OPEN_WIDTH
