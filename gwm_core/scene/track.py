"""Which Gaussian of the next scene is which of this one: tokens of a history mean the same piece of the world."""

from __future__ import annotations

import numpy as np
from scipy.spatial import cKDTree

from gwm_core.scene.gaussians import COLORS, MEANS

COLOR_METRES = 0.05  # [m] a full unit of colour counts as much as this far away
RIDING = 0.15  # [m] from the gripper within which things may move with it


def follow(picked: np.ndarray, T_before: np.ndarray, scene: np.ndarray, T_after: np.ndarray) -> np.ndarray:
    """Indices (K,) into ``scene`` (N, 14) of what the Gaussians ``picked`` (K, 14) of the scene before have become.

    Each stays where it was or goes along with the gripper, whichever finds the likelier Gaussian there.

    Args:
        T_before, T_after: (4, 4) pose of the gripper in the base frame at the two moments.
    """
    tree = cKDTree(_place(scene[:, MEANS], scene[:, COLORS]))
    stay, colors = picked[:, MEANS], picked[:, COLORS]
    motion = T_after @ np.linalg.inv(T_before)
    ride = stay @ motion[:3, :3].T + motion[:3, 3]
    far_stay, near_stay = tree.query(_place(stay, colors))
    far_ride, near_ride = tree.query(_place(ride, colors))
    riding = (far_ride < far_stay) & (np.linalg.norm(stay - T_before[:3, 3], axis=1) < RIDING)
    return np.where(riding, near_ride, near_stay)


def follow_all(scenes: np.ndarray, poses: np.ndarray, count: int) -> np.ndarray:
    """Indices (T, count): the first ``count`` Gaussians of scenes (T, N, 14) [0], followed through the others.

    Args:
        poses: (T, 4, 4) of the gripper.
    """
    indices = [np.arange(count)]
    for k in range(1, len(scenes)):
        indices.append(follow(scenes[k - 1][indices[-1]], poses[k - 1], scenes[k], poses[k]))
    return np.stack(indices)


def _place(points: np.ndarray, colors: np.ndarray) -> np.ndarray:
    return np.concatenate([points, COLOR_METRES * colors], axis=1).astype(np.float64)
