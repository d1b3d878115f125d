"""States of the imagined world at the scenes of samples."""

from __future__ import annotations

import numpy as np

from gwm_core.runtime.imagined_world import ImaginedState, ImaginedWorld
from gwm_core.scene.gaussians import COLORS, MEANS, OPACITY, QUATS, SCALES
from gwm_core.training.datasets.future_samples import FutureSamples

_SIZE = 0.006  # [m] of a Gaussian, where samples keep the means and colours alone


def observed_scene(points: np.ndarray, colors: np.ndarray, opacity: float) -> np.ndarray:
    """The scene (N, 14) of a sample: points (N, 3) [m], colors (N, 3) in 0-255."""
    scene = np.zeros((len(points), 14), np.float32)
    scene[:, MEANS], scene[:, COLORS] = points, colors / np.float32(255)
    scene[:, SCALES], scene[:, QUATS.start] = _SIZE, 1.0
    scene[:, OPACITY] = opacity
    return scene


def sample_state(world: ImaginedWorld, samples: FutureSamples, k: int) -> ImaginedState:
    """The observed scene of sample ``k``, with its latent."""
    scene = observed_scene(samples.points[k], samples.colors[k], world.lift_config.opacity)
    latent, anchors = (np.float32(a[k, 0]) for a in (samples.latents, samples.anchors))
    return world.state(scene, samples.proprio[k], latent, anchors)
