"""Processor time of running processes, from Linux's /proc."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")
_USER, _SYSTEM = 11, 12  # fields of /proc/PID/stat after the name, proc(5)


def processor_seconds(pid: int) -> float:
    """Time [s] that all threads of a process have run. Raises OSError where it has ended."""
    # the name before the last bracket may hold spaces and brackets
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[_USER]) + int(fields[_SYSTEM])) / _TICKS


class ProcessorShares:
    """Cores that processes take, from the making of this on.

    Args:
        processes: gives those that run now, by name; one that is restarted counts from then on.
    """

    def __init__(self, processes: Callable[[], dict[str, subprocess.Popen]]):
        self._processes = processes
        self._begun, self._before = time.monotonic(), self._now()

    def until_now(self) -> dict[str, float]:
        """Mean cores of each process by name, the largest first."""
        seconds = time.monotonic() - self._begun
        shares = {
            name: (used - self._before.get((name, pid), 0.0)) / seconds
            for (name, pid), used in self._now().items()
        }
        return dict(sorted(shares.items(), key=lambda item: -item[1]))

    def _now(self) -> dict[tuple[str, int], float]:
        pids = {name: process.pid for name, process in self._processes().items()}
        used = {}
        for name, pid in (pids | {"operator": os.getpid()}).items():
            with suppress(OSError):  # it has ended
                used[name, pid] = processor_seconds(pid)
        return used
