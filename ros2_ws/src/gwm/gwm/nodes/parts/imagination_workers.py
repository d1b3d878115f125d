"""What the imagination node's two threads do, and which of them may go on.

Planning goes before comparing, and comparing before predicting. Even on a core of its own
prediction would slow the planning down.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gwm_core.runtime.divergence import load_limits
from gwm_core.runtime.imagination import PredictedFuture, PredictionRequest, open_imagination
from gwm_core.runtime.imagined_world import ImaginedState
from gwm_core.site import Site

# [s] Both threads pause from before the next chunk's images are due until that chunk is made.
PAUSE_BEFORE = 0.02
PAUSE_AFTER = 0.15
COMPARED_WITHIN = 1.0  # [s] that a prediction waits at most for a comparison


@dataclass(frozen=True)
class ComparedScene:
    """A chunk's scene compared with earlier predictions of it."""

    request: PredictionRequest
    state: ImaginedState
    gaps: dict[int, dict[str, float]]  # steps ahead -> term -> distance
    score: float | None  # 1 is the limit of what is normal; None without limits

    @property
    def plan(self) -> int:
        """Id of the chunk."""
        return self.request.plan


@dataclass(frozen=True)
class ShownFuture:
    """A predicted future, and how long it took [ms]."""

    future: PredictedFuture
    ms: float


class Turns:
    """Says when the threads have to wait.

    Args:
        now: gives the time of the chunks' stamps [ns].
    """

    def __init__(self, now: Callable[[], int]):
        self._now = now
        self._changed = threading.Condition()
        self._due = np.inf  # [s] time of the next chunk's images
        self._to_compare = 0  # id of the newest chunk whose scene was not compared yet

    def expect_chunk(self, due: float) -> None:
        """A chunk has arrived. The next one's images are due at a time [s]."""
        with self._changed:
            self._due = due
            self._changed.notify_all()

    def asked(self, plan: int) -> None:
        """The scene of a chunk is to be compared."""
        with self._changed:
            self._to_compare = plan

    def compared(self, plan: int) -> None:
        """The scene of a chunk was compared."""
        with self._changed:
            if self._to_compare == plan:
                self._to_compare = 0
            self._changed.notify_all()

    def wait_for_chunk(self) -> None:
        """Wait while a chunk is made."""
        with self._changed:
            due, after = self._due, self._now() * 1e-9 - self._due
            if -PAUSE_BEFORE < after < PAUSE_AFTER:
                self._changed.wait_for(lambda: self._due != due, PAUSE_AFTER - after)

    def wait_for_comparison(self) -> None:
        """Wait while a chunk is made or its scene is compared."""
        with self._changed:
            self._changed.wait_for(lambda: not self._to_compare, COMPARED_WITHIN)
        self.wait_for_chunk()


def comparison(folder: Path, site: Site, threads: int, turns: Turns):
    """The comparing thread's step, by the policy and the limits in a folder."""
    imagination = open_imagination(folder, site, threads, pause=turns.wait_for_chunk)
    limits = load_limits(folder)

    def compare(request: PredictionRequest) -> Iterator[ComparedScene]:
        state = imagination.observe(request)
        gaps = imagination.compare(request, state)
        score = limits.score(gaps) if limits and gaps else None
        yield ComparedScene(request, state, gaps, score)

    return compare


def prediction(folder: Path, site: Site, threads: int, turns: Turns):
    """The predicting thread's step, by the policy in a folder."""
    imagination = open_imagination(folder, site, threads, pause=turns.wait_for_comparison)

    def predict(compared: ComparedScene) -> Iterator[ShownFuture]:
        begun = time.monotonic()
        future = imagination.predict(compared.request, compared.state)
        yield ShownFuture(future, 1e3 * (time.monotonic() - begun))

    return predict
