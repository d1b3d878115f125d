"""What waits for a recorder's thread: in which order it is done, and what is left out so that it
stays close.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

_GAIN = 0.05  # of the running mean: it remembers some twenty pictures


class PendingWrite(NamedTuple):
    """Something to do. ``after_pictures``: not before those that came before it."""

    number: int  # in the order in which they came
    work: Callable
    size: int  # [bytes] it holds
    picture: bool
    after_pictures: bool
    future: Any  # whoever asked for it is answered with it; None: nobody did


@dataclass
class WriteBacklog:
    """What waits for the writing thread. Pictures are overtaken by all else, and give way first.

    Attributes:
        most_bytes: that may wait. most_seconds: that the waiting pictures may take.
        done: jobs so far. size: [bytes] that wait.
        encoding, writing: running means [s] of what one picture takes, small messages and syncs
            between two included.
    """

    most_bytes: int
    most_seconds: float
    done: int = 0
    size: int = 0
    encoding: float = 0.0
    writing: float = 0.0
    _number: int = 0
    # encoding, writing since the last picture
    _since: list[float] = field(default_factory=lambda: [0.0, 0.0])
    _pictures: deque[PendingWrite] = field(default_factory=deque)
    _others: deque[PendingWrite] = field(default_factory=deque)

    @property
    def waiting(self) -> int:
        """Jobs."""
        return len(self._pictures) + len(self._others)

    @property
    def seconds(self) -> float:
        """Until the pictures that wait are written [s], as fast as the last ones were."""
        return len(self._pictures) * (self.encoding + self.writing)

    @property
    def slow(self) -> str:
        """What the time goes into."""
        return "encoder" if self.encoding >= self.writing else "disk"

    def refuses(self, size: int, picture: bool) -> str:
        """Why a message of ``size`` bytes cannot wait, or ""."""
        if self.size + size > self.most_bytes:
            return f"{self.size >> 20} MB wait: the {self.slow} is too slow"
        if picture and self.seconds > self.most_seconds:
            return f"{self.seconds:.1f} s behind: the {self.slow} is too slow"
        return ""

    def put(
        self,
        work: Callable,
        size: int = 0,
        picture: bool = False,
        after_pictures: bool = False,
        future: Any = None,
    ) -> None:
        """Something begins to wait."""
        self._number += 1
        self.size += size
        lane = self._pictures if picture else self._others
        lane.append(PendingWrite(self._number, work, size, picture, after_pictures, future))

    def next(self) -> PendingWrite | None:
        """What is to be done now, if anything; it waits no more, but for its bytes."""
        first = self._others[0] if self._others else None
        held_up = (
            first
            and first.after_pictures
            and self._pictures
            and self._pictures[0].number < first.number
        )
        lane = self._others if first and not held_up else self._pictures
        return lane.popleft() if lane else None

    def finish(self, job: PendingWrite, encoding: float, writing: float) -> None:
        """It is done, and took so long [s]."""
        self.done += 1
        self.size -= job.size
        self.spend(encoding, writing)
        if job.picture:
            self.encoding += _GAIN * (self._since[0] - self.encoding)
            self.writing += _GAIN * (self._since[1] - self.writing)
            self._since = [0.0, 0.0]

    def spend(self, encoding: float, writing: float) -> None:
        """Time [s] that went into something else than one message."""
        self._since[0] += encoding
        self._since[1] += writing


class Patience:
    """Waits as long as less and less is left to do.

    Args:
        limit: [s] without progress after which to give up. now: [s].
    """

    def __init__(self, limit: float, now: float):
        self._limit = limit
        self._since = now
        self._target: int | None = None
        self.left: int | None = None  # messages before the answer can come; None: not known yet

    def hear(self, done: int, waiting: int, now: float) -> None:
        """A report of how much is done and how much waits; the first after the question sets what
        is waited for.
        """
        if self._target is None:
            self._target = done + waiting
        left = self._target - done
        # a restarted recorder counts anew: no progress
        if left >= 0 and (self.left is None or left < self.left):
            self.left = left
            self._since = now

    def over(self, now: float) -> bool:
        """Whether nothing was done for too long."""
        return now - self._since > self._limit
