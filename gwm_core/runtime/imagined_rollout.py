"""The closed loop in an imagined world: policy, latency and gate of a real trial.

The arm is ideal: it is where the gate's reference is. Every 0.4 s the policy observes the scene
that the model predicts from the rows that the gate sent.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np

from gwm_core.control.command_checker import check_commands, columns
from gwm_core.control.gate.gate import Gate
from gwm_core.control.gate.state_machine import Command
from gwm_core.errors import InputError, one_of
from gwm_core.geometry.kinematics import fk, to_rows
from gwm_core.runtime.imagined_world import ImaginedState, ImaginedWorld
from gwm_core.runtime.planner import MEASURED_LATENCY, DelayedPlanner, Planner
from gwm_core.types import CHUNK_DT, ArmState, Decision, Observation

ROWS = 4  # between two observations, as in real trials
BASE_ROWS = 8  # between two base states
LASTS = 3  # probabilities of success above one half, one after another, that end a trial


@dataclass(frozen=True)
class ImaginedTrial:
    """The outcome of a trial in a world model."""

    seed: int
    success: bool
    seconds: float  # imagined
    probabilities: list[float]  # of success, one for each prediction
    violations: int = 0  # of limits, by the commands that the gate sent
    stops: dict[str, int] = field(default_factory=dict)  # of the gate: cause -> count
    # cause -> count: chunks that the gate refused, and chunks that the planner could not make
    refused: dict[str, int] = field(default_factory=dict)
    end: ImaginedState | None = field(default=None, compare=False, repr=False)


def called_success(probabilities: list[float]) -> bool:
    """Whether ``LASTS`` probabilities in a row, anywhere, are above one half."""
    above = [probability > 0.5 for probability in probabilities]
    return any(all(above[k : k + LASTS]) for k in range(len(above) - LASTS + 1))


class PredictedStates:
    """States of an imagined world along rows, each predicted by one jump from a base state.

    The base moves on every ``BASE_ROWS`` rows. So errors are fed back that often, and not with
    every observation. Raises InputError for a model without such jumps.
    """

    def __init__(self, world: ImaginedWorld, start: ImaginedState):
        jumps = range(ROWS, BASE_ROWS + 1, ROWS)
        if not set(jumps) <= set(world.config.jumps):
            raise InputError(
                f"the model predicts jumps of {_listed(world.config.jumps)} rows: imagined trials"
                f" need {_listed(jumps)}"
            )
        self._world = world
        self._base = start
        self._rows = np.empty((0, 10))  # since the base

    def after(self, rows: np.ndarray) -> ImaginedState:
        """The state once pose rows (``ROWS``, 10), the next ones, are reached."""
        self._rows = np.concatenate([self._rows, rows])
        state = self._world.after(self._base, self._rows)
        if len(self._rows) == BASE_ROWS:
            self._base = state
            self._rows = self._rows[:0]
        return state


class _IdealArm:
    """An arm that is where the reference of its gate is. The gate runs at its own rate.

    Attributes:
        state: the arm now. seconds: since the start. commands: all that were sent.
    """

    def __init__(self, gate: Gate, start: ArmState):
        self._gate = gate
        self._start = start
        self._tick = 0
        self.state = start
        self.commands: list[Command] = []
        gate.measure_at_rest(start)

    @property
    def seconds(self) -> float:
        return self._tick / self._gate.config.rate_hz

    def drive(self, plans: DelayedPlanner, decide: Callable[[], Decision]) -> np.ndarray | None:
        """The next pose rows (``ROWS``, 10) that the gate sends; the policy observes at the start.

        None after a fault of the gate, which sends nothing then.
        """
        between = round(CHUNK_DT * self._gate.config.rate_hz)
        for tick in range(ROWS * between):
            command = self._step(plans)
            if command is None:
                return None
            if tick == 0:
                plans.plan(decide, self.seconds)
            self._follow(command)
        reached = self.commands[-ROWS * between :][between - 1 :: between]
        q = np.array([command.reference.q for command in reached])
        return to_rows(fk(q), np.array([command.width for command in reached]))

    def _step(self, plans: DelayedPlanner) -> Command | None:
        gate, now = self._gate, self.seconds
        gate.measure(self.state, now)
        gate.receive_policy_heartbeat(1, now)
        if self._tick == 0 and (reason := gate.arm(now)):
            raise InputError(f"an imagined trial cannot begin where the arm stands: {reason}")
        plans.deliver(gate.accept, now)
        return gate.step(now)

    def _follow(self, command: Command) -> None:
        self.commands.append(command)
        self._tick += 1
        stamp = self._start.stamp + round(self.seconds * 1e9)
        q, dq, _ = command.reference
        self.state = ArmState(stamp, q, dq, self.state.width, command.width)


def imagined_rollout(
    world: ImaginedWorld,
    planner: Planner,
    gate: Gate,
    start: ImaginedState,
    observation: Observation,
    seed: int,
    seconds: float,
    latency: tuple[float, ...] = MEASURED_LATENCY,
) -> ImaginedTrial:
    """Run one trial from the state of an observed scene. Deterministic for the same arguments.

    Raises InputError for a task that the model does not know, and where the arm may not move.

    Args:
        gate: new, and armed by itself here; its rate is a multiple of 10 Hz.
        observation: of the state, the arm at rest. Images in it are not used.
        seed: of the latencies. latency: as of ``sampled_latency``.
        seconds: after which a trial without success ends.
    """
    task = one_of("task", observation.task, world.config.tasks)
    imagined = start
    predictions = PredictedStates(world, start)
    arm = _IdealArm(gate, observation.state)
    plans = DelayedPlanner(ROWS * CHUNK_DT, seed, latency)
    probabilities: list[float] = []
    for _ in range(int(seconds / (ROWS * CHUNK_DT) + 1e-9)):
        seen = replace(observation, stamp=arm.state.stamp, frames=(), state=arm.state)
        rows = arm.drive(plans, partial(planner.plan, imagined.scene, seen))
        if rows is None:
            break
        imagined = predictions.after(rows)
        # the gripper needs its time, and stops at what the scene shows between its fingers
        arm.state = replace(arm.state, width=float(imagined.proprio[9]))
        probabilities.append(world.success(imagined, task))
        if called_success(probabilities):
            break
    return ImaginedTrial(
        seed=seed,
        success=called_success(probabilities),
        seconds=round(arm.seconds, 2),
        probabilities=probabilities,
        violations=_violations(gate, arm.commands),
        stops=dict(gate.counts.stops),
        refused=dict(gate.counts.refused) | plans.failures,
        end=imagined,
    )


def _violations(gate: Gate, commands: list[Command]) -> int:
    """Violations of the gate's limits that the independent checker finds."""
    return check_commands(
        *columns(commands),
        dt=1.0 / gate.config.rate_hz,
        tcp_speed=gate.profile.tcp_speed,
        workspace=gate.workspace,
        arm=gate.limits,
    ).total


def _listed(numbers) -> str:
    return ", ".join(map(str, numbers))
