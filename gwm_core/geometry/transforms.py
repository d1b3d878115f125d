"""Small rigid transforms, and the difference of two poses."""

from __future__ import annotations

import numpy as np
from scipy.spatial.transform import Rotation


def small_transform(twist: np.ndarray) -> np.ndarray:
    """(4, 4) from a rotation vector [rad] and a translation [m], (6,)."""
    T = np.eye(4)
    T[:3, :3] = Rotation.from_rotvec(twist[:3]).as_matrix()
    T[:3, 3] = twist[3:]
    return T


def pose_difference(T_a: np.ndarray, T_b: np.ndarray) -> tuple[float, float]:
    """Distance [mm] and angle [degrees] between two poses (4, 4)."""
    angle = Rotation.from_matrix(T_a[:3, :3].T @ T_b[:3, :3]).magnitude()
    return 1000 * float(np.linalg.norm(T_a[:3, 3] - T_b[:3, 3])), float(np.rad2deg(angle))
