"""Predict the scenes that follow moments of recorded clips."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from gwm_core.errors import InputError
from gwm_core.runtime.imagined_world import ImaginedState, ImaginedWorld, load_imagined_world
from gwm_core.training.datasets.clips import SceneClips


@dataclass
class PredictedScenes:
    """Predictions from B moments of clips, for the actions that were taken."""

    now: np.ndarray  # (B,) index of the moments
    scenes: Tensor  # (B, H, N, 14)
    unmoved: Tensor  # (B, N, 14): the observed scene through the VAE


class FuturePredictor:
    """A policy that predicts, by its jumps up to ``horizon``.

    Attributes:
        lift_config: how scenes are to be lifted. steps: (H,) of 0.1 s after which it predicts.
    """

    def __init__(self, world: ImaginedWorld, horizon: int):
        self._world = world
        self.lift_config = world.lift_config
        self.steps = tuple(jump for jump in world.config.jumps if jump <= horizon)

    def predict(self, clips: SceneClips, now: np.ndarray) -> PredictedScenes:
        """From the moments ``now`` (B,)."""
        unmoved, scenes, world = [], [], self._world
        for k in now:
            state, rows = self._observe(clips, k), self.commanded(clips, k)
            after = [world.after(state, rows[:jump]) for jump in self.steps]
            unmoved.append(world.rendered(state))
            scenes.append([world.rendered(later) for later in after])
        return PredictedScenes(
            now, torch.from_numpy(np.array(scenes)), torch.from_numpy(np.array(unmoved))
        )

    def latents(self, clips: SceneClips, now: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Predicted latents (B, H, K, D) after rows (B, steps[-1], 10) from the moments ``now``."""
        found = []
        for k, given in zip(now, rows):
            state = self._observe(clips, k)
            found.append([self._world.moved(state, given[:jump]).latent for jump in self.steps])
        return np.array(found)

    def commanded(self, clips: SceneClips, now: np.ndarray) -> np.ndarray:
        """Rows (..., steps[-1], 10) that were commanded after the moments ``now`` (...)."""
        return commanded(clips, now, self.steps[-1])[..., 1:, :]

    def _observe(self, clips: SceneClips, k: int) -> ImaginedState:
        return self._world.observe(clips.scenes[k], np.append(clips.poses[k], clips.actions[k, 9]))


def load_predictor(folder: Path, horizon: int) -> FuturePredictor:
    """The policy in a folder. Raises InputError where it predicts nothing, or where the horizon is
    too short for it.
    """
    world = load_imagined_world(folder)
    if horizon < (least := min(world.config.jumps)):
        raise InputError(f"--horizon {horizon}: the policy in {folder} takes {least} or more")
    return FuturePredictor(world, horizon)


def commanded(clips: SceneClips, now: np.ndarray, horizon: int) -> np.ndarray:
    """Actions (..., H + 1, 10) commanded at the moments ``now`` (...) and ``horizon`` steps on."""
    return clips.actions[np.asarray(now)[..., None] + np.arange(horizon + 1)]
