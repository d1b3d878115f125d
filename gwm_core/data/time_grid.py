"""The one grid of time: which of a recording's moments follow each other a step apart, at any rate
of its cameras.

Exports, the world model's clips and the policy's samples take the same moments.
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
# of a step: how far a moment may lie from where it is due; at most what still is one moment
# (``Sync``)
_NEAR = 0.4
# of a step: how much longer or shorter one may be; what is further off is the next moment's
_UNEVEN = 0.5
# of a moment's distance to the grid, one part in so many moves the grid: no camera runs by our
# clock
_FOLLOW = 8


def on_grid(stamps: Sequence[int], step: int = STEP) -> np.ndarray:
    """Indices (G,) of the moments that lie on the grid, from the first moment on.

    A moment that is missing ends a stretch, and the next begins where there is one again:
    ``stretches``.

    Args:
        stamps: (M,) [ns], rising.
        step: [ns].
    """
    if not len(stamps):
        return np.zeros(0, np.int64)
    times = [int(stamp) for stamp in stamps]
    near = min(_NEAR * step, SyncConfig.cameras)
    chosen, due = [0], times[0] + step
    while True:
        last = times[chosen[-1]]
        k = _nearest(times, due, chosen[-1] + 1)
        if k is None:
            return np.array(chosen)
        if abs(times[k] - due) <= near and abs(times[k] - last - step) <= _UNEVEN * step:
            due += step + (times[k] - due) // _FOLLOW
        else:
            k = bisect_right(times, last + (1 + _UNEVEN) * step)
            if k == len(times):
                return np.array(chosen)
            due = times[k] + step
        chosen.append(k)


def _nearest(times: list[int], due: int, first: int) -> int | None:
    """Which of ``times`` from ``first`` on lies nearest to ``due``; None where there are no
    more.
    """
    after = max(first, bisect_left(times, due))
    near = [k for k in (after - 1, after) if first <= k < len(times)]
    return min(near, key=lambda k: abs(times[k] - due), default=None)


def steps(stamps: np.ndarray, step: int = STEP) -> np.ndarray:
    """Whether each moment of a grid (G,) is followed by the next one a step later (G - 1,)."""
    return np.abs(np.diff(stamps) - step) <= _UNEVEN * step


def stretches(stamps: np.ndarray, step: int = STEP) -> list[slice]:
    """The unbroken stretches of a grid (G,), in order."""
    ends = [*(np.flatnonzero(~steps(stamps, step)) + 1).tolist(), len(stamps)]
    return [slice(begin, end) for begin, end in zip([0, *ends[:-1]], ends) if end > begin]


class StreamRate(NamedTuple):
    """How often moments came, and where none did."""

    hz: float
    gaps: int
    longest: float  # [s] of the gaps

    def __str__(self) -> str:
        text = f"the cameras ran at {self.hz:.1f} Hz"
        return (
            f"{text} with {self.gaps} gaps, the longest {self.longest:.2f} s" if self.gaps else text
        )


def stream_rate(stamps: np.ndarray) -> StreamRate:
    """Of moments (M,) [ns]. A gap is longer than one and a half of the usual distance."""
    apart = np.diff(stamps) * 1e-9
    if not len(apart):
        return StreamRate(0.0, 0, 0.0)
    usual = float(np.median(apart))
    gaps = apart[apart > 1.5 * usual]
    return StreamRate(1 / max(usual, 1e-9), len(gaps), float(gaps.max(initial=0.0)))


def short_stretch_error(
    what: str, length: int, longest: int, measured: StreamRate | None = None
) -> InputError:
    """What to raise where nothing goes on for ``length`` moments, ``longest`` at most: why, and
    what would help.
    """
    why = f"; {measured}" if measured else ""
    slow = measured is not None and measured.hz < 1 / (STEP * 1e-9 * (1 + _NEAR))
    help_ = (
        "cameras at 10 Hz or more are wanted"
        if slow
        else "longer episodes, or a shorter --horizon, are wanted"
    )
    return InputError(
        f"{what} goes on for {length} moments of {CHUNK_DT} s, the longest stretch has"
        f" {longest}{why}: {help_}"
    )
