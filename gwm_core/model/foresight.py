"""What the world model knows of the future of a scene, as tokens for a policy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from gwm_core.model.checkpoint import load_world


class Foresight:
    """A VAE and a world model from one folder. ``channels`` is the width of a token."""

    def __init__(self, folder: Path):
        self._world, self._vae = load_world(folder)
        self.lift_config = self._vae.config.lift
        self.channels = self._world.config.layers // 2 * self._world.config.width

    @torch.inference_mode()
    def __call__(self, scene: np.ndarray, T: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Features (K, channels) and places (K, 3) [m] of a scene (N, 14), the gripper at pose T (4, 4)."""
        z = self._vae.observe(scene[None], T[None])
        return self._world.features(z)[0].numpy(), self._vae.centers(z)[0].numpy()
