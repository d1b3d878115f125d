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

import numpy as np

from gwm_core.data.episode import Episode, read_episode, synced_observations
from gwm_core.data.episode_info import list_all_episodes, read_infos, verdict
from gwm_core.data.time_grid import on_grid, steps
from gwm_core.errors import InputError
from gwm_core.geometry.kinematics import fk, to_rows
from gwm_core.model.config import VAEConfig, WorldActionConfig
from gwm_core.model.inputs import proprioception
from gwm_core.scene.gaussians import COLORS, MEANS
from gwm_core.scene.token_tracking import part_steps, token_motions, track_tokens
from gwm_core.training.datasets.array_cache import ArrayCache
from gwm_core.training.datasets.clips import done_at
from gwm_core.training.datasets.policy_samples import lift_moments, numbered_starts, refuse_mixed
from gwm_core.types import CHUNK_DT

STRIDE = 3  # moments from one sample to the next: neighbours are nearly alike
UNKNOWN = -1  # of ``FutureSamples.done`` and ``outcome``


@dataclass
class FutureSamples:
    """Arrays of S samples. ``episode`` numbers the episodes, those that began alike by one."""

    points: np.ndarray  # (S, N, 3) float16 [m]
    colors: np.ndarray  # (S, N, 3) uint8
    proprio: np.ndarray  # (S, 11) float32, as of ``PolicySamples``
    rows: np.ndarray  # (S, H, 10) float32: commanded 0.1, 0.2, ... s later
    latents: np.ndarray  # (S, 1 + jumps, K, D) float16, tokens aligned: now and after each jump
    anchors: np.ndarray  # (S, 1 + jumps, K, 3) float32 [m], of the tokens
    motions: np.ndarray  # (S, jumps, K) int8: how each token moves, as of ``token_motions``
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
) -> FutureSamples:
    """Samples of all episodes below ``folders``, whatever their outcome.

    Args:
        config: tells jumps, tasks, and how many Gaussians of a scene are kept.
        vae_folder: of the VAE that makes the latents.
    """
    if replace(config.vae.lift, count=config.lift.count) != config.lift:
        raise InputError(f"the VAE in {vae_folder} lifts other scenes than this network")
    episodes = list_all_episodes(folders)
    paths = [path for some in episodes.values() for path in some]
    refuse_mixed(paths)
    settings = f"3 {config.lift} {config.jumps} {config.rows} {config.tasks} {STRIDE}"
    settings += (vae_folder / "vae.json").read_text()
    work = partial(_samples, config=config, vae_folder=vae_folder)
    parts, done = [], 0
    for folder, some in episodes.items():  # a cache for each, since folders are combined anew
        cache = ArrayCache(folder, "futures", settings)
        begun = done
        part = cache.arrays(
            some, work, processes, lambda k, _, begun=begun: progress(begun + k, len(paths))
        )
        parts.append(part | {"episode": part["episode"] + done})
        done += len(some)
    arrays = parts[0]
    if len(parts) > 1:
        arrays = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    infos = read_infos(paths)
    outcome = outcome_labels(infos.values(), config.tasks)[arrays["episode"]]
    episode, starts = numbered_starts(infos, arrays["episode"])
    return FutureSamples(**arrays | {"episode": episode, "outcome": outcome}, starts=starts)


def _samples(
    path: Path, config: WorldActionConfig, vae_folder: Path
) -> Iterator[dict[str, np.ndarray]]:
    encode, gripper_tokens = _encoder(vae_folder)
    return future_rows(read_episode(path), config, encode, gripper_tokens)


@functools.cache  # once in every process
def _encoder(folder: Path) -> tuple[Callable[[np.ndarray, np.ndarray], np.ndarray], np.ndarray]:
    """Make latents (T, K, D) of scenes (T, N, 14) with anchors (T, K, 3); and the VAE's gripper
    tokens.
    """
    import torch

    from gwm_core.model.checkpoint import load_vae

    torch.set_num_threads(1)
    vae = load_vae(folder)

    @torch.no_grad()
    def encode(scenes: np.ndarray, anchors: np.ndarray) -> np.ndarray:
        return vae.encode(torch.from_numpy(scenes), torch.from_numpy(anchors))[0].numpy()

    return encode, vae.gripper_tokens.numpy()


def future_rows(
    episode: Episode, config: WorldActionConfig, encode, gripper_tokens: np.ndarray
) -> Iterator[dict[str, np.ndarray]]:
    """The samples of one episode, one by one: none where it is too short."""
    vae: VAEConfig = config.vae
    found = list(synced_observations(episode))
    stamps = np.array([stamp for stamp, _, _ in found], np.int64)
    lifted = list(lift_moments(episode, found, on_grid(stamps), vae.lift))
    if not lifted:
        return
    scenes = np.stack([scene for _, _, scene in lifted]).astype(np.float32)
    states = [found[k][2] for k, _, _ in lifted]
    poses = np.stack([fk(state.q) for state in states])
    labels = task_labels(episode.info, config.tasks, stamps)[[k for k, _, _ in lifted]]
    stamps = stamps[[k for k, _, _ in lifted]]
    end = episode.command_stamps[-1] + CHUNK_DT * 1e9  # what comes later was not commanded
    jumps, steps = np.array(config.jumps), part_steps(scenes, poses)
    ends = _ends(stamps)
    for k in range(0, len(stamps), STRIDE):
        due = stamps[k] + (np.arange(1, config.rows + 1) * CHUNK_DT * 1e9).astype(np.int64)
        sent = episode.next_commands(due)
        known = np.logical_and.accumulate(sent.valid & (due <= end))
        valid = (k + jumps <= ends[k]) & known[jumps - 1]
        last = k + int(jumps[valid].max(initial=0))
        window = slice(k, last + 1)
        anchors = track_tokens(
            scenes[window], poses[window], gripper_tokens, vae.tokens, steps[k:last]
        )
        after = np.array([0, *np.where(valid, jumps, 0)])
        latents = encode(scenes[window][after], anchors[after])
        motions = [
            token_motions(anchors[0], anchors[j], poses[k + j] @ np.linalg.inv(poses[k]))
            for j in after[1:]
        ]
        seen = scenes[k, : config.lift.count]
        yield {
            "points": np.asarray(seen[:, MEANS], np.float16),
            "colors": np.rint(seen[:, COLORS] * 255).astype(np.uint8),
            "proprio": proprioception(states[k]),
            "rows": np.asarray(to_rows(fk(sent.commands[:, :7]), sent.commands[:, 7]), np.float32),
            "latents": np.asarray(latents, np.float16),
            "anchors": anchors[after],
            "motions": np.stack(motions),
            "valid": valid,
            "done": labels[k],
            "later_done": np.where(valid[:, None], labels[k + after[1:]], UNKNOWN),
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
