"""What becomes of the graph when one of its processes ends. `gwm up` and `ros2 launch` both ask
here.

Standard library only, like ``gwm.graph.process_list``.
"""

from __future__ import annotations

import signal
from dataclasses import dataclass

from gwm.graph.process_list import NodeSpec

FIRST, LONGEST = 0.5, 30.0  # [s] until a process is started again: doubled with every early end
SETTLED = 30.0  # [s] one that ran for that long is started again after FIRST
BAD_INPUT = 2  # exit code of a process that says in one line what a person has to mend


@dataclass(frozen=True)
class ProcessEnd:
    """What follows from the end of a process: the graph is ``over``, or it starts again after
    ``delay``, or neither.
    """

    text: str  # for the operator
    over: bool = False
    delay: float | None = None  # [s]


class Restarts:
    """Decides for one run of the graph. Only an essential process ends it; there is no limit that
    does.
    """

    def __init__(self):
        self._early: dict[str, int] = {}  # ends in a row before SETTLED, by process
        # processes that ran with these words: what they then refuse may pass
        self._proven: set[str] = set()
        self.refused: dict[str, str] = {}  # processes that are not started again: why

    def ended(self, node: NodeSpec, code: int, lived: float) -> ProcessEnd:
        """Of a process that ended with ``code`` (negative: by a signal) after ``lived`` seconds."""
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
        delay = min(LONGEST, FIRST * 2 ** max(0, early - 1))
        return ProcessEnd(f"{how}: started again in {delay:g} s", delay=delay)

    def forget(self, name: str) -> None:
        """It is another process from now on."""
        self._early.pop(name, None)
        self._proven.discard(name)
        self.refused.pop(name, None)

    def missing(self, early: int = 3) -> str:
        """Which processes are not to be counted on: refused, or ended early so many times in a row.
        "" = none.
        """
        failing = [
            f"{name} ended {n} times in a row" for name, n in self._early.items() if n >= early
        ]
        return "; ".join([*self.refused.values(), *failing])


def _how(code: int) -> str:
    names = {number.value: number.name for number in signal.Signals}
    return f"by {names.get(-code, f'signal {-code}')}" if code < 0 else f"with exit code {code}"
