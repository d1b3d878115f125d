"""Train the 3D VAE on scenes and images of recorded episodes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace

import numpy as np
import torch

from gwm_core.files.json_files import to_json
from gwm_core.geometry.kinematics import from_rows
from gwm_core.model.checkpoint import save_vae
from gwm_core.model.config import VAEConfig
from gwm_core.model.vae import VAE
from gwm_core.scene.token_tracking import find_gripper_tokens
from gwm_core.training import vae_reconstruction
from gwm_core.training.datasets.clips import SceneClips
from gwm_core.training.datasets.latents import tracked
from gwm_core.training.training_loop import Batch
from gwm_core.training.training_run import TrainingRun, held_out, silent

# moments over which the VAE's tokens are tracked
TRACKED = 9
_STRIDE = 7  # of the moments from which the gripper's tokens are found
_VALIDATION = 48  # moments


class VAEBatches:
    """Scenes of training clips with their tracked tokens and images."""

    def __init__(
        self,
        clips: SceneClips,
        config: VAEConfig,
        training: np.ndarray,
        gripper_tokens: np.ndarray,
        device: str,
        follow: Callable,
    ):
        """``training`` is the mask (M,) of the moments to train on."""
        self._clips = clips
        self._config = config
        self._device = device
        moments, anchors = tracked(clips, gripper_tokens, config.tokens, TRACKED, follow)
        self._moments = moments[training[moments]]
        self._anchors = anchors[training[moments]]

    def sample_batch(self, count: int) -> Batch:
        """A training batch, as ``vae_reconstruction.loss`` takes it."""
        clips, config = self._clips, self._config
        chosen = torch.randint(len(self._moments), (count,)).numpy()
        index = self._moments[chosen]
        images, regions = clips.images[index] / np.float32(255), clips.regions[index]
        behind = np.stack(
            [
                [vae_reconstruction.background(*view) for view in zip(*both)]
                for both in zip(images, regions)
            ]
        )
        arrays = {
            "images": images,
            "behind": behind,
            "regions": regions,
            "viewmats": clips.viewmats[index],
            "Ks": clips.Ks[index],
            "scenes": clips.scenes[index].astype(np.float32),
            "anchors": self._anchors[chosen],
        }
        batch = {name: torch.from_numpy(array) for name, array in arrays.items()}
        batch["noise"] = torch.randn(count, config.tokens, config.latent)
        return {name: tensor.to(self._device) for name, tensor in batch.items()}


def train_vae(
    clips: SceneClips,
    vae_config: VAEConfig,
    run: TrainingRun,
    follow: Callable[[int, int], None] = silent,
) -> dict:
    """Train a VAE and save it in ``run.out``.

    Returns ``vae_reconstruction.evaluate_vae`` of held-out episodes.

    Args:
        follow: progress of tracking the tokens through the clips, which comes first.
    """
    torch.manual_seed(run.config.seed)
    vae = VAE(vae_config).to(run.device)
    held = held_out(clips.episode, run.config.held_out)
    some = np.flatnonzero(~held)[::_STRIDE]
    gripper_tokens = find_gripper_tokens(
        clips.scenes[some].astype(np.float32),
        from_rows(clips.poses[some]),
        vae_config.gripper_tokens,
    )
    vae.gripper_tokens.copy_(torch.from_numpy(gripper_tokens))
    batches = VAEBatches(clips, vae_config, ~held, gripper_tokens, run.device, follow)
    validation = np.flatnonzero(held)
    validation = validation[:: max(1, len(validation) // _VALIDATION)]

    def record_with_images(done: int, vae: VAE, figures: dict) -> None:
        pairs = vae_reconstruction.side_by_side(vae, clips, validation[:4])
        run.record(done, vae, figures | {"observed | rebuilt": pairs})

    return replace(run, record=record_with_images).train(
        vae,
        vae_reconstruction.loss,
        batches.sample_batch,
        lambda v: vae_reconstruction.evaluate_vae(v, clips, validation),
        to_json(asdict(vae_config)),
        len(clips),
        lambda average, provenance: save_vae(run.out, average, provenance),
    )
