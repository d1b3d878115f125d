"""Cameras that predicted scenes are rendered for."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gwm_core.scene.build import render_scene

EYE, TARGET = (1.1, 0.5, 0.6), (0.52, 0.0, 0.1)  # [m] of the overview, which no camera has


@dataclass(frozen=True)
class RenderedCamera:
    """A camera to render for."""

    name: str
    K: np.ndarray  # (3, 3) [pixels]
    T_base_camera: np.ndarray  # (4, 4)
    width: int
    height: int

    def render(self, scene: np.ndarray) -> np.ndarray:
        """Image (H, W, 3) in [0, 1] of a scene (N, 14) on black."""
        return render_scene(scene, self.K, self.T_base_camera, self.width, self.height)[0]

    def resized(self, width: int, height: int) -> RenderedCamera:
        """The same field of view in other pixels, which need not be square."""
        scale = np.array([width / self.width, height / self.height, 1.0])
        return RenderedCamera(self.name, scale[:, None] * self.K, self.T_base_camera, width, height)
