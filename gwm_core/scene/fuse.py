"""Combine surfels of several cameras, and remove those of the robot itself."""

from __future__ import annotations

import cv2
import numpy as np

from gwm_core.geometry.capsules import distance_to_arm
from gwm_core.scene.gaussians import MEANS, QUATS
from gwm_core.types import Frame


def in_free_space(
    points: np.ndarray, frames: tuple[Frame, ...], own: int, fraction: float
) -> np.ndarray:
    """Which points (M, 3) of ``frames[own]`` lie in what another frame measured as free space.

    Such a point is nearer than all readings of the other camera in the 3x3 pixels around it, by
    more than ``fraction`` of that depth: it is a flying pixel, or noise.
    """
    free = np.zeros(len(points), bool)
    for k, frame in enumerate(frames):
        if k == own:
            continue
        nearest = cv2.erode(
            np.where(frame.depth > 0, frame.depth, np.float32(np.inf)), np.ones((3, 3), np.uint8)
        )
        pixel, z, visible = pixels_of(points, frame)
        around = nearest.ravel()[pixel]
        free |= (
            visible
            & np.isfinite(around)
            & (frame.depth.ravel()[pixel] > 0)
            & (z < (1 - fraction) * around)
        )
    return free


def pixels_of(points: np.ndarray, frame: Frame) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Project points (M, 3) of the base frame into an image.

    Returns:
        flat pixel index (M,), 0 for a point outside; depth (M,) [m]; whether it is inside (M,).
    """
    height, width = frame.depth.shape
    R = frame.T_base_camera[:3, :3].astype(np.float32)
    t = frame.T_base_camera[:3, 3].astype(np.float32)
    local = (points - t) @ R
    z = local[:, 2]
    front = z > 0.01
    depth = np.where(front, z, np.float32(1))
    u, v = (frame.K[i, i] * local[:, i] / depth + frame.K[i, 2] for i in (0, 1))
    inside = front & (u >= 0) & (u < width) & (v >= 0) & (v < height)
    pixel = np.where(inside, v, 0).astype(np.int64) * width + np.where(inside, u, 0).astype(
        np.int64
    )
    return pixel, z, inside


def merge_voxels(gaussians: np.ndarray, size: float) -> np.ndarray:
    """Merge the Gaussians of each cell of ``size`` [m] into one.

    It has their mean position, scale, colour and opacity, and the orientation of the first.
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
    """Which points (M, 3) lie within ``margin`` [m] of the robot's body at ``q``.

    Raises ValueError without joints.
    """
    if q is None:
        raise ValueError("joints are wanted to leave out the robot's own body")
    return distance_to_arm(points, q) < margin
