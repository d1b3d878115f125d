"""When an operator led the arm in a policy's place: intervals of an episode."""

from __future__ import annotations

from gwm_core.topics import BY_OPERATOR, BY_POLICY


class Interventions:
    """Notes who made each chunk that went to the gate."""

    def __init__(self):
        self._intervals: list[list[int]] = []  # begin and end [ns]
        self._begun: int | None = None
        self._policy_led = False

    def chunk(self, source: str, stamp: int) -> None:
        """Take the maker of a chunk and its stamp [ns]. Others than our own two do not count."""
        self._policy_led |= source == BY_POLICY
        if source == BY_OPERATOR and self._begun is None:
            self._begun = stamp
        elif source == BY_POLICY and self._begun is not None:
            self._intervals.append([self._begun, stamp])
            self._begun = None

    def intervals(self, end: int) -> list[list[int]]:
        """The intervals of an episode that ended at ``end`` [ns].

        There are none where the policy never led: that episode is a demonstration as a whole.
        """
        if not self._policy_led:
            return []
        open_one = [] if self._begun is None else [[self._begun, max(end, self._begun)]]
        return self._intervals + open_one
