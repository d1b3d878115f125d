"""Features of the world model, as tokens for a policy."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from gwm_core.model.weights_file import read_weights
from gwm_core.scene.token_tracking import track_tokens


class WorldFeatures:
    """Encode a scene with the VAE, then take the features of the world model.

    Args:
        folder: with a VAE and its world model.
        graph: gives the functions ``latent`` and ``features`` of ``onnx_export`` by name; by
            default the torch networks, on as many threads as torch has.

    Attributes:
        channels: of a token.
    """

    def __init__(self, folder: Path, graph: Callable[[str], Callable] | None = None):
        graph = graph or _torch_graphs(folder)
        vae = read_weights(folder, "vae")
        world = read_weights(folder, "world").config
        self.lift_config = vae.config.lift
        self.channels = vae.config.latent if world.lookahead else world.layers // 2 * world.width
        self._tokens = vae.config.tokens
        self._gripper_tokens = vae.arrays()["gripper_tokens"]
        self._latent = graph("latent")
        self._features = graph("features")

    def __call__(self, scene: np.ndarray, T: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Features (K, channels) and anchors (K, 3) [m] of a scene (N, 14), the gripper at T
        (4, 4).
        """
        scene = np.ascontiguousarray(scene[None], np.float32)
        anchors = track_tokens(scene, T[None], self._gripper_tokens, self._tokens)
        latent = self._latent({"gaussians": scene, "anchors": anchors})
        out = self._features(latent)
        return out["features"][0], out["anchors"][0]


def _torch_graphs(folder: Path) -> Callable[[str], Callable]:
    from gwm_core.runtime.graphs.backends import Torch
    from gwm_core.runtime.graphs.onnx_export import torch_graph

    return lambda name: Torch(torch_graph(folder, name))
