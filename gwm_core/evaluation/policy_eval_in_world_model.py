"""Evaluate a policy in predicted scenes: it acts on them, and success is predicted too.

Only the first scene is observed. A trial runs as long as a real one at most, by the same gate and
with the same latency, in ``imagined_rollout``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from gwm_core.errors import InputError
from gwm_core.geometry.kinematics import HOME_Q
from gwm_core.model.inputs import proprioception
from gwm_core.runtime.imagined_rollout import ImaginedTrial, imagined_rollout
from gwm_core.runtime.imagined_world import cpu_world
from gwm_core.runtime.planner import Planner
from gwm_core.scene.lift import lift
from gwm_core.sim.planners import make_planner
from gwm_core.sim.rollout import SimEnvironment, trial_gate
from gwm_core.sim.tasks import TIME_LIMIT, sample_layout
from gwm_core.types import OPEN_WIDTH, Observation
from gwm_core.workers.pool import workers


class WorldModelEnvironment:
    """Predicted trials, in which policies are evaluated. Use it in one thread.

    Args:
        model: folder of the policy that predicts. seconds: of the longest trial.
    """

    def __init__(self, model: Path, renderer: str = "egl", seconds: float = TIME_LIMIT):
        self._world = cpu_world(model)
        self._seconds = seconds
        self._environment = SimEnvironment(renderer=renderer)

    def planner(self, policy: str) -> Planner:
        """The planner of a policy, with scenes as large as the model takes.

        Raises InputError for the expert.
        """
        planner = make_planner(policy, gaussians=self._world.lift_config.count)
        if planner.policy.sees != "scene":
            raise InputError(
                f"the policy '{policy}' sees {planner.policy.sees}, and a model predicts scenes:"
                " name the folder of a trained policy"
            )
        return planner

    def trial(self, planner: Planner, task: str, seed: int, difficulty: str) -> ImaginedTrial:
        """One trial from the start of a seed. Deterministic.

        Raises InputError for a task that the model does not know.
        """
        sim = self._environment.sim
        layout = sample_layout(task, seed, difficulty)
        sim.data.time = 0.0
        sim.reset(layout)
        sim.teleport(HOME_Q)
        state = self._environment.state(OPEN_WIDTH)
        scene = lift(self._environment.frames(), self._world.lift_config, state.q)
        observation = Observation(state.stamp, (), state, layout.task)
        start = self._world.observe(scene, proprioception(state))
        return imagined_rollout(
            self._world, planner, trial_gate(), start, observation, seed, self._seconds
        )


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
    for model in {Path(job[0]) for job in jobs}:
        cpu_world(model)  # compiled once, before the processes need it
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
