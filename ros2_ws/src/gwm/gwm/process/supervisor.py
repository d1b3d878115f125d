"""Starts the graph's processes, starts again those that may end, and stops the gate last."""

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
PATIENCE = 2.0  # [s] of a stop until it says again what is waited for


def refuse_second_graph() -> None:
    """Raise InputError when another gate is in this ROS domain."""
    os.environ.update(process_environment())
    context = Context()
    rclpy.init(
        args=[], context=context, signal_handler_options=rclpy.signals.SignalHandlerOptions.NO
    )
    node = rclpy.create_node("gwm_starter", context=context)
    try:
        wait_to_be_alone(node, topics.STATUS, own=0)
    finally:
        node.destroy_node()
        context.shutdown()


def open_log(path: Path, mode: str = "w"):
    """A log file that nobody but its owner can read: what processes print may hold the console's
    token.
    """
    file = open(path, mode, opener=lambda name, flags: os.open(name, flags, 0o600))  # noqa: SIM115
    os.fchmod(file.fileno(), 0o600)  # one that was there already too
    return file


class Supervisor:
    """Runs a list of processes. Call ``poll`` often; it starts again what ended and tells when the
    graph is over.
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
        self._due: dict[str, float] = {}  # when a process that ended is started again
        self.code = 0  # what to exit with once the graph is over

    def start(self) -> None:
        """Start everything. Raises InputError when a graph runs in this ROS domain already."""
        refuse_second_graph()
        self.change(list(self._nodes.values()))

    def change(self, nodes: list[NodeSpec]) -> None:
        """Run these processes from now on: those that stay as they are go on, the others end
        first.
        """
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
        # a session of their own, so that Ctrl-C reaches only the supervisor, which stops them in
        # order
        self.processes[name] = subprocess.Popen(
            command(self._nodes[name]),
            env=self._environment | self._nodes[name].environment,
            stdout=self._log,
            stderr=subprocess.STDOUT if self._log else None,
            start_new_session=True,
        )
        self._born[name] = time.monotonic()

    def poll(self) -> str:
        """Start again what is due. Returns "" while the graph goes on, else why it is over."""
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
        """As ``poll``, for a run that needs every process: it is over as well when one does not
        come back.
        """
        return self.poll() or self._restarts.missing()

    def stop(self) -> None:
        """SIGINT to all but the gate, then to the gate, which ramps to rest first; kill what does
        not end.
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
        told = begun
        while group and now - begun < STOP_TIME:
            time.sleep(0.02)
            now = time.monotonic()
            group = {name: process for name, process in group.items() if process.poll() is None}
            if group and now - told > PATIENCE:
                told = now
                self.say(
                    f"still waiting for {', '.join(group)}; what does not end is killed in "
                    f"{STOP_TIME - (now - begun):.0f} s"
                )
        for name, process in group.items():
            self.say(f"{name} did not end within {STOP_TIME:.0f} s: killed")
            process.kill()
            process.wait()

    def say(self, text: str, before: str = "") -> None:
        """Write a line to the log, or to stderr; nothing is to fail because nobody can read it, the
        stop least of all.

        Ctrl-C ends the reader of `gwm up | tee` first; a disk may be full.
        """
        with contextlib.suppress(OSError):
            print(f"{before}gwm: {text}", file=self._log or sys.stderr, flush=True)


def up(nodes: list[NodeSpec]) -> int:
    """Run the graph until Ctrl-C (exit 0) or until an essential process dies (exit 1, or 2 on bad
    input).
    """
    # SIGINT too: a shell has its background jobs ignore it
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
