"""Start the graph's processes, restart those that may end, and stop the gate last."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import rclpy
from rclpy.context import Context

from gwm.graph.environment import process_environment, refuse_mixed_ros
from gwm.graph.process_list import NodeSpec, command
from gwm.graph.restart import BAD_INPUT, Restarts
from gwm.ros.node import wait_to_be_alone
from gwm_core import topics

STOP_TIME = 8.0  # [s] for a clean stop before a process is killed
REMIND_TIME = 2.0  # [s] between reports of what a stop waits for


def refuse_second_graph() -> None:
    """Raise InputError when another gate is in this ROS domain."""
    os.environ.update(process_environment())
    context = Context()
    rclpy.init(
        args=[], context=context, signal_handler_options=rclpy.signals.SignalHandlerOptions.NO
    )
    node = rclpy.create_node("gwm_starter", context=context)
    try:
        wait_to_be_alone(node, [topics.STATUS], own=0)
    finally:
        node.destroy_node()
        context.shutdown()


def open_log(path: Path, mode: str = "w"):
    """Open a log file that only its owner can read: output may hold the console's token."""
    file = open(path, mode, opener=lambda name, flags: os.open(name, flags, 0o600))  # noqa: SIM115
    os.fchmod(file.fileno(), 0o600)  # of an existing file too
    return file


class Supervisor:
    """Runs a list of processes. Call ``poll`` often: it restarts them and reports the graph's end.

    Attributes:
        processes: by name.
        respawns: how often each was restarted.
        code: the exit code once the graph is over.
    """

    def __init__(
        self, nodes: list[NodeSpec], log=None, extra_environment: dict[str, str] | None = None
    ):
        refuse_mixed_ros()
        self._nodes = {node.name: node for node in nodes}
        self._environment = {**os.environ, **process_environment(), **(extra_environment or {})}
        self._log = log
        self.processes: dict[str, subprocess.Popen] = {}
        self.respawns: dict[str, int] = {}
        self._restarts = Restarts()
        self._born: dict[str, float] = {}
        self._due: dict[str, float] = {}  # [s] when a process is to be restarted
        self.code = 0

    def start(self) -> None:
        """Start every process. Raises InputError where this ROS domain has a graph already."""
        refuse_second_graph()
        self.change(list(self._nodes.values()))

    def change(self, nodes: list[NodeSpec]) -> None:
        """Run these processes from now on. Unchanged ones keep running; the others end first."""
        wanted = {node.name: node for node in nodes}
        gone = [name for name in self.processes if self._nodes[name] != wanted.get(name)]
        self._end(gone)
        for name in gone:
            del self.processes[name]
            self._due.pop(name, None)
            self._restarts.forget(name)
        self._nodes = wanted
        for name in [name for name in wanted if name not in self.processes]:
            self._spawn(name)

    def _spawn(self, name: str) -> None:
        # In sessions of their own Ctrl-C reaches only the supervisor, which stops them in order.
        self.processes[name] = subprocess.Popen(
            command(self._nodes[name]),
            env=self._environment | self._nodes[name].environment,
            stdout=self._log,
            stderr=subprocess.STDOUT if self._log else None,
            start_new_session=True,
        )
        self._born[name] = time.monotonic()

    def poll(self) -> str:
        """Restart what is due. Returns "" while the graph runs, else why it is over."""
        now = time.monotonic()
        for name, process in list(self.processes.items()):
            if process.poll() is None or name in self._restarts.refused:
                continue
            if name not in self._due:
                ending = self._restarts.ended(
                    self._nodes[name], process.returncode, now - self._born[name]
                )
                if ending.over:
                    self.code = 2 if process.returncode == BAD_INPUT else 1
                    return ending.text
                self.say(ending.text)
                if ending.delay is not None:
                    self._due[name] = now + ending.delay
            elif now >= self._due[name]:
                del self._due[name]
                self.respawns[name] = self.respawns.get(name, 0) + 1
                self._spawn(name)
        return ""

    def poll_all(self) -> str:
        """As ``poll``, but the graph is also over when a process cannot be restarted."""
        return self.poll() or self._restarts.missing()

    def stop(self) -> None:
        """Send SIGINT to all but the gate, then to the gate, which ramps to rest.

        A process that does not end in ``STOP_TIME`` is killed.
        """
        self._end([name for name in self.processes if name != "gate"])
        self._end([name for name in self.processes if name == "gate"])

    def _end(self, names: list[str]) -> None:
        group = {
            name: self.processes[name] for name in names if self.processes[name].poll() is None
        }
        for process in group.values():
            process.send_signal(signal.SIGINT)
        begun = now = time.monotonic()
        reported = begun
        while group and now - begun < STOP_TIME:
            time.sleep(0.02)
            now = time.monotonic()
            group = {name: process for name, process in group.items() if process.poll() is None}
            if group and now - reported > REMIND_TIME:
                reported = now
                self.say(
                    f"still waiting for {', '.join(group)}; what does not end is killed in "
                    f"{STOP_TIME - (now - begun):.0f} s"
                )
        for name, process in group.items():
            self.say(f"{name} did not end within {STOP_TIME:.0f} s: killed")
            process.kill()
            process.wait()

    def say(self, text: str, before: str = "") -> None:
        """Write a line to the log, or to stderr. A failed write is ignored.

        Ctrl-C ends the reader of `gwm up | tee` first, and a disk may be full. Neither may keep the
        graph from stopping.
        """
        with contextlib.suppress(OSError):
            print(f"{before}gwm: {text}", file=self._log or sys.stderr, flush=True)


def up(nodes: list[NodeSpec]) -> int:
    """Run the graph until Ctrl-C (exit 0) or the end of an essential process.

    That is exit 1, or 2 where it refused its input.
    """
    # SIGINT too: a shell has its background jobs ignore it.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    supervisor = Supervisor(nodes)
    try:
        supervisor.start()
        while not (over := supervisor.poll()):
            time.sleep(0.1)
        supervisor.say(over)
        return supervisor.code
    except KeyboardInterrupt:
        supervisor.say(
            "stopping the graph, the gate last, which brings the arm to rest", before="\n"
        )
        return 0
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        supervisor.stop()
