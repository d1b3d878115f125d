"""When an operator led the arm in a policy's place: intervals of an episode."""

from __future__ import annotations

from gwm_core.topics import BY_OPERATOR


class Interventions:
    """Notes who made each chunk that went to the gate. All but the operator's are a policy's."""

    def __init__(self):
        self._intervals: list[list[int]] = []  # begin and end [ns]
        self._begun: int | None = None
        self._policy_led = False

    def chunk(self, source: str, stamp: int) -> None:
        """Take the maker of a chunk and its stamp [ns]."""
        if source != BY_OPERATOR:
            self._policy_led = True
            if self._begun is not None:
                self._intervals.append([self._begun, stamp])
                self._begun = None
        elif self._begun is None:
            self._begun = stamp

    def intervals(self, end: int) -> list[list[int]] | None:
        """The intervals of an episode that ended at ``end`` [ns]; empty where a policy led always.

        None where no policy led: the episode is a demonstration as a whole.
        """
        if not self._policy_led:
            return None
        open_one = [] if self._begun is None else [[self._begun, max(end, self._begun)]]
        return self._intervals + open_one
