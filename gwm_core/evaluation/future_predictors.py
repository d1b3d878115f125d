"""Predict the scenes that follow moments of recorded clips, by either kind of world model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from gwm_core.errors import InputError
from gwm_core.model.checkpoint import load_world
from gwm_core.model.vae import VAE
from gwm_core.model.weights_file import predicts_steps
from gwm_core.model.world_model import WorldModel
from gwm_core.runtime.imagined_world import ImaginedWorld, load_imagined_world
from gwm_core.scene.lift import LiftConfig
from gwm_core.training.datasets.clips import SceneClips
from gwm_core.training.datasets.latents import encode_clips


@dataclass
class PredictedScenes:
    """Predictions from B moments of clips, for the actions that were taken."""

    now: np.ndarray  # (B,) index of the last moment that was observed
    done: Tensor | None  # (B, H): probability that the task is done, where the model says it
    scenes: Tensor  # (B, H, N, 14)
    unmoved: Tensor  # (B, N, 14): the last observed scene through the VAE


class FuturePredictor(Protocol):
    """A world model.

    Attributes:
        lift_config: how scenes are to be lifted. context: observed moments that it needs.
        steps: (H,) of 0.1 s after which it predicts.
    """

    lift_config: LiftConfig
    context: int
    steps: tuple[int, ...]

    def predict(self, clips: SceneClips, starts: np.ndarray) -> PredictedScenes:
        """From the ``context`` moments that begin at ``starts`` (B,)."""


class StepPredictor:
    """A world model of steps of 0.1 s."""

    def __init__(self, world: WorldModel, vae: VAE, horizon: int):
        self._world, self._vae, self.lift_config = world, vae, vae.config.lift
        self.context, self.steps = world.config.context, tuple(range(1, horizon + 1))

    @torch.no_grad()
    def predict(self, clips: SceneClips, starts: np.ndarray) -> PredictedScenes:
        """As ``FuturePredictor.predict``."""
        now = starts + self.context - 1
        history = encode_clips(self._vae, clips, starts, self.context).float()
        actions = torch.from_numpy(commanded(clips, now, len(self.steps)))
        latents, done = self._world.rollout(history, actions)
        scenes = self._vae.decode(latents.flatten(0, 1)).unflatten(0, latents.shape[:2])
        return PredictedScenes(now, done, scenes, self._vae.decode(history[:, -1]))


class JumpPredictor:
    """A world action model, by its jumps up to ``horizon``."""

    context = 1

    def __init__(self, world: ImaginedWorld, horizon: int):
        self._world, self.lift_config = world, world.lift_config
        self.steps = tuple(jump for jump in world.config.jumps if jump <= horizon)

    def predict(self, clips: SceneClips, starts: np.ndarray) -> PredictedScenes:
        """As ``FuturePredictor.predict``."""
        unmoved, scenes, world = [], [], self._world
        for k in starts:
            proprio = np.append(clips.poses[k], clips.actions[k, 9])
            state = world.observe(clips.scenes[k], proprio)
            rows = commanded(clips, k, self.steps[-1])[1:]
            after = [world.after(state, rows[:jump]) for jump in self.steps]
            unmoved.append(world.rendered(state))
            scenes.append([world.rendered(later) for later in after])
        return PredictedScenes(
            starts, None, torch.from_numpy(np.array(scenes)), torch.from_numpy(np.array(unmoved))
        )


def load_predictor(folder: Path, horizon: int) -> FuturePredictor:
    """The world model in a folder, of either kind. Raises InputError where the horizon is too short
    for it.
    """
    if predicts_steps(folder):
        return StepPredictor(*load_world(folder), horizon)
    world = load_imagined_world(folder)
    if horizon < (least := min(world.config.jumps)):
        raise InputError(f"--horizon {horizon}: the network in {folder} takes {least} or more")
    return JumpPredictor(world, horizon)


def commanded(clips: SceneClips, now: np.ndarray, horizon: int) -> np.ndarray:
    """Actions (..., H + 1, 10) commanded at the moments ``now`` (...) and ``horizon`` steps on."""
    return clips.actions[np.asarray(now)[..., None] + np.arange(horizon + 1)]
