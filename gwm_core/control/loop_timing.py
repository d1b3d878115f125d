"""The periods of a loop, and the times at which its commands are due."""

from __future__ import annotations

# [s] from the gate's step to the start of a trajectory: two periods of jitter cost nothing
TRAJECTORY_DELAY = 0.02
# fraction of the error in the delay that is corrected each period: 1 % of a speed at 10 ms
_PULL = 0.01


class CommandSchedule:
    """Stamps for an even stream of commands to a controller that obeys them.

    The time at which a command is computed varies by the jitter of the loop; the time between two
    references does not. A stamp of "now plus a delay" turns that jitter into speed: with 1 ms of
    it, the trajectory controller of ros2_controllers requests 18 rad/s2 where the references have
    5. So stamps keep the period, and drift towards the requested delay.

    Args:
        period: [s] between two commands.
        delay: [s] from now to the stamp.
    """

    def __init__(self, period: float, delay: float = TRAJECTORY_DELAY):
        self._period = round(period * 1e9)
        self._delay = round(delay * 1e9)
        self._last = 0  # [ns]

    def next(self, now: int) -> int:
        """The stamp of the command that is computed at ``now``; both in ns."""
        delayed, due = now + self._delay, self._last + self._period
        # the first command, or one after a pause or after the clock was set
        if abs(delayed - due) > self._delay:
            due = delayed
        self._last = due + round(_PULL * (delayed - due))
        return self._last


class PeriodMonitor:
    """Counts the periods of a loop, and the late ones.

    Args:
        period: [s] of the loop.
        late: [s] a longer period counts as late.
    """

    def __init__(self, period: float = 0.01, late: float = 0.015):
        self.period = period
        self.late_after = late
        self.periods = 0
        self.late = 0
        self.longest = 0.0  # [s]
        self._first: float | None = None  # [s]
        self._last: float | None = None

    def tick(self, now: float) -> None:
        """Begin a period at ``now`` [s]."""
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
        """Fraction of late periods."""
        return self.late / self.periods if self.periods else 0.0
