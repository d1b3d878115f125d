"""Starts the graph's processes, respawns those that may die, and stops the gate last."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import rclpy
from rclpy.context import Context

from gwm.graph import NodeSpec, command, environment, refuse_mixed_ros
from gwm.node import wait_to_be_alone
from gwm_core import topics

STOP_TIME = 8.0  # [s] for a clean stop before a process is killed


def refuse_second_graph() -> None:
    """Raise InputError when another gate is in this ROS domain."""
    os.environ.update(environment())
    context = Context()
    rclpy.init(args=[], context=context, signal_handler_options=rclpy.signals.SignalHandlerOptions.NO)
    node = rclpy.create_node("gwm_starter", context=context)
    try:
        wait_to_be_alone(node, topics.STATUS, own=0)
    finally:
        node.destroy_node()
        context.shutdown()


class Supervisor:
    """Runs a list of processes. Call ``poll`` often; it respawns and tells when the graph is over."""

    def __init__(self, nodes: list[NodeSpec], log=None, extra_environment: dict[str, str] | None = None):
        refuse_mixed_ros()
        self._nodes = {node.name: node for node in nodes}
        self._environment = {**os.environ, **environment(), **(extra_environment or {})}
        self._log = log
        self.processes: dict[str, subprocess.Popen] = {}
        self.respawns: dict[str, int] = {}
        self._young_deaths: dict[str, int] = {}
        self._born: dict[str, float] = {}
        self.code = 0  # what to exit with once the graph is over

    def start(self) -> None:
        """Start everything. Raises InputError when a graph runs in this ROS domain already."""
        refuse_second_graph()
        self.change(list(self._nodes.values()))

    def change(self, nodes: list[NodeSpec]) -> None:
        """Run these processes from now on: those that stay as they are go on, the others end first."""
        wanted = {node.name: node for node in nodes}
        gone = [name for name in self.processes if self._nodes[name] != wanted.get(name)]
        self._end(gone)
        for name in gone:
            del self.processes[name]
        self._nodes = wanted
        for name in [name for name in wanted if name not in self.processes]:
            self._spawn(name)

    def _spawn(self, name: str) -> None:
        # a session of their own, so that Ctrl-C reaches only the supervisor, which stops them in order
        self.processes[name] = subprocess.Popen(
            command(self._nodes[name]),
            env=self._environment | self._nodes[name].environment,
            stdout=self._log,
            stderr=subprocess.STDOUT if self._log else None,
            start_new_session=True,
        )
        self._born[name] = time.monotonic()

    def poll(self) -> str:
        """Respawn what may be respawned. Returns "" while all is well, else why the graph is over."""
        for name, process in list(self.processes.items()):
            if process.poll() is None:
                continue
            code, node = process.returncode, self._nodes[name]
            young = time.monotonic() - self._born[name] < 10.0
            self._young_deaths[name] = self._young_deaths.get(name, 0) + 1 if young else 0
            if not node.respawn or code == 2 or self._young_deaths[name] >= 3:
                self.code = 2 if code == 2 else 1
                return f"{name} ended with code {code}"
            self.respawns[name] = self.respawns.get(name, 0) + 1
            self._spawn(name)
        return ""

    def stop(self) -> None:
        """SIGINT to all but the gate, then to the gate, which ramps to rest first; kill what does not end."""
        self._end([name for name in self.processes if name != "gate"])
        self._end([name for name in self.processes if name == "gate"])

    def _end(self, names: list[str]) -> None:
        group = [self.processes[name] for name in names]
        for process in group:
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
        deadline = time.monotonic() + STOP_TIME
        for process in group:
            try:
                process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def up(nodes: list[NodeSpec]) -> int:
    """Run the graph until Ctrl-C (exit 0) or until an essential process dies (exit 1, or 2 on bad input)."""
    for number in (signal.SIGINT, signal.SIGTERM):  # SIGINT too: a shell has its background jobs ignore it
        signal.signal(number, signal.default_int_handler)
    supervisor = Supervisor(nodes)
    try:
        supervisor.start()
        while not (over := supervisor.poll()):
            time.sleep(0.1)
        print(f"gwm: {over}; stopping the graph", file=sys.stderr)
        return supervisor.code
    except KeyboardInterrupt:
        return 0
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        supervisor.stop()
