"""What several cameras, and the robot's own joints, say about the same surfels."""

from __future__ import annotations

import cv2
import numpy as np

from gwm_core.geometry.capsules import distance_to_arm
from gwm_core.scene.gaussians import MEANS, QUATS
from gwm_core.types import Frame


def in_free_space(
    points: np.ndarray, frames: tuple[Frame, ...], own: int, share: float
) -> np.ndarray:
    """Which points (M, 3), lifted from ``frames[own]``, another frame looks through.

    A point counts as looked through when it lies nearer than everything that the other camera read
    in the 3x3 pixels around it, by more than ``share`` of that depth: a flying pixel, or noise.
    """
    through = np.zeros(len(points), bool)
    for k, frame in enumerate(frames):
        if k == own:
            continue
        nearest = cv2.erode(
            np.where(frame.depth > 0, frame.depth, np.float32(np.inf)), np.ones((3, 3), np.uint8)
        )
        pixel, z, seen = pixels_of(points, frame)
        around = nearest.ravel()[pixel]
        through |= (
            seen
            & np.isfinite(around)
            & (frame.depth.ravel()[pixel] > 0)
            & (z < (1 - share) * around)
        )
    return through


def pixels_of(points: np.ndarray, frame: Frame) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Flat pixel index (M,), depth (M,) [m], and whether each point (M, 3) of the base frame falls
    into the image.

    The index of a point outside is 0.
    """
    height, width = frame.depth.shape
    R, t = (
        frame.T_base_camera[:3, :3].astype(np.float32),
        frame.T_base_camera[:3, 3].astype(np.float32),
    )
    local = (points - t) @ R
    z = local[:, 2]
    front = z > 0.01
    depth = np.where(front, z, np.float32(1))
    u, v = (frame.K[i, i] * local[:, i] / depth + frame.K[i, 2] for i in (0, 1))
    seen = front & (u >= 0) & (u < width) & (v >= 0) & (v < height)
    pixel = np.where(seen, v, 0).astype(np.int64) * width + np.where(seen, u, 0).astype(np.int64)
    return pixel, z, seen


def merge_voxels(gaussians: np.ndarray, size: float) -> np.ndarray:
    """One Gaussian per occupied cell of ``size`` [m]: mean place, scale, colour, opacity; the
    first's orientation.
    """
    if len(gaussians) == 0:
        return gaussians
    cell = np.floor(gaussians[:, MEANS] / np.float32(size)).astype(np.int64)
    cell -= cell.min(axis=0)
    key = np.ravel_multi_index(cell.T, cell.max(axis=0) + 1)
    order = np.argsort(key, kind="stable")
    first = np.flatnonzero(np.diff(key[order], prepend=-1))
    members = np.diff(first, append=len(key))[:, None]
    merged = np.add.reduceat(gaussians[order].astype(np.float64), first, axis=0) / members
    merged[:, QUATS] = gaussians[order[first], QUATS]
    return merged.astype(np.float32)


def on_arm(points: np.ndarray, q: np.ndarray | None, margin: float) -> np.ndarray:
    """Which points (M, 3) lie within ``margin`` [m] of the robot's body at ``q``. Raises ValueError
    without joints.
    """
    if q is None:
        raise ValueError("joints are wanted to leave out the robot's own body")
    return distance_to_arm(points, q) < margin
