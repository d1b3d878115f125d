"""The gate: the one place that decides what the arm is commanded.

The gate owns no thread and reads no clock. Joint states, chunks, heartbeats and the operator's
requests come in, and ``step`` returns one command per period. Its states are in ``states``, what it
refuses in ``chunk_intake`` and ``chunk_checks``, why it stops in ``stop_causes``.

Every stop has one named cause and is counted under it. After a stop for a late input the gate takes
chunks again by itself. After a policy that died, restarted or sent bad chunks, after the deadman
button was released and after a move home, an operator must call ``arm`` again (``auto_arm`` is for
the simulation alone). docs/safety.md lists every check with its number. This is not a safety-rated
function.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gwm_core.control.gate.chunk_checks import check_posture
from gwm_core.control.gate.chunk_intake import ChunkIntake, Counts, Situation
from gwm_core.control.gate.config import GateConfig
from gwm_core.control.gate.joint_monitor import JointMonitor
from gwm_core.control.gate.life_signs import LifeSigns
from gwm_core.control.gate.reference_motion import ReferenceMotion
from gwm_core.control.gate.states import MOVING, FinalCommand, Phase, State
from gwm_core.control.gate.stop_causes import chunk_stop_cause, input_stop_cause, stays_armed
from gwm_core.control.gate.supervision import (
    MODES,
    STOP_ON_DIVERGENCE,
    Approval,
    DivergenceMonitor,
    PendingChunk,
)
from gwm_core.control.reference_follower import Follower, Reference
from gwm_core.control.targets import ChunkTarget, MoveTarget
from gwm_core.errors import one_of
from gwm_core.geometry.kinematics import HOME_Q
from gwm_core.geometry.limits import DESK, FR3, ArmLimits, Profile, Workspace
from gwm_core.types import OPEN_WIDTH, ActionChunk, ArmState

AT_HOME = 0.02  # [rad] from the home posture


@dataclass(frozen=True)
class Command:
    """What goes to the arm this period.

    ``reference_reset``: the reference was set anew, at rest: at the measured joints, or where they
    cannot be trusted at what was sent last.
    """

    reference: Reference
    width: float  # [m]
    chunk_id: int  # [ns] of the chunk it follows, 0 = none
    reference_reset: bool = False


class Gate:
    """Joint states, chunks, heartbeats and operator requests in; one command per period out.

    Times ``now`` are seconds on one monotonic clock. Methods that can refuse return the reason, or
    "" where they did what was requested.

    Attributes:
        cause: why the gate is in its state, in words.
        armed: whether chunks are taken.
        shadow_command: in mode "shadow", the command that was not sent.
        divergence: the newest divergence score.
    """

    def __init__(
        self,
        config: GateConfig = GateConfig(),
        profile: Profile = DESK,
        workspace: Workspace = Workspace(),
        arm: ArmLimits = FR3,
        home_q: np.ndarray = HOME_Q,
    ):
        self.config = config
        self.profile = profile
        self.workspace = workspace
        self.limits = arm
        self.home_q = home_q
        self.cause = "not armed yet"
        self.armed = False
        self.mode = config.mode
        self.divergence = DivergenceMonitor()
        self.shadow_command: Command | None = None
        self._phase = Phase.DISARMED
        self._final_command: FinalCommand | None = None  # of a fault, still to be sent
        self._joints = JointMonitor(config, arm)
        self._signs = LifeSigns(config)
        self._intake = ChunkIntake(config, profile, workspace, arm, self._joints, self._signs)
        follower = Follower(1.0 / config.rate_hz, profile, workspace, arm)
        self._motion = ReferenceMotion(config, follower)
        self._stepped_at = -np.inf  # [s]
        self._scored_at = np.inf  # [s] of the last score, or of the begin of the motion

    @property
    def state(self) -> State:
        """The state that is published."""
        return self._phase.state

    @property
    def counts(self) -> Counts:
        """Accepted chunks, refusals and stops since the start."""
        return self._intake.counts

    @property
    def waiting(self) -> PendingChunk | None:
        """The chunk that waits for approval."""
        return self._intake.waiting

    @property
    def reference(self) -> Reference:
        """The state that the arm is sent, or was sent last."""
        return self._motion.reference

    # ---- joint states and heartbeats ----------------------------------------

    def measure(self, state: ArmState, now: float) -> None:
        """Take measured joints; a state that is no joint state is dropped."""
        self._joints.measure(state, now)

    def receive_policy_heartbeat(self, last_chunk: int, now: float) -> None:
        """Take a heartbeat of the policy, with the id [ns] of its last chunk."""
        if self._signs.receive_policy_heartbeat(last_chunk, now):
            self._disarm_for_policy("policy restarted")

    def receive_deadman(self, now: float) -> None:
        """Take a message that the operator holds the button, which ``hold_to_run`` demands."""
        self._signs.receive_deadman(now)

    def receive_divergence(self, score: float, now: float) -> None:
        """Update the divergence score (threshold 1). May stop the arm."""
        above_for = self.divergence.update(score, now)
        self._scored_at = now
        lasts = above_for is not None and above_for >= self.config.divergence_time
        if self.mode not in STOP_ON_DIVERGENCE or not lasts or self._phase is Phase.HOMING:
            return
        if self.state is State.HOLD and self._intake.waiting:
            self._intake.waiting = None
            self.armed = False
            self.cause = "diverged"
        elif self.state in MOVING:
            self._begin_stop("diverged")

    # ---- chunks -------------------------------------------------------------

    def accept(self, chunk: ActionChunk, age: float, now: float, sha256: str = "") -> str:
        """Take or refuse a chunk observed ``age`` seconds ago. Returns "" or the reason.

        In mode "approve" a chunk that would be taken becomes ``waiting``, under the hash of its
        message.
        """
        target, reason = self._intake.examine(chunk, age, now, self._situation())
        if reason:
            return self.refuse(reason)
        if self.mode == "approve":
            pending = PendingChunk(chunk, sha256, now, age, self._joints.measured.q)
            self._intake.ask_approval(pending)
        else:
            self._follow(chunk, target, now)
        return ""

    def approve(self, approval: Approval, left: float, now: float) -> str:
        """Follow the waiting chunk, by an approval valid for ``left`` more seconds."""
        if self._intake.waiting is None:
            return self.refuse("approval: no plan waits")
        if reason := self._intake.waiting.refuses(approval, left):
            return self.refuse(reason)
        pending = self._intake.release_pending()  # and examine it once more
        chunk, age = pending.chunk, pending.age + now - pending.since
        target, reason = self._intake.examine(chunk, age, now, self._situation(), pending)
        if reason:
            return self.refuse(reason)
        self._follow(chunk, target, now)
        return ""

    def refuse(self, reason: str) -> str:
        """Count a chunk that is not taken, under the part of ``reason`` before the colon."""
        too_many_bad = self._intake.refuse(reason)
        if too_many_bad and self.state in MOVING and self._phase is not Phase.HOMING:
            self._begin_stop("bad plans")
        return reason

    def _situation(self) -> Situation:
        return Situation(self._phase, self.armed, self.mode, self._motion.reference.q)

    def _follow(self, chunk: ActionChunk, target: ChunkTarget, now: float) -> None:
        running = self._phase is Phase.RUNNING
        if not running and self.mode == "shadow":  # the arm did not follow the chunk before
            self._motion.follower.reset(self._joints.measured.q)
        self._motion.follow_chunk(chunk, target, now, running)
        self._intake.accept(chunk, now)
        if self.state not in MOVING:
            self._scored_at = now
        self._phase = Phase.SHADOW if self.mode == "shadow" else Phase.RUNNING
        self.cause = "following plans"

    # ---- requests of the operator -------------------------------------------

    def arm(self, now: float) -> str:
        """Allow chunks."""
        if reason := self._wake(now):
            return reason
        self.armed = True
        self.cause = "armed"
        self._intake.arm(self._joints.measured.stamp)
        return ""

    def _wake(self, now: float) -> str:
        """Go from DISARMED to HOLD where the arm is, if it may move."""
        if self.state is State.FAULT:
            return f"in FAULT ({self.cause}): reset first"
        if self.state is State.STOPPING:
            return "still coming to rest: arm again"
        measured = self._joints.measured
        if measured is None or not self._joints.is_fresh(now):
            return "no fresh joint state"
        if not np.isfinite(measured.width):
            return "no gripper state"
        if self.state is State.DISARMED:
            if reason := check_posture(measured.q, self.limits, self.workspace):
                return f"{reason}: move the arm by hand first"
            unbroken, wanted = self._joints.run_length(now), self.config.settle_time
            if unbroken < wanted:
                return (
                    f"joint states jump or pause: unbroken for {max(0.0, unbroken):.2f} s,"
                    f" {wanted:.2f} s wanted"
                )
            self._reset_reference(measured.q)
            self._phase = Phase.HOLD
            self._joints.note_trusted(now)
        return ""

    def set_mode(self, mode: str) -> str:
        """Change the mode; raises InputError for one that does not exist."""
        one_of("mode", mode, MODES)
        if self.state not in (State.DISARMED, State.HOLD):
            return f"the mode changes at rest, not in {self.state.name}: hold first"
        if "shadow" in (mode, self.mode) and mode != self.mode and self.state is not State.DISARMED:
            return "into and out of shadow the arm is disarmed: stop first"
        self.mode = mode
        self._intake.waiting = None
        return ""

    def hold(self) -> str:
        """Ramp to rest and take no chunk until armed again."""
        self.armed = False
        if self.state is State.HOLD:
            self.cause = "held by operator"
        else:
            self._begin_stop("held by operator")
        return ""

    def stop(self) -> str:
        """Ramp to rest, then disarm."""
        self.armed = False
        if self._phase is Phase.STOPPING:
            self._phase = Phase.DISARMING
        elif self._phase.after_gap:
            self._begin_stop("stopped by operator", Phase.DISARMING_AFTER_GAP)
        else:
            self._begin_stop("stopped by operator", Phase.DISARMING)
        return ""

    def fault(self, cause: str, doubtful: bool = False) -> None:
        """Enter FAULT, if the arm is commanded, and stay there until ``reset``.

        The next ``step`` sends one last command, at rest: it knows how old the joints are.

        Args:
            doubtful: the measured joints may be another arm's. So the last command is where the
                arm was last sent, not where it was measured.
        """
        final = FinalCommand.AT_REFERENCE if doubtful else FinalCommand.AT_MEASURED
        if self.state in (State.HOLD, *MOVING, State.STOPPING):
            self._count_stop(cause.partition(":")[0])
            self._phase = self._phase.faulted
            self.armed = False
            self.cause = cause
            self._final_command = final
        elif self._final_command and doubtful:
            self._final_command = final

    def reset(self) -> str:
        """Go from FAULT to DISARMED. Chunks observed before are void."""
        if self.state is State.FAULT:
            after_gap = self._phase.after_gap
            self._phase = Phase.DISARMED_AFTER_GAP if after_gap else Phase.DISARMED
            self.cause = "reset by operator"
            self._intake.void_earlier(self._joints.measured.stamp)
        return ""

    def home(self, now: float) -> str:
        """Move to ``home_q`` from rest, with the gripper open; chunks need ``arm`` afterwards."""
        if self.state not in (State.HOLD, State.DISARMED) or self.mode == "shadow":
            state = "shadow" if self.mode == "shadow" else self.state.name
            return f"home starts from HOLD or DISARMED, not from {state}"
        if self._signs.deadman_released(self.mode, now):
            return "nobody holds the button"
        if self.state is State.DISARMED and (reason := self._wake(now)):
            return reason
        if self._phase.after_gap:
            return "no joints since the gate was late"
        start = self._motion.reference.q
        move = MoveTarget(start, self.home_q, now, OPEN_WIDTH, self.profile, self.limits)
        self._motion.follow_move(move)
        self.armed = False
        self._phase = Phase.HOMING
        self.cause = "going home"
        return ""

    def rest_position(self, now: float) -> np.ndarray | None:
        """Measured joints (7,) [rad] for a controller that is about to be activated.

        None where they cannot be trusted, or while commands are sent.
        """
        sends = self.state not in (State.DISARMED, State.FAULT)
        return None if sends else self._joints.rest_position(now)

    # ---- every period -------------------------------------------------------

    def step(self, now: float) -> Command | None:
        """The command of this period, or None while nothing may be sent ("shadow": ever).

        A fault ends with one command at rest: an arm that holds its last target must not go on
        pushing towards it.
        """
        self._supervise(now)
        self._stepped_at = now
        if self._phase.after_gap and self._joints.is_settled(now):
            self._resume_after_gap(now)
        self._finish_fault(now)
        reset = self._motion.reset_unsent
        silent = self.state in (State.DISARMED, State.FAULT) and not reset
        if self._phase.after_gap or silent:
            return None
        self._motion.reset_unsent = False
        # a reset goes out as it was set, also when a chunk was accepted in the same period
        reference = self._motion.reference if reset else self._move(now)
        chunk_id = self._motion.chunk_id if self.state in MOVING else 0
        command = Command(reference, self._motion.width, chunk_id, reset)
        shadow = self.mode == "shadow"
        self.shadow_command = command if shadow else None
        return None if shadow else command

    def _move(self, now: float) -> Reference:
        """Move the reference for one period, as the phase demands."""
        if self.state not in MOVING:
            reference = self._motion.stop()
            if self.state is State.STOPPING and self._motion.follower.at_rest:
                disarms = self._phase is Phase.DISARMING
                self._phase = Phase.DISARMED if disarms else Phase.HOLD
            return reference
        reference = self._motion.step(now)
        if self._phase is Phase.HOMING and self._motion.arrived(now):
            at_home = np.abs(reference.q - self.home_q).max() < AT_HOME
            self._phase = Phase.HOLD
            self.cause = "at home" if at_home else "home not reached"
        return reference

    def _supervise(self, now: float) -> None:
        """Stop or fault for whatever is late, too far or expired."""
        late = now - self._stepped_at > self.config.max_gap
        if late or self._joints.is_settled(now):
            self._joints.note_trusted(now)
        if late and self.state in (*MOVING, State.STOPPING):
            self._enter_gap()
        if self._signs.policy_dead(now):
            self._disarm_for_policy("policy died")
        commanded = self.state in (State.HOLD, State.RUNNING, State.STOPPING)
        if commanded and self.mode != "shadow":
            self._supervise_joints(now)
        self._intake.expire_pending(self.armed, now)
        if self.state in MOVING and (cause := self._stop_cause(now)):
            self._begin_stop(cause)

    def _supervise_joints(self, now: float) -> None:
        if self._phase.after_gap:
            self._joints.slacken_leash()
        elif cause := self._joints.leash_cause(self._motion.reference.q, now):
            self.fault(cause)
        if cause := self._joints.blind_cause(now):
            self.fault(cause)

    def _stop_cause(self, now: float) -> str:
        """Why the motion must end now, or ""."""
        cause = input_stop_cause(self.mode, self._joints, self._signs, now)
        if cause or self._phase is Phase.HOMING:
            return cause
        return chunk_stop_cause(
            self.config, self.mode, self._signs, self._intake, self._motion, self._scored_at, now
        )

    def _disarm_for_policy(self, cause: str) -> None:
        """Take no more chunks of a policy that died or was restarted."""
        if self.config.auto_arm or not self.armed:
            return
        self.armed = False
        if self.state in MOVING and self._phase is not Phase.HOMING:
            self._begin_stop(cause)
        self.cause = cause

    # ---- transitions --------------------------------------------------------

    def _begin_stop(self, cause: str, phase: Phase = Phase.STOPPING) -> None:
        """Begin a ramp to rest, if the arm is held or moves."""
        self._motion.follower.into_singularity = False
        if self.state in (State.HOLD, *MOVING):
            self._count_stop(cause)
            self._phase = phase
            self.cause = cause
            self.armed = self.armed and stays_armed(cause, self.config.auto_arm)

    def _enter_gap(self) -> None:
        """The gate was late in a motion: the arm has stopped by itself by now."""
        self._count_stop("gate late")
        disarms = self._phase in (Phase.DISARMING, Phase.DISARMING_AFTER_GAP)
        self._phase = Phase.DISARMED_AFTER_GAP if disarms else Phase.HOLD_AFTER_GAP
        self.cause = "gate late"
        self._motion.chunk_id = 0

    def _resume_after_gap(self, now: float) -> None:
        """Go on from where the arm is, if it can have come there."""
        sent = self._motion.reference.q
        if self._joints.is_this_arm(sent):
            self._reset_reference(self._joints.rest_position(now, sent))
        elif self._phase is Phase.DISARMED_AFTER_GAP:
            self._phase = Phase.DISARMED  # nothing is sent any more
        elif self._phase is Phase.HOLD_AFTER_GAP:
            distance = self._joints.distance(sent)
            cause = f"joints elsewhere: {distance:.2f} rad from what was sent last, after a pause"
            self.fault(cause, doubtful=True)

    def _finish_fault(self, now: float) -> None:
        """Reset the reference for the last command of a fault."""
        if self._final_command is None:
            return
        q = self._motion.reference.q
        if self._final_command is FinalCommand.AT_MEASURED:
            q = self._joints.rest_position(now, q)
        self._reset_reference(q)
        self._final_command = None

    def _reset_reference(self, q: np.ndarray) -> None:
        """Set the reference at rest at ``q`` (7,) [rad]: where the arm is, or was last sent."""
        self._motion.reset(q, self._joints.measured.width)
        self._joints.note_reset()
        self._phase = self._phase.after_reset

    def _count_stop(self, cause: str) -> None:
        self.counts.stops[cause] = self.counts.stops.get(cause, 0) + 1
