"""Common parts of the injected faults: a moving arm, an outcome, a stop without violations."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from benchmarks.gate.simulated_arm import SimulatedArm
from gwm_core.control.gate.config import GateConfig
from gwm_core.gate_status import State
from gwm_core.types import ActionChunk

FAST = 0.6  # [rad] in 1.6 s: the TCP is at its speed limit most of the time


class FaultOutcome(NamedTuple):
    """Of one injection: [s] from the fault to the reaction, and whether all else held."""

    seconds: float
    held: bool


@dataclass(frozen=True)
class Scenario:
    """A row of the fault table; ``fraction`` of the injections must pass."""

    id: int
    name: str
    limit: float  # [s]
    inject: Callable[[np.random.Generator], FaultOutcome]
    injections: int = 20
    fraction: float = 1.0


def moving_arm(rng, config: GateConfig = GateConfig()) -> SimulatedArm:
    """An arm in the middle of a chunk, at a random phase of everything."""
    arm = SimulatedArm(config, phases=(rng.uniform(0, 0.02), rng.uniform(0, 0.01)))
    arm.start()
    give_chunk(rng, arm)
    arm.run(rng.uniform(0.3, 0.9))
    return arm


def give_chunk(rng, arm: SimulatedArm) -> ActionChunk:
    """Give it a chunk that it follows."""
    for _ in range(50):
        chunk = arm.chunk(arm.q + rng.uniform(-FAST, FAST, 7))
        if arm.offer(chunk) == "":
            return chunk
    raise RuntimeError("no plan is accepted any more")


def no_violations(arm: SimulatedArm) -> bool:
    """Whether the checker finds nothing in all that was sent."""
    return arm.check_result.total == 0


def stopped(arm: SimulatedArm, cause: str) -> bool:
    """Whether the ramp ends within 350 ms, under its one cause and without a violation."""
    ramp = arm.run_until(lambda: arm.gate.state not in (State.RUNNING, State.STOPPING))
    return ramp <= 0.35 and arm.gate.counts.stops == {cause: 1} and no_violations(arm)


def ramp(arm: SimulatedArm, fault: float, cause: str) -> FaultOutcome:
    """Run until the ramp begins and then to its end; the outcome's time is from ``fault`` [s]."""
    arm.run_until(lambda: arm.gate.state is not State.RUNNING)
    return FaultOutcome(arm.now - fault, stopped(arm, cause))
