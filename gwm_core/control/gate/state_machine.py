"""The gate's phases: what each does in a period, and how one leads to another."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gwm_core.control.gate.chunk_intake import ChunkIntake, Counts
from gwm_core.control.gate.config import GateConfig
from gwm_core.control.gate.joint_monitor import JointMonitor
from gwm_core.control.gate.life_signs import LifeSigns
from gwm_core.control.gate.reference_motion import ReferenceMotion
from gwm_core.control.gate.states import MOVING, FinalCommand, Phase
from gwm_core.control.gate.stop_causes import chunk_stop_cause, input_stop_cause, stays_armed
from gwm_core.control.gate.supervision import DivergenceMonitor, PendingChunk
from gwm_core.control.reference_follower import Follower, Reference
from gwm_core.gate_status import State
from gwm_core.geometry.kinematics import HOME_Q
from gwm_core.geometry.limits import DESK, FR3, ArmLimits, Profile, Workspace

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


class GateStateMachine:
    """Steps the reference, and stops it for whatever is late, too far or expired.

    Times ``now`` are seconds on one monotonic clock. ``Gate`` adds what comes in.

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

    def is_late(self, now: float) -> bool:
        """Whether the loop was held up. Step once then, before you take messages of that time."""
        return now - self._stepped_at > self.config.max_gap

    def _supervise(self, now: float) -> None:
        """Stop or fault for whatever is late, too far or expired."""
        late = self.is_late(now)
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
