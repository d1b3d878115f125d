"""Episodes -> training samples of the policy, by the same sync and lift as on the robot.

A sample is one moment: the scene, the proprioception, and the pose rows that forward kinematics
gives for the commands that the gate sent 0.1 ... 1.6 s later. Rows within an interval marked
unusable are masked.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from gwm_core.data.episode import Episode, read_episode, synced_observations
from gwm_core.data.episode_info import (
    list_all_episodes,
    list_episodes,
    read_infos,
    same_starts,
    start_names,
)
from gwm_core.data.time_grid import on_grid
from gwm_core.errors import InputError
from gwm_core.geometry.kinematics import fk, to_rows
from gwm_core.model.inputs import proprioception
from gwm_core.scene.gaussians import COLORS, MEANS
from gwm_core.scene.lift import BlindError, LiftConfig, lift
from gwm_core.training.datasets.array_cache import ArrayCache, numbered, stacked
from gwm_core.training.datasets.stored_rows import StoredRows, joined
from gwm_core.types import CHUNK_DT, CHUNK_ROWS, RESERVED, Frame

SCENES = ("points", "colors")  # arrays that stay on disk


@dataclass
class PolicySamples:
    """Arrays of S samples. ``task`` indexes the task list; ``episode`` numbers the episodes, and
    those that began alike have one number.
    """

    points: np.ndarray | StoredRows  # (S, N, 3) float16 [m]
    colors: np.ndarray | StoredRows  # (S, N, 3) uint8
    proprio: np.ndarray  # (S, 11) float32: TCP pose row with measured width, then commanded width
    rows: np.ndarray  # (S, H, 10) float32
    valid: np.ndarray  # (S, H) bool
    task: np.ndarray  # (S,) int64
    episode: np.ndarray  # (S,) int64
    starts: tuple[str, ...] = ()  # of the episode with each number: ``start_names``

    def __len__(self) -> int:
        return len(self.points)


def lift_moments(
    episode: Episode, found: list, numbers: list[int], config: LiftConfig
) -> Iterator[tuple[int, tuple[Frame, ...], np.ndarray]]:
    """Number, frames and scene (N, 14) of the moments that give a scene.

    Warns of moments that are left out. Raises InputError where all of them are.

    Args:
        found: of ``data.episode.moments``. numbers: which of them to lift.
    """
    blind = []
    for number in numbers:
        _, pairs, state = found[number]
        frames = tuple(
            episode.frame(camera, s, color, depth) for camera, (s, color, depth) in pairs.items()
        )
        try:
            scene = lift(frames, config, state.q)
        except BlindError as error:
            blind.append(str(error))
            continue
        yield number, frames, scene
    if blind and len(blind) == len(numbers):
        raise InputError(
            f"episode {episode.path}: at none of its {len(blind)} moments is anything seen:"
            f" {blind[0]}"
        )
    if blind:
        left = f"{len(blind)} of {len(numbers)} moments left out"
        warnings.warn(f"episode {episode.path}: {left}: {blind[0]}", stacklevel=2)


def episode_samples(episode: Episode, lift_config: LiftConfig) -> dict[str, np.ndarray]:
    """Samples of one episode, without task and episode; empty without a usable moment."""
    return stacked(sample_rows(episode, lift_config))


def sample_rows(
    episode: Episode, lift_config: LiftConfig, corrections: bool = False
) -> Iterator[dict[str, np.ndarray]]:
    """The samples of one episode, one by one.

    Args:
        corrections: where an operator took over from a policy, leave out what the policy did.
    """
    found = list(synced_observations(episode))
    unusable = sorted(episode.unusable + (episode.led_by_policy if corrections else []))
    stamps = np.array([stamp for stamp, _, _ in found], np.int64)
    kept = [
        k for k in on_grid(stamps) if not any(begin <= stamps[k] <= end for begin, end in unusable)
    ]
    for number, _, scene in lift_moments(episode, found, kept, lift_config):
        stamp, _, state = found[number]
        due = stamp + (np.arange(1, CHUNK_ROWS + 1) * CHUNK_DT * 1e9).astype(np.int64)
        sent = episode.next_commands(due)  # past the end: the last pose, held
        valid = np.logical_and.accumulate(sent.valid)
        for begin, _ in unusable:
            valid &= (due < begin) | (stamp > begin)
        yield {
            "points": np.asarray(scene[:, MEANS], np.float16),
            "colors": np.rint(scene[:, COLORS] * 255).astype(np.uint8),
            "proprio": proprioception(state),
            "rows": np.asarray(to_rows(fk(sent.commands[:, :7]), sent.commands[:, 7]), np.float32),
            "valid": valid,
        }


def _samples(
    path: Path, lift_config: LiftConfig, corrections: bool
) -> Iterator[dict[str, np.ndarray]]:
    return sample_rows(read_episode(path), lift_config, corrections)


def load_samples(
    folders: list[Path],
    tasks: tuple[str, ...],
    lift_config: LiftConfig,
    processes: int,
    progress: Callable[[int, int], None] = lambda done, total: None,
    corrections: bool = False,
) -> PolicySamples:
    """Samples of all successful episodes below ``folders``; ``corrections`` as ``sample_rows``."""
    infos = demonstrations(folders)
    indices = [_task_index(path, info["task"], tasks) for path, info in infos.items()]
    refuse_mixed(list(infos))
    settings = f"{lift_config} {CHUNK_ROWS}{' corrections' * corrections}"
    cache = ArrayCache(Path(folders[0]), "samples", settings)
    work = partial(_samples, lift_config=lift_config, corrections=corrections)
    arrays = joined([cache.arrays(list(infos), work, processes, progress)], SCENES)
    task = np.array(indices)[arrays["episode"]]
    episode, starts = numbered_starts(infos, arrays["episode"])
    return PolicySamples(**arrays | {"episode": episode}, task=task, starts=starts)


def numbered_starts(
    infos: dict[Path, dict], episode: np.ndarray
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Number what the episodes (S,) of samples began from, and name the numbers."""
    first, names = np.array(same_starts(infos))[episode], start_names(infos)
    return numbered(first), tuple(names[index] for index in np.unique(first))


def demonstrations(folders: list[Path]) -> dict[Path, dict]:
    """episode.json of the episodes below ``folders`` that did not fail.

    Raises InputError where there are none.
    """
    infos = read_infos(path for some in list_all_episodes(folders).values() for path in some)
    usable = {path: info for path, info in infos.items() if info.get("success") is not False}
    if not usable:
        raise InputError(
            f"no demonstrations in {', '.join(map(str, folders))}: episodes there failed, or are"
            " play"
        )
    return usable


def refuse_mixed(paths: list[Path]) -> None:
    """Raise InputError where episodes have different cameras."""
    first: dict[tuple[str, ...], Path] = {}
    for path, info in read_infos(paths).items():
        first.setdefault(tuple(info["cameras"]), path)
    if len(first) > 1:
        found = " and ".join(f"{cameras} ({path})" for cameras, path in sorted(first.items()))
        raise InputError(f"episodes with different cameras do not mix: {found}")


def tasks_of(folders: list[Path], usual: tuple[str, ...]) -> tuple[str, ...]:
    """Tasks of the demonstrations below ``folders``: ``usual`` ones in their order, then others."""
    found = {info["task"] for info in demonstrations(folders).values()}
    return (*(task for task in usual if task in found), *sorted(found - set(usual)))


def refuse_reserved(folders: list[Path]) -> None:
    """Raise InputError where an episode below ``folders`` has a seed reserved for evaluation."""
    for path, info in read_infos(
        path for folder in folders for path in list_episodes(folder)
    ).items():
        seed = info.get("seed")
        if seed is not None and seed >= RESERVED:
            raise InputError(
                f"nothing is trained on {path}: its seed is {seed}; {RESERVED} and up are for"
                " choosing and reporting"
            )


def _task_index(path: Path, task: str, tasks: tuple[str, ...]) -> int:
    if task not in tasks:
        raise InputError(
            f"episode {path} is of task '{task}'; this policy knows {', '.join(tasks)}"
        )
    return tasks.index(task)
