"""What the gate was told, and how long ago: measured joints, beats of the policy, beats of the operator's hand."""

from __future__ import annotations

from collections import deque

import numpy as np

from gwm_core.types import ArmState

NEAR = 50_000_000  # [ns] a joint state this near an observation tells where the arm was


class Inputs:
    """The newest of each, with its time on the gate's monotonic clock [s]; -inf = never."""

    def __init__(self):
        self.measured: ArmState | None = None
        self.measured_at = self.beat_at = self.heartbeat_at = -np.inf
        self.last_beat = 0
        self._history: deque[ArmState] = deque()  # the last second

    def measure(self, state: ArmState, now: float) -> None:
        """Take measured joints. A non-finite, misshapen or repeated state is dropped, so it soon counts as stale."""
        if state.q.shape != (7,) or not (np.all(np.isfinite(state.q)) and np.all(np.isfinite(state.dq))):
            return
        if self.measured is not None and state.stamp == self.measured.stamp:
            return
        if self._history and state.stamp < self._history[-1].stamp:  # the wall clock was set back
            self._history.clear()
        self.measured, self.measured_at = state, now
        self._history.append(state)
        while self._history[0].stamp < state.stamp - 10**9:
            self._history.popleft()

    def moved_since(self, stamp: int) -> float | None:
        """Largest joint motion [rad] since a moment of the last second; None where no state is near it."""
        then = min(self._history, key=lambda state: abs(state.stamp - stamp), default=None)
        if then is None or abs(then.stamp - stamp) > NEAR:
            return None
        return self.apart(then.q)

    def apart(self, q: np.ndarray) -> float:
        """Largest difference [rad] of the measured joints from others (7,)."""
        return float(np.abs(q - self.measured.q).max())
