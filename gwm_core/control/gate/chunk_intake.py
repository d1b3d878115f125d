"""Which chunks are taken, and why the others are refused.

Every reason starts with its kind and a colon. Refusals are counted by kind.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from gwm_core.control.gate.chunk_checks import check_format, check_path, check_plausibility
from gwm_core.control.gate.config import GateConfig
from gwm_core.control.gate.joint_monitor import JointMonitor
from gwm_core.control.gate.life_signs import LifeSigns
from gwm_core.control.gate.states import MOVING, Phase
from gwm_core.control.gate.supervision import PendingChunk
from gwm_core.control.targets import ChunkTarget
from gwm_core.gate_status import State
from gwm_core.geometry.limits import ArmLimits, Profile, Workspace
from gwm_core.types import ActionChunk

# kinds of refusal that no working policy causes; several in a row stop the arm
BAD_CHUNK_KINDS = ("shape", "not finite", "row spacing", "names", "joint limit", "jump")
PATH_SAMPLES = 64  # postures that are checked along a chunk
EARLY = 0.02  # [s] an observation may be newer than now: two clocks of one machine
# [ns] joint states this much older than the last chunk: the host's clock was set back
CLOCK_SET_BACK = 10**9


@dataclass
class Counts:
    """What the gate has done since it started."""

    accepted: int = 0
    refused: dict[str, int] = field(default_factory=dict)
    stops: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Situation:
    """What the gate is doing when a chunk comes in."""

    phase: Phase
    armed: bool
    mode: str
    reference_q: np.ndarray  # (7,) [rad]


class ChunkIntake:
    """Examines chunks, and keeps the ids, the chunk that waits for approval and the counts.

    Attributes:
        accepted_at: [s] when a chunk was last accepted.
        waiting: the chunk that waits for approval.
    """

    def __init__(
        self,
        config: GateConfig,
        profile: Profile,
        workspace: Workspace,
        limits: ArmLimits,
        joints: JointMonitor,
        signs: LifeSigns,
    ):
        self._config = config
        self._profile = profile
        self._workspace = workspace
        self._limits = limits
        self._joints = joints
        self._signs = signs
        self.counts = Counts()
        self.accepted_at = -np.inf
        self.waiting: PendingChunk | None = None
        self._last_id = 0  # [ns] newest id taken: later chunks must have a greater one
        self._void_id = 0  # [ns] chunks up to this id were observed before a reset of the gate
        self._bad_in_a_row = 0

    def examine(
        self,
        chunk: ActionChunk,
        age: float,
        now: float,
        situation: Situation,
        pending: PendingChunk | None = None,
    ) -> tuple[ChunkTarget | None, str]:
        """The chunk as a target and "", or None and why it is refused.

        Args:
            age: [s] of its observation.
            pending: the same chunk, where it has waited for approval.
        """
        running = situation.phase is Phase.RUNNING
        q_now = situation.reference_q
        if situation.mode == "shadow" and self._joints.measured:
            q_now = self._joints.measured.q
        max_age = self._config.max_plan_age + (self._config.approval_time if pending else 0.0)
        reason = check_format(chunk) or self._check_time(chunk, age, now, max_age, situation)
        if not reason:
            due = min(int(max(age, 0.0) / chunk.dt), len(chunk.q) - 1) if running else 0
            reason = check_plausibility(chunk, due, q_now, self._limits, self._profile.tcp_speed)
        if not reason and not running:
            reason = self._check_motion_since(chunk, pending)
        if reason:
            return None, reason
        target = ChunkTarget(chunk, now - age if running else now - chunk.dt)
        return target, check_path(target.path(PATH_SAMPLES), self._workspace)

    def _check_motion_since(self, chunk: ActionChunk, pending: PendingChunk | None) -> str:
        """Why a chunk cannot start from rest: the arm has moved since its observation."""
        if pending is None:
            moved = self._joints.moved_since(chunk.stamp)
        else:
            moved = self._joints.distance(pending.q)
        if moved is None:
            return "moved: no joint state near the observation"
        if moved > self._config.hold_moved:
            return f"moved: {moved:.3f} rad since the observation"
        return ""

    def _check_time(
        self, chunk: ActionChunk, age: float, now: float, max_age: float, situation: Situation
    ) -> str:
        """Why no such chunk is taken at this time, or ""."""
        phase, state = situation.phase, situation.phase.state
        if state not in (State.HOLD, *MOVING) or not situation.armed or phase is Phase.HOMING:
            return f"state: {state.name}{'' if situation.armed else ', not armed'}"
        if situation.mode == "approve" and self.waiting:
            return "state: a plan waits for approval"
        if situation.mode == "approve" and state is not State.HOLD:
            return "state: the approved plan is followed"
        if phase.after_gap:
            return "state: no joints since the gate was late"
        if self._signs.deadman_released(situation.mode, now):
            return "state: nobody holds the button"
        if self._signs.policy_silent(now):
            return f"alive: no beat of the policy for {self._config.alive_timeout:.3f} s"
        if not -EARLY <= age <= max_age:
            return f"age: {1e3 * age:.0f} ms"
        if chunk.stamp <= self._last_id:
            return f"order: id {chunk.stamp} after {self._last_id}"
        since = now - self.accepted_at
        if since < self._config.least_plan_gap:
            return f"too soon: {1e3 * since:.0f} ms after another"
        return ""

    def accept(self, chunk: ActionChunk, now: float) -> None:
        """Note that the gate follows a chunk from now on."""
        self._last_id = chunk.stamp
        self.accepted_at = now
        self._bad_in_a_row = 0
        self.counts.accepted += 1

    def ask_approval(self, pending: PendingChunk) -> None:
        """Have a chunk wait for approval; no older one is taken meanwhile."""
        self.waiting = pending
        self._last_id = pending.chunk.stamp

    def release_pending(self) -> PendingChunk:
        """Take the chunk that waits, to examine it once more."""
        pending, self.waiting = self.waiting, None
        self._last_id = pending.chunk.stamp - 1
        return pending

    def decline_pending(self) -> None:
        """Drop the chunk that waits, because the operator said so."""
        self.waiting = None
        self.refuse("declined: by the operator")

    def expire_pending(self, armed: bool, now: float) -> None:
        """Drop the chunk that waits when the gate is not armed or nobody approved it in time."""
        if self.waiting is None:
            return
        if not armed or now - self.waiting.since > self._config.approval_time:
            self.waiting = None

    def refuse(self, reason: str) -> bool:
        """Count a refusal. Returns whether too many bad chunks came in a row."""
        kind = reason.partition(":")[0]
        self.counts.refused[kind] = self.counts.refused.get(kind, 0) + 1
        if kind not in BAD_CHUNK_KINDS:
            return False
        self._bad_in_a_row += 1
        return self._bad_in_a_row >= self._config.most_bad_plans

    def void_earlier(self, stamp: int) -> None:
        """Chunks observed up to ``stamp`` [ns] are void once the gate is armed again."""
        self._void_id = stamp

    def arm(self, stamp: int) -> None:
        """Begin anew, with the joints measured at ``stamp`` [ns]."""
        self._bad_in_a_row = 0
        void = min(self._void_id, stamp)
        # after the clock was set back ids begin anew; the age of a chunk still counts
        self._last_id = void if stamp < self._last_id - CLOCK_SET_BACK else max(self._last_id, void)
