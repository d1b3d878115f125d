"""The gate: the one place that decides what the arm is told. It owns no thread and reads no clock.

DISARMED sends nothing. HOLD streams a resting reference. RUNNING follows the accepted plan. SHADOW
does the same with nothing sent. STOPPING is a jerk-limited ramp to HOLD. FAULT is latched until
``reset``. Every stop has one named cause, and is counted under it. Only staleness recovers by
itself; a policy that died, restarted or sent nonsense needs ``arm`` again (``auto_arm`` is for the
simulation alone), and so do a hand taken off the button and the end of a homing move. What is
checked, in which order and with which numbers: docs/safety.md. This is not a safety-rated function.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from gwm_core.control.gate.chunk_checks import implausible, malformed, out_of_bounds, stands_badly
from gwm_core.control.gate.config import (
    INSANE,
    MOVING,
    NEVER_BY_ITSELF,
    NOT_BY_ITSELF,
    GateConfig,
    State,
)
from gwm_core.control.gate.inputs import Inputs
from gwm_core.control.gate.supervision import (
    HOLDS_ON_SURPRISE,
    MODES,
    Approval,
    DivergenceMonitor,
    PendingChunk,
)
from gwm_core.control.reference_follower import Follower, Reference
from gwm_core.control.targets import BlendTarget, ChunkTarget, MoveTarget, PostureTarget, Target
from gwm_core.errors import one_of
from gwm_core.geometry.capsules import MINIMUM_CLEARANCE, clearance
from gwm_core.geometry.kinematics import HOME_Q
from gwm_core.geometry.limits import DESK, FR3, ArmLimits, Profile, Workspace
from gwm_core.types import OPEN_WIDTH, ActionChunk, ArmState

AT_HOME = 0.02  # [rad]
PATH_SAMPLES = 64  # postures looked at along a plan
CLOCK_SET = 10**9  # [ns] joints this much older than the last plan: the host's clock was set back


@dataclass(frozen=True)
class Command:
    """What goes to the arm this period.

    ``latched``: the reference was set anew, at rest: to the measured joints, or where they cannot
    be believed to what was sent last.
    """

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

    def __init__(
        self,
        config: GateConfig = GateConfig(),
        profile: Profile = DESK,
        workspace: Workspace = Workspace(),
        arm: ArmLimits = FR3,
        home_q: np.ndarray = HOME_Q,
    ):
        self.config, self.profile, self.workspace, self.limits, self.home_q = (
            config,
            profile,
            workspace,
            arm,
            home_q,
        )
        self.state, self.cause, self.armed = State.DISARMED, "not armed yet", False
        self.counts = Counts()
        self.mode = config.mode
        self.waiting: PendingChunk | None = None  # the plan that waits for approval
        self.surprise = DivergenceMonitor()
        self.shadowed: Command | None = None  # what would have been sent
        self._follower = Follower(1.0 / config.rate_hz, profile, workspace, arm)
        self._in = Inputs(arm.dq_max)
        self._accepted_at = self._stepped_at = -np.inf
        self._last_plan = self._oldest_plan = 0  # [ns] newest id taken; ids up to here are void
        self._bad_plans = 0  # in a row
        self._target: Target = PostureTarget(np.zeros(7), OPEN_WIDTH)
        self._last_row_at = np.inf
        self._plan, self._width = 0, OPEN_WIDTH
        self._homing = self._latched = self._disarm_at_rest = False
        self._lost = False  # where the arm is: nothing is sent until fresh joints tell
        # its last command is still to be made, by the time at which it goes out
        self._fault_due = False
        self._doubtful = False  # the joints may be another's while it is
        self._own_run = 0  # run of joint states in which the arm was last seen near the reference
        # [s] joints to be believed; or the end of a pause, in which nothing could be seen
        self._seen_at = -np.inf
        self._scored_at = np.inf  # [s] the last score, or the begin of the motion
        self._gripper_known = False
        self._stretched_since: float | None = None

    # ---- what comes in
    # ------------------------------------------------------------------------------

    def measure(self, state: ArmState, now: float) -> None:
        """Take measured joints. A non-finite, misshapen or repeated state is dropped, so it soon
        counts as stale.
        """
        self._in.measure(state, now)

    def beat(self, last_plan: int, now: float) -> None:
        """Take a beat of the policy; an id that went back means it was restarted."""
        known = np.isfinite(self._in.beat_at)
        if known and (
            last_plan < self._in.last_beat or now - self._in.beat_at > self.config.dead_after
        ):
            self._policy_died("policy restarted")
        self._in.last_beat, self._in.beat_at = last_plan, now

    def heartbeat(self, now: float) -> None:
        """Take a beat of the operator's hand on the button, which ``hold_to_run`` asks for."""
        self._in.heartbeat_at = now

    def accept(self, chunk: ActionChunk, age: float, now: float, sha256: str = "") -> str:
        """Take or refuse a plan observed ``age`` seconds ago. Returns "" when accepted, else the
        reason.

        In mode "approve" a plan that would be taken becomes ``waiting`` instead, under the hash of
        its message.
        """
        target, reason = self._examine(chunk, age, now)
        if reason:
            return self.refuse(reason)
        if self.mode == "approve":
            self.waiting = PendingChunk(chunk, sha256, now, age, self._in.measured.q)
            self._last_plan = chunk.stamp
        else:
            self._follow(chunk, target, now)
        return ""

    def approve(self, approval: Approval, left: float, now: float) -> str:
        """Follow the plan that waits, by an approval valid for ``left`` more seconds. Returns "" or
        why not.
        """
        plan = self.waiting
        if plan is None:
            return self.refuse("approval: no plan waits")
        if reason := plan.refuses(approval, left):
            return self.refuse(reason)
        # it was taken before, and is looked at once more
        self.waiting, self._last_plan = None, plan.chunk.stamp - 1
        target, reason = self._examine(plan.chunk, plan.age + now - plan.since, now, plan)
        if reason:
            return self.refuse(reason)
        self._follow(plan.chunk, target, now)
        return ""

    def _follow(self, chunk: ActionChunk, target: ChunkTarget, now: float) -> None:
        if self.state is State.RUNNING:
            old = self._target
        else:
            if self.mode == "shadow":  # the arm did not follow the last plan
                self._follower.reset(self._in.measured.q)
            old = PostureTarget(self._follower.reference.q, self._width)
        self._target, self._last_row_at = (
            BlendTarget(old, target, now, self.config.blend),
            target.end - chunk.dt,
        )
        self._plan = self._last_plan = chunk.stamp
        self._accepted_at, self._bad_plans = now, 0
        if self.state not in MOVING:
            self._scored_at = now
        self.counts.accepted += 1
        self.state, self.cause = (
            State.SHADOW if self.mode == "shadow" else State.RUNNING,
            "following plans",
        )

    def refuse(self, reason: str) -> str:
        """Count a plan that is not taken, under the part of ``reason`` before a colon; returns
        ``reason``.
        """
        kind = reason.partition(":")[0]
        self.counts.refused[kind] = self.counts.refused.get(kind, 0) + 1
        if kind in INSANE:
            self._bad_plans += 1
            if (
                self._bad_plans >= self.config.most_bad_plans
                and self.state in MOVING
                and not self._homing
            ):
                self._stop("bad plans")
        return reason

    def _examine(
        self, chunk: ActionChunk, age: float, now: float, waited: PendingChunk | None = None
    ) -> tuple[ChunkTarget | None, str]:
        """The plan, which may have ``waited``, as a target and "", or why it is not taken."""
        q_now = (
            self._in.measured.q
            if self.mode == "shadow" and self._in.measured
            else self._follower.reference.q
        )
        running = self.state is State.RUNNING
        oldest = self.config.max_plan_age + (self.config.approval_time if waited else 0.0)
        reason = malformed(chunk) or self._untimely(chunk, age, now, oldest)
        if not reason:
            due = min(int(max(age, 0.0) / chunk.dt), len(chunk.q) - 1) if running else 0
            reason = implausible(chunk, due, q_now, self.limits, self.profile.tcp_speed)
        if not reason and not running:
            moved = (
                self._in.moved_since(chunk.stamp) if waited is None else self._in.apart(waited.q)
            )
            if moved is None:
                reason = "moved: no joint state near the observation"
            elif moved > self.config.hold_moved:
                reason = f"moved: {moved:.3f} rad since the observation"
        if reason:
            return None, reason
        target = ChunkTarget(chunk, now - age if running else now - chunk.dt)
        return target, out_of_bounds(target.path(PATH_SAMPLES), self.workspace)

    def _untimely(self, chunk: ActionChunk, age: float, now: float, oldest: float) -> str:
        c = self.config
        if self.state not in (State.HOLD, *MOVING) or not self.armed or self._homing:
            return f"state: {self.state.name}{'' if self.armed else ', not armed'}"
        if self.mode == "approve" and (self.waiting or self.state is not State.HOLD):
            return (
                "state:"
                f" {'a plan waits for approval' if self.waiting else 'the approved plan is followed'}"
            )
        if self._lost:
            return "state: no joints since the gate was late"
        if self._let_go(now):
            return "state: nobody holds the button"
        if now - self._in.beat_at > c.alive_timeout:
            return f"alive: no beat of the policy for {c.alive_timeout:.3f} s"
        if not -0.02 <= age <= oldest:
            return f"age: {1e3 * age:.0f} ms"
        if chunk.stamp <= self._last_plan:
            return f"order: id {chunk.stamp} after {self._last_plan}"
        if now - self._accepted_at < c.least_plan_gap:
            return f"too soon: {1e3 * (now - self._accepted_at):.0f} ms after another"
        return ""

    # ---- what the operator wants
    # ------------------------------------------------------------------------------

    def arm(self, now: float) -> str:
        """Allow plans. Returns "" or why not."""
        if reason := self._wake(now):
            return reason
        self.armed, self.cause, self._bad_plans = True, "armed", 0
        stamp = self._in.measured.stamp
        if stamp < self._last_plan - CLOCK_SET:  # ids begin anew; a plan's age still counts
            self._last_plan = min(self._oldest_plan, stamp)
        self._last_plan = max(self._last_plan, min(self._oldest_plan, stamp))
        return ""

    def _wake(self, now: float) -> str:
        """From DISARMED to HOLD, where the arm is. Returns "" or why an arm that is to move may
        not.
        """
        if self.state is State.FAULT:
            return f"in FAULT ({self.cause}): reset first"
        if self.state is State.STOPPING:
            return "still coming to rest: arm again"
        if self._in.measured is None or not self._fresh(now):
            return "no fresh joint state"
        if not np.isfinite(self._in.measured.width):
            return "no gripper state"
        if self.state is State.DISARMED:
            reason = stands_badly(self._in.measured.q, self.limits, self.workspace)
            if reason:
                return f"{reason}: move the arm by hand first"
            if self._in.unbroken(now) < self.config.settle_time:
                return (
                    "joint states jump or pause: unbroken for"
                    f" {max(0.0, self._in.unbroken(now)):.2f} s, {self.config.settle_time:.2f} s"
                    " wanted"
                )
            self._latch(self._in.measured.q)
            self.state, self._disarm_at_rest, self._seen_at = State.HOLD, False, now
        return ""

    def supervise(self, mode: str) -> str:
        """Change the mode. Returns "" or why not; raises InputError for one that there is not."""
        one_of("mode", mode, MODES)
        if self.state not in (State.DISARMED, State.HOLD):
            return f"the mode changes at rest, not in {self.state.name}: hold first"
        if "shadow" in (mode, self.mode) and mode != self.mode and self.state is not State.DISARMED:
            return "into and out of shadow the arm is disarmed: stop first"
        self.mode, self.waiting = mode, None
        return ""

    def diverged(self, score: float, now: float) -> None:
        """Take how far what is seen is from what was imagined; 1 is the most that is normal. The
        arm may hold.
        """
        lasting = self.surprise.take(score, now)
        self._scored_at = now
        lasts = lasting is not None and lasting >= self.config.divergence_time
        if self.mode not in HOLDS_ON_SURPRISE or not lasts or self._homing:
            return
        if self.state is State.HOLD and self.waiting:
            self.waiting, self.armed, self.cause = None, False, "diverged"
        elif self.state in MOVING:
            self._stop("diverged")

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

    def fault(self, cause: str, doubtful: bool = False) -> None:
        """Latch a fault while the arm is commanded; the last command is the measured joints, at
        rest.

        That command is made by the next ``step``, which knows how old the joints are.

        Args:
            doubtful: the measured joints may be another's: where the arm was last sent, instead.
        """
        if self.state in (State.HOLD, *MOVING, State.STOPPING):
            self._count_stop(cause.partition(":")[0])
            self.state, self.armed, self.cause = State.FAULT, False, cause
            self._fault_due, self._doubtful = True, doubtful
        elif self._fault_due:
            self._doubtful = self._doubtful or doubtful

    def reset(self) -> str:
        """Leave FAULT for DISARMED. Plans observed before count for nothing any more."""
        if self.state is State.FAULT:
            self.state, self.cause = State.DISARMED, "reset by operator"
            self._oldest_plan = self._in.measured.stamp
        return ""

    def home(self, now: float) -> str:
        """Move to ``home_q`` from rest with the gripper open; plans need ``arm`` afterwards.
        Returns "" or why not.
        """
        if self.state not in (State.HOLD, State.DISARMED) or self.mode == "shadow":
            state = "shadow" if self.mode == "shadow" else self.state.name
            return f"home starts from HOLD or DISARMED, not from {state}"
        if self._let_go(now):
            return "nobody holds the button"
        if self.state is State.DISARMED and (reason := self._wake(now)):
            return reason
        if self._lost:
            return "no joints since the gate was late"
        self._target = MoveTarget(
            self._follower.reference.q, self.home_q, now, OPEN_WIDTH, self.profile, self.limits
        )
        self._homing, self._plan, self.armed = True, 0, False
        self.state, self.cause = State.RUNNING, "going home"
        return ""

    def resting_place(self, now: float) -> np.ndarray | None:
        """The measured joints (7,) [rad] where they are to be believed and nothing is streamed;
        else None.
        """
        silent = self.state in (State.DISARMED, State.FAULT)
        return self._in.measured.q if silent and self._settled(now) else None

    # ---- every period
    # ------------------------------------------------------------------------------

    def step(self, now: float) -> Command | None:
        """The command of this period, or None while nothing may be sent (``shadow``: ever).

        A fault ends with one command, the measured joints at rest: an arm that holds its last
        target must not go on pushing towards it.
        """
        self._watch(now)
        self._stepped_at = now
        if self._lost and self._settled(now):
            self._find(now)
        if self._fault_due:
            self._latch(self._follower.reference.q if self._doubtful else self._rest_at(now))
            self._fault_due = self._doubtful = False
        if self._lost or (self.state in (State.DISARMED, State.FAULT) and not self._latched):
            return None
        latched = self._latched
        self._latched = False
        if latched:  # goes out as it was set, also when a plan was accepted in the same period
            reference = self._follower.reference
        elif self.state in MOVING:
            goal = self._target.at(now + self._follower.dt)
            self._grip(goal.width)
            reference = self._follower.step(goal.q, goal.dq, goal.ddq)
            if self._homing and now > self._target.end and self._follower.at_rest:
                there = np.abs(reference.q - self.home_q).max() < AT_HOME
                self._homing, self.state = False, State.HOLD
                self.cause = "at home" if there else "home not reached"
        elif self.state is State.STOPPING:
            reference = self._follower.stop()
            if self._follower.at_rest:
                self.state = State.DISARMED if self._disarm_at_rest else State.HOLD
                self._disarm_at_rest = False
        else:
            reference = self._follower.stop()
        command = Command(
            reference, self._width, self._plan if self.state in MOVING else 0, latched
        )
        self.shadowed = command if self.mode == "shadow" else None
        return None if self.mode == "shadow" else command

    def _watch(self, now: float) -> None:
        c = self.config
        late = now - self._stepped_at > c.max_gap
        if late or self._settled(now):
            self._seen_at = now
        if late and self.state in (*MOVING, State.STOPPING):
            self._count_stop("gate late")
            # joints from before the gap tell nothing
            self._lost, self._homing, self._plan = True, False, 0
            self.state, self.cause = State.HOLD, "gate late"
            if self._disarm_at_rest:
                self.state, self._disarm_at_rest = State.DISARMED, False
        if np.isfinite(self._in.beat_at) and now - self._in.beat_at > c.dead_after:
            self._policy_died("policy died")
        if self.state in (State.HOLD, State.RUNNING, State.STOPPING) and self.mode != "shadow":
            self._leash(now)
            if now - self._seen_at > c.blind_timeout:
                wrong = (
                    "out of range, or jumping"
                    if self._fresh(now)
                    else "the arm's driver may have stopped"
                )
                self.fault(
                    f"no joint states: none to be believed for {c.blind_timeout:g} s: {wrong}"
                )
        if self.waiting and (not self.armed or now - self.waiting.since > c.approval_time):
            self.waiting = None
        if self.state in MOVING:
            cause = self._why_stop(now)
            if cause:
                self._stop(cause)

    def _why_stop(self, now: float) -> str:
        """Why a motion must end now, or ""."""
        c = self.config
        if not self._fresh(now):
            return "joint state stale"
        if self._let_go(now):
            return "button let go"
        if self._homing:
            return ""
        if now - self._in.beat_at > c.alive_timeout:
            return "policy silent"
        if self.mode == "approve" and now > self._last_row_at:
            return "plan done"
        if now > self._last_row_at or (
            self.mode != "approve" and now - self._accepted_at > c.plan_timeout
        ):
            return "plan stale"
        if self.mode == "watch" and now - self._scored_at > c.score_timeout:
            return "no score"
        return "singularity" if self._follower.into_singularity else ""

    def _let_go(self, now: float) -> bool:
        return (
            self.mode == "hold_to_run"
            and now - self._in.heartbeat_at > self.config.heartbeat_timeout
        )

    def _fresh(self, now: float) -> bool:
        return now - self._in.measured_at <= self.config.state_timeout

    def _leash(self, now: float) -> None:
        if self._lost or not self._fresh(now):  # old joints say nothing of where the arm is now
            self._stretched_since = None
            return
        gap = self._in.apart(self._follower.reference.q)
        if gap <= self.config.leash:
            self._own_run = self._in.run
            if self._settled(now):  # between two arms' states in turn it goes on counting
                self._stretched_since = None
        elif self._stretched_since is None:
            self._stretched_since = now
        elif now - self._stretched_since > self.config.leash_time:
            self.fault(f"leash: {gap:.2f} rad from the measured joints")

    def _policy_died(self, cause: str) -> None:
        if self.config.auto_arm or not self.armed:
            return
        self.armed = False
        if self.state in MOVING and not self._homing:
            self._stop(cause)
        self.cause = cause

    def _settled(self, now: float) -> bool:
        """Whether the joints are fresh, within their range and one unbroken run, so no single wrong
        state counts.
        """
        if not self._fresh(now) or self._in.unbroken(now) < self.config.settle_time:
            return False
        q = self._in.measured.q
        return bool(np.all(q >= self.limits.q_min) and np.all(q <= self.limits.q_max))

    def _near(self) -> bool:
        """Whether these are joints of the arm that was sent the reference: near it, or led away
        from it unbroken.
        """
        apart = self._in.apart(self._follower.reference.q)
        return apart <= self.config.leash or self._in.run == self._own_run

    def _find(self, now: float) -> None:
        """After a pause: go on from where the arm is, if it can have come there."""
        if self._near():
            self._latch(self._rest_at(now))
        elif self.state is State.DISARMED:
            self._lost = False  # nothing is sent any more
        elif self.state is State.HOLD:
            apart = self._in.apart(self._follower.reference.q)
            self.fault(
                f"joints elsewhere: {apart:.2f} rad from what was sent last, after a pause",
                doubtful=True,
            )

    def _rest_at(self, now: float) -> np.ndarray:
        """Joints (7,) [rad] to rest at: where the arm is, no farther than the leash from where it
        was sent last.

        Where the joints cannot be believed, or the arm may not be sent there, it is where it was
        sent last.
        """
        sent = self._follower.reference.q
        if not (self._settled(now) and self._near()):
            return sent
        q = sent + np.clip(self._in.measured.q - sent, -self.config.leash, self.config.leash)
        return q if clearance(q).min() >= MINIMUM_CLEARANCE else sent

    def _latch(self, q: np.ndarray) -> None:
        """Set the reference at rest at ``q`` (7,) [rad]: where the arm is, or where it was last
        sent.
        """
        self._follower.reset(q)
        if not self._gripper_known and np.isfinite(self._in.measured.width):
            # as found
            self._width = OPEN_WIDTH if self._in.measured.width > self.config.open_above else 0.0
            # from here on as last told: what it holds may be as wide as open fingers
            self._gripper_known = True
        self._own_run = self._in.run
        self._stretched_since, self._latched, self._lost, self._homing, self._plan = (
            None,
            True,
            False,
            False,
            0,
        )

    def _stop(self, cause: str) -> None:
        self._follower.into_singularity = False
        if self.state in (State.HOLD, *MOVING):
            self._count_stop(cause)
            self.state, self.cause, self._homing = State.STOPPING, cause, False
            again = cause not in (NEVER_BY_ITSELF if self.config.auto_arm else NOT_BY_ITSELF)
            self.armed = self.armed and again

    def _count_stop(self, cause: str) -> None:
        self.counts.stops[cause] = self.counts.stops.get(cause, 0) + 1

    def _grip(self, width: float) -> None:
        if width < self.config.close_below:
            self._width = 0.0
        elif width > self.config.open_above:
            self._width = OPEN_WIDTH
