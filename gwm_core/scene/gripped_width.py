"""How far a gripper closes on what a scene shows between its fingers."""

from __future__ import annotations

import numpy as np

from gwm_core.scene.gaussians import MEANS
from gwm_core.types import CHUNK_DT, OPEN_WIDTH

# [m] half extents, across and along the fingers, of the gripped volume: longer than a finger's pad,
# since predicted objects are some 10 mm off
_JAW = 0.008, 0.025
_SKIN = 0.004  # [m] thickness of a finger's own Gaussians
_FEWEST = 6  # Gaussians of an object
_SPEED = 0.1  # [m/s] of the Franka Hand's width, by default


def gripped_width(scene: np.ndarray, T: np.ndarray, width: float, commanded: np.ndarray) -> float:
    """Width [m] at the end of rows of a gripper that is then at T (4, 4) in a scene (N, 14).

    Args:
        width: [m] before. commanded: (H,) [m] in each row.
    """
    step = _SPEED * CHUNK_DT
    for goal in commanded:
        width += min(max(float(goal) - width, -step), step)
    # (N, 3) in the frame of the TCP, whose y axis joins the fingers
    points = (scene[:, MEANS] - T[:3, 3]) @ T[:3, :3]
    inside = (np.abs(points[:, 0]) < _JAW[0]) & (np.abs(points[:, 2]) < _JAW[1])
    offset = np.abs(points[inside, 1])
    offset = offset[offset < OPEN_WIDTH / 2 - _SKIN]
    return max(width, 2 * float(np.median(offset))) if len(offset) >= _FEWEST else width


def held_width(scene: np.ndarray, T: np.ndarray, width: float, commanded: np.ndarray) -> float:
    """Width [m] of what a gripper holds at the end of rows, 0 where it was commanded to open.

    It is never larger than the width before. Arguments are as of ``gripped_width``.
    """
    if np.max(commanded) > width:
        return 0.0
    return min(width, gripped_width(scene, T, width, commanded))
