"""The gate, the process that controls the arm, and a simulated robot, in real time without ROS."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from types import TracebackType

import numpy as np
from gwm.graph.environment import prioritize
from gwm.hardware.fci.control_process import ControlProcess
from gwm.hardware.fci.link import RobotState

from gwm_core.control.client_monitor import ClientMonitor
from gwm_core.control.gate.config import GateConfig
from gwm_core.control.gate.gate import Gate
from gwm_core.control.recovery import MODES, SILENCE
from gwm_core.control.stop_trajectory import Reference
from gwm_core.gate_status import State
from gwm_core.geometry.kinematics import HOME_Q
from gwm_core.sim.fci.arm import TorqueArm
from gwm_core.sim.fci.command_rules import PERIOD
from gwm_core.sim.fci.robot_server import RobotServer
from gwm_core.sim.simulator import Simulator
from gwm_core.sim.tasks import sample_layout
from gwm_core.site.fci_settings import FciSettings
from gwm_core.types import OPEN_WIDTH, ActionChunk, ArmState

DT = 0.01  # [s] of the gate
ROBOT_PRIORITY = 20  # of SCHED_FIFO, where the system grants it
LATE = 0.05  # [s] of physics that the server makes up for; what exceeds it is lost
REACH = 0.4  # [rad] from home: within 1.6 s the TCP is at its speed limit most of the time


class Station:
    """Runs until it is closed. The gate is stepped in the thread of the caller.

    Attributes:
        robot: the server; call its methods by ``at_robot`` alone.
        gate_runs: whether the gate steps.
        sent: times [s] and references of the gate's commands.
        measured: times [s] and joints of the robot, every millisecond.
    """

    def __init__(self, seed: int = 0):
        sys.setswitchinterval(1e-4)  # the server's thread must not wait for the gate's
        self._rng = np.random.default_rng(seed)
        self._sim = Simulator()
        self._sim.reset(sample_layout("lift", 0))
        network = f"127.{2 + os.getpid() // 65536 % 100}.{os.getpid() // 256 % 256}"
        self.robot = RobotServer(TorqueArm(self._sim), [f"{network}.{k}" for k in range(1, 255)])
        self.robot.init()
        address = self.robot.hostname
        self.control = ControlProcess(address, FciSettings(real_time=False), self._on_state)
        self.gate = Gate(GateConfig())
        self.monitor = ClientMonitor(self.control.recover, self.gate.fault, "the robot")
        self.gate_runs = True
        self.sent: list[tuple[float, Reference]] = []
        self.measured: list[tuple[float, np.ndarray, np.ndarray]] = []
        self._state: RobotState | None = None
        self._state_at = -np.inf
        self._requests: deque[Callable[[], None]] = deque()
        self.serves = True
        self._over = False
        self._next = time.monotonic()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def __enter__(self) -> Station:
        return self

    def __exit__(
        self, kind: type | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.control.close()
        self._over = True
        self._thread.join()
        self.robot.cleanup()

    def _serve(self) -> None:
        prioritize(ROBOT_PRIORITY)
        due = time.monotonic()
        while not self._over:
            while self._requests:
                self._requests.popleft()()
            if self.serves:
                self.robot.tick()
                self.measured.append((time.monotonic(), self._sim.q, self._sim.dq))
            due = max(due + PERIOD, time.monotonic() - LATE)
            time.sleep(max(0.0, due - time.monotonic()))

    def at_robot(self, act: Callable[[], None]) -> None:
        """Call ``act`` in the robot's thread, and wait for it."""
        done = threading.Event()
        self._requests.append(lambda: (act(), done.set()))
        if not done.wait(5.0):
            raise RuntimeError("the robot's thread does not answer")

    def _on_state(self, state: RobotState) -> None:
        now = time.monotonic()
        self._state, self._state_at = state, now
        self.gate.measure(ArmState(round(now * 1e9), state.q, state.dq, OPEN_WIDTH), now)

    @property
    def q(self) -> np.ndarray:
        """Measured joints (7,) [rad] as the gate has them."""
        return self._state.q

    def tick(self) -> None:
        """One period of the gate."""
        for _ in range(2):
            self._next = max(self._next + DT / 2, time.monotonic() - LATE)
            time.sleep(max(0.0, self._next - time.monotonic()))
            self.control.poll(time.monotonic())
        now = time.monotonic()
        known = self._state is not None and now - self._state_at < SILENCE
        mode = MODES[self._state.mode] if known else ""
        if self.control.trouble or mode:
            self.monitor.receive(mode, self.control.trouble, now)
        self.monitor.tick(now)
        if not self.gate_runs:
            return
        self.gate.receive_policy_heartbeat(1, now)
        command = self.gate.step(now)
        if command is not None:
            self.control.send(command.reference)
            self.sent.append((now, command.reference))

    def run(self, seconds: float) -> None:
        """Run for a time."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.tick()

    def run_until(self, done: Callable[[], bool], limit: float) -> float:
        """Run until ``done()``. Returns the time [s] it took; raises TimeoutError at ``limit``."""
        begin = time.monotonic()
        while not done():
            if time.monotonic() - begin > limit:
                raise TimeoutError(f"not within {limit} s; {self.situation}")
            self.tick()
        return time.monotonic() - begin

    @property
    def situation(self) -> str:
        """The states of all parts, in words."""
        trouble = self.monitor.trouble(time.monotonic())
        return (
            f"gate {self.gate.state.name} ({self.gate.cause}), robot {self.robot.mode.name},"
            f" trouble '{trouble}', in control {self.control.in_control}"
        )

    def arm(self) -> None:
        """Wait for the robot, recover it where needed, arm, and hold until it follows."""
        self.run_until(lambda: self._state is not None and self.robot_answers, 20.0)
        self.run_until(lambda: self.gate.state in (State.HOLD, State.FAULT, State.DISARMED), 3.0)
        if self.gate.state is State.FAULT:
            self.reset()
        self.run(0.2)
        self.run_until(lambda: self.gate.arm(time.monotonic()) == "", 3.0)
        self.run_until(lambda: self.control.in_control, 2.0)

    @property
    def robot_answers(self) -> bool:
        """Whether fresh states come."""
        return time.monotonic() - self._state_at < 0.1

    def reset(self) -> None:
        """What ``gate/reset`` does: one recovery, then out of FAULT."""
        now = time.monotonic()
        if self.monitor.needs_recovery(self.gate.cause, now):
            if reason := self.monitor.recover(now, self.gate.reset):
                raise RuntimeError(f"no recovery: {reason}; {self.situation}")
            self.run_until(lambda: self.gate.state is not State.FAULT, 5.0)
        elif reason := self.gate.reset():
            raise RuntimeError(f"no reset: {reason}; {self.situation}")

    def offer(self) -> None:
        """Offer the gate a plan to somewhere near, until it takes one."""
        for _ in range(200):
            q_end = HOME_Q + self._rng.uniform(-REACH, REACH, 7)
            fraction = np.linspace(1 / 16, 1, 16)[:, None]
            now = time.monotonic()
            chunk = ActionChunk(
                round((now - 0.1) * 1e9), self.q + fraction * (q_end - self.q), np.full(16, 0.08)
            )
            if not self.gate.accept(chunk, 0.1, now):
                return
            if self.gate.state is State.HOLD and self.gate.cause != "armed":
                self.gate.arm(now)
            self.tick()
        raise RuntimeError(f"no plan is accepted any more; {self.situation}")

    def move(self, seconds: float) -> None:
        """Follow plans for a time, a new one every second."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self.offer()
            self.run(min(1.0, left))


def tracking(
    sent: list[tuple[float, Reference]], measured: list[tuple[float, np.ndarray, np.ndarray]]
) -> tuple[float, float, float]:
    """The constant lag [s], and root mean square and largest error [rad] after it."""
    times = np.array([time for time, _ in sent])
    wanted = np.array([reference.q for _, reference in sent])
    at = np.array([time for time, *_ in measured])
    q = np.array([q for _, q, _ in measured])
    inside = (at > times[0] + 0.1) & (at < times[-1])
    best = (np.inf, 0.0, 0.0)
    for lag in np.arange(0.0, 0.1, 0.001):
        expected = np.stack([np.interp(at[inside] - lag, times, wanted[:, j]) for j in range(7)], 1)
        error = expected - q[inside]
        best = min(
            best, (float(np.sqrt(np.mean(error**2))), float(lag), float(np.abs(error).max()))
        )
    rms, lag, largest = best
    return lag, rms, largest
