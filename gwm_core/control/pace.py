"""How evenly a loop runs."""

from __future__ import annotations


class Pace:
    """Counts the periods of a loop and those that were late.

    Args:
        period: wished [s].
        late: a period longer than this counts as late [s].
    """

    def __init__(self, period: float = 0.01, late: float = 0.015):
        self.period, self.late_after = period, late
        self.periods = self.late = 0
        self.longest = 0.0
        self._first = self._last = None

    def tick(self, now: float) -> None:
        """Note the start of a period at ``now`` [s]."""
        if self._last is None:
            self._first = self._last = now
            return
        length = now - self._last
        self.periods += 1
        self.late += length > self.late_after
        self.longest = max(self.longest, length)
        self._last = now

    @property
    def rate_hz(self) -> float:
        """Mean rate so far; 0 before the second tick."""
        return self.periods / (self._last - self._first) if self.periods else 0.0

    @property
    def late_fraction(self) -> float:
        """Share of late periods."""
        return self.late / self.periods if self.periods else 0.0
