"""The queue of a recorder's writing thread: its order, and what is refused when it is too slow."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

_GAIN = 0.05  # of the running mean: over some twenty images


class PendingWrite(NamedTuple):
    """A job of the writing thread."""

    number: int  # in order of arrival
    work: Callable
    size: int  # [bytes] of memory
    is_image: bool
    after_images: bool  # only after the images that arrived before it
    when_done: Any  # receives the result; None: nobody waits for it


@dataclass
class WriteBacklog:
    """The jobs that wait for the writing thread.

    All other jobs overtake images, and images are the first to be refused.
    """

    maximum_bytes: int  # that may wait
    maximum_seconds: float  # that writing the waiting images may take
    done: int = 0  # jobs so far
    size: int = 0  # [bytes] that wait
    # running means [s] per image, with the small messages and syncs between two
    encoding: float = 0.0
    writing: float = 0.0
    _number: int = 0
    # encoding, writing since the last image
    _since: list[float] = field(default_factory=lambda: [0.0, 0.0])
    _images: deque[PendingWrite] = field(default_factory=deque)
    _others: deque[PendingWrite] = field(default_factory=deque)

    @property
    def waiting(self) -> int:
        """The number of waiting jobs."""
        return len(self._images) + len(self._others)

    @property
    def seconds(self) -> float:
        """Expected time [s] to write the waiting images."""
        return len(self._images) * (self.encoding + self.writing)

    @property
    def bottleneck(self) -> str:
        """The slower of the two: "encoder" or "disk"."""
        return "encoder" if self.encoding >= self.writing else "disk"

    def refusal(self, size: int, is_image: bool) -> str:
        """Why a message of ``size`` bytes is refused, or ""."""
        if self.size + size > self.maximum_bytes:
            return f"{self.size >> 20} MB wait: the {self.bottleneck} is too slow"
        if is_image and self.seconds > self.maximum_seconds:
            return f"{self.seconds:.1f} s behind: the {self.bottleneck} is too slow"
        return ""

    def put(
        self,
        work: Callable,
        size: int = 0,
        is_image: bool = False,
        after_images: bool = False,
        when_done: Any = None,
    ) -> None:
        """Add a job."""
        self._number += 1
        self.size += size
        lane = self._images if is_image else self._others
        lane.append(PendingWrite(self._number, work, size, is_image, after_images, when_done))

    def next(self) -> PendingWrite | None:
        """Remove and return the next job, if any; its bytes count until ``finish``."""
        first = self._others[0] if self._others else None
        must_wait = (
            first and first.after_images and self._images and self._images[0].number < first.number
        )
        lane = self._others if first and not must_wait else self._images
        return lane.popleft() if lane else None

    def finish(self, job: PendingWrite, encoding: float, writing: float) -> None:
        """A job is done; it took ``encoding`` and ``writing`` [s]."""
        self.done += 1
        self.size -= job.size
        self.spend(encoding, writing)
        if job.is_image:
            self.encoding += _GAIN * (self._since[0] - self.encoding)
            self.writing += _GAIN * (self._since[1] - self.writing)
            self._since = [0.0, 0.0]

    def spend(self, encoding: float, writing: float) -> None:
        """Count time [s] that no single job took."""
        self._since[0] += encoding
        self._since[1] += writing


class ProgressTimeout:
    """A timeout that starts again whenever the recorder makes progress.

    Args:
        limit: [s] without progress.
        now: [s].
    """

    def __init__(self, limit: float, now: float):
        self._limit = limit
        self._since = now
        self._target: int | None = None
        self.left: int | None = None  # messages before the answer; None: unknown yet

    def report(self, done: int, waiting: int, now: float) -> None:
        """Take a report of the recorder's queue; the first one sets the target."""
        if self._target is None:
            self._target = done + waiting
        left = max(0, self._target - done)
        # a restarted recorder counts from 0: no progress
        if self.left is None or left < self.left:
            self.left = left
            self._since = now

    def expired(self, now: float) -> bool:
        """Whether there was no progress for too long."""
        return now - self._since > self._limit
