"""A gate with an arm that follows each command one period later, and a policy that is alive."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from gwm_core.control.command_checker import CheckResult, check_commands, columns
from gwm_core.control.gate.config import GateConfig
from gwm_core.control.gate.gate import Gate
from gwm_core.control.gate.state_machine import Command
from gwm_core.gate_status import State
from gwm_core.geometry.kinematics import HOME_Q
from gwm_core.types import OPEN_WIDTH, ActionChunk, ArmState

# [s] periods
HEARTBEAT = 0.02  # of the policy
JOINTS = 0.01  # of the arm's joint states
SCORE = 0.4  # of divergence scores


class SimulatedArm:
    """Steps a gate at its rate and keeps what it sent.

    Times are in seconds on the gate's clock, and nothing waits.

    Args:
        config: of the gate; ``more`` are the other arguments of ``Gate``.
        phases: [s] from a step of the gate to the heartbeat and to the joint state after it.

    Attributes:
        q: (7,) [rad] where the arm is.
        log: the result of every step. times, true_q: when commands were sent, and ``q`` then.
        false_joints: replaces joints (7,) in the joint states, or None.
        score: divergence score that is sent every ``SCORE``, or None.
        sends_heartbeats, sends_joints, follows: whether policy, joint states and arm work.
        heartbeats_end, joints_end: [s] from which on they do not.
    """

    def __init__(
        self, config: GateConfig = GateConfig(), phases: tuple[float, float] = (0.0, 0.0), **more
    ):
        self.gate = Gate(config, **more)
        self.now = 100.0
        self.q = HOME_Q.copy()
        self.log: list[Command | None] = []
        self.times: list[float] = []
        self.true_q: list[np.ndarray] = []
        self.false_joints: Callable[[np.ndarray], np.ndarray] | None = None
        self.score: float | None = None
        self.scored_at = -np.inf
        self.sends_heartbeats = True
        self.sends_joints = True
        self.follows = True
        self.heartbeats_end = np.inf
        self.joints_end = np.inf
        self.clock_offset = 3600.0  # [s] from the gate's clock to the host's
        self.dt = 1.0 / config.rate_hz
        self._not_running_at = -np.inf
        self._next_heartbeat, self._next_joints = (self.now + phase for phase in phases)

    def stamp(self, age: float = 0.0) -> int:
        """Host time ``age`` seconds ago [ns]."""
        return round((self.now + self.clock_offset - age) * 1e9)

    def tick(self, length: float | None = None) -> Command | None:
        """One period: joints and heartbeats in, a command out, the arm moved."""
        self._next_heartbeat, self._next_joints = (
            max(self._next_heartbeat, self.now),
            max(self._next_joints, self.now),
        )
        self.now += self.dt if length is None else length
        while self._next_joints <= self.now + 1e-9:
            if self.sends_joints and self._next_joints < self.joints_end:
                self.measure(
                    self.q if self.false_joints is None else self.false_joints(self.q),
                    self._next_joints,
                )
            self._next_joints += JOINTS
        while self._next_heartbeat <= self.now + 1e-9:
            if self.sends_heartbeats and self._next_heartbeat < self.heartbeats_end:
                self.gate.receive_policy_heartbeat(1, self._next_heartbeat)
            self._next_heartbeat += HEARTBEAT
        if self.score is not None and self.now - self.scored_at >= SCORE:
            self.gate.receive_divergence(self.score, self.now)
            self.scored_at = self.now
        command = self.gate.step(self.now)
        self.log.append(command)
        self._not_running_at = (
            self._not_running_at if self.gate.state is State.RUNNING else self.now
        )
        if command is not None:
            self.times.append(self.now)
            self.true_q.append(self.q)
            self.q = command.reference.q if self.follows else self.q
        return command

    def measure(self, q: np.ndarray, at: float | None = None) -> None:
        """Send a joint state of ``q`` (7,) [rad], now or at a time [s]."""
        at = self.now if at is None else at
        self.gate.measure(ArmState(self.stamp(self.now - at), q, np.zeros(7), OPEN_WIDTH), at)

    def stall(self, seconds: float, q: np.ndarray | None = None) -> None:
        """Let the gate miss ``seconds``; then only the newest joint state is there, or ``q``."""
        self.now += seconds
        if q is not None:
            self.measure(q)

    @property
    def unwatched(self) -> float:
        """For how long [s] a chunk has been followed without a divergence score."""
        return (
            self.now - max(self.scored_at, self._not_running_at)
            if self.log[-1] and self.log[-1].chunk_id
            else 0.0
        )

    @property
    def check_result(self) -> CheckResult:
        """Check all that was sent, with the knowledge of where the arm was."""
        g = self.gate
        return check_commands(
            *columns(self.sent),
            stamps=np.array(self.times),
            measured=np.array(self.true_q).reshape(-1, 7),
            tcp_speed=g.profile.tcp_speed,
            arm=g.limits,
            workspace=g.workspace,
        )

    def run(self, seconds: float) -> None:
        """Run for many periods."""
        for _ in range(round(seconds / self.dt)):
            self.tick()

    def run_until(self, done: Callable[[], bool], limit: float = 2.0) -> float:
        """Run until ``done()``. Returns the time [s] it took; inf when it exceeds ``limit``."""
        begin = self.now
        while not done():
            if self.now - begin > limit:
                return np.inf
            self.tick()
        return self.now - begin

    def start(self) -> None:
        """Measure for a while, arm, and hold for half a second."""
        self.run(0.2)
        self.arm()
        self.run(0.5)

    def arm(self) -> None:
        """Arm. Raises RuntimeError with the gate's reason where it refuses."""
        if reason := self.gate.arm(self.now):
            raise RuntimeError(f"the gate does not arm: {reason}")

    def chunk(
        self, q_end: np.ndarray, age: float = 0.1, rows: int = 16, width: float = OPEN_WIDTH
    ) -> ActionChunk:
        """A straight chunk in joint space from where the arm is to ``q_end``."""
        fraction = np.linspace(1 / rows, 1, rows)[:, None]
        return ActionChunk(
            self.stamp(age), self.q + fraction * (q_end - self.q), np.full(rows, width)
        )

    def offer(self, chunk: ActionChunk, age: float = 0.1) -> str:
        """Offer the gate a chunk. Returns its answer."""
        return self.gate.accept(chunk, age, self.now)

    @property
    def sent(self) -> list[Command]:
        """Commands that were sent."""
        return [command for command in self.log if command is not None]
