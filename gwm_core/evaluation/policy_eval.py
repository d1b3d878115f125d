"""Success rate of a policy in simulation without ROS, deterministic for a seed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from gwm_core.address import is_remote
from gwm_core.errors import InputError
from gwm_core.runtime.planner import MEASURED_LATENCY, Planner
from gwm_core.sim.planners import make_planner
from gwm_core.sim.rollout import RolloutConfig, SimEnvironment, Trial, rollout
from gwm_core.sim.tasks import sample_layout
from gwm_core.workers.pool import workers


@dataclass(frozen=True)
class EvalConfig:
    """What to evaluate. ``policy``: a folder, a policy server, or "expert"."""

    task: str
    policy: str
    trials: int = 100
    seed: int = 5000
    difficulty: str = "nominal"
    latency: tuple[float, ...] = MEASURED_LATENCY  # [s] quantiles
    replan_every: int = 4
    renderer: str = "egl"
    backend: str = "auto"  # runtime of the policy, and its precision
    precision: str = "auto"
    candidates: int = 1  # plans of one scene, as of ``trained_planner``, without a deadline


_worlds: dict[bool, SimEnvironment] = {}  # with cameras, and without
_planners: dict[EvalConfig, Planner] = {}


def _trial(job: tuple[EvalConfig, int]) -> Trial:
    config, seed = job
    # trials that differ in these share a planner
    same = replace(config, task="", trials=0, seed=0, difficulty="")
    if same not in _planners:
        _planners[same] = _planner(config)
    planner = _planners[same]
    with_cameras = planner.policy.sees != "objects"
    if with_cameras not in _worlds:
        _worlds[with_cameras] = SimEnvironment(renderer=config.renderer, cameras=with_cameras)
    plan = RolloutConfig(latency=config.latency, replan_every=config.replan_every)
    return rollout(
        _worlds[with_cameras], planner, sample_layout(config.task, seed, config.difficulty), plan
    )


def _planner(config: EvalConfig) -> Planner:
    return make_planner(
        config.policy,
        backend=config.backend,
        precision=config.precision,
        candidates=config.candidates,
    )


def run_trials(jobs: list[tuple[EvalConfig, int]], processes: int) -> Iterator[Trial]:
    """Run the trial of every configuration and seed, in their order."""
    for config in {config for config, _ in jobs}:
        # check the names before processes start
        sample_layout(config.task, config.seed, config.difficulty)
        planner = _planner(config)  # check it too, and compile where that is needed
        if is_remote(config.policy):
            planner.close()  # a server may take one client
    with workers(processes, len(jobs)) as pool:
        yield from pool.imap(_trial, jobs)


def evaluate(
    config: EvalConfig, processes: int, progress: Callable[[Trial], None] = lambda t: None
) -> list[Trial]:
    """Run the trials on seeds from ``seed`` on, in the order of their seeds."""
    if config.trials < 1:
        raise InputError("at least one trial is needed")
    trials = []
    for trial in run_trials([(config, config.seed + i) for i in range(config.trials)], processes):
        trials.append(trial)
        progress(trial)
    return trials
