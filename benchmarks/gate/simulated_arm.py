"""A gate on the bench: an arm that does exactly what it was told one period before, and a policy
that beats.
"""

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

# [s] periods of the policy's beat, the arm's joint states, divergence
BEAT, JOINTS, SCORE = 0.02, 0.01, 0.4


class SimulatedArm:
    """Steps a gate at its rate and keeps what it sent. Times in seconds, on the gate's clock;
    nothing waits.

    Args:
        config: of the gate; ``more`` are the other arguments of ``Gate``.
        phases: [s] from a step of the gate to the beat and to the joint state after it.
    """

    def __init__(
        self, config: GateConfig = GateConfig(), phases: tuple[float, float] = (0.0, 0.0), **more
    ):
        self.gate, self.now, self.q, self.log = Gate(config, **more), 100.0, HOME_Q.copy(), []
        self.times: list[float] = []  # [s] of the commands that went out
        self.truth: list[np.ndarray] = []  # (7,) [rad] where the arm was then
        # what is said of joints (7,) in the place of them
        self.lie: Callable[[np.ndarray], np.ndarray] | None = None
        self.score: float | None = None  # of divergence, every SCORE
        self.scored_at = self._still_at = -np.inf
        self.beats, self.measures, self.clock_offset = True, True, 3600.0
        # the policy and the arm say nothing from then on
        self.silent_from = self.blind_from = np.inf
        self.obeys = True  # whether the arm moves
        self.dt = 1.0 / config.rate_hz
        self._next_beat, self._next_joints = (self.now + phase for phase in phases)

    def stamp(self, age: float = 0.0) -> int:
        """Host time ``age`` seconds ago [ns]."""
        return round((self.now + self.clock_offset - age) * 1e9)

    def tick(self, length: float | None = None) -> Command | None:
        """One period: joints in, beats in, command out, arm moved."""
        self._next_beat, self._next_joints = (
            max(self._next_beat, self.now),
            max(self._next_joints, self.now),
        )
        self.now += self.dt if length is None else length
        while self._next_joints <= self.now + 1e-9:
            if self.measures and self._next_joints < self.blind_from:
                self.measure(self.q if self.lie is None else self.lie(self.q), self._next_joints)
            self._next_joints += JOINTS
        while self._next_beat <= self.now + 1e-9:
            if self.beats and self._next_beat < self.silent_from:
                self.gate.receive_policy_heartbeat(1, self._next_beat)
            self._next_beat += BEAT
        if self.score is not None and self.now - self.scored_at >= SCORE:
            self.gate.receive_divergence(self.score, self.now)
            self.scored_at = self.now
        command = self.gate.step(self.now)
        self.log.append(command)
        self._still_at = self._still_at if self.gate.state is State.RUNNING else self.now
        if command is not None:
            self.times.append(self.now)
            self.truth.append(self.q)
            self.q = command.reference.q if self.obeys else self.q
        return command

    def measure(self, q: np.ndarray, at: float | None = None) -> None:
        """A joint state that says ``q`` (7,) [rad], now or at a time."""
        at = self.now if at is None else at
        self.gate.measure(ArmState(self.stamp(self.now - at), q, np.zeros(7), OPEN_WIDTH), at)

    def stall(self, seconds: float, q: np.ndarray | None = None) -> None:
        """The gate's process gets no time; the newest joint state alone is there afterwards, or
        another's: ``q``.
        """
        self.now += seconds
        if q is not None:
            self.measure(q)

    @property
    def unwatched(self) -> float:
        """For how long [s] a plan has been followed without a score."""
        return (
            self.now - max(self.scored_at, self._still_at)
            if self.log[-1] and self.log[-1].chunk_id
            else 0.0
        )

    @property
    def verdict(self) -> CheckResult:
        """The judge's, on all that went out, knowing where the arm was."""
        g = self.gate
        return check_commands(
            *columns(self.sent),
            stamps=np.array(self.times),
            measured=np.array(self.truth).reshape(-1, 7),
            tcp_speed=g.profile.tcp_speed,
            arm=g.limits,
            workspace=g.workspace,
        )

    def run(self, seconds: float) -> None:
        """Many periods."""
        for _ in range(round(seconds / self.dt)):
            self.tick()

    def run_until(self, done: Callable[[], bool], limit: float = 2.0) -> float:
        """Periods until ``done()``; the time they took [s], inf when it does not come true within
        ``limit``.
        """
        begin = self.now
        while not done():
            if self.now - begin > limit:
                return np.inf
            self.tick()
        return self.now - begin

    def start(self) -> None:
        """Measure for a while, arm, hold for half a second."""
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
        """A straight way from where the arm is to ``q_end``."""
        share = np.linspace(1 / rows, 1, rows)[:, None]
        return ActionChunk(self.stamp(age), self.q + share * (q_end - self.q), np.full(rows, width))

    def offer(self, chunk: ActionChunk, age: float = 0.1) -> str:
        """Give the gate a plan; its answer."""
        return self.gate.accept(chunk, age, self.now)

    @property
    def sent(self) -> list[Command]:
        """Commands that went out."""
        return [command for command in self.log if command is not None]
