"""Evaluate a policy inside the world model: it acts on predicted scenes, and the model predicts
success.

Only the first scene is observed. The arm is assumed to reach every waypoint, without the gate's
limits. The gripper stops at what the predicted scene shows between its fingers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from gwm_core.errors import one_of
from gwm_core.geometry.kinematics import HOME_Q, Unreachable, fk, from_rows, solve, to_rows
from gwm_core.model.inputs import proprioception
from gwm_core.runtime.imagined_world import load_imagined_world
from gwm_core.runtime.planner import Planner
from gwm_core.runtime.world_runner import WorldRunner
from gwm_core.scene.gripped_width import gripped_width
from gwm_core.scene.lift import LiftConfig, as_lifted, lift
from gwm_core.sim.planners import make_planner
from gwm_core.sim.rollout import SimEnvironment
from gwm_core.sim.tasks import sample_layout
from gwm_core.types import CHUNK_DT, OPEN_WIDTH, ArmState, Observation
from gwm_core.worker_processes import workers

SECONDS = 15.0  # of a trial; longer predictions are of little value
# steps of 0.1 s for which success must be predicted; a training episode ends soon after success
LASTS = 3
LASTS_JUMPS = 2  # the same, of predictions a jump apart
JUMP = 8  # rows of a jump


@dataclass(frozen=True)
class ImaginedTrial:
    """A trial in the world model.

    ``done``: predicted probability of success after every step, or after every jump.
    """

    seed: int
    success: bool
    seconds: float
    done: list[float]


@dataclass(frozen=True)
class Advance:
    """What a model predicts of the rows of a chunk."""

    scene: np.ndarray  # (N, 14) at their end, as lifted
    width: float  # [m] of the gripper then
    done: list[float]  # probabilities of success on the way


class Dynamics(Protocol):
    """A model that predicts what an arm does to a scene.

    Attributes:
        rows: of a chunk that it takes at once. lasts: predictions of success in a row that count.
    """

    lift_config: LiftConfig
    rows: int
    lasts: int

    def begin(self, scene: np.ndarray, state: ArmState, task: str) -> None:
        """Start from an observed scene (N, 14), the arm at rest."""

    def advance(self, rows: np.ndarray) -> Advance:
        """The arm reaches pose rows (``rows``, 10)."""


class StepDynamics:
    """A world model of steps of 0.1 s, whose head knows no task."""

    rows, lasts = 4, LASTS

    def __init__(self, folder: Path):
        self._world = WorldRunner(folder)
        self.lift_config = self._world.lift_config

    def begin(self, scene: np.ndarray, state: ArmState, task: str) -> None:
        """As ``Dynamics.begin``."""
        T = fk(state.q)
        poses = np.repeat(T[None], self._world.context, axis=0)
        self._history, self._row = self._world.encode(scene, poses), to_rows(T, state.width)
        self._width = state.width

    def advance(self, rows: np.ndarray) -> Advance:
        """As ``Dynamics.advance``."""
        commanded = np.float32(np.vstack([self._row, rows]))
        latents, done = self._world.predict(self._history, commanded)
        self._history = np.concatenate([self._history, latents])[-self._world.context :]
        self._row = rows[-1]
        decoded = self._world.decode(latents[-1])
        self._width = gripped_width(decoded, from_rows(rows[-1]), self._width, rows[:, 9])
        return Advance(as_lifted(decoded, self.lift_config), self._width, done.tolist())


class JumpDynamics:
    """A world action model, by jumps of ``JUMP`` rows."""

    rows, lasts = JUMP, LASTS_JUMPS

    def __init__(self, folder: Path):
        self._world = load_imagined_world(folder)
        self.lift_config = self._world.lift_config

    def begin(self, scene: np.ndarray, state: ArmState, task: str) -> None:
        """As ``Dynamics.begin``. Raises InputError for a task that the model does not know."""
        self._task = one_of("task", task, self._world.config.tasks)
        self._state = self._world.observe(scene, proprioception(state))

    def advance(self, rows: np.ndarray) -> Advance:
        """As ``Dynamics.advance``."""
        self._state = self._world.after(self._state, rows)
        done = self._world.success(self._state, self._task)
        return Advance(self._state.scene, float(self._state.proprio[9]), [done])


class WorldModelEnvironment:
    """A model in which policies are evaluated. Use it in one thread."""

    def __init__(self, model: Path, renderer: str = "egl"):
        steps = (Path(model) / "world.json").exists()
        self._dynamics: Dynamics = StepDynamics(model) if steps else JumpDynamics(model)
        self._environment = SimEnvironment(renderer=renderer)

    def planner(self, policy: str) -> Planner:
        """The planner of a policy, with scenes as large as the model takes."""
        return make_planner(policy, gaussians=self._dynamics.lift_config.count)

    def trial(self, planner: Planner, task: str, seed: int, difficulty: str) -> ImaginedTrial:
        """One trial from the start of a seed. Deterministic."""
        dynamics, sim = self._dynamics, self._environment.sim
        layout = sample_layout(task, seed, difficulty)
        sim.data.time = 0.0
        sim.reset(layout)
        sim.teleport(HOME_Q)
        state = self._environment.state(OPEN_WIDTH)
        scene = lift(self._environment.frames(), dynamics.lift_config, state.q)
        dynamics.begin(scene, state, layout.task)
        row, done, seconds = to_rows(fk(state.q), state.width), [], 0.0
        while seconds < SECONDS and not _lasts(done, dynamics.lasts):
            observation = Observation(state.stamp, (), state, layout.task)
            rows = planner.policy.act(scene, observation)[: dynamics.rows]
            try:
                q = solve(rows, state.q)
            except Unreachable:  # no chunk: the arm holds
                rows = np.repeat(row[None], dynamics.rows, axis=0)
                q = np.repeat(state.q[None], dynamics.rows, axis=0)
            predicted, row = dynamics.advance(rows), rows[-1]
            scene, seconds = predicted.scene, seconds + len(rows) * CHUNK_DT
            done += predicted.done
            stamp = state.stamp + round(len(rows) * CHUNK_DT * 1e9)
            state = ArmState(stamp, q[-1], np.zeros(7), predicted.width, float(row[9]))
        return ImaginedTrial(seed, _lasts(done, dynamics.lasts), round(seconds, 1), done)


Job = tuple[str, str, str, str, int, str]  # model, policy, task, difficulty, seed, renderer
_environments: dict[str, WorldModelEnvironment] = {}
_planners: dict[tuple[str, str], Planner] = {}


def _trial(job: Job) -> ImaginedTrial:
    model, policy, task, difficulty, seed, renderer = job
    if model not in _environments:
        _environments[model] = WorldModelEnvironment(Path(model), renderer)
    if (model, policy) not in _planners:
        _planners[model, policy] = _environments[model].planner(policy)
    return _environments[model].trial(_planners[model, policy], task, seed, difficulty)


def run_trials_in_world_model(
    jobs: list[Job], processes: int, progress: Callable[[], None] = lambda: None
) -> list[ImaginedTrial]:
    """Run them, in order."""
    done = []
    with workers(processes, len(jobs)) as pool:
        for trial in pool.imap(_trial, jobs):
            done.append(trial)
            progress()
    return done


def _lasts(done: list[float], lasts: int) -> bool:
    """Whether the last ``lasts`` probabilities predict success."""
    return len(done) >= lasts and min(done[-lasts:]) > 0.5
