"""Whether the computer's clock was set while an episode was recorded, and what of it is in one time."""

from __future__ import annotations

import numpy as np

SET = 100_000_000  # [ns] that stamps of one stream run back by where the clock was set
_ALONE = 60_000_000_000  # [ns] from the next by which the first or last stamp of a stream is nobody's
_AHEAD = 1_000_000_000  # [ns] that stamps run ahead of the log time by


def strays(stamps: np.ndarray) -> np.ndarray:
    """Which stamps (S,) of a stream, in the order they came in, are alone in their time: a device's slip.

    At the ends such are 0, of a driver that knows no time yet, and what a counter holds when it rolls over.
    """
    stray = np.zeros(len(stamps), bool)
    if len(stamps) > 2:
        stray[[0, -1]] = np.abs(stamps[[1, -2]] - stamps[[0, -1]]) > _ALONE
    before, it, after = stamps[:-2], stamps[1:-1], stamps[2:]
    stray[1:-1] = (before <= after) & ((it < before - SET) | (it > after + SET))
    return stray


def times_set_back(stamps: np.ndarray) -> np.ndarray:
    """How often the clock was set back before each message (S,) of a stream, in the order they came in."""
    return np.concatenate([[0], np.cumsum(np.diff(stamps) < -SET)]).astype(np.int64)[: len(stamps)]


def set_ahead(stamps: np.ndarray, logged: np.ndarray) -> list[float]:
    """By how much [s] stamps (S,) ran ahead of the log times (S,); a recorder that logs stamps cannot tell."""
    ahead = np.diff(stamps) - np.diff(logged)
    return (ahead[ahead > _AHEAD] * 1e-9).tolist()
