"""The pinhole camera: intrinsics, the two conventions for pixel centres, and back-projection."""

from __future__ import annotations

import numpy as np

_HALF_A_PIXEL = np.array([[0, 0, 0.5], [0, 0, 0.5], [0, 0, 0]])


def intrinsics(width: int, height: int, fovy_degrees: float) -> np.ndarray:
    """K (3, 3) [pixels] of a camera with square pixels and a centred principal point (pixel centres at +0.5)."""
    f = 0.5 * height / np.tan(np.deg2rad(fovy_degrees) / 2)
    return np.array([[f, 0, width / 2], [0, f, height / 2], [0, 0, 1.0]])


def from_opencv(K: np.ndarray) -> np.ndarray:
    """Our K (3, 3), pixel centres at + 0.5, from one with them at whole numbers: OpenCV, CameraInfo, librealsense."""
    return np.asarray(K, float) + _HALF_A_PIXEL


def to_opencv(K: np.ndarray) -> np.ndarray:
    """The K (3, 3) that goes out, pixel centres at whole numbers, from ours."""
    return np.asarray(K, float) - _HALF_A_PIXEL


def back_project(depth: np.ndarray, K: np.ndarray) -> np.ndarray:
    """Points (H, W, 3) [m] in the optical frame from depth (H, W) [m]; zero depth gives the origin."""
    v, u = np.mgrid[: depth.shape[0], : depth.shape[1]].astype(np.float32) + np.float32(0.5)
    x, y = (u - K[0, 2]) / K[0, 0], (v - K[1, 2]) / K[1, 1]
    return np.stack([x * depth, y * depth, depth], axis=-1).astype(np.float32)
