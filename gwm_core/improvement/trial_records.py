"""Outcomes of trials, kept in a file one by one, so that an interrupted measurement goes on."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from gwm_core.errors import InputError
from gwm_core.files.json_files import write_json
from gwm_core.training.training_run import Progress


@dataclass(frozen=True)
class TrialRecord:
    """The outcome of a trial, real, simulated or imagined. Its fields are those of the trial."""

    seed: int
    success: bool
    seconds: float
    violations: int = 0  # of limits, by the commands that the gate sent
    stops: dict[str, int] = field(default_factory=dict)  # of the gate: cause -> count
    # cause -> count: chunks that the gate refused, and chunks that the planner could not make
    refused: dict[str, int] = field(default_factory=dict)


def record_of(trial) -> TrialRecord:
    """The record of a ``Trial`` or ``ImaginedTrial``."""
    return TrialRecord(
        trial.seed,
        bool(trial.success),
        float(trial.seconds),
        int(trial.violations),
        dict(trial.stops),
        dict(trial.refused),
    )


def kept_trials(
    file: Path,
    settings: dict,
    seeds: Sequence[int],
    run: Callable[[list[int]], Iterable],
    progress: Progress,
) -> list[TrialRecord]:
    """The trials of ``seeds``: those that ``file`` has, and the others by ``run``.

    Args:
        settings: what decides the outcomes beside the seed, as JSON has it.
        run: yields the trials of some seeds.

    Raises:
        InputError: ``file`` has trials of other settings.
    """
    kept = _read(file, settings)
    missing = [seed for seed in seeds if seed not in kept]
    done = len(seeds) - len(missing)
    for trial in run(missing) if missing else ():
        kept[trial.seed] = record_of(trial)
        _write(file, settings, kept)
        done += 1
        progress(done, len(seeds), {})
    return [kept[seed] for seed in seeds]


def _read(file: Path, settings: dict) -> dict[int, TrialRecord]:
    if not file.exists():
        return {}
    found = json.loads(file.read_text())
    if found["settings"] != settings:
        raise InputError(f"{file} has trials of other settings: choose another --out")
    return {trial["seed"]: TrialRecord(**trial) for trial in found["trials"]}


def _write(file: Path, settings: dict, kept: dict[int, TrialRecord]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    partial_file = file.with_suffix(".partial")
    trials = [asdict(kept[seed]) for seed in sorted(kept)]
    write_json(partial_file, {"settings": settings, "trials": trials})
    partial_file.rename(file)
