"""The measured joints, and how far they can be trusted.

A wrong joint state is finite and within its range, so joints are trusted by continuity, not by
value. Joint states form unbroken runs. A new run begins where the arm cannot have come from the
state before: with a wrong state, with another arm's, or after a pause.
"""

from __future__ import annotations

from collections import deque

import numpy as np

from gwm_core.control.gate.config import GateConfig
from gwm_core.geometry.capsules import MINIMUM_CLEARANCE, clearance
from gwm_core.geometry.limits import ArmLimits
from gwm_core.types import ArmState

# [ns] largest distance in time from a joint state to the observation it is compared with
MAX_STAMP_GAP = 50_000_000
HISTORY = 10**9  # [ns] of joint states that are kept
# [s] between two joint states of one run; in a longer pause the arm can move too far to tell
MAX_PAUSE = 0.1
# times the joints' speed limits: a faster change is no motion of this arm
MAX_SPEED_RATIO = 1.5
STAMP_JITTER = 0.03  # [rad] a state may be off because of the jitter of its stamp


class JointMonitor:
    """The newest joint state, its history, and the run it belongs to.

    Times ``now`` are seconds on the gate's monotonic clock; -inf = never.
    """

    def __init__(self, config: GateConfig, limits: ArmLimits):
        self._config = config
        self._limits = limits
        self.measured: ArmState | None = None
        self._measured_at = -np.inf
        self._history: deque[ArmState] = deque()
        self._run = 0
        self._run_began = np.inf
        # the run in which the arm was last near the reference: its states are this arm's
        self._arm_run = 0
        # [s] last time of joint states to be trusted, or the end of a gap of the gate's own
        self._trusted_at = -np.inf
        self._stretched_since: float | None = None  # [s] beyond the leash

    # ---- what is measured ---------------------------------------------------

    def measure(self, state: ArmState, now: float) -> None:
        """Take measured joints.

        A non-finite, misshapen or repeated state is dropped, so the joints soon count as stale.
        """
        if state.q.shape != (7,):
            return
        if not (np.all(np.isfinite(state.q)) and np.all(np.isfinite(state.dq))):
            return
        if self.measured is not None and state.stamp == self.measured.stamp:
            return
        if self.measured is None or not self._continues_run(state, now):
            self._run += 1
            self._run_began = now
        if self._history and state.stamp < self._history[-1].stamp:  # the wall clock was set back
            self._history.clear()
        self.measured = state
        self._measured_at = now
        self._history.append(state)
        while self._history[0].stamp < state.stamp - HISTORY:
            self._history.popleft()

    def _continues_run(self, state: ArmState, now: float) -> bool:
        """Whether the arm can have come to ``state`` from the state before it."""
        stamped = (state.stamp - self.measured.stamp) * 1e-9
        passed = max(stamped, now - self._measured_at)
        if not 0.0 < stamped <= MAX_PAUSE or passed > MAX_PAUSE:
            return False
        reach = MAX_SPEED_RATIO * self._limits.dq_max * passed + STAMP_JITTER
        return bool(np.all(np.abs(state.q - self.measured.q) <= reach))

    def run_length(self, now: float) -> float:
        """Duration [s] of the present unbroken run; negative before the first state."""
        return now - self._run_began

    def distance(self, q: np.ndarray) -> float:
        """Largest difference [rad] between the measured joints and ``q`` (7,)."""
        return float(np.abs(q - self.measured.q).max())

    def moved_since(self, stamp: int) -> float | None:
        """Largest joint motion [rad] since ``stamp`` [ns]; None where no state is near it."""
        then = min(self._history, key=lambda state: abs(state.stamp - stamp), default=None)
        if then is None or abs(then.stamp - stamp) > MAX_STAMP_GAP:
            return None
        return self.distance(then.q)

    # ---- whether it can be trusted ------------------------------------------

    def is_fresh(self, now: float) -> bool:
        """Whether the newest joint state is recent."""
        return now - self._measured_at <= self._config.state_timeout

    def is_settled(self, now: float) -> bool:
        """Whether the joints can be trusted: fresh, within their range, and in one unbroken run.

        So a single wrong state never counts.
        """
        if not self.is_fresh(now) or self.run_length(now) < self._config.settle_time:
            return False
        q = self.measured.q
        return bool(np.all(q >= self._limits.q_min) and np.all(q <= self._limits.q_max))

    def is_this_arm(self, sent: np.ndarray) -> bool:
        """Whether these are joints of the arm that was sent ``sent`` (7,) [rad].

        They are when they lie near it, or when the arm was led away from it in one unbroken run.
        """
        return self.distance(sent) <= self._config.leash or self._run == self._arm_run

    def rest_position(self, now: float, sent: np.ndarray | None = None) -> np.ndarray | None:
        """Joints (7,) [rad] to rest at: where the arm is, if the joint states can be trusted.

        Args:
            sent: (7,) [rad] the last command. The result is no farther than the leash from it,
                and is ``sent`` itself where the joints cannot be trusted or the arm may not rest
                at them. Without it, the result is None in the first case.
        """
        if not self.is_settled(now):
            return sent
        if sent is None:
            return self.measured.q
        if not self.is_this_arm(sent):
            return sent
        leash = self._config.leash
        q = sent + np.clip(self.measured.q - sent, -leash, leash)
        return q if clearance(q).min() >= MINIMUM_CLEARANCE else sent

    # ---- supervision, every period ------------------------------------------

    def note_reset(self) -> None:
        """The reference was reset: the present run is this arm's."""
        self._arm_run = self._run
        self._stretched_since = None

    def note_trusted(self, now: float) -> None:
        """Start the time without trusted joint states at ``now``."""
        self._trusted_at = now

    def blind_cause(self, now: float) -> str:
        """The fault where no joint state could be trusted for too long, or ""."""
        limit = self._config.blind_timeout
        if now - self._trusted_at <= limit:
            return ""
        stopped = "the arm's driver may have stopped"
        wrong = "out of range, or jumping" if self.is_fresh(now) else stopped
        return f"no joint states: none to be believed for {limit:g} s: {wrong}"

    def leash_cause(self, reference_q: np.ndarray, now: float) -> str:
        """The fault where the arm has been too far from the reference for too long, or ""."""
        if not self.is_fresh(now):  # old joints say nothing of where the arm is now
            self.slacken_leash()
            return ""
        gap = self.distance(reference_q)
        if gap <= self._config.leash:
            self._arm_run = self._run
            if self.is_settled(now):  # while two arms' states alternate, the time goes on
                self._stretched_since = None
        elif self._stretched_since is None:
            self._stretched_since = now
        elif now - self._stretched_since > self._config.leash_time:
            return f"leash: {gap:.2f} rad from the measured joints"
        return ""

    def slacken_leash(self) -> None:
        """Start the time beyond the leash anew."""
        self._stretched_since = None
