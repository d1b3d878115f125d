"""The journal of a protocol: a line for each trial, on disk before the next trial begins.

Each line holds the hash of the line before, so later changes are detected.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from gwm_core import topics
from gwm_core.errors import InputError
from gwm_core.evaluation.protocol.definition import TrialOrder, TrialSlot
from gwm_core.files.json_files import to_json

FILE = "trials.jsonl"
EPISODES = "episodes"  # folder of recorded episodes, beside it
# of an abort: one by the policy is a failure, one by the hardware is repeated
CAUSES = ("", *topics.ABORTS)


@dataclass(frozen=True)
class TrialOutcome:
    """The outcome of one trial.

    Attributes:
        score: partial credit, 0 to 1.
        note: how it failed, or an observation.
        aborted: one of ``CAUSES``.
        interventions: times a person held or stopped the arm.
        violations: of the arm's limits, in the commands.
        latency_ms: median from frame to command, of live trials.
        episode: its folder in ``EPISODES``, of live trials.
    """

    success: bool
    seconds: float
    score: float
    note: str = ""
    aborted: str = ""
    interventions: int = 0
    violations: int = 0
    latency_ms: float | None = None
    episode: str = ""


@dataclass(frozen=True)
class JournalEntry:
    """A trial and its outcome."""

    slot: TrialSlot
    outcome: TrialOutcome


class Journal:
    """The trials of a protocol in ``folder``. After a crash it continues at its last whole line.

    Raises InputError for a line that was changed, removed, moved or belongs to no slot.
    """

    def __init__(self, plan: TrialOrder, folder: Path):
        self._plan, self._file = plan, Path(folder) / FILE
        self.entries: list[JournalEntry] = []
        self._last = plan.sha256
        content = self._file.read_bytes() if self._file.exists() else b""
        whole = content[: content.rfind(b"\n") + 1]
        for number, line in enumerate(whole.splitlines(), 1):
            self._take(line, number)
        if whole != content:
            os.truncate(self._file, len(whole))
        self._size = len(whole)

    def _take(self, line: bytes, number: int) -> None:
        try:
            values = json.loads(line)
            slot = self._plan.slots[values["number"]]
            if values["before"] != self._last or values["code"] != slot.code:
                raise ValueError("it does not follow the line before")
            self.entries.append(JournalEntry(slot, TrialOutcome(**values["outcome"])))
        except (ValueError, LookupError, TypeError) as error:
            where = f"{self._file}: line {number}"
            raise InputError(
                f"{where} was changed, or lines were removed or moved ({error})"
            ) from None
        self._last = hashlib.sha256(line).hexdigest()

    def add(self, slot: TrialSlot, outcome: TrialOutcome) -> None:
        """Append a trial, on disk when this returns. Raises InputError where another process wrote
        too.
        """
        values = {
            "before": self._last,
            "number": slot.number,
            "code": slot.code,
            "seed": slot.seed,
            "task": str(slot.task),
            "outcome": asdict(outcome),
        }
        line = to_json(values).encode()
        with open(self._file, "ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            if file.seek(0, os.SEEK_END) != self._size:
                raise InputError(
                    f"{self._file}: another process makes these trials too; one alone may"
                )
            self._size += file.write(line + b"\n")
            file.flush()
            os.fsync(file.fileno())
        self._last = hashlib.sha256(line).hexdigest()
        self.entries.append(JournalEntry(slot, outcome))

    def waiting(self) -> list[TrialSlot]:
        """Slots without an outcome, or with one aborted by the hardware, in order."""
        done = {entry.slot.number for entry in self.entries if entry.outcome.aborted != "hardware"}
        return [slot for slot in self._plan.slots if slot.number not in done]

    def counted(self) -> list[JournalEntry]:
        """The last trial of every slot, without those aborted by the hardware."""
        last = {
            entry.slot.number: entry
            for entry in self.entries
            if entry.outcome.aborted != "hardware"
        }
        return [last[number] for number in sorted(last)]
