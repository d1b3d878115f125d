"""What the staged faults share: a moving arm, an outcome, a ramp that must be clean."""

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
    """Of one injection: time [s] from the fault to what the scenario asks for, and whether all else
    held.
    """

    seconds: float
    held: bool


@dataclass(frozen=True)
class Scenario:
    """A row of the fault table; ``share`` of the injections must pass."""

    id: int
    name: str
    limit: float  # [s]
    stage: Callable[[np.random.Generator], FaultOutcome]
    injections: int = 20
    share: float = 1.0


def moving(rng, config: GateConfig = GateConfig()) -> SimulatedArm:
    """A rig in the middle of a plan, at a random phase of everything."""
    rig = SimulatedArm(config, phases=(rng.uniform(0, 0.02), rng.uniform(0, 0.01)))
    rig.start()
    give_plan(rng, rig)
    rig.run(rng.uniform(0.3, 0.9))
    return rig


def give_plan(rng, rig: SimulatedArm) -> ActionChunk:
    """Give it a plan that it follows."""
    for _ in range(50):
        chunk = rig.chunk(rig.q + rng.uniform(-FAST, FAST, 7))
        if rig.offer(chunk) == "":
            return chunk
    raise RuntimeError("no plan is accepted any more")


def clean(rig: SimulatedArm) -> bool:
    """Whether the judge finds nothing in all that was sent."""
    return rig.verdict.total == 0


def stopped(rig: SimulatedArm, cause: str) -> bool:
    """The ramp has ended within 350 ms, under its one cause, with nothing wrong on the way."""
    ramp = rig.run_until(lambda: rig.gate.state not in (State.RUNNING, State.STOPPING))
    return ramp <= 0.35 and rig.gate.counts.stops == {cause: 1} and clean(rig)


def ramp(rig: SimulatedArm, fault: float, cause: str) -> FaultOutcome:
    """Run until the ramp begins and then to its end; seconds from ``fault`` [s]."""
    rig.run_until(lambda: rig.gate.state is not State.RUNNING)
    return FaultOutcome(rig.now - fault, stopped(rig, cause))
