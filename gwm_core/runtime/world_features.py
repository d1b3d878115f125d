"""What the world model knows of the future of a scene, as tokens for a policy."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from safetensors.numpy import load

from gwm_core.model.weights_file import read_weights
from gwm_core.scene.token_tracking import track_tokens


class WorldFeatures:
    """A VAE and a world model from one folder.

    Args:
        graph: gives the functions ``latent`` and ``features`` of ``deploy.graphs`` by name; by
            default the networks themselves, on as many threads as torch has.

    Attributes:
        channels: width of a token.
    """

    def __init__(self, folder: Path, graph: Callable[[str], Callable] | None = None):
        graph = graph or _networks(folder)
        vae, world = read_weights(folder, "vae"), read_weights(folder, "world").config
        self.lift_config, self._tokens = vae.config.lift, vae.config.tokens
        self._riders = load(vae.data)["riders"]
        self.channels = vae.config.latent if world.ahead else world.layers // 2 * world.width
        self._latent, self._features = graph("latent"), graph("features")

    def __call__(self, scene: np.ndarray, T: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Features (K, channels) and places (K, 3) [m] of a scene (N, 14), the gripper at pose T
        (4, 4).
        """
        scene = np.ascontiguousarray(scene[None], np.float32)
        centers = track_tokens(scene, T[None], self._riders, self._tokens)
        known = self._features(self._latent({"gaussians": scene, "centers": centers}))
        return known["features"][0], known["places"][0]


def _networks(folder: Path) -> Callable[[str], Callable]:
    from gwm_core.runtime.backends import Torch

    return lambda name: Torch(folder, name)
