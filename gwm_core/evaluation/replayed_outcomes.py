"""Replay the commands of recorded episodes in the world model, to see whether it knows their end.

It separates the success head from the dynamics. On observed latents only the head can be wrong. In
a replay from the first observations on, the dynamics can be wrong too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from gwm_core.data.episode import read_episode
from gwm_core.data.episode_info import list_episodes, read_infos
from gwm_core.data.time_grid import stretches
from gwm_core.errors import InputError
from gwm_core.evaluation.policy_eval_in_world_model import LASTS
from gwm_core.geometry.kinematics import from_rows
from gwm_core.model.vae import VAE
from gwm_core.model.world_model import WorldModel
from gwm_core.training.datasets.clips import episode_clips

_SOME = 64  # pairs of latents that the head sees at once


@dataclass(frozen=True)
class ReplayedOutcome:
    """An episode and what the model says of it.

    Attributes:
        success: what really happened. seconds: of its longest unbroken stretch, which is replayed.
        observed: probability that the task is done after every step, from two observed latents.
        imagined: the same, from the latents that the model predicts from the first two on.
    """

    episode: str
    success: bool
    seconds: float
    observed: list[float]
    imagined: list[float]


def called_success(done: list[float]) -> bool:
    """Whether ``LASTS`` steps in a row, anywhere, have a probability above one half."""
    above = [probability > 0.5 for probability in done]
    return any(all(above[k : k + LASTS]) for k in range(len(above) - LASTS + 1))


def replay_outcomes(
    world: WorldModel,
    vae: VAE,
    folder: Path,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[ReplayedOutcome]:
    """Replay every episode below ``folder`` that has a verdict; play has none.

    Raises InputError where an episode is without, or none is left.
    """
    found = read_infos(list_episodes(folder)).items()
    infos = {path: info for path, info in found if info.get("policy") != "play"}
    if without := [path for path, info in infos.items() if info.get("success") is None]:
        raise InputError(
            f"{without[0]} has no verdict, which the prediction is held against: rate it, or move"
            " it elsewhere"
        )
    if not infos:
        raise InputError(f"{folder} holds play alone, which neither succeeds nor fails")
    outcomes = []
    for path, info in infos.items():
        outcomes.append(_replay(world, vae, path, bool(info["success"])))
        progress(len(outcomes), len(infos))
    return outcomes


@torch.no_grad()
def _replay(world: WorldModel, vae: VAE, path: Path, success: bool) -> ReplayedOutcome:
    clips, context = episode_clips(read_episode(path), vae.config.lift), world.config.context
    longest = max(stretches(clips["stamps"]), key=lambda part: part.stop - part.start)
    scenes, poses, actions = (clips[name][longest] for name in ("scenes", "poses", "actions"))
    if len(scenes) <= context:
        raise InputError(
            f"episode {path}: {context + 1} consecutive observations are wanted, it has"
            f" {len(scenes)}"
        )
    scenes, poses = scenes.astype(np.float32), from_rows(poses)
    starts = np.arange(len(scenes) - context)
    histories = torch.stack(
        [vae.observe(scenes[k : k + context], poses[k : k + context]) for k in starts]
    )
    commanded = torch.from_numpy(actions)
    pairs = torch.stack([commanded[k + context - 1 : k + context + 1] for k in starts])
    observed = torch.cat(
        [
            world.step(history, pair)[1]
            for history, pair in zip(histories.split(_SOME), pairs.split(_SOME))
        ]
    )
    return ReplayedOutcome(
        path.name,
        success,
        round((len(scenes) - 1) * 0.1, 1),
        observed.tolist(),
        _imagine(world, histories[:1], pairs),
    )


def _imagine(world: WorldModel, history: Tensor, pairs: Tensor) -> list[float]:
    """Probabilities (L,) along a rollout from a history (1, context, K, D) by pairs (L, 2, 10)."""
    done = []
    for pair in pairs:
        future, probability = world.step(history, pair[None])
        history = torch.cat([history[:, 1:], future[:, None]], dim=1)
        done.append(float(probability))
    return done


def outcome_table(outcomes: list[ReplayedOutcome]) -> dict[str, dict[str, int]]:
    """For the episodes that succeeded and that failed: how many, and how many are called successes
    from observed and from imagined latents.
    """
    return {
        name: {
            "episodes": len(some),
            "observed": sum(called_success(o.observed) for o in some),
            "imagined": sum(called_success(o.imagined) for o in some),
        }
        for name, wanted in (("succeeded", True), ("failed", False))
        for some in [[o for o in outcomes if o.success is wanted]]
    }
