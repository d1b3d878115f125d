"""Why something does not happen, said once. Pure: no clock, no ROS."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

AGAIN = 30.0  # [s] a reason must have been away before it is told again


class Reasons:
    """The current reason of each subject, and how often each was given.

    A reason starts with its kind and a colon; what follows may change from one call to the next. A
    kind is told when it appears, and again only after it was away for ``AGAIN``.

    Args:
        tell: takes one line, to log.

    Attributes:
        current: subject -> reason, of the subjects that have one.
        counts: subject -> how often it had a reason.
    """

    def __init__(self, tell: Callable[[str], object]):
        self._tell = tell
        self._last: dict[tuple[str, str], float] = {}  # (subject, kind) -> [s]
        self.current: dict[str, str] = {}
        self.counts: Counter[str] = Counter()

    def note(self, subject: str, reason: str, now: float) -> None:
        """Set a subject's reason at ``now`` [s]; "" when there is none."""
        if not reason:
            self.current.pop(subject, None)
            return
        kind = subject, reason.partition(":")[0]
        if now - self._last.get(kind, -AGAIN) >= AGAIN:
            self._tell(f"{subject}: {reason}")
        self._last[kind] = now
        self.current[subject] = reason
        self.counts[subject] += 1

    def values(self) -> dict[str, str | int]:
        """Counts and current reasons, for diagnostics."""
        counts = {f"refused {subject}": count for subject, count in self.counts.items()}
        return counts | {f"reason {subject}": reason for subject, reason in self.current.items()}
