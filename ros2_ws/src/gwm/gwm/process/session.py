"""The graph for as long as somebody drives it: what starts is ended in order, whatever happens on
the way.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import rclpy

from gwm.graph.environment import process_environment
from gwm.graph.process_list import NodeSpec
from gwm.process.supervisor import STOP_TIME, Supervisor, open_log
from gwm.ros.operator_client import GraphEnded, OperatorClient, RequestFailed
from gwm_core.errors import InputError

INTERRUPTED = 130  # exit code after Ctrl-C, as of a shell's commands


@contextmanager
def live(
    nodes: list[NodeSpec], log: Path, make: Callable[[], OperatorClient] = OperatorClient
) -> Iterator[tuple[OperatorClient, Supervisor]]:
    """Run ``nodes`` with a node beside them that ``make`` builds. Their output goes to ``log``."""
    # a shell has its background jobs ignore it
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.update(process_environment())
    rclpy.init(args=[], signal_handler_options=rclpy.signals.SignalHandlerOptions.NO)
    operator = make()
    try:
        with open_log(log) as file:
            supervisor = Supervisor(nodes, file)
            try:
                supervisor.start()
                yield operator, supervisor
            except GraphEnded as error:
                raise GraphEnded(f"{error}; {_last_words(log)}") from None
            except KeyboardInterrupt:
                names = ", ".join(
                    name for name, process in supervisor.processes.items() if process.poll() is None
                )
                wait = f"waiting for {names or 'nothing'} to end, {2 * STOP_TIME:.0f} s at most"
                print(f"\ngwm: interrupted; {wait}", file=sys.stderr, flush=True)
                raise
            finally:
                with uninterrupted():
                    supervisor.stop()
    finally:
        operator.destroy_node()
        rclpy.try_shutdown()


@dataclass
class SessionEnd:
    """How it ended: ``trouble`` is "", ``code`` 0 and ``error`` None where nothing went wrong."""

    trouble: str = ""
    code: int = 0
    error: BaseException | None = None


@contextmanager
def ending() -> Iterator[SessionEnd]:
    """Around what is to be followed by a table in any case: trouble and Ctrl-C end the block, and
    nothing more.
    """
    end = SessionEnd()
    try:
        yield end
    except (RequestFailed, InputError, OSError) as error:
        end.trouble, end.code, end.error = (
            str(error),
            1 if isinstance(error, RequestFailed) else 2,
            error,
        )
    except KeyboardInterrupt as error:
        end.trouble, end.code, end.error = "interrupted", INTERRUPTED, error


def _last_words(log: Path) -> str:
    lines = log.read_text().strip().splitlines()
    clear = [line for line in lines if line.startswith("gwm: ")] or lines
    return f"last in {log}: " + " | ".join(clear[-2:])


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Ctrl-C does nothing here: cut short, the end of a graph would leave processes behind."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


class IdleLoop:
    """An idle 100 Hz loop beside the graph; its ``figures`` when it is over tell what the machine
    alone did.
    """

    def __enter__(self) -> IdleLoop:
        command = [sys.executable, "-m", "gwm.process.idle_loop"]
        self._process = subprocess.Popen(
            command, stdout=subprocess.PIPE, text=True, process_group=0
        )
        self.figures: dict[str, float] = {}
        return self

    def __exit__(self, *error) -> None:
        self._process.terminate()
        text, _ = self._process.communicate()
        self.figures = json.loads(text or "{}")  # nothing where it ended before it began
