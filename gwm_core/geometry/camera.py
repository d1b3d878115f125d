"""The pinhole camera: intrinsics, the two conventions for pixel centres, pose, back-projection."""

from __future__ import annotations

import numpy as np
from scipy.spatial.transform import Rotation

from gwm_core.errors import InputError

_HALF_A_PIXEL = np.array([[0, 0, 0.5], [0, 0, 0.5], [0, 0, 0]])


def intrinsics(width: int, height: int, fovy_degrees: float) -> np.ndarray:
    """K (3, 3) [pixels] for square pixels and a centred principal point, pixel centres at + 0.5."""
    f = 0.5 * height / np.tan(np.deg2rad(fovy_degrees) / 2)
    return np.array([[f, 0, width / 2], [0, f, height / 2], [0, 0, 1.0]])


def look_at(eye, target) -> np.ndarray:
    """T_base_camera (4, 4) of an optical frame at ``eye`` [m] that looks at ``target`` [m].

    The image is upright. Straight up or down, the image's right is the base's -y. Raises InputError
    when the two points are the same.
    """
    eye, target = np.asarray(eye, float), np.asarray(target, float)
    distance = np.linalg.norm(target - eye)
    if not (np.isfinite(distance) and distance > 1e-9):
        raise InputError(
            f"a camera at {eye.tolist()} cannot look at {target.tolist()}: two different points are"
            " wanted"
        )
    z = (target - eye) / distance
    x = np.cross(z, [0.0, 0.0, 1.0])
    if np.linalg.norm(x) < 1e-9:
        x = np.array([0.0, -1.0, 0.0])
    x /= np.linalg.norm(x)
    T = np.eye(4)
    T[:3, 0] = x
    T[:3, 1] = np.cross(z, x)
    T[:3, 2] = z
    T[:3, 3] = eye
    return T


def pose_matrix(pose) -> np.ndarray:
    """(4, 4) from x y z [m] and a quaternion wxyz of any length. Raises InputError for others."""
    pose = np.asarray(pose, float)
    if not np.isfinite(pose).all() or np.linalg.norm(pose[3:]) < 1e-6:
        raise InputError(
            f"{pose.tolist()} is not a pose: three metres and a quaternion wxyz are wanted"
        )
    T = np.eye(4)
    T[:3, :3] = Rotation.from_quat(pose[3:], scalar_first=True).as_matrix()
    T[:3, 3] = pose[:3]
    return T


def from_opencv(K: np.ndarray) -> np.ndarray:
    """Our K (3, 3), pixel centres at + 0.5, from that of OpenCV, CameraInfo or librealsense."""
    return np.asarray(K, float) + _HALF_A_PIXEL


def to_opencv(K: np.ndarray) -> np.ndarray:
    """The inverse of ``from_opencv``: K (3, 3) with pixel centres at whole numbers."""
    return np.asarray(K, float) - _HALF_A_PIXEL


def back_project(depth: np.ndarray, K: np.ndarray) -> np.ndarray:
    """Points (H, W, 3) [m], optical frame, from depth (H, W) [m]; zero depth gives the origin."""
    v, u = np.mgrid[: depth.shape[0], : depth.shape[1]].astype(np.float32) + np.float32(0.5)
    x, y = (u - K[0, 2]) / K[0, 0], (v - K[1, 2]) / K[1, 1]
    return np.stack([x * depth, y * depth, depth], axis=-1).astype(np.float32)
