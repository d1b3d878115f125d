"""Evaluate a policy inside the world model: it acts on predicted scenes, and the model predicts
success.

Only the first scene is observed. A trial runs as long as a real one at most, by the same gate and
with the same latency, in ``imagined_rollout``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

import numpy as np

from gwm_core.errors import InputError
from gwm_core.geometry.kinematics import HOME_Q, Unreachable, fk, from_rows, solve, to_rows
from gwm_core.model.weights_file import predicts_steps
from gwm_core.runtime.imagined_rollout import LASTS, ImaginedTrial, called_success, imagined_rollout
from gwm_core.runtime.imagined_world import load_imagined_world
from gwm_core.runtime.planner import Planner
from gwm_core.runtime.world_runner import WorldRunner
from gwm_core.scene.gripped_width import gripped_width
from gwm_core.scene.lift import LiftConfig, as_lifted, lift
from gwm_core.sim.planners import make_planner
from gwm_core.sim.rollout import SimEnvironment, trial_gate
from gwm_core.sim.tasks import TIME_LIMIT, sample_layout
from gwm_core.types import CHUNK_DT, OPEN_WIDTH, ArmState, Observation
from gwm_core.worker_processes import workers


class Trials(Protocol):
    """A model that runs trials of a policy."""

    lift_config: LiftConfig

    def run(
        self, planner: Planner, scene: np.ndarray, observation: Observation, seed: int
    ) -> ImaginedTrial:
        """One trial from an observed scene (N, 14), the arm at rest."""


class JumpTrials:
    """Trials in a world action model. ``seconds``: of the longest."""

    def __init__(self, folder: Path, seconds: float = TIME_LIMIT):
        self._world = load_imagined_world(folder)
        self._seconds = seconds
        self.lift_config = self._world.lift_config

    def run(
        self, planner: Planner, scene: np.ndarray, observation: Observation, seed: int
    ) -> ImaginedTrial:
        """As ``Trials.run``. Raises InputError for a task that the model does not know."""
        return imagined_rollout(
            self._world, planner, trial_gate(), scene, observation, seed, self._seconds
        )


class WorldModelEnvironment:
    """A model in which policies are evaluated. Use it in one thread.

    Args:
        seconds: of the longest trial, where the model is a world action model.
    """

    def __init__(self, model: Path, renderer: str = "egl", seconds: float = TIME_LIMIT):
        steps = predicts_steps(model)
        self._trials: Trials = StepTrials(model) if steps else JumpTrials(model, seconds)
        self._environment = SimEnvironment(renderer=renderer)

    def planner(self, policy: str) -> Planner:
        """The planner of a policy, with scenes as large as the model takes.

        Raises InputError for the expert.
        """
        planner = make_planner(policy, gaussians=self._trials.lift_config.count)
        if planner.policy.sees != "scene":
            raise InputError(
                f"the policy '{policy}' sees the simulation's objects, and a model predicts scenes:"
                " name the folder of a trained policy"
            )
        return planner

    def trial(self, planner: Planner, task: str, seed: int, difficulty: str) -> ImaginedTrial:
        """One trial from the start of a seed. Deterministic."""
        sim = self._environment.sim
        layout = sample_layout(task, seed, difficulty)
        sim.data.time = 0.0
        sim.reset(layout)
        sim.teleport(HOME_Q)
        state = self._environment.state(OPEN_WIDTH)
        scene = lift(self._environment.frames(), self._trials.lift_config, state.q)
        observation = Observation(state.stamp, (), state, layout.task)
        return self._trials.run(planner, scene, observation, seed)


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


def imagined_trials(jobs: list[Job], processes: int) -> Iterator[ImaginedTrial]:
    """Run the trial of every job, in their order."""
    with workers(processes, len(jobs)) as pool:
        yield from pool.imap(_trial, jobs)


def run_trials_in_world_model(
    jobs: list[Job], processes: int, progress: Callable[[], None] = lambda: None
) -> list[ImaginedTrial]:
    """Run them, in order."""
    done = []
    for trial in imagined_trials(jobs, processes):
        done.append(trial)
        progress()
    return done


# ---- world models of steps, which world action models replace ---------------

STEP_SECONDS = 15.0  # of a trial; longer predictions by steps are of little value
_STEP_ROWS = 4  # of a chunk, before the next


class StepTrials:
    """Trials in a world model of steps of 0.1 s, whose head knows no task.

    The arm reaches every row, without gate and latency. The gripper stops at what the predicted
    scene shows between its fingers.
    """

    def __init__(self, folder: Path):
        self._world = WorldRunner(folder)
        self.lift_config = self._world.lift_config

    def run(
        self, planner: Planner, scene: np.ndarray, observation: Observation, seed: int
    ) -> ImaginedTrial:
        """As ``Trials.run``."""
        state = observation.state
        row = to_rows(fk(state.q), state.width)
        poses = np.repeat(fk(state.q)[None], self._world.context, axis=0)
        history, done, seconds = self._world.encode(scene, poses), [], 0.0
        while seconds < STEP_SECONDS and not called_success(done[-LASTS:]):
            now = Observation(state.stamp, (), state, observation.task)
            rows = planner.policy.act(scene, now)[:_STEP_ROWS]
            try:
                q = solve(rows, state.q)
            except Unreachable:  # no chunk: the arm holds
                rows = np.repeat(row[None], _STEP_ROWS, axis=0)
                q = np.repeat(state.q[None], _STEP_ROWS, axis=0)
            latents, probabilities = self._world.predict(
                history, np.float32(np.vstack([row, rows]))
            )
            history = np.concatenate([history, latents])[-self._world.context :]
            decoded, row = self._world.decode(latents[-1]), rows[-1]
            width = gripped_width(decoded, from_rows(row), state.width, rows[:, 9])
            scene = as_lifted(decoded, self.lift_config)
            seconds += len(rows) * CHUNK_DT
            done += probabilities.tolist()
            stamp = state.stamp + round(len(rows) * CHUNK_DT * 1e9)
            state = ArmState(stamp, q[-1], np.zeros(7), width, float(row[9]))
        return ImaginedTrial(seed, called_success(done[-LASTS:]), round(seconds, 1), done)
