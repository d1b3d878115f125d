"""Log each reason once when it appears. Pure: no clock, no ROS."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

REPEAT = 30.0  # [s] a reason must have been absent before it is logged again


class Reasons:
    """The current reason of each subject, and how often it had one.

    A reason starts with its kind and a colon; the rest may change from call to call. A kind is
    logged when it appears, and again only after an absence of ``REPEAT``.

    Args:
        log: takes one line.

    Attributes:
        current: subject -> reason, for subjects that have one.
        counts: subject -> number of times it had a reason.
    """

    def __init__(self, log: Callable[[str], object]):
        self._log = log
        self._last: dict[tuple[str, str], float] = {}  # (subject, kind) -> [s]
        self.current: dict[str, str] = {}
        self.counts: Counter[str] = Counter()

    def note(self, subject: str, reason: str, now: float) -> None:
        """Set the reason of a subject at ``now`` [s]; "" for none."""
        if not reason:
            self.current.pop(subject, None)
            return
        kind = subject, reason.partition(":")[0]
        if now - self._last.get(kind, -REPEAT) >= REPEAT:
            self._log(f"{subject}: {reason}")
        self._last[kind] = now
        self.current[subject] = reason
        self.counts[subject] += 1

    def values(self) -> dict[str, str | int]:
        """Counts and current reasons, for diagnostics."""
        counts = {f"refused {subject}": count for subject, count in self.counts.items()}
        return counts | {f"reason {subject}": reason for subject, reason in self.current.items()}
