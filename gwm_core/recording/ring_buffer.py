"""The last seconds of a stream, for the moment after something happened."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator


class RingBuffer:
    """Keeps what came in the last ``seconds``, or less: never more than ``most`` bytes."""

    def __init__(self, seconds: float, most: int):
        self._seconds, self._most, self._bytes = seconds, most, 0
        self._kept: deque[tuple[float, int, tuple]] = deque()

    def add(self, now: float, item: tuple, size: int) -> None:
        """Keep an item of ``size`` bytes that came at ``now`` [s], and forget what is too old or
        too much.
        """
        self._kept.append((now, size, item))
        self._bytes += size
        while self._kept and (now - self._kept[0][0] > self._seconds or self._bytes > self._most):
            self._bytes -= self._kept.popleft()[1]

    def __iter__(self) -> Iterator[tuple]:
        """Items, oldest first."""
        return (item for _, _, item in self._kept)

    def __len__(self) -> int:
        return len(self._kept)

    @property
    def seconds(self) -> float:
        """From the oldest item to the newest [s]."""
        return self._kept[-1][0] - self._kept[0][0] if self._kept else 0.0
