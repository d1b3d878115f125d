"""Clips -> sequences of latents whose tokens are aligned: what the world model is trained on and judged by."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from gwm_core.control.kinematics import from_rows
from gwm_core.learn.clips import Clips
from gwm_core.model.vae import VAE
from gwm_core.scene.track import follow_all


class Sequences:
    """S sequences of L moments, 0.1 s apart, each tracked from its first moment on.

    Attributes:
        latents: (S, L, K, D) float16. actions: (S, L, 10) commanded at the moment. done: (S, L) float.
        starts: (S,) index of the first moment in the clips.
    """

    def __init__(self, latents: Tensor, clips: Clips, starts: np.ndarray):
        index = starts[:, None] + np.arange(latents.shape[1])
        self.latents, self.starts = latents, starts
        self.actions = torch.from_numpy(clips.actions[index])
        self.done = torch.from_numpy(clips.done[index]).float()

    def windows(self, length: int, which: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """All windows of ``length`` moments of the sequences ``which``: number of the sequence, and first moment."""
        offsets = np.arange(self.latents.shape[1] - length + 1)
        return np.repeat(which, len(offsets)), np.tile(offsets, len(which))

    def take(self, sequence: np.ndarray, first: np.ndarray, length: int) -> tuple[Tensor, Tensor, Tensor]:
        """Latents (B, length, K, D), actions (B, length, 10) and done (B, length) of windows."""
        moments = first[:, None] + np.arange(length)
        rows = sequence[:, None]
        return self.latents[rows, moments].float(), self.actions[rows, moments], self.done[rows, moments]


@torch.no_grad()
def encode_sequences(
    vae: VAE, clips: Clips, length: int, stride: int, progress: Callable[[int, int], None] = lambda *_: None
) -> Sequences:
    """Sequences of ``length`` moments, one from about every ``stride``-th moment on."""
    device, starts = vae.middle.device, clips.starts(length)
    chosen, last = [], -stride
    for start in starts:
        if start - last >= stride or clips.episode[start] != clips.episode[last]:
            chosen.append(start)
            last = start
    latents = []
    for done, start in enumerate(chosen):
        scenes = clips.scenes[start : start + length].astype(np.float32)
        queries = follow_all(scenes, from_rows(clips.poses[start : start + length]), vae.config.tokens)
        z, _ = vae.encode(torch.from_numpy(scenes).to(device), torch.from_numpy(queries).to(device))
        latents.append(z.half().cpu())
        progress(done + 1, len(chosen))
    return Sequences(torch.stack(latents), clips, np.array(chosen))
