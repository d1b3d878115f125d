"""The time grid: observations of a recording that follow each other by one step.

The cameras may have any rate. Exports, the world model's clips and the policy's samples all use
the same grid.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from gwm_core.errors import InputError
from gwm_core.sync import SyncConfig
from gwm_core.types import CHUNK_DT

STEP = round(CHUNK_DT * 1e9)  # [ns]
# fraction of a step: largest distance of an observation from the grid (and at most
# ``SyncConfig.cameras``)
_MAXIMUM_DISTANCE = 0.4
# fraction of a step: a larger deviation of its length belongs to the next observation
_MAXIMUM_DEVIATION = 0.5
# the grid moves by this fraction (1 / n) of an observation's distance: cameras have their own clock
_FOLLOW = 8


def on_grid(stamps: Sequence[int], step: int = STEP) -> np.ndarray:
    """Indices (G,) of the observations on the grid, which begins at the first one.

    A missing observation ends a stretch, and the next observation begins another: ``stretches``.

    Args:
        stamps: (M,) [ns] of the observations, rising.
        step: of the grid [ns].
    """
    if not len(stamps):
        return np.zeros(0, np.int64)
    times = [int(stamp) for stamp in stamps]
    near = min(_MAXIMUM_DISTANCE * step, SyncConfig.cameras)
    chosen, due = [0], times[0] + step
    while True:
        last = times[chosen[-1]]
        k = _nearest(times, due, chosen[-1] + 1)
        if k is None:
            return np.array(chosen)
        if abs(times[k] - due) <= near and abs(times[k] - last - step) <= _MAXIMUM_DEVIATION * step:
            due += step + (times[k] - due) // _FOLLOW
        else:
            k = bisect_right(times, last + (1 + _MAXIMUM_DEVIATION) * step)
            if k == len(times):
                return np.array(chosen)
            due = times[k] + step
        chosen.append(k)


def _nearest(times: list[int], due: int, first: int) -> int | None:
    """The index from ``first`` on whose time is nearest to ``due``; None at the end."""
    after = max(first, bisect_left(times, due))
    near = [k for k in (after - 1, after) if first <= k < len(times)]
    return min(near, key=lambda k: abs(times[k] - due), default=None)


def steps(stamps: np.ndarray, step: int = STEP) -> np.ndarray:
    """Whether the next observation of a grid (G,) follows by one step (G - 1,)."""
    return np.abs(np.diff(stamps) - step) <= _MAXIMUM_DEVIATION * step


def stretches(stamps: np.ndarray, step: int = STEP) -> list[slice]:
    """The unbroken stretches of a grid (G,), in order."""
    ends = [*(np.flatnonzero(~steps(stamps, step)) + 1).tolist(), len(stamps)]
    return [slice(begin, end) for begin, end in zip([0, *ends[:-1]], ends) if end > begin]


class StreamRate(NamedTuple):
    """The rate of observations, and its gaps."""

    hz: float
    gaps: int
    longest: float  # [s] of the gaps

    def __str__(self) -> str:
        text = f"the cameras ran at {self.hz:.1f} Hz"
        return (
            f"{text} with {self.gaps} gaps, the longest {self.longest:.2f} s" if self.gaps else text
        )


def stream_rate(stamps: np.ndarray) -> StreamRate:
    """The rate of stamps (M,) [ns]. A gap is longer than one and a half of the median period."""
    periods = np.diff(stamps) * 1e-9
    if not len(periods):
        return StreamRate(0.0, 0, 0.0)
    median = float(np.median(periods))
    gaps = periods[periods > 1.5 * median]
    return StreamRate(1 / max(median, 1e-9), len(gaps), float(gaps.max(initial=0.0)))


def short_stretch_error(
    what: str, length: int, longest: int, measured: StreamRate | None = None
) -> InputError:
    """The error for stretches shorter than ``length`` observations, with reason and remedy."""
    rate = f"; {measured}" if measured else ""
    slow = measured is not None and measured.hz < 1 / (STEP * 1e-9 * (1 + _MAXIMUM_DISTANCE))
    remedy = (
        "cameras at 10 Hz or more are wanted"
        if slow
        else "longer episodes, or a shorter --horizon, are wanted"
    )
    return InputError(
        f"{what} goes on for {length} moments of {CHUNK_DT} s, the longest stretch has"
        f" {longest}{rate}: {remedy}"
    )
