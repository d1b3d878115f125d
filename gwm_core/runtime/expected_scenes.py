"""Compare every observed scene with what was predicted of it 0.4 and 0.8 s before."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from gwm_core.runtime.divergence import ExpectedScene, ObservedScene, compare
from gwm_core.runtime.imagined_world import ImaginedState
from gwm_core.runtime.views import RenderedCamera
from gwm_core.types import CHUNK_DT

HORIZONS = (4, 8)  # steps of ``CHUNK_DT`` over which predictions are compared with observations
COMPARED_SIDE = 96  # [pixels] of images to compare

CommandAt = Callable[[int], np.ndarray | None]


class _Past(NamedTuple):
    observed: ObservedScene
    state: ImaginedState


class ExpectedScenes:
    """The last observed scenes, and the states that later ones are predicted from.

    Args:
        expect: predicts the scene once the rows (1 + H, 10) are reached from a state, of which the
            first is commanded at the state.
        pause: called between pieces of work of some 10 ms.
    """

    def __init__(
        self,
        expect: Callable[[ImaginedState, np.ndarray], ExpectedScene],
        pause: Callable[[], None] = lambda: None,
    ):
        self._expect, self._pause = expect, pause
        self._past: deque[_Past] = deque(maxlen=10)

    def forget(self) -> None:
        """Forget all observed scenes, as where a new episode begins."""
        self._past.clear()

    def observe(
        self,
        now: ObservedScene,
        state: ImaginedState,
        command_at: CommandAt,
        views: Sequence[RenderedCamera],
    ) -> dict[int, dict[str, float]]:
        """Terms of the divergence by horizon [steps].

        A horizon is left out if nothing was observed that long ago, or commands are missing.

        Args:
            state: of the model, to predict later scenes from.
            command_at: row (10,) that was commanded at a stamp [ns], or None if unknown.
            views: of the cameras at the stamp of ``now``.
        """
        views = [view.resized(COMPARED_SIDE, COMPARED_SIDE) for view in views]
        gaps = {}
        for horizon in HORIZONS:
            start = self._before(now.stamp, horizon)
            rows = _commanded_rows(start, horizon, command_at)
            if rows is None:
                continue
            expected = self._expect(start.state, rows)
            past = [p.observed for p in self._past if p.observed.stamp <= start.observed.stamp]
            self._pause()
            gaps[horizon] = compare(start.observed, expected, now, past, views)
        self._past.append(_Past(now, state))
        return gaps

    def _before(self, stamp: int, horizon: int) -> _Past | None:
        """The observation nearest to ``horizon`` steps ago, within half a step."""
        ages = [abs((stamp - p.observed.stamp) * 1e-9 - horizon * CHUNK_DT) for p in self._past]
        nearest = int(np.argmin(ages)) if ages else -1
        return self._past[nearest] if ages and ages[nearest] <= CHUNK_DT / 2 else None


def _commanded_rows(start: _Past | None, horizon: int, command_at: CommandAt) -> np.ndarray | None:
    """Rows (horizon + 1, 10) that were commanded from ``start`` on, or None if one is unknown."""
    if start is None:
        return None
    begun = start.observed.stamp
    stamps = [begun + round(k * CHUNK_DT * 1e9) for k in range(horizon + 1)]
    rows = [command_at(stamp) for stamp in stamps]
    return None if any(row is None for row in rows) else np.stack(rows)
