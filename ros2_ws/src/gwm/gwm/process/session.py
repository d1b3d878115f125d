"""The graph for the time of a run. Its processes end in order, whatever happens during the run."""

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

INTERRUPTED = 130  # exit code after Ctrl-C, as a shell's commands have it


@contextmanager
def live(
    nodes: list[NodeSpec], log: Path, make: Callable[[], OperatorClient] = OperatorClient
) -> Iterator[tuple[OperatorClient, Supervisor]]:
    """Run ``nodes`` and the operator that ``make`` builds. The output of nodes goes to ``log``."""
    # A shell has its background jobs ignore SIGINT.
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
                raise GraphEnded(f"{error}; {_last_lines(log)}") from None
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
    """How a run ended. The defaults mean that nothing went wrong."""

    trouble: str = ""
    code: int = 0
    error: BaseException | None = None


@contextmanager
def ending() -> Iterator[SessionEnd]:
    """Catch trouble and Ctrl-C of a run, so that its table can be printed in any case."""
    end = SessionEnd()
    try:
        yield end
    except (RequestFailed, InputError, OSError) as error:
        end.trouble = str(error)
        end.code = 1 if isinstance(error, RequestFailed) else 2
        end.error = error
    except KeyboardInterrupt as error:
        end.trouble = "interrupted"
        end.code = INTERRUPTED
        end.error = error


def _last_lines(log: Path) -> str:
    lines = log.read_text().strip().splitlines()
    clear = [line for line in lines if line.startswith("gwm: ")] or lines
    return f"last in {log}: " + " | ".join(clear[-2:])


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Ignore Ctrl-C: an interrupted stop would leave processes behind."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


class IdleLoop:
    """An idle 100 Hz loop beside the graph.

    Attributes:
        figures: timing of the machine alone; filled at the end.
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
        self.figures = json.loads(text or "{}")  # empty where it ended before it began
