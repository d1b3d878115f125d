"""Train the baseline without Gaussians, on the moments and actions of VAE and world model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from gwm_core.model.checkpoint import save_image_model
from gwm_core.model.config import ImageModelConfig, TrainConfig
from gwm_core.model.image_model import CONTEXT, ImageModel
from gwm_core.training.datasets.clips import CUBE, ROBOT, WORKSPACE, SceneClips
from gwm_core.training.training_loop import Batch, finish, fit
from gwm_core.training.training_run import Progress, held_out, provenance_of, settings_key, silent
from gwm_core.training.vae_reconstruction import PIXEL_WEIGHT, psnr

JITTER = 0.02  # noise on the past images: rollouts feed the model its own errors


def loss(model: ImageModel, past, actions, camera, target, weight, noise) -> Tensor:
    """Absolute and squared error of the next image.

    Args:
        past: (B, 2, 3, S, S) and target: (B, 3, S, S) in [0, 1]; actions: (B, 2, 10); camera: (B,).
        weight: (B, 1, S, S) of each pixel; noise: unit, of the past.
    """
    error = model(past + JITTER * noise, actions, camera) - target
    return ((error.abs() + error**2) * weight).mean()


def images_of(clips: SceneClips, index: np.ndarray, camera: np.ndarray) -> Tensor:
    """Images (..., 3, S, S) in [0, 1] of moments and cameras (...)."""
    return torch.from_numpy(clips.images[index, camera] / np.float32(255)).movedim(-1, -3)


def take(clips: SceneClips, starts: np.ndarray, camera: np.ndarray) -> Batch:
    """Inputs of ``loss``, without noise, from the three moments that begin at ``starts`` (B,)."""
    index, past = starts[:, None] + np.arange(CONTEXT + 1), CONTEXT - 1
    images = images_of(clips, index, camera[:, None])
    parts = (clips.regions[index[:, -1], camera] & (ROBOT | CUBE)) > 0
    return {
        "past": images[:, :-1],
        "actions": torch.from_numpy(clips.actions[index[:, past:]]),
        "camera": torch.from_numpy(camera),
        "target": images[:, -1],
        # as of the VAE
        "weight": torch.from_numpy(1 + (PIXEL_WEIGHT - 1) * parts.astype(np.float32))[:, None],
    }


@torch.no_grad()
def evaluate_image_model(
    model: ImageModel, clips: SceneClips, starts: np.ndarray
) -> dict[str, float]:
    """PSNR [dB] of the next image over the workspace, and of the last image repeated."""
    device, predicted, repeated = model.image_out.weight.device, [], []
    for camera in range(clips.images.shape[1]):
        for part in np.array_split(starts, max(1, len(starts) // 32)):
            b = take(clips, part, np.full(len(part), camera))
            here = torch.from_numpy(clips.regions[part + CONTEXT, camera] & WORKSPACE > 0)
            next_ = (
                model(*(b[name].to(device) for name in ("past", "actions", "camera")))
                .cpu()
                .clamp(0, 1)
            )
            predicted.append(((next_ - b["target"]) ** 2).movedim(1, -1)[here].numpy())
            repeated.append(((b["past"][:, -1] - b["target"]) ** 2).movedim(1, -1)[here].numpy())
    return {
        "psnr": psnr(np.concatenate(predicted)),
        "psnr_repeat_last": psnr(np.concatenate(repeated)),
    }


def train_image_model(
    clips: SceneClips,
    model_config: ImageModelConfig,
    config: TrainConfig,
    out: Path,
    provenance: dict,
    device: str = "cpu",
    progress: Progress = silent,
    record: Callable = silent,
) -> dict:
    """Train the baseline and save it in ``out``. Returns ``evaluate_image_model`` of held-out
    episodes.
    """
    torch.manual_seed(config.seed)
    model_config = replace(model_config, cameras=clips.images.shape[1])
    model = ImageModel(model_config).to(device)
    starts = clips.starts(CONTEXT + 1)
    if not len(starts):
        raise clips.refuse(CONTEXT + 1)
    held = held_out(clips.episode[starts], config.held_out)
    training, validation = starts[~held], starts[held]
    validation = validation[:: max(1, len(validation) // 128)]

    def sample_batch(count: int) -> Batch:
        index = training[torch.randint(len(training), (count,)).numpy()]
        batch = take(clips, index, torch.randint(model_config.cameras, (count,)).numpy())
        batch["noise"] = torch.randn(batch["past"].shape)
        return {name: tensor.to(device) for name, tensor in batch.items()}

    average, figures = fit(
        model,
        loss,
        sample_batch,
        lambda m: evaluate_image_model(m, clips, validation),
        config,
        Path(out),
        settings_key(model_config, config, len(clips)),
        progress,
        record,
    )
    provenance = provenance | provenance_of(config, len(clips), device) | figures
    finish(out, lambda: save_image_model(Path(out), average, provenance))
    return figures
