"""Starts the graph's processes, respawns those that may die, and stops the gate last."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time

from gwm.graph import NodeSpec, command, environment, graph, refuse_mixed_ros

STOP_TIME = 8.0  # [s] for a clean stop before a process is killed
_PR_SET_PDEATHSIG = 1


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGINT)


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

    def start(self) -> None:
        """Start everything."""
        for name in self._nodes:
            self._spawn(name)

    def _spawn(self, name: str) -> None:
        # a session of their own, so that Ctrl-C reaches only the supervisor, which stops them in order
        self.processes[name] = subprocess.Popen(
            command(self._nodes[name]),
            env=self._environment,
            stdout=self._log,
            stderr=subprocess.STDOUT if self._log else None,
            start_new_session=True,
            preexec_fn=_die_with_parent,  # noqa: PLW1509  this process has no threads
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
                return f"{name} ended with code {code}"
            self.respawns[name] = self.respawns.get(name, 0) + 1
            self._spawn(name)
        return ""

    def stop(self) -> None:
        """SIGINT to all but the gate, then to the gate, which ramps to rest first; kill what does not end."""
        others = [p for n, p in self.processes.items() if n != "gate"]
        for group in (others, [p for n, p in self.processes.items() if n == "gate"]):
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


def up(arguments: dict[str, object]) -> int:
    """Run the graph until Ctrl-C (exit 0) or until an essential process dies (exit 1)."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    supervisor = Supervisor(graph(**arguments))
    supervisor.start()
    try:
        while not (over := supervisor.poll()):
            time.sleep(0.1)
        print(f"gwm: {over}; stopping the graph", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 0
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        supervisor.stop()
