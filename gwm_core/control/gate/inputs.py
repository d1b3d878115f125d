"""What the gate was told, and how long ago: measured joints, beats of the policy, beats of the
operator's hand.
"""

from __future__ import annotations

from collections import deque

import numpy as np

from gwm_core.geometry.limits import FR3
from gwm_core.types import ArmState

NEAR = 50_000_000  # [ns] a joint state this near an observation tells where the arm was
# [s] between two joint states of one unbroken run; in more an arm can come too far to tell
LONGEST_STEP = 0.1
# x the joints' speed limits: beyond is no motion of this arm, but another's state or a wrong one
FASTEST = 1.5
JITTER = 0.03  # [rad] a state may be off that for the moment it was taken at


class Inputs:
    """The newest of each, with its time on the gate's monotonic clock [s]; -inf = never.

    Joint states form unbroken runs. A new run begins where an arm cannot have come from the state
    before: with a wrong state, another arm's, or after a pause. ``run`` numbers them.

    Args:
        dq_max: the joints' speed limits (7,) [rad/s].
    """

    def __init__(self, dq_max: np.ndarray = FR3.dq_max):
        self.measured: ArmState | None = None
        self.measured_at = self.beat_at = self.heartbeat_at = -np.inf
        self.last_beat = 0
        self.run = 0
        self._run_began = np.inf
        self._dq_max = dq_max
        self._history: deque[ArmState] = deque()  # the last second

    def measure(self, state: ArmState, now: float) -> None:
        """Take measured joints. A non-finite, misshapen or repeated state is dropped, so it soon
        counts as stale.
        """
        if state.q.shape != (7,) or not (
            np.all(np.isfinite(state.q)) and np.all(np.isfinite(state.dq))
        ):
            return
        if self.measured is not None and state.stamp == self.measured.stamp:
            return
        if self.measured is None or not self._goes_on(state, now):
            self.run += 1
            self._run_began = now
        if self._history and state.stamp < self._history[-1].stamp:  # the wall clock was set back
            self._history.clear()
        self.measured, self.measured_at = state, now
        self._history.append(state)
        while self._history[0].stamp < state.stamp - 10**9:
            self._history.popleft()

    def _goes_on(self, state: ArmState, now: float) -> bool:
        """Whether an arm can have come to ``state`` from the one before it."""
        stamped = (state.stamp - self.measured.stamp) * 1e-9
        passed = max(stamped, now - self.measured_at)
        if not 0.0 < stamped <= LONGEST_STEP or passed > LONGEST_STEP:
            return False
        return bool(
            np.all(np.abs(state.q - self.measured.q) <= FASTEST * self._dq_max * passed + JITTER)
        )

    def unbroken(self, now: float) -> float:
        """For how long [s] all joint states have been one arm's in motion; negative before the
        first.
        """
        return now - self._run_began

    def moved_since(self, stamp: int) -> float | None:
        """Largest joint motion [rad] since a moment of the last second; None where no state is near
        it.
        """
        then = min(self._history, key=lambda state: abs(state.stamp - stamp), default=None)
        if then is None or abs(then.stamp - stamp) > NEAR:
            return None
        return self.apart(then.q)

    def apart(self, q: np.ndarray) -> float:
        """Largest difference [rad] of the measured joints from others (7,)."""
        return float(np.abs(q - self.measured.q).max())
