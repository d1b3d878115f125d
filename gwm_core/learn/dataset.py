"""Episodes -> training samples: the same sync and lift as on the robot, labels from what the gate really sent.

A sample is one moment: the scene, the proprioception, and the pose rows that forward kinematics gives for the commands
sent 0.1 ... 1.6 s later. Rows that fall into an interval marked unusable are masked.
"""

from __future__ import annotations

import functools
import hashlib
import json
import multiprocessing
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from gwm_core.control.kinematics import fk, to_rows
from gwm_core.data.episode import INFO, Episode, list_episodes, moments, read_episode
from gwm_core.errors import InputError
from gwm_core.scene.gaussians import COLORS, MEANS
from gwm_core.scene.lift import BlindError, LiftConfig, lift
from gwm_core.types import CHUNK_DT, CHUNK_ROWS, RESERVED, ArmState, Frame


@dataclass
class Samples:
    """Arrays of S samples. ``task`` indexes the task list; ``episode`` indexes the episode list."""

    points: np.ndarray  # (S, N, 3) float16 [m]
    colors: np.ndarray  # (S, N, 3) uint8
    proprio: np.ndarray  # (S, 11) float32: TCP pose row with measured width, then commanded width
    rows: np.ndarray  # (S, H, 10) float32
    valid: np.ndarray  # (S, H) bool
    task: np.ndarray  # (S,) int64
    episode: np.ndarray  # (S,) int64
    features: np.ndarray | None = None  # (S, K, F) float16, of the world model
    places: np.ndarray | None = None  # (S, K, 3) float16 [m], of these features

    def __len__(self) -> int:
        return len(self.points)


def proprioception(state: ArmState) -> np.ndarray:
    """(11,) float32: TCP xyz [m], rot6d, measured width [m], commanded width [m]."""
    return np.append(to_rows(fk(state.q), state.width), state.width_command).astype(np.float32)


Foresee = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]  # ``Foresight``, which needs torch


def lift_moments(
    episode: Episode, config: LiftConfig
) -> Iterator[tuple[int, tuple[Frame, ...], np.ndarray, ArmState]]:
    """Stamp, frames, scene (N, 14) and state of every moment at which a camera sees something.

    Warns of moments that are left out. Raises InputError where all of them are.
    """
    count, blind = 0, []
    for stamp, pairs, state in moments(episode):
        frames = tuple(episode.frame(camera, s, color, depth) for camera, (s, color, depth) in pairs.items())
        count += 1
        try:
            scene = lift(frames, config, state.q)
        except BlindError as error:
            blind.append(str(error))
            continue
        yield stamp, frames, scene, state
    if blind and len(blind) == count:
        raise InputError(f"episode {episode.path}: at none of its {count} moments is anything seen: {blind[0]}")
    if blind:
        warnings.warn(f"episode {episode.path}: {len(blind)} of {count} moments left out: {blind[0]}", stacklevel=2)


def episode_samples(episode: Episode, lift_config: LiftConfig, foresee: Foresee | None = None) -> dict[str, np.ndarray]:
    """Samples of one episode, without task and episode numbers."""
    points, colors, proprio, rows, valid, features, places = [], [], [], [], [], [], []
    for stamp, _, scene, state in lift_moments(episode, lift_config):
        unusable = episode.info.get("unusable", [])
        if any(begin <= stamp <= end for begin, end in unusable):
            continue
        due = stamp + (np.arange(1, CHUNK_ROWS + 1) * CHUNK_DT * 1e9).astype(np.int64)
        index = np.minimum(np.searchsorted(episode.command_stamps, due), len(episode.commands) - 1)
        sent = episode.commands[index]  # past the end: the last pose, held
        ok = np.ones(CHUNK_ROWS, bool)
        for begin, _ in unusable:
            ok &= (due < begin) | (stamp > begin)
        points.append(scene[:, MEANS])
        colors.append(np.rint(scene[:, COLORS] * 255))
        proprio.append(proprioception(state))
        rows.append(to_rows(fk(sent[:, :7]), sent[:, 7]))
        valid.append(ok)
        if foresee:
            known, where = foresee(scene, fk(state.q))
            features.append(known)
            places.append(where)
    extra = {"features": np.array(features, np.float16), "places": np.array(places, np.float16)} if foresee else {}
    return extra | {
        "points": np.array(points, np.float16),
        "colors": np.array(colors, np.uint8),
        "proprio": np.array(proprio, np.float32),
        "rows": np.array(rows, np.float32),
        "valid": np.array(valid, bool),
    }


@functools.cache  # once in every process
def _foresight(folder: Path) -> Foresee:
    import torch

    from gwm_core.deploy.foresight import Foresight

    torch.set_num_threads(1)
    return Foresight(folder)


def _samples(path: Path, lift_config: LiftConfig, world: Path | None) -> dict[str, np.ndarray]:
    return episode_samples(read_episode(path), lift_config, _foresight(world) if world else None)


def load_samples(
    folders: list[Path],
    tasks: tuple[str, ...],
    lift_config: LiftConfig,
    processes: int,
    progress: Callable[[int, int], None] = lambda done, total: None,
    world: Path | None = None,
) -> Samples:
    """Samples of all successful episodes below ``folders``, with the features of the model in ``world`` if named."""
    paths = [path for folder in folders for path in list_episodes(folder) if _usable(path)]
    if not paths:
        raise InputError(f"no demonstrations in {', '.join(map(str, folders))}: episodes there failed, or are play")
    indices = [_task_index(path, tasks) for path in paths]
    config = f"{lift_config} {CHUNK_ROWS}" + ((world / "world.json").read_text() if world else "")
    work = partial(_samples, lift_config=lift_config, world=world)
    arrays = Cache(Path(folders[0]), "samples", config).arrays(paths, work, processes, progress)
    return Samples(**arrays, task=np.array(indices)[arrays["episode"]])


def tasks_of(folders: list[Path], usual: tuple[str, ...]) -> tuple[str, ...]:
    """``usual`` where it has all tasks of the episodes below ``folders``, else those tasks, sorted."""
    paths = [path for folder in folders for path in list_episodes(folder)]
    found = {str(json.loads((path / INFO).read_text())["task"]) for path in paths}
    return usual if found <= set(usual) else tuple(sorted(found))


def refuse_reserved(folders: list[Path]) -> None:
    """Raise InputError where an episode below ``folders`` has a seed that is kept for choosing and reporting."""
    for path in (path for folder in folders for path in list_episodes(folder)):
        seed = json.loads((path / INFO).read_text()).get("seed")
        if seed is not None and seed >= RESERVED:
            raise InputError(
                f"nothing is trained on {path}: its seed is {seed}; {RESERVED} and up are for choosing and reporting"
            )


@dataclass(frozen=True)
class Cache:
    """Arrays made from episodes, kept as one file in ``folder``; another ``config`` or other episodes make another."""

    folder: Path
    name: str
    config: str

    def arrays(
        self,
        paths: list[Path],
        work: Callable[[Path], dict[str, np.ndarray]],
        processes: int,
        progress: Callable[[int, int], None] = lambda done, total: None,
    ) -> dict[str, np.ndarray]:
        """What ``work`` makes of every episode, one after the other, and ``episode`` (S,), the number in ``paths``."""
        digest = hashlib.sha256(self.config.encode())
        for path in paths:  # episode.json holds the hash of the bag
            digest.update(f"{path.name} {hashlib.sha256((path / INFO).read_bytes()).hexdigest()}".encode())
        file = self.folder / f"{self.name}-{digest.hexdigest()[:16]}.safetensors"
        if file.exists():
            try:
                return load_file(file)
            except SafetensorError:  # cut short by a full disk or a crash: make it again
                file.unlink()
        parts = []
        with multiprocessing.get_context("spawn").Pool(processes) as pool:
            for part in pool.imap(work, paths):
                parts.append(part)
                progress(len(parts), len(paths))
        counts = [len(next(iter(part.values()))) for part in parts]
        arrays = {name: np.concatenate([p[name] for p, n in zip(parts, counts) if n]) for name in parts[0]}
        arrays["episode"] = np.repeat(np.arange(len(paths)), counts)
        save_file(arrays, file.with_suffix(".partial"))
        file.with_suffix(".partial").rename(file)
        return arrays


def _usable(path: Path) -> bool:
    """Whether an episode is a demonstration: one that failed is not."""
    return json.loads((path / INFO).read_text()).get("success") is not False


def _task_index(path: Path, tasks: tuple[str, ...]) -> int:
    task = json.loads((path / "episode.json").read_text())["task"]
    if task not in tasks:
        raise InputError(f"episode {path} is of task '{task}'; this policy knows {', '.join(tasks)}")
    return tasks.index(task)
