"""What a part of ``gwm bench gpu`` measures."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Figure:
    """A measured value, or a remark in its place.

    Attributes:
        value: None for a remark. limit: largest value that passes; None: nothing is wanted of it.
    """

    name: str
    value: float | None
    unit: str = ""
    limit: float | None = None
    remark: str = ""

    @property
    def passed(self) -> bool:
        """Whether the value is within its limit; NaN is not."""
        return self.limit is None or (self.value is not None and self.value <= self.limit)


class NotHereError(Exception):
    """A part needs what this machine lacks. The message says what."""


def remark(name: str, text: str) -> Figure:
    """A remark in place of a value."""
    return Figure(name, None, remark=text)


def durations(run: Callable[[], object], count: int, warm: int = 3) -> list[float]:
    """Durations [s] of ``count`` runs after some that are not counted, the GPU's work included."""
    times = []
    for number in range(warm + count):
        begun = time.perf_counter()
        run()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        if number >= warm:
            times.append(time.perf_counter() - begun)
    return times


def median_ms(run: Callable[[], object], count: int, warm: int = 3) -> float:
    """Median of ``durations`` [ms]."""
    return 1e3 * statistics.median(durations(run, count, warm))
