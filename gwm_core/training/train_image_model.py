"""Train the baseline without Gaussians, on the moments of the VAE and the actions in them."""

from __future__ import annotations

from dataclasses import asdict, replace

import numpy as np
import torch
from torch import Tensor

from gwm_core.files.json_files import to_json
from gwm_core.model.checkpoint import save_image_model
from gwm_core.model.config import ImageModelConfig
from gwm_core.model.image_model import CONTEXT, ImageModel
from gwm_core.training.datasets.clips import CUBE, ROBOT, WORKSPACE, SceneClips
from gwm_core.training.training_loop import Batch
from gwm_core.training.training_run import TrainingRun, held_out
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


def train_image_model(clips: SceneClips, model_config: ImageModelConfig, run: TrainingRun) -> dict:
    """Train the baseline and save it in ``run.out``.

    Returns ``evaluate_image_model`` of held-out episodes.
    """
    torch.manual_seed(run.config.seed)
    model_config = replace(model_config, cameras=clips.images.shape[1])
    model = ImageModel(model_config).to(run.device)
    starts = clips.starts(CONTEXT + 1)
    if not len(starts):
        raise clips.refuse(CONTEXT + 1)
    held = held_out(clips.episode[starts], run.config.held_out)
    training, validation = starts[~held], starts[held]
    validation = validation[:: max(1, len(validation) // 128)]

    def sample_batch(count: int) -> Batch:
        index = training[torch.randint(len(training), (count,)).numpy()]
        batch = take(clips, index, torch.randint(model_config.cameras, (count,)).numpy())
        batch["noise"] = torch.randn(batch["past"].shape)
        return {name: tensor.to(run.device) for name, tensor in batch.items()}

    return run.train(
        model,
        loss,
        sample_batch,
        lambda m: evaluate_image_model(m, clips, validation),
        to_json(asdict(model_config)),
        len(clips),
        lambda average, provenance: save_image_model(run.out, average, provenance),
    )
