"""Fixtures that are real implementations: the simulator, the expert, the gate."""

from __future__ import annotations

import random

import numpy as np
import pytest

from gwm_core.control.gate import Gate, GateConfig
from gwm_core.control.kinematics import HOME_Q
from gwm_core.types import OPEN_WIDTH, ArmState, Chunk

DT = 0.01


class FollowingArm:
    """An arm that does exactly what it was told one period before, and a policy that beats."""

    def __init__(self, config: GateConfig = GateConfig()):
        self.gate, self.now, self.q, self.log = Gate(config), 100.0, HOME_Q.copy(), []
        self.beats, self.measures, self.clock_offset = True, True, 3600.0

    def stamp(self, age: float = 0.0) -> int:
        return round((self.now + self.clock_offset - age) * 1e9)

    def run(self, seconds: float) -> None:
        for _ in range(round(seconds / DT)):
            self.now += DT
            if self.measures:
                self.gate.measure(ArmState(self.stamp(), self.q, np.zeros(7), OPEN_WIDTH), self.now)
            if self.beats:
                self.gate.beat(1, self.now)
            command = self.gate.step(self.now)
            self.log.append(command)
            if command is not None:
                self.q = command.reference.q

    def chunk(self, q_end: np.ndarray, age: float = 0.1, rows: int = 16, width: float = OPEN_WIDTH) -> Chunk:
        """A straight way from where the arm is to ``q_end``."""
        share = np.linspace(1 / rows, 1, rows)[:, None]
        return Chunk(self.stamp(age), self.q + share * (q_end - self.q), np.full(rows, width))

    def offer(self, chunk: Chunk, age: float = 0.1) -> str:
        return self.gate.accept(chunk, age, self.now)


@pytest.fixture
def arm() -> FollowingArm:
    arm = FollowingArm()
    arm.run(0.2)
    assert arm.gate.arm(arm.now) == ""
    arm.run(0.2)
    return arm


@pytest.fixture(scope="session")
def simulator():
    from gwm_core.sim.simulator import Simulator

    return Simulator()


@pytest.fixture(scope="session")
def renderer() -> str:
    from gwm_core.sim.camera import choose_renderer

    return choose_renderer()


@pytest.fixture
def domain(monkeypatch):
    """A ROS domain of its own."""
    from gwm.graph import environment

    monkeypatch.setenv("ROS_DOMAIN_ID", str(random.SystemRandom().randint(1, 100)))
    for name, value in environment().items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def operator(domain):
    """A node in that domain that stands where a person would."""
    rclpy = pytest.importorskip("rclpy")
    from gwm.operator import Operator

    rclpy.init(signal_handler_options=rclpy.signals.SignalHandlerOptions.NO)
    operator = Operator()
    yield operator
    operator.destroy_node()
    rclpy.try_shutdown()
