"""How evenly a loop runs, and when what it sends is due."""

from __future__ import annotations

# [s] from the gate's step to the start of a trajectory: two periods of jitter cost nothing
TRAJECTORY_DELAY = 0.02
# share of the distance to the wished delay that is worked off each period: 1 % of a speed at 10 ms
_PULL = 0.01


class CommandSchedule:
    """When the commands of an even stream are due at a controller that obeys their stamps.

    The moment a command was computed varies by the jitter of the loop, the time between two
    references does not. A stamp of "now and a delay" makes speed of that jitter: 1 ms of it, and
    the trajectory controller of ros2_controllers asks for 18 rad/s2 where the references have 5. So
    stamps keep the period, and drift towards the wished delay.

    Args:
        period: between two commands [s].
        delay: from now to the stamp [s].
    """

    def __init__(self, period: float, delay: float = TRAJECTORY_DELAY):
        self._period, self._delay = round(period * 1e9), round(delay * 1e9)
        self._last = 0

    def next(self, now: int) -> int:
        """The stamp of the command that is computed at ``now``; both in ns."""
        wished, due = now + self._delay, self._last + self._period
        # the first, or one after a pause or after the clock was set
        if abs(wished - due) > self._delay:
            due = wished
        self._last = due + round(_PULL * (wished - due))
        return self._last


class PeriodMonitor:
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
