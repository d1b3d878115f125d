"""The gate's status: one record, written to and read from the texts of ``gate/status``.

The keys on the wire are older than the names of the fields, and recordings hold them; ``_SCHEMA``
maps one to the other. Ids are text: as a float64 they would lose their last digits.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import NamedTuple

FOLLOWING = "following plans"  # cause of RUNNING and SHADOW


class State(Enum):
    """What the gate does, as it is published and kept in recordings."""

    DISARMED = auto()  # sends nothing
    HOLD = auto()  # streams a reference at rest
    RUNNING = auto()  # follows a chunk, or moves home
    SHADOW = auto()  # follows a chunk and sends nothing
    STOPPING = auto()  # ramps to rest
    FAULT = auto()  # sends nothing until ``reset``


@dataclass(frozen=True)
class WaitingChunk:
    """The chunk that waits for approval."""

    chunk_id: str
    sha256: str = ""  # of its message
    seconds_left: float = 0.0  # until it is dropped


@dataclass(frozen=True)
class GateStatus:
    """What the gate says of itself, ten times a second and at each change of state."""

    state: State
    cause: str  # of the state, in words
    armed: bool = False
    chunk_id: str = "0"  # of the chunk that is followed, "0" = none
    mode: str = ""
    divergence: float = 0.0  # newest score
    answer: str = ""  # to the last approval or change of mode; "" = done
    answered: int = 0  # how many of them
    waiting: WaitingChunk | None = None
    latency_ms: float = 0.0  # from the observation of a chunk to its first command
    sent: int = 0  # commands to the arm
    rate_hz: float = 0.0  # of the gate's loop, and its periods
    periods: int = 0
    late: int = 0
    longest_ms: float = 0.0
    step_ms_p99: float = 0.0  # of a period's work
    joints_hz: float = 0.0  # of the joint states, and their periods
    joints_late: int = 0
    joints_longest_ms: float = 0.0
    heartbeats_late: int = 0  # of the policy
    heartbeats_longest_ms: float = 0.0
    accepted: int = 0  # chunks
    refused: dict[str, int] = field(default_factory=dict)  # kind of chunk, or topic -> how often
    reasons: dict[str, str] = field(default_factory=dict)  # topic -> why it cannot be read now
    trouble: str = ""  # of the robot and the gripper
    stops: dict[str, int] = field(default_factory=dict)  # cause -> how often

    @property
    def text(self) -> str:
        """State and cause in words."""
        return f"{self.state.name}: {self.cause}"

    @property
    def follows_chunk(self) -> bool:
        """Whether the arm moves along a chunk, and not home."""
        of_chunk = self.cause == FOLLOWING or self.chunk_id != "0"
        return self.state is State.RUNNING and of_chunk

    def to_fields(self) -> dict[str, str]:
        """The keys and texts of the message."""
        fields = {column.key: column.write(getattr(self, name)) for name, column in _SCHEMA.items()}
        if self.waiting is not None:
            fields |= {
                column.key: column.write(getattr(self.waiting, name))
                for name, column in _WAITING.items()
            }
        for name, (prefix, _) in _BY_PREFIX.items():
            fields |= {prefix + key: str(value) for key, value in getattr(self, name).items()}
        return fields

    @classmethod
    def from_fields(cls, fields: Mapping[str, str]) -> GateStatus:
        """Read a message's keys and texts; fields that it lacks keep their defaults.

        Raises:
            ValueError: no state or cause, or a text that is not of its field's type.
        """
        values = _read(_SCHEMA, fields)
        if "state" not in values or "cause" not in values:
            raise ValueError("no gate status: it has no state, or no cause")
        if waiting := _read(_WAITING, fields):
            values["waiting"] = WaitingChunk(**waiting)
        for name, (prefix, read) in _BY_PREFIX.items():
            values[name] = {
                key.removeprefix(prefix): read(text)
                for key, text in fields.items()
                if key.startswith(prefix)
            }
        return cls(**values)


class _Column(NamedTuple):
    """How a field goes on the wire."""

    key: str
    write: Callable[..., str]
    read: Callable[[str], object]


def _state_of(text: str) -> State:
    if text not in State.__members__:
        raise ValueError(f"no state of the gate: {text[:40]!r}")
    return State[text]


def _text(key: str) -> _Column:
    return _Column(key, str, str)


def _count(key: str) -> _Column:
    return _Column(key, str, int)


def _number(key: str, decimals: int) -> _Column:
    return _Column(key, f"{{:.{decimals}f}}".format, float)


_SCHEMA = {
    "state": _Column("state", lambda state: state.name, _state_of),
    "cause": _text("cause"),
    "armed": _Column("armed", str, lambda text: text == "True"),
    "chunk_id": _text("plan"),
    "mode": _text("mode"),
    "divergence": _number("surprise", 2),
    "answer": _text("answer"),
    "answered": _count("answered"),
    "latency_ms": _number("latency_ms", 2),
    "sent": _count("sent"),
    "rate_hz": _number("rate_hz", 3),
    "periods": _count("periods"),
    "late": _count("late"),
    "longest_ms": _number("longest_ms", 1),
    "step_ms_p99": _number("step_ms_p99", 2),
    "joints_hz": _number("joints_hz", 0),
    "joints_late": _count("joints_late"),
    "joints_longest_ms": _number("joints_longest_ms", 1),
    "heartbeats_late": _count("beats_late"),
    "heartbeats_longest_ms": _number("beats_longest_ms", 1),
    "accepted": _count("accepted"),
    "trouble": _text("trouble"),
}
_WAITING = {
    "chunk_id": _text("waiting"),
    "sha256": _text("waiting_sha256"),
    "seconds_left": _number("waiting_s", 1),
}
_BY_PREFIX = {"refused": ("refused ", int), "reasons": ("reason ", str), "stops": ("stops ", int)}
# keys that tell whether the arm follows a chunk: all that reading an episode keeps of a status
FOLLOWING_KEYS = tuple(_SCHEMA[name].key for name in ("state", "cause", "chunk_id"))


def _read(schema: Mapping[str, _Column], fields: Mapping[str, str]) -> dict[str, object]:
    return {
        name: column.read(fields[column.key])
        for name, column in schema.items()
        if column.key in fields
    }
