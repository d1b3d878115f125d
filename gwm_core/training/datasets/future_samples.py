"""Episodes -> training samples of futures and of success.

A sample is one moment with the rows that are commanded from it on, the latents then and after each
jump, and which tasks are done. Failures, play and episodes of any task give samples.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from gwm_core.data.episode import Episode, read_episode, synced_observations
from gwm_core.data.episode_info import list_all_episodes, read_infos, verdict
from gwm_core.data.time_grid import on_grid, steps
from gwm_core.errors import InputError
from gwm_core.geometry.kinematics import fk, to_rows
from gwm_core.model.config import WorldActionConfig
from gwm_core.model.inputs import proprioception
from gwm_core.scene.gaussians import COLORS, MEANS
from gwm_core.scene.token_tracking import PartSteps, part_steps, token_motions, track_tokens
from gwm_core.training.datasets.array_cache import ArrayCache
from gwm_core.training.datasets.clips import done_at
from gwm_core.training.datasets.policy_samples import (
    SCENES,
    lift_moments,
    numbered_starts,
    refuse_mixed,
)
from gwm_core.training.datasets.stored_rows import StoredRows, joined
from gwm_core.types import CHUNK_DT, ArmState

STRIDE = 3  # moments from one sample to the next: neighbours are nearly alike
_WINDOW = 30 * STRIDE  # moments whose samples are made at once
_ON_GPU = 2  # processes that encode
_BATCH = 32  # scenes that are encoded at once
STORED = (*SCENES, "latents", "anchors", "motions")  # arrays that stay on disk
UNKNOWN = -1  # of ``FutureSamples.done`` and ``outcome``


@dataclass
class FutureSamples:
    """Arrays of S samples. ``episode`` numbers the episodes, those that began alike by one."""

    points: np.ndarray | StoredRows  # (S, N, 3) float16 [m]
    colors: np.ndarray | StoredRows  # (S, N, 3) uint8
    proprio: np.ndarray  # (S, 11) float32, as of ``PolicySamples``
    rows: np.ndarray  # (S, H, 10) float32: commanded 0.1, 0.2, ... s later
    # (S, 1 + jumps, K, D) float16, tokens aligned: now and after each jump
    latents: np.ndarray | StoredRows
    anchors: np.ndarray | StoredRows  # (S, 1 + jumps, K, 3) float32 [m], of the tokens
    motions: np.ndarray | StoredRows  # (S, jumps, K) int8: of each token, as of ``token_motions``
    valid: np.ndarray  # (S, jumps) bool: the episode goes on so long, and its commands are known
    done: np.ndarray  # (S, tasks) int8: 1, 0 or UNKNOWN
    later_done: np.ndarray  # (S, jumps, tasks) int8: the same after each jump
    outcome: np.ndarray  # (S, tasks) int8: how the episode ended, as of ``outcome_labels``
    episode: np.ndarray  # (S,) int64
    starts: tuple[str, ...] = ()  # of the episode with each number: ``start_names``

    def __len__(self) -> int:
        return len(self.points)


def load_future_samples(
    folders: list[Path],
    config: WorldActionConfig,
    vae_folder: Path,
    processes: int,
    progress: Callable[[int, int], None] = lambda done, total: None,
    device: str = "cpu",
) -> FutureSamples:
    """Samples of all episodes below ``folders``, whatever their outcome.

    Args:
        config: tells jumps, tasks, and how many Gaussians of a scene are kept.
        vae_folder: of the VAE that makes the latents, on ``device``.
    """
    if replace(config.vae.lift, count=config.lift.count) != config.lift:
        raise InputError(f"the VAE in {vae_folder} lifts other scenes than this network")
    episodes = list_all_episodes(folders)
    paths = [path for some in episodes.values() for path in some]
    refuse_mixed(paths)
    settings = f"3 {config.lift} {config.jumps} {config.rows} {config.tasks} {STRIDE}"
    settings += (vae_folder / "vae.json").read_text()
    if device != "cpu":  # each has its own copy of the VAE and of the GPU's context
        processes = min(processes, _ON_GPU)
    work = partial(_samples, config=config, vae_folder=vae_folder, device=device)
    parts, done = [], 0
    for folder, some in episodes.items():  # a cache for each, since folders are combined anew
        cache = ArrayCache(folder, "futures", settings)
        begun = done
        part = cache.arrays(
            some, work, processes, lambda k, _, begun=begun: progress(begun + k, len(paths))
        )
        parts.append(part | {"episode": part["episode"] + done})
        done += len(some)
    arrays = joined(parts, STORED)
    infos = read_infos(paths)
    outcome = outcome_labels(infos.values(), config.tasks)[arrays["episode"]]
    episode, starts = numbered_starts(infos, arrays["episode"])
    return FutureSamples(**arrays | {"episode": episode, "outcome": outcome}, starts=starts)


def _samples(
    path: Path, config: WorldActionConfig, vae_folder: Path, device: str
) -> Iterator[dict[str, np.ndarray]]:
    encode, gripper_tokens = _encoder(vae_folder, device)
    return future_rows(read_episode(path), config, encode, gripper_tokens)


@functools.cache  # once in every process
def _encoder(
    folder: Path, device: str = "cpu"
) -> tuple[Callable[[np.ndarray, np.ndarray], np.ndarray], np.ndarray]:
    """Make latents (T, K, D) of scenes (T, N, 14) with anchors (T, K, 3); and the VAE's gripper
    tokens.
    """
    import torch

    from gwm_core.model.checkpoint import load_vae

    torch.set_num_threads(1)
    vae = load_vae(folder).to(device)

    @torch.no_grad()
    def encode(scenes: np.ndarray, anchors: np.ndarray) -> np.ndarray:
        tensors = (torch.from_numpy(array).to(device).split(_BATCH) for array in (scenes, anchors))
        return np.concatenate([vae.encode(*part)[0].cpu().numpy() for part in zip(*tensors)])

    return encode, vae.gripper_tokens.cpu().numpy()


class _Moment(NamedTuple):
    """An observed moment of an episode."""

    stamp: int  # [ns]
    scene: np.ndarray  # (N, 14) float32
    state: ArmState
    T: np.ndarray  # (4, 4) of the gripper
    labels: np.ndarray  # (tasks,) int8, of ``task_labels``
    step: PartSteps | None  # from the moment before


def future_rows(
    episode: Episode, config: WorldActionConfig, encode, gripper_tokens: np.ndarray
) -> Iterator[dict[str, np.ndarray]]:
    """The samples of one episode, one by one: none where it is too short.

    Memory holds the moments of one window, however long the episode is.
    """
    end = episode.command_stamps[-1] + CHUNK_DT * 1e9  # what comes later was not commanded
    for moments, count in _windows(_moments(episode, config), max(config.jumps)):
        samples = [
            _Sample.of(moments, k, episode, end, config, gripper_tokens)
            for k in range(0, count, STRIDE)
        ]
        scenes = np.concatenate([[moments[k].scene for k in s.after] for s in samples])
        latents = encode(scenes, np.concatenate([s.anchors for s in samples]))
        for sample, latent in zip(samples, np.split(latents, len(samples))):
            yield sample.arrays(moments, config, np.asarray(latent, np.float16))


def _moments(episode: Episode, config: WorldActionConfig) -> Iterator[_Moment]:
    """The moments of an episode on the grid that give a scene."""
    found = list(synced_observations(episode))
    stamps = np.array([stamp for stamp, _, _ in found], np.int64)
    labels = task_labels(episode.info, config.tasks, stamps)
    before: _Moment | None = None
    for number, _, lifted in lift_moments(episode, found, on_grid(stamps), config.vae.lift):
        state, scene = found[number][2], np.float32(lifted)
        T, step = fk(state.q), None
        if before:
            step = part_steps(np.stack([before.scene, scene]), np.stack([before.T, T]))[0]
        before = _Moment(int(stamps[number]), scene, state, T, labels[number], step)
        yield before


def _windows(moments: Iterator[_Moment], reach: int) -> Iterator[tuple[list[_Moment], int]]:
    """Moments that follow one another, of which the first ones, by their number, give samples. Up
    to ``reach`` others come after them.
    """
    kept: list[_Moment] = []
    for moment in moments:
        kept.append(moment)
        if len(kept) == _WINDOW + reach:
            yield kept, _WINDOW
            kept = kept[_WINDOW:]
    if kept:
        yield kept, len(kept)


@dataclass(frozen=True)
class _Sample:
    """A sample before its latents are known. It begins at the moment ``begin`` of its window."""

    begin: int
    after: np.ndarray  # (1 + jumps,) moments now and after each jump, the first again if not valid
    anchors: np.ndarray  # (1 + jumps, K, 3) [m]
    rows: np.ndarray  # (H, 10)
    valid: np.ndarray  # (jumps,)

    @classmethod
    def of(
        cls,
        moments: list[_Moment],
        k: int,
        episode: Episode,
        end: float,
        config: WorldActionConfig,
        gripper_tokens: np.ndarray,
    ) -> _Sample:
        """The sample that begins at the moment ``k``; commands later than ``end`` [ns] are not
        known.
        """
        stamps = np.array([moment.stamp for moment in moments])
        due = stamps[k] + (np.arange(1, config.rows + 1) * CHUNK_DT * 1e9).astype(np.int64)
        sent = episode.next_commands(due)
        known = np.logical_and.accumulate(sent.valid & (due <= end))
        jumps = np.array(config.jumps)
        valid = (k + jumps <= _ends(stamps)[k]) & known[jumps - 1]
        window = moments[k : k + int(jumps[valid].max(initial=0)) + 1]
        anchors = track_tokens(
            np.stack([moment.scene for moment in window]),
            np.stack([moment.T for moment in window]),
            gripper_tokens,
            config.vae.tokens,
            [moment.step for moment in window[1:]],
        )
        ahead = np.array([0, *np.where(valid, jumps, 0)])
        rows = np.float32(to_rows(fk(sent.commands[:, :7]), sent.commands[:, 7]))
        return cls(k, k + ahead, anchors[ahead], rows, valid)

    def arrays(
        self, moments: list[_Moment], config: WorldActionConfig, latents: np.ndarray
    ) -> dict[str, np.ndarray]:
        """The arrays of ``FutureSamples`` that one episode tells."""
        now, later = moments[self.begin], [moments[k] for k in self.after[1:]]
        seen = now.scene[: config.lift.count]
        motions = [
            token_motions(self.anchors[0], anchors, moment.T @ np.linalg.inv(now.T))
            for anchors, moment in zip(self.anchors[1:], later)
        ]
        later_done = np.stack([moment.labels for moment in later])
        return {
            "points": np.asarray(seen[:, MEANS], np.float16),
            "colors": np.rint(seen[:, COLORS] * 255).astype(np.uint8),
            "proprio": proprioception(now.state),
            "rows": self.rows,
            "latents": latents,
            "anchors": self.anchors,
            "motions": np.stack(motions),
            "valid": self.valid,
            "done": now.labels,
            "later_done": np.where(self.valid[:, None], later_done, UNKNOWN),
        }


def _ends(stamps: np.ndarray) -> np.ndarray:
    """For each of the stamps (T,) [ns] the index of the last one that follows without a gap."""
    breaks = np.append(np.flatnonzero(~steps(stamps)), len(stamps) - 1)
    return breaks[np.searchsorted(breaks, np.arange(len(stamps)))]


def task_labels(info: dict, tasks: tuple[str, ...], stamps: np.ndarray) -> np.ndarray:
    """Which tasks are done at stamps (T,) [ns]: (T, tasks) int8, 1, 0 or UNKNOWN.

    By the rules where episode.json says when they held; else the episode's own task, by its
    verdict.
    """
    labels = np.full((len(stamps), len(tasks)), UNKNOWN, np.int8)
    for number, task in enumerate(tasks):
        if task in info.get("reached", {}) or (
            task == info["task"] and info.get("success") is not None
        ):
            labels[:, number] = done_at(info | {"task": task}, stamps)
    return labels


def outcome_labels(infos: Iterable[dict], tasks: tuple[str, ...]) -> np.ndarray:
    """How each episode ended for its own task: (E, tasks) int8, 1 or 0.

    UNKNOWN for other tasks, for play, and without a verdict.
    """
    rows = []
    for info in infos:
        ended = verdict(info)
        label = UNKNOWN if ended is None else int(ended)
        rows.append([label if task == info["task"] else UNKNOWN for task in tasks])
    return np.array(rows, np.int8).reshape(-1, len(tasks))
