"""Compare policies that begin from one with futures with plain ones, on equal demonstrations.

Both are trained to several lengths. The length is chosen on one set of trials and reported on
another one.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from gwm_core.errors import InputError
from gwm_core.evaluation.policy_eval import EvalConfig
from gwm_core.evaluation.stats.success_rates import paired_interval
from gwm_core.evaluation.studies.study_folder import check_settings, kept, kept_successes
from gwm_core.model.checkpoint import load_predicting_policy
from gwm_core.model.config import WorldActionConfig, WorldActionTraining
from gwm_core.model.weights_file import digest, refuse_seen
from gwm_core.training.datasets.joint_samples import JointSamples, load_joint_samples
from gwm_core.training.train_world_action_model import train_world_action_model
from gwm_core.training.training_run import TrainingRun, lengths_of
from gwm_core.types import RESERVED

JOINT, PLAIN = "joint", "plain"
CHOOSING = RESERVED, 100  # first seed of the trials that lengths are chosen on, and their number


@dataclass(frozen=True)
class PretrainingStudy:
    """``seeds`` trainings for each number of demonstrations, evaluated on the same ``trials``."""

    data: Path  # episodes of one task
    begin: tuple[
        Path, ...
    ]  # folders of policies that predict, with their VAE: one for each seed in turn
    futures: tuple[Path, ...]  # episodes that these policies go on to predict, if any
    out: Path
    task: str
    difficulty: str
    demos: tuple[int, ...]
    lengths: tuple[int, ...]  # iterations
    seeds: int
    trials: int
    first: int  # seed of the first reported trial
    choosing: int  # trials that a length is chosen on
    train: WorldActionTraining
    processes: int
    renderer: str


def compare(
    study: PretrainingStudy,
    progress: Callable[[int, int], None] = lambda *_: None,
    note: Callable[[str], None] = warnings.warn,
) -> list[dict]:
    """A row for each number of demonstrations: both rates, their difference and its 95 % interval.

    Networks and trials are kept in ``study.out``, so an interrupted study can be resumed.

    Args:
        note: as of ``refuse_seen``.

    Raises:
        InputError: ``study.out`` holds another study, there are too few episodes, or the network
            to begin from has seen one of them.
    """
    loaded = _load(study, note)
    check_settings(study.out, _settings(study))
    jobs = [
        (kind, demos, seed)
        for demos in study.demos
        for seed in range(study.seeds)
        for kind in (PLAIN, JOINT)
    ]
    won, lengths = {}, {}
    for done, job in enumerate(jobs):
        lengths[job], won[job] = _successes(study, loaded, *job)
        progress(done + 1, len(jobs))
    return [_row(study, demos, won, lengths) for demos in study.demos]


def _row(study: PretrainingStudy, demos: int, won: dict, lengths: dict) -> dict:
    seeds = range(study.seeds)
    rates = {
        kind: np.array([won[kind, demos, seed] for seed in seeds], float) for kind in (PLAIN, JOINT)
    }
    difference, low, high = paired_interval(rates[JOINT], rates[PLAIN])
    row = {"demos": demos, "difference": difference, "ci95": [low, high]}
    for kind, rate in rates.items():
        row[kind] = rate.mean()
        row[f"{kind}_by_seed"] = rate.mean(1).tolist()
        row[f"{kind}_lengths"] = [lengths[kind, demos, seed] for seed in seeds]
    return row


def _load(study: PretrainingStudy, note: Callable[[str], None]) -> JointSamples:
    """All demonstrations and futures, of the tasks that the network to begin from knows."""
    config = _config(study.begin)
    loaded = load_joint_samples(
        config,
        [study.data],
        study.processes,
        lambda *_: None,
        lambda *_: None,
        [study.data, *study.futures] if study.futures else [],
        study.begin[0] if study.futures else None,
        study.begin[0],
        config.tasks,
    )
    available = len(loaded.demonstrations.starts)
    if available <= max(study.demos):
        raise InputError(
            f"{available} episodes are too few: {max(study.demos) + 1} are wanted, one of them for"
            " validation"
        )
    for folder in study.begin:
        refuse_seen(folder, "policy", loaded.demonstrations.starts, note)
    return loaded


def _config(folders: tuple[Path, ...]) -> WorldActionConfig:
    """The configuration of all policies to begin from."""
    configs = [load_predicting_policy(folder).config for folder in folders]
    for folder, config in zip(folders, configs):
        vaes = (digest(f / "vae.safetensors") for f in (folders[0], folder))
        if config != configs[0] or len(set(vaes)) > 1:
            raise InputError(
                f"the policy in {folder} is of another configuration or VAE than that in"
                f" {folders[0]}: --begin takes one kind"
            )
    return configs[0]


def _settings(study: PretrainingStudy) -> str:
    """What a resumed study must share: all but how much of it is done."""
    same = replace(study, out=Path(), demos=(), seeds=0, processes=0)
    return f"{same} {[digest(folder / 'policy.safetensors') for folder in study.begin]}"


def _successes(
    study: PretrainingStudy, loaded: JointSamples, kind: str, demos: int, seed: int
) -> tuple[int, list[bool]]:
    """The chosen length, and the successes of that policy trained on ``demos`` episodes and one for
    validation.
    """
    folder = study.out / f"{demos}_{kind}_{seed}"
    length, won = kept(
        folder / "trials.json", lambda: _train(study, loaded, folder, kind, demos, seed)
    )
    return length, won


def _train(
    study: PretrainingStudy, loaded: JointSamples, folder: Path, kind: str, demos: int, seed: int
) -> tuple[int, list[bool]]:
    """Train to every length, choose one, and run the reported trials."""
    some = loaded.first(demos + 1)
    config = some.config if kind == JOINT else replace(some.config, vae=None)
    train = replace(study.train, held_out=1 / (demos + 1), seed=seed)
    begin = study.begin[seed % len(study.begin)]
    given = (some.futures, begin, begin) if kind == JOINT else ()
    rates = {}
    whole = TrainingRun(train, folder, {"command": "gwm eval pretraining"})
    for run in lengths_of(whole, study.lengths):
        train_world_action_model(some.demonstrations, config, run, *given)
        chosen = _trials(study, run.out, CHOOSING[0], study.choosing, run.out / "choosing.json")
        rates[run.config.iterations] = np.mean(chosen)
    length = max(rates, key=lambda n: (rates[n], -n))  # of equals the shortest
    won = _trials(study, folder / str(length), study.first, study.trials, folder / "reported.json")
    return length, won


def _trials(
    study: PretrainingStudy, policy: Path, first: int, count: int, file: Path
) -> list[bool]:
    """Successes of trials, kept in ``file``."""
    config = EvalConfig(
        study.task, str(policy), count, first, study.difficulty, renderer=study.renderer
    )
    return kept_successes(config, study.processes, file)
