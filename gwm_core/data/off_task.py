"""When the arm did not follow the task: homing, ramps, holds, faults, and times the gate was not
heard of.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from gwm_core.files.gate_status import GateStatus

# [ns] that a status holds for; the gate publishes it every 100 ms, and at each change
SILENT = 500_000_000
GAP = 50_000_000  # [ns] between two commands; the gate sends one every 10 ms
# [ns] before a status: the command of the gate's period that the status ends
_SAME_PERIOD = 20_000_000


class OffTaskInterval(NamedTuple):
    """Both ends belong to it."""

    begin: int  # [ns]
    end: int  # [ns]
    why: str  # state and cause as the gate named them


def off_task_intervals(
    statuses: Sequence[tuple[int, Mapping[str, str]]],
    command_stamps: np.ndarray,
    span: tuple[int, int],
) -> list[OffTaskInterval]:
    """What of an episode no demonstration may be learnt from, by what the gate said of itself.

    Args:
        statuses: stamp [ns] and values of each gate/status, in any order.
        command_stamps: (C,) int64 [ns], of gate/command: a change of state begins with the command
            sent just before it.
        span: first and last stamp [ns] of the episode.

    Returns:
        intervals in order of time, without overlap. None where no status was recorded: no gate was
            there to stop.
    """
    if not statuses:
        return []
    command_stamps = np.sort(command_stamps)
    told = sorted(
        ((_begin(stamp, command_stamps), _why(values)) for stamp, values in statuses),
        key=lambda t: t[0],
    )
    first, last = span
    pieces = [(first, told[0][0], "gate not heard")]
    for (begin, why), (after, _) in zip(told, [*told[1:], (last + 1, "")]):
        heard = min(after, begin + SILENT)
        pieces += [(begin, heard, why), (heard, after, "gate not heard")]
    runs: list[tuple[int, int, str]] = []
    for begin, after, why in pieces:
        if after <= begin:
            continue
        if runs and runs[-1][2] == why:
            runs[-1] = (runs[-1][0], after, why)
        else:
            runs.append((begin, after, why))
    found: list[OffTaskInterval] = []
    for begin, after, why in runs:
        parts = [(begin, after)] if why else _without_commands(begin, after, command_stamps)
        found += [
            OffTaskInterval(int(a), int(b) - 1, why or "no command recorded") for a, b in parts
        ]
    return found


def _without_commands(begin: int, after: int, command_stamps: np.ndarray) -> list[tuple[int, int]]:
    """Where the commands that were followed are missing: what was sent there is not known."""
    inside = command_stamps[(command_stamps >= begin) & (command_stamps < after)]
    return [(a, b) for a, b in pairwise([begin, *inside.tolist(), after]) if b - a > GAP]


def _begin(stamp: int, command_stamps: np.ndarray) -> int:
    last = int(np.searchsorted(command_stamps, stamp, "right")) - 1
    near = last >= 0 and stamp - command_stamps[last] <= _SAME_PERIOD
    return int(command_stamps[last]) if near else stamp


def _why(values: Mapping[str, str]) -> str:
    """Why the arm does not follow the task, or ""."""
    status = GateStatus.from_fields(values)
    return "" if status.follows_chunk else f"{status.state.name}: {status.cause}"
