"""A scene as patches: each of some Gaussians with its nearest neighbours."""

from __future__ import annotations

import numpy as np
from scipy.spatial import cKDTree

from gwm_core.scene.gaussians import COLORS, MEANS


def patches(scene: np.ndarray, count: int, neighbors: int) -> np.ndarray:
    """Positions [m] and colours (count, neighbors, 6) float32 around the first ``count`` Gaussians.

    The first of every patch is its centre. The neighbours are found before the networks: half
    precision, or another order of summation, would find others.

    Args:
        scene: (N, 14).
        count: patches.
        neighbors: Gaussians in a patch.
    """
    points = scene[:, MEANS]
    nearest = cKDTree(points, balanced_tree=False, compact_nodes=False).query(
        points[:count], neighbors
    )[1]
    return np.concatenate([points, scene[:, COLORS]], axis=1, dtype=np.float32)[nearest]
