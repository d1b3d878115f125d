"""Compare policies with and without features of the world model, on equal episodes and seeds."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from gwm_core.errors import InputError
from gwm_core.evaluation.policy_eval import EvalConfig, evaluate
from gwm_core.evaluation.stats.success_rates import paired_interval
from gwm_core.files.json_files import to_json
from gwm_core.model.config import PolicyConfig, TrainConfig
from gwm_core.runtime.world_features import WorldFeatures
from gwm_core.training.datasets.policy_samples import PolicySamples, load_samples, refuse_reserved
from gwm_core.training.train_policy import train_policy
from gwm_core.training.training_run import TrainingRun

WITH, WITHOUT = "with", "without"


@dataclass(frozen=True)
class FeatureStudy:
    """``seeds`` trainings for each number of demonstrations, evaluated on the same ``trials``."""

    data: Path  # episodes of one task
    world: Path  # folder of the world model
    out: Path
    task: str
    difficulty: str
    demos: tuple[int, ...]
    seeds: int
    trials: int
    first: int  # seed of the first trial
    policy: PolicyConfig
    train: TrainConfig
    processes: int
    renderer: str


def compare(
    study: FeatureStudy, progress: Callable[[int, int], None] = lambda *_: None
) -> list[dict]:
    """A row for each number of demonstrations: rates with and without features, their difference,
    and its 95 % interval.

    Networks and trials are kept in ``study.out``, so an interrupted study can be resumed. Raises
    InputError where ``study.out`` holds another study, or episodes have reserved seeds.
    """
    refuse_reserved([study.data])
    features = WorldFeatures(study.world)
    _save_settings(study)
    policy = replace(study.policy, lift=features.lift_config)
    configs = {WITHOUT: policy, WITH: replace(policy, world_features=features.channels)}
    jobs = [
        (name, demos, seed)
        for demos in study.demos
        for seed in range(study.seeds)
        for name in configs
    ]
    won, samples = {}, {}
    for done, (name, demos, seed) in enumerate(jobs):
        won[name, demos, seed] = _successes(study, configs[name], name, demos, seed, samples)
        progress(done + 1, len(jobs))
    rows = []
    for demos in study.demos:
        rates = {
            name: np.array([won[name, demos, seed] for seed in range(study.seeds)], float)
            for name in configs
        }
        difference, low, high = paired_interval(rates[WITH], rates[WITHOUT])
        rows.append(
            {
                "demos": demos,
                "difference": difference,
                "ci95": [low, high],
                **{name: rate.mean() for name, rate in rates.items()},
                **{f"{name}_by_seed": rate.mean(1).tolist() for name, rate in rates.items()},
            }
        )
    return rows


def _save_settings(study: FeatureStudy) -> None:
    """Save the study's settings so that a resumed run can be checked against them."""
    same = replace(study, out=Path(), demos=(), seeds=0, processes=0)
    note = f"{same} {(study.world / 'world.json').read_text()}"
    file = study.out / "study.txt"
    study.out.mkdir(parents=True, exist_ok=True)
    if file.exists() and file.read_text() != note:
        raise InputError(
            f"{study.out} holds a study with other settings: choose another --out or remove it"
        )
    file.write_text(note)


def _successes(
    study: FeatureStudy,
    config: PolicyConfig,
    name: str,
    demos: int,
    seed: int,
    samples: dict[str, PolicySamples],
) -> list[bool]:
    """Successes of the policy ``name`` trained on ``demos`` episodes and one for validation.

    Args:
        samples: by name; loaded samples are added.
    """
    folder = study.out / f"{study.task}_{study.difficulty}_{demos}_{name}_{seed}"
    file = folder / "trials.json"
    if file.exists():
        return json.loads(file.read_text())
    if not (folder / "manifest.json").exists():
        world = study.world if config.world_features else None
        if name not in samples:
            samples[name] = load_samples(
                [study.data], config.tasks, config.lift, study.processes, world=world
            )
        train = replace(study.train, held_out=1 / (demos + 1), seed=seed)
        train_policy(
            _first(samples[name], demos + 1),
            config,
            TrainingRun(train, folder, {"command": "gwm eval features"}),
            world=world,
        )
    trials = evaluate(
        EvalConfig(
            study.task,
            str(folder),
            study.trials,
            study.first,
            study.difficulty,
            renderer=study.renderer,
        ),
        study.processes,
    )
    won = [bool(trial.success) for trial in trials]
    file.write_text(to_json(won) + "\n")
    return won


def _first(samples: PolicySamples, episodes: int) -> PolicySamples:
    """The samples of the first ``episodes``. Raises InputError for fewer."""
    available = int(samples.episode.max()) + 1
    if available < episodes:
        raise InputError(
            f"{available} episodes are too few: {episodes} are wanted, one of them for validation"
        )
    kept = samples.episode < episodes
    return PolicySamples(
        **{
            name: value[kept] if isinstance(value, np.ndarray) else value
            for name, value in vars(samples).items()
        }
    )
