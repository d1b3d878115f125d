"""Clips -> latents with aligned tokens, to train the VAE and to evaluate predictions on."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from gwm_core.geometry.kinematics import from_rows
from gwm_core.model.vae import VAE
from gwm_core.scene.token_tracking import track_tokens
from gwm_core.training.datasets.clips import SceneClips

Progress = Callable[[int, int], None]


def silent(done: int, total: int) -> None:
    """Report nothing."""


def spread_starts(clips: SceneClips, length: int, stride: int) -> np.ndarray:
    """About every ``stride``-th of the moments that begin ``length`` consecutive ones.

    Raises InputError where there are none.
    """
    chosen, last = [], -stride
    for start in clips.starts(length):
        if start - last >= stride or clips.episode[start] != clips.episode[last]:
            chosen.append(start)
            last = start
    if not chosen:
        raise clips.refuse(length)
    return np.array(chosen)


def tracked(
    clips: SceneClips,
    gripper_tokens: np.ndarray,
    count: int,
    length: int,
    progress: Progress = silent,
) -> tuple[np.ndarray, np.ndarray]:
    """Moments (M,) and the anchors (M, count, 3) [m] of tokens in them.

    Tokens are chosen anew every ``length - 1`` moments and tracked in between.
    """
    starts = spread_starts(clips, length, length - 1)
    index = starts[:, None] + np.arange(length)
    anchors = []
    for done, i in enumerate(index):
        anchors.append(
            track_tokens(
                clips.scenes[i].astype(np.float32), from_rows(clips.poses[i]), gripper_tokens, count
            )
        )
        progress(done + 1, len(index))
    return index.ravel(), np.concatenate(anchors)


def encode_clips(
    vae: VAE, clips: SceneClips, starts: np.ndarray, length: int, progress: Progress = silent
) -> Tensor:
    """Latents (S, length, K, D) float16 from the moments ``starts`` (S,) on, tokens aligned."""
    latents = []
    progress(0, len(starts))
    for done, start in enumerate(starts):
        scenes = clips.scenes[start : start + length].astype(np.float32)
        latents.append(
            vae.observe(scenes, from_rows(clips.poses[start : start + length])).half().cpu()
        )
        progress(done + 1, len(starts))
    return torch.stack(latents)
