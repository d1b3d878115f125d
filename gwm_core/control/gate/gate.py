"""The gate: the one place that decides what the arm is commanded.

The gate owns no thread and reads no clock. Joint states, chunks, heartbeats and the operator's
requests come in, and ``step`` returns one command per period. Its states are in ``states``, what it
refuses in ``chunk_intake`` and ``chunk_checks``, why it stops in ``stop_causes``.

Every stop has one named cause and is counted under it. After a stop for a late input the gate takes
chunks again by itself. An operator must call ``arm`` again after the causes of
``stop_causes.NEEDS_ARMING``, after a policy that died or restarted, and after a fault, ``hold``,
``stop`` or ``home`` (``auto_arm`` is for the simulation alone). docs/safety.md lists every check
with its number. This is not a safety-rated function.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from gwm_core.control.gate.chunk_checks import check_posture
from gwm_core.control.gate.chunk_intake import Situation
from gwm_core.control.gate.state_machine import GateStateMachine
from gwm_core.control.gate.states import MOVING, Phase
from gwm_core.control.gate.supervision import MODES, STOP_ON_DIVERGENCE, Approval, PendingChunk
from gwm_core.control.targets import ChunkTarget, MoveTarget
from gwm_core.errors import one_of
from gwm_core.gate_status import FOLLOWING, State
from gwm_core.types import OPEN_WIDTH, ActionChunk, ArmState


class Gate(GateStateMachine):
    """Joint states, chunks, heartbeats and operator requests in; one command per period out.

    Times ``now`` are seconds on one monotonic clock. Methods that can refuse return the reason, or
    "" where they did what was requested.
    """

    # ---- joint states and heartbeats ----------------------------------------

    def measure(self, state: ArmState, now: float) -> None:
        """Take measured joints; a state that is no joint state is dropped."""
        self._joints.measure(state, now)

    def measure_at_rest(self, state: ArmState) -> None:
        """Take joints of an arm that rests at ``state`` until time 0, as many as arming demands."""
        rate = self.config.rate_hz
        for tick in range(-round(self.config.settle_time * rate), 0):
            stamp = state.stamp + round(tick / rate * 1e9)
            self.measure(replace(state, stamp=stamp), tick / rate)

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

    def decline(self, chunk_id: int) -> str:
        """Drop the waiting chunk of this id [ns], so that the next one may wait."""
        waiting = self._intake.waiting
        if waiting is None or waiting.chunk.stamp != chunk_id:
            return self.refuse(f"approval: plan {chunk_id} does not wait")
        self._intake.decline_pending()
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
        self.cause = FOLLOWING

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
