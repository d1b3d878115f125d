"""A scene as patches: some of its Gaussians, each with those nearest to it."""

from __future__ import annotations

import numpy as np
from scipy.spatial import cKDTree

from gwm_core.scene.gaussians import COLORS, MEANS


def patches(scene: np.ndarray, count: int, neighbors: int) -> np.ndarray:
    """Places [m] and colours (count, neighbors, 6) float32 around the first ``count`` of a scene
    (N, 14).

    The first of every patch is its centre. Found here rather than in the networks: in half
    precision, or in another order of summing, other neighbours would win.
    """
    points = scene[:, MEANS]
    nearest = cKDTree(points, balanced_tree=False, compact_nodes=False).query(
        points[:count], neighbors
    )[1]
    return np.concatenate([points, scene[:, COLORS]], axis=1, dtype=np.float32)[nearest]
