"""How the error of predicted futures falls with the number of episodes that they are learned from.

Policies learn from the same demonstrations, and from nested sets of other episodes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from gwm_core.data.episode_info import list_all_episodes, read_infos, start_names
from gwm_core.errors import InputError, one_of
from gwm_core.evaluation.policy_eval import EvalConfig
from gwm_core.evaluation.stats.power_law import FEWEST_SIZES, FEWEST_SIZES_WITH_FLOOR, fit_power_law
from gwm_core.evaluation.stats.success_rates import paired_interval
from gwm_core.evaluation.studies.study_folder import check_settings, kept, kept_successes
from gwm_core.files.json_files import to_json
from gwm_core.model.checkpoint import load_policy
from gwm_core.model.config import WorldActionConfig, WorldActionTraining
from gwm_core.model.weights_file import digest
from gwm_core.model.world_action_model import WorldActionModel
from gwm_core.training.datasets.future_samples import FutureSamples, load_future_samples
from gwm_core.training.datasets.joint_samples import JointSamples, load_joint_samples
from gwm_core.training.policy_batches import fingerprint
from gwm_core.training.sample_arrays import SampleArrays
from gwm_core.training.train_world_action_model import future_errors, train_world_action_model
from gwm_core.training.training_run import TrainingRun, lengths_of, silent

_BATCH = 128  # samples whose futures are predicted at once


@dataclass(frozen=True)
class ScalingStudy:
    """A training for each of ``sizes`` and seeds, measured on the same held-out episodes."""

    data: Path  # demonstrations, the same for all trainings
    futures: tuple[Path, ...]  # episodes, of which a training learns from the first N of an order
    held_out: Path  # episodes that no training has seen
    vae: Path  # folder of the VAE whose latents are predicted
    out: Path
    sizes: tuple[int, ...]  # numbers N of episodes; those that began alike count once
    seeds: int  # each with an order of the episodes of its own
    config: WorldActionConfig
    train: WorldActionTraining
    device: str
    trials: int  # of every policy in simulation; 0: none
    task: str  # of the trials
    difficulty: str
    first: int  # seed of the first trial
    processes: int
    renderer: str


def measure_scaling(
    study: ScalingStudy,
    progress: Callable[[int, int], None] = silent,
    lifted: Callable[[int, int], None] = silent,
    encoded: Callable[[int, int], None] = silent,
) -> dict:
    """A row for each number of episodes, and the power laws that are fitted to them.

    Networks, trials and a record of every training are kept in ``study.out``, so an interrupted
    study can be resumed, also with more sizes or seeds.

    Returns:
        rows: with ``missed``, the fraction of the change over each jump that predictions miss.
        laws: of each jump, ``PowerLaw`` over the episodes; with a floor from 4 sizes on.

    Raises:
        InputError: ``study.out`` holds another study, a held-out episode is also learned from,
            there are too few episodes or sizes, or the task is unknown.
    """
    _refuse(study)
    loaded = load_joint_samples(
        study.config,
        [study.data],
        study.processes,
        lifted,
        encoded,
        study.futures,
        study.vae,
        device=study.device,
    )
    held = load_future_samples(
        [study.held_out], loaded.config, study.vae, study.processes, device=study.device
    )
    _refuse_loaded(study, loaded, held)
    check_settings(study.out, _settings(study, loaded, held))
    jobs = [(size, seed) for size in study.sizes for seed in range(study.seeds)]
    records = {}
    for done, (size, seed) in enumerate(jobs):
        folder = study.out / f"{size}_{seed}"
        records[size, seed] = kept(
            folder / "record.json",
            lambda size=size, seed=seed, folder=folder: _record(
                study, loaded, held, folder, size, seed
            ),
        )
        progress(done + 1, len(jobs))
    return _summary(study, loaded.config.jumps, records)


def _refuse(study: ScalingStudy) -> None:
    """Raise InputError where the sizes or episodes make no study, before anything is loaded."""
    if len(set(study.sizes)) < max(len(study.sizes), FEWEST_SIZES):
        raise InputError(
            f"--sizes takes {FEWEST_SIZES} or more different numbers of episodes, since a power law"
            f" is fitted to them: {' '.join(map(str, study.sizes))}"
        )
    seen, held = (
        set(start_names(read_infos(path for paths in listed.values() for path in paths)))
        for listed in map(list_all_episodes, ([study.data, *study.futures], [study.held_out]))
    )
    if both := sorted(seen & held):
        raise InputError(
            f"{len(both)} of the episodes in {study.held_out} are also learned from, as"
            f" '{both[0]}': --held-out takes others"
        )


def _refuse_loaded(study: ScalingStudy, loaded: JointSamples, held: FutureSamples) -> None:
    """Raise InputError where the samples are too few, or the task of the trials is unknown."""
    if (available := len(loaded.futures.starts)) < max(study.sizes):
        raise InputError(
            f"{available} episodes of --futures are too few: {max(study.sizes)} are wanted; those"
            " that began alike count once"
        )
    whole = np.unique(held.episode[held.valid.all(1)])  # as long as the longest jump
    if len(whole) < 2:
        raise InputError(
            f"{len(whole)} of the held-out episodes are as long as the longest jump: two or more"
            " are wanted, since intervals are over episodes too"
        )
    if study.trials:
        one_of("task", study.task, loaded.config.tasks)


def _settings(study: ScalingStudy, loaded: JointSamples, held: FutureSamples) -> str:
    """What a resumed study must share: all but how much of it is done."""
    samples = (loaded.demonstrations, loaded.futures, held)
    settings = {
        "config": asdict(loaded.config),
        "train": asdict(study.train),
        "vae": digest(study.vae / "vae.safetensors"),
        "samples": [[fingerprint(some), some.starts] for some in samples],
        "trials": [study.trials, study.task, study.difficulty, study.first],
    }
    return to_json(settings) + "\n"


def nested_starts(starts: tuple[str, ...], seed: int, size: int) -> list[str]:
    """The first ``size`` of ``starts`` in the order of a seed; a larger set contains a smaller."""
    order = np.random.default_rng(seed).permutation(len(starts))
    return sorted(starts[k] for k in order[:size])


def _record(
    study: ScalingStudy,
    loaded: JointSamples,
    held: FutureSamples,
    folder: Path,
    size: int,
    seed: int,
) -> dict:
    """Train on ``size`` episodes, measure the futures, and run the trials."""
    starts = nested_starts(loaded.futures.starts, seed, size)
    some, train = loaded.with_futures(starts), replace(study.train, seed=seed)
    whole = TrainingRun(train, folder, {"command": "gwm eval scaling"}, study.device)
    (run,) = lengths_of(whole, (train.iterations,), "--iterations")
    figures = train_world_action_model(
        some.demonstrations, some.config, run, some.futures, study.vae
    )
    errors, changes = errors_by_episode(load_policy(run.out).to(study.device), held)
    record = {
        "episodes": size,
        "seed": seed,
        "starts": starts,
        "position_mm": figures["position_mm"],
        "held_out": held.starts,
        "errors": errors.tolist(),
        "changes": changes.tolist(),
    }
    if study.trials:
        config = EvalConfig(
            study.task,
            str(run.out),
            study.trials,
            study.first,
            study.difficulty,
            renderer=study.renderer,
        )
        record["won"] = kept_successes(config, study.processes, folder / "reported.json")
    return record


@torch.no_grad()
def errors_by_episode(
    model: WorldActionModel, samples: FutureSamples
) -> tuple[np.ndarray, np.ndarray]:
    """Squared errors and changes (jumps, E) of the futures of E episodes, sums over their samples.

    Errors of each latent channel are relative to the spread of its changes in ``samples``, so that
    models of other training data are measured alike.
    """
    device = next(model.parameters()).device
    arrays = SampleArrays(samples, device)
    spread = _spread(samples).to(device)
    numbers = torch.arange(len(samples), device=device)
    parts = [future_errors(model, arrays.take(index), spread) for index in numbers.split(_BATCH)]
    errors, changes = (torch.cat(values).double() for values in zip(*parts))
    sums = torch.zeros(2, len(samples.starts), errors.shape[1], dtype=errors.dtype, device=device)
    for total, values in zip(sums, (errors, changes)):
        total.index_add_(0, arrays["episode"], torch.where(arrays["valid"], values, 0.0))
    return tuple(total.T.cpu().numpy() for total in sums)


def _spread(samples: FutureSamples) -> Tensor:
    """Standard deviations (jumps, D) of the changes of latents over each jump."""
    sums = np.zeros((3, samples.valid.shape[1], samples.latents.shape[-1]))  # of 1, x and x^2
    for part in np.array_split(np.arange(len(samples)), max(1, len(samples) // _BATCH)):
        latents = np.asarray(samples.latents[part], np.float64)
        changes = latents[:, 1:] - latents[:, :1]
        changes *= samples.valid[part][:, :, None, None]
        sums[0] += latents.shape[2] * samples.valid[part].sum(0)[:, None]
        sums[1:] += changes.sum((0, 2)), (changes**2).sum((0, 2))
    count, total, squares = sums
    return torch.from_numpy(np.sqrt((squares - total**2 / count) / (count - 1))).float()


def _summary(study: ScalingStudy, jumps: tuple[int, ...], records: dict) -> dict:
    """The figures of ``measure_scaling``."""
    errors, changes = (
        np.array(
            [[records[size, seed][name] for seed in range(study.seeds)] for size in study.sizes]
        )
        for name in ("errors", "changes")
    )  # both (N, S, jumps, E)
    missed = errors.sum(3) / changes.sum(3)
    rows = []
    for number, size in enumerate(study.sizes):
        row = {"episodes": size}
        for name, values in zip(jumps, missed[number].T):
            row |= {f"missed_{name}": values.mean(), f"missed_{name}_by_seed": values.tolist()}
        won = [records[size, seed].get("won") for seed in range(study.seeds)]
        rows.append(row | (_success(np.array(won, float)) if study.trials else {}))
    laws = []
    for number, jump in enumerate(jumps):
        change = changes[0, 0, number]
        there = change > 0  # too short an episode has no such future
        relative = errors[:, :, number, there] / change[there].mean()
        for floor in (False, True)[: 1 + (len(study.sizes) >= FEWEST_SIZES_WITH_FLOOR)]:
            law = fit_power_law(study.sizes, relative, floor)
            laws.append({"jump": jump, "with_floor": floor} | asdict(law))
    return {"rows": rows, "laws": laws}


def _success(won: np.ndarray) -> dict:
    """Success rate of outcomes (S, T), with its interval over trainings and trials."""
    rate, low, high = paired_interval(won, np.zeros_like(won))
    return {"success": rate, "ci95": [low, high], "success_by_seed": won.mean(1).tolist()}
