"""How far a recorder is behind what comes, and which messages must be left out so that it stays close."""

from __future__ import annotations

from dataclasses import dataclass, field

_GAIN = 0.05  # of the running mean: it remembers some twenty pictures


@dataclass
class Backlog:
    """Messages that wait for the writing thread. Pictures give way before anything else does.

    Attributes:
        most_bytes: that may wait. most_seconds: that the waiting pictures may take.
        waiting: messages. done: messages so far. size: [bytes] that wait. pictures: that wait.
        encoding, writing: running means [s] of what one picture takes, small messages and syncs between two included.
    """

    most_bytes: int
    most_seconds: float
    waiting: int = 0
    done: int = 0
    size: int = 0
    pictures: int = 0
    encoding: float = 0.0
    writing: float = 0.0
    _since: list[float] = field(default_factory=lambda: [0.0, 0.0])  # encoding, writing since the last picture

    @property
    def seconds(self) -> float:
        """Until what waits now is written [s], as fast as the last pictures were."""
        return self.pictures * (self.encoding + self.writing)

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

    def put(self, size: int, picture: bool) -> None:
        """A message begins to wait."""
        self.waiting += 1
        self.size += size
        self.pictures += picture

    def take(self, size: int, picture: bool, encoding: float, writing: float) -> None:
        """It is done, and took so long [s]."""
        self.waiting -= 1
        self.done += 1
        self.size -= size
        self.pictures -= picture
        self.spend(encoding, writing)
        if picture:
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
        """A report of how much is done and how much waits; the first after the question sets what is waited for."""
        if self._target is None:
            self._target = done + waiting
        left = self._target - done
        if left >= 0 and (self.left is None or left < self.left):  # a restarted recorder counts anew: no progress
            self.left = left
            self._since = now

    def over(self, now: float) -> bool:
        """Whether nothing was done for too long."""
        return now - self._since > self._limit
