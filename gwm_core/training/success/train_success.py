"""Fit the success head of a trained policy to further episodes, and calibrate it."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from gwm_core.data.episode_info import list_all_episodes, read_infos, start_names, verdict
from gwm_core.errors import InputError, one_of
from gwm_core.model.checkpoint import load_predicting_policy, load_vae, save_policy
from gwm_core.model.weights_file import digest, read_weights, refuse_seen
from gwm_core.training.datasets.future_samples import FutureSamples, load_future_samples
from gwm_core.training.datasets.policy_samples import refuse_mixed, refuse_reserved
from gwm_core.training.success.fit_success import fit_success
from gwm_core.training.success.success_calibration import calibrate_success
from gwm_core.training.training_loop import finish
from gwm_core.training.training_run import Progress, TrainingRun, held_out, silent

# of a head that was fitted earlier
_OF_HEAD = ("done", "done_missed", "value_auc")
FIGURES = {*_OF_HEAD, *(f"predicted_{name}" for name in _OF_HEAD), "calibration"}


@dataclass(frozen=True)
class SuccessSamples:
    """Samples to fit the success head to, and of the trials to calibrate it on, if any."""

    fitted: FutureSamples
    trials: FutureSamples | None


def load_success_samples(
    policy: Path,
    data: Sequence[Path],
    calibrate: Sequence[Path],
    processes: int,
    encoded: Callable[[int, int], None],
    note: Callable[[str], None] = warnings.warn,
    device: str = "cpu",
) -> SuccessSamples:
    """Load all episodes below ``data``, and the trials below ``calibrate``.

    Args:
        policy: folder of the policy. encoded: called with the episodes done and their
            number. note: as of ``refuse_seen``. device: that makes the latents.

    Raises:
        InputError: the policy predicts nothing, cameras differ, an episode is reserved for
            evaluation, or trials cannot calibrate: see ``_check_trials``.
    """
    config, data, calibrate = load_predicting_policy(policy).config, list(data), list(calibrate)
    refuse_reserved([*data, *calibrate])
    infos = {folder: _infos(folders) for folder, folders in (("data", data), ("trials", calibrate))}
    refuse_mixed([*infos["data"], *infos["trials"]])
    if not any(_has_labels(info, config.tasks) for info in infos["data"].values()):
        raise InputError(
            "no episode of --data says whether a task is done: episodes with a verdict are wanted,"
            f" of {', '.join(config.tasks)}"
        )
    if calibrate:
        _check_trials(infos["trials"], config.tasks)
        starts = start_names(infos["trials"])
        if both := sorted(set(starts) & set(start_names(infos["data"]))):
            raise InputError(
                f"{len(both)} episodes of --calibrate began as ones of --data did, as '{both[0]}':"
                " calibrate on others"
            )
        refuse_seen(policy, "policy", starts, note)
    fitted, *trials = (
        load_future_samples(folders, config, policy, processes, encoded, device)
        for folders in (data, calibrate)
        if folders
    )
    return SuccessSamples(fitted, *(trials or [None]))


def _infos(folders: list[Path]) -> dict[Path, dict]:
    return read_infos(path for some in list_all_episodes(folders).values() for path in some)


def _has_labels(info: dict, tasks: tuple[str, ...]) -> bool:
    """Whether its samples answer any question of the success head."""
    own = {info["task"]} if verdict(info) is not None else set()
    return bool((own | set(info.get("reached", ()))) & set(tasks))


def _check_trials(infos: dict[Path, dict], tasks: tuple[str, ...]) -> None:
    """Raise InputError for a task that is not known, for a trial without a verdict, and where all
    trials of every task ended alike.
    """
    ends: dict[str, set[bool]] = {}
    for path, info in infos.items():
        one_of("task", info["task"], tasks)
        if (ended := verdict(info)) is None:
            raise InputError(
                f"{path} has no verdict, which calibration needs: rate it, or move it elsewhere"
            )
        ends.setdefault(info["task"], set()).add(ended)
    if all(len(both) < 2 for both in ends.values()):
        (task, (ended,)) = next(iter(ends.items()))
        raise InputError(
            f"every trial of {task} in --calibrate {'succeeded' if ended else 'failed'}:"
            " successes and failures of one task are wanted"
        )


def train_success(
    policy: Path,
    samples: SuccessSamples,
    run: TrainingRun,
    predicted: Progress = silent,
    calibrated: Progress = silent,
) -> dict:
    """Fit the success head of the network in ``policy`` and save the result in ``run.out``.

    It goes on from the weights that the head has. Without trials it is not calibrated.

    Args:
        predicted, calibrated: called with the number of scenes predicted so far and of all, to fit
            the head and to calibrate it.

    Returns:
        The figures of ``fit_success`` and, with trials, ``calibration``: those of
        ``calibrate_success``.

    Raises:
        InputError: ``run.out`` is ``policy``, or too few episodes are left after some are held out.
    """
    if Path(run.out).resolve() == Path(policy).resolve():
        raise InputError(f"{run.out} holds the network to go on from: choose another --out")
    model, vae = load_predicting_policy(policy).to(run.device), load_vae(policy).to(run.device)
    held = held_out(samples.fitted.episode, run.config.held_out)
    figures = fit_success(model, vae, samples.fitted, held, run.config, run.progress, predicted)
    run.record(run.config.success_iterations, model, figures)
    if samples.trials:
        found = calibrate_success(model, vae, samples.trials, calibrated)
        figures |= {"calibration": found}
    provenance = _provenance(policy, samples, run)
    finish(run.out, lambda: save_policy(run.out, model, provenance | figures, policy))
    return figures


def _provenance(policy: Path, samples: SuccessSamples, run: TrainingRun) -> dict:
    """That of the network, with what its success head has seen since."""
    before = read_weights(policy, "policy").manifest.get("provenance", {})
    fitted, trials = samples.fitted, samples.trials
    success = run.provenance | {
        "train": asdict(run.config),
        "samples": len(fitted),
        "device": run.device,
        "begun_from": digest(policy / "policy.safetensors"),
    }
    made = {name: value for name, value in before.items() if name not in FIGURES}
    made |= {"success": success}
    if "trained_on" in before:  # else nobody knows all of it
        seen = {*before["trained_on"], *fitted.starts, *(trials.starts if trials else ())}
        made["trained_on"] = sorted(seen)
    return made
