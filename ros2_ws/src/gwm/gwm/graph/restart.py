"""The consequences of a process's end, for `gwm up` and `ros2 launch` alike.

Standard library only, like ``gwm.graph.config``.
"""

from __future__ import annotations

import signal
from dataclasses import dataclass

from gwm.graph.process_list import NodeSpec

FIRST_DELAY = 0.5  # [s] until a process is restarted; doubled with every early end
MAX_DELAY = 30.0  # [s]
SETTLED = 30.0  # [s] a process that ran for that long is restarted after FIRST_DELAY
BAD_INPUT = 2  # exit code of a process that refused its input in one line


@dataclass(frozen=True)
class ProcessEnd:
    """The consequence of a process's end."""

    text: str  # for the operator
    over: bool = False  # the graph ends
    delay: float | None = None  # [s] until the restart; None: no restart


class Restarts:
    """Decides about restarts in one run of the graph.

    Only the end of an essential process ends the graph; the number of restarts has no limit.

    Attributes:
        refused: processes that are not restarted, with the reason.
    """

    def __init__(self):
        self._early: dict[str, int] = {}  # consecutive ends before SETTLED, by process
        # Processes that ran with these parameters. What they refuse later may be temporary.
        self._proven: set[str] = set()
        self.refused: dict[str, str] = {}

    def ended(self, node: NodeSpec, code: int, lived: float) -> ProcessEnd:
        """Return what follows. ``code`` is negative after a signal; it ran ``lived`` [s]."""
        how = f"{node.name} ended {_how(code)}"
        if node.essential:
            return ProcessEnd(f"{how}: the graph is stopped", over=True)
        if lived >= SETTLED:
            self._proven.add(node.name)
        if code == BAD_INPUT and node.name not in self._proven:
            text = (
                f"{how}, for the reason it has just given: not started again, the graph goes on"
                " without it"
            )
            self.refused[node.name] = text
            return ProcessEnd(text)
        early = self._early[node.name] = self._early.get(node.name, 0) + 1 if lived < SETTLED else 0
        delay = min(MAX_DELAY, FIRST_DELAY * 2 ** max(0, early - 1))
        return ProcessEnd(f"{how}: started again in {delay:g} s", delay=delay)

    def forget(self, name: str) -> None:
        """Forget a process's past: another one has its name from now on."""
        self._early.pop(name, None)
        self._proven.discard(name)
        self.refused.pop(name, None)

    def missing(self, early: int = 3) -> str:
        """Return processes that were refused or ended ``early`` times in a row; "" = none."""
        failing = [
            f"{name} ended {n} times in a row" for name, n in self._early.items() if n >= early
        ]
        return "; ".join([*self.refused.values(), *failing])


def _how(code: int) -> str:
    names = {number.value: number.name for number in signal.Signals}
    return f"by {names.get(-code, f'signal {-code}')}" if code < 0 else f"with exit code {code}"
