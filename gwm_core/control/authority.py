"""Who leads the arm: the policy or the operator."""

from __future__ import annotations

AHEAD = 20_000_000  # [ns] a chunk may be stamped later than now: two clocks of one machine


class Authority:
    """Whose chunks go to the gate: the policy's or the operator's, never both.

    Attributes:
        holder: "policy" or "operator".
        last: [ns] id of the last chunk that was passed on. Ids only ever rise.
    """

    def __init__(self, holder: str):
        self.holder = holder
        self.last = 0

    def give(self, to: str, now: int) -> None:
        """Hand over at ``now`` [ns]. The gate blends into the next chunk, whoever made it."""
        self.holder = to
        self.last = min(self.last, now)  # in case the clock was set back

    def passes(self, source: str, chunk_id: int, now: int) -> bool:
        """Whether this chunk goes on to the gate.

        One from the future does not: it would keep out all later ones.
        """
        if source != self.holder or not self.last < chunk_id <= now + AHEAD:
            return False
        self.last = chunk_id
        return True
