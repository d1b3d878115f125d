"""Intervals in which the arm did not follow the task, by the recorded gate/status.

They are homing, ramps, holds, faults, and times without a status.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from gwm_core.gate_status import GateStatus

# [ns] a status is valid for; the gate publishes one every 100 ms, and at each change
STATUS_TIMEOUT = 500_000_000
MAXIMUM_GAP = 50_000_000  # [ns] between two commands; the gate sends one every 10 ms
# [ns] a command so shortly before a status is of the same period of the gate
_SAME_PERIOD = 20_000_000


class OffTaskInterval(NamedTuple):
    """An interval; it includes both ends."""

    begin: int  # [ns]
    end: int  # [ns]
    reason: str  # state and cause of the gate


def off_task_intervals(
    statuses: Sequence[tuple[int, Mapping[str, str]]],
    command_stamps: np.ndarray,
    span: tuple[int, int],
) -> list[OffTaskInterval]:
    """The intervals of an episode from which no demonstration may be learnt.

    Args:
        statuses: stamp [ns] and values of each gate/status, in any order.
        command_stamps: (C,) int64 [ns] of gate/command. A change of state begins with the command
            just before its status.
        span: first and last stamp [ns] of the episode.

    Returns:
        intervals in order of time, without overlap; none for an episode without any status, which
        had no gate.
    """
    if not statuses:
        return []
    command_stamps = np.sort(command_stamps)
    found: list[OffTaskInterval] = []
    for begin, after, reason in _runs(statuses, command_stamps, span):
        parts = [(begin, after)] if reason else _without_commands(begin, after, command_stamps)
        found += [
            OffTaskInterval(int(a), int(b) - 1, reason or "no command recorded") for a, b in parts
        ]
    return found


def _runs(
    statuses: Sequence[tuple[int, Mapping[str, str]]],
    command_stamps: np.ndarray,
    span: tuple[int, int],
) -> list[tuple[int, int, str]]:
    """(begin, begin of the next, reason) for the whole span; the reason is "" on the task."""
    changes = sorted(
        ((_begin(stamp, command_stamps), _reason(values)) for stamp, values in statuses),
        key=lambda change: change[0],
    )
    first, last = span
    parts = [(first, changes[0][0], "gate not heard")]
    for (begin, reason), (after, _) in zip(changes, [*changes[1:], (last + 1, "")]):
        expiry = min(after, begin + STATUS_TIMEOUT)
        parts += [(begin, expiry, reason), (expiry, after, "gate not heard")]
    runs: list[tuple[int, int, str]] = []
    for begin, after, reason in parts:
        if after <= begin:
            continue
        if runs and runs[-1][2] == reason:
            runs[-1] = (runs[-1][0], after, reason)
        else:
            runs.append((begin, after, reason))
    return runs


def _without_commands(begin: int, after: int, command_stamps: np.ndarray) -> list[tuple[int, int]]:
    """Gaps in the commands of an interval: the reference there is unknown."""
    inside = command_stamps[(command_stamps >= begin) & (command_stamps < after)]
    return [(a, b) for a, b in pairwise([begin, *inside.tolist(), after]) if b - a > MAXIMUM_GAP]


def _begin(stamp: int, command_stamps: np.ndarray) -> int:
    """The stamp [ns] from which a status counts: that of the command of the same period."""
    last = int(np.searchsorted(command_stamps, stamp, "right")) - 1
    near = last >= 0 and stamp - command_stamps[last] <= _SAME_PERIOD
    return int(command_stamps[last]) if near else stamp


def _reason(values: Mapping[str, str]) -> str:
    """Why the arm does not follow the task, or ""."""
    status = GateStatus.from_fields(values)
    return "" if status.follows_chunk else f"{status.state.name}: {status.cause}"
