"""A buffer of the last seconds of all messages."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator


class RingBuffer:
    """Keeps the items of the last ``seconds`` [s], at most ``maximum_bytes`` of them."""

    def __init__(self, seconds: float, maximum_bytes: int):
        self._seconds = seconds
        self._maximum_bytes = maximum_bytes
        self._bytes = 0
        self._items: deque[tuple[float, int, tuple]] = deque()

    def add(self, now: float, item: tuple, size: int) -> None:
        """Add an item of ``size`` bytes at ``now`` [s]; drop items that are too old or too many."""
        self._items.append((now, size, item))
        self._bytes += size
        while self._items and (
            now - self._items[0][0] > self._seconds or self._bytes > self._maximum_bytes
        ):
            self._bytes -= self._items.popleft()[1]

    def __iter__(self) -> Iterator[tuple]:
        """Items, oldest first."""
        return (item for _, _, item in self._items)

    def __len__(self) -> int:
        return len(self._items)

    @property
    def seconds(self) -> float:
        """From the oldest item to the newest [s]."""
        return self._items[-1][0] - self._items[0][0] if self._items else 0.0
