"""Check the pose of a fixed camera: the arm's surface, at the measured joints, against the depth.

Points of the depth image are fitted to the meshes (iterative closest point, point to plane: Chen
and Medioni 1992). The motion of the camera that the fit needs is the error of its claimed pose.
"""

from __future__ import annotations

import functools

import cv2
import mujoco
import numpy as np
from scipy.spatial import cKDTree

from gwm_core.calibration.pose_check import PoseCheck, deviation, require_certain
from gwm_core.calibration.views import CalibrationView
from gwm_core.errors import InputError
from gwm_core.geometry.camera import back_project
from gwm_core.geometry.transforms import pose_difference, small_transform
from gwm_core.sim.cameras import cast_rays
from gwm_core.sim.scene import build_arm

# [m] readings further from the arm are something else; one per step of the fit
GATES = np.geomspace(0.06, 0.01, 10)
EDGE = 0.03  # fraction of the depth: a larger step between neighbours is an edge
COLUMNS = 212  # rays per row that look for the arm's surface
MINIMUM_POINTS = 150
MAXIMUM_READINGS = 40_000
SIGMA = 0.003  # [m] errors beyond this count less
# standard deviation of a reading over its median error, to allow for neighbours that err together
CORRELATED = 5.0


def check_body(view: CalibrationView, K: np.ndarray, T_claimed: np.ndarray) -> PoseCheck:
    """Check a claimed T_base_camera (4, 4) of a fixed camera by one view of the arm at rest.

    Raises:
        InputError: there is no depth, or too little of the arm in view to judge.
    """
    if view.depth is None:
        raise InputError(
            f"{view.name} has no depth image, which the check by the arm's own body needs: use a"
            " board"
        )
    model, T = _arm_model(), T_claimed
    data = mujoco.MjData(model)
    data.qpos[:] = [*view.q, view.width / 2, view.width / 2]
    mujoco.mj_kinematics(model, data)
    readings = _readings(view.depth, K)
    for gate in GATES:
        points, normals = _surface(model, data, K, T, view.depth.shape)
        if len(points) < MINIMUM_POINTS:
            raise InputError(
                f"{view.name}: by its claimed pose the camera hardly sees the arm ({len(points)}"
                " points): bring the hand to the middle of the image, or use a board"
            )
        near, base, normal = _matches(readings @ T[:3, :3].T + T[:3, 3], points, normals, gate)
        if len(near) < MINIMUM_POINTS:
            return PoseCheck(*pose_difference(T_claimed, T), visible=0.0)
        move, uncertainty = _step(near, base, normal, gate, T[:3, 3])
        T = move @ T
    check = PoseCheck(*pose_difference(T_claimed, T), _visible_fraction(view.depth, K, T, points))
    return require_certain(
        view,
        check,
        uncertainty,
        "bring the hand to the middle of the image, or use a board; if that changes "
        "nothing, the camera is far from its claimed pose",
    )


@functools.cache
def _arm_model() -> mujoco.MjModel:
    return build_arm()


def _readings(depth: np.ndarray, K: np.ndarray) -> np.ndarray:
    """Points (N, 3) [m] in the camera's frame, without those at holes and edges."""
    window = np.ones((3, 3), np.uint8)
    low, high = cv2.erode(depth, window), cv2.dilate(depth, window)
    points = back_project(depth, K)[(low > 0) & (high - low < EDGE * depth)].astype(float)
    return points[:: 1 + len(points) // MAXIMUM_READINGS]


def _surface(model, data, K: np.ndarray, T: np.ndarray, shape) -> tuple[np.ndarray, np.ndarray]:
    """Points and normals (M, 3) of the arm that a camera at ``T`` sees, base frame."""
    stride = max(1, shape[1] // COLUMNS)
    rays = (
        back_project(np.ones(shape, np.float32), K)[::stride, ::stride].reshape(-1, 3) @ T[:3, :3].T
    )
    rays = rays / np.linalg.norm(rays, axis=1, keepdims=True)
    _, distance, normal = cast_rays(model, data, T[:3, 3], rays)
    hit = distance >= 0
    return T[:3, 3] + rays[hit] * distance[hit, None], normal[hit]


def _matches(readings: np.ndarray, points: np.ndarray, normals: np.ndarray, gate: float):
    """The readings within ``gate`` of the surface, and the nearest surface point and normal."""
    distance, nearest = cKDTree(points).query(readings, distance_upper_bound=gate)
    found = np.isfinite(distance)
    return readings[found], points[nearest[found]], normals[nearest[found]]


def _step(near: np.ndarray, base: np.ndarray, normal: np.ndarray, gate: float, eye: np.ndarray):
    """The small motion (4, 4) of readings onto the surface, and its uncertainty [mm], [degrees]."""
    error = np.sum((near - base) * normal, axis=1)
    jacobian = np.hstack([np.cross(near - eye, normal), normal])
    weight = 1 / (1 + (error / max(SIGMA, gate / 4)) ** 2)  # Cauchy
    weighted = (jacobian * weight[:, None]).T
    x = np.linalg.lstsq(weighted @ jacobian, -weighted @ error, rcond=1e-9)[0]
    move = small_transform(x)
    move[:3, 3] = eye - move[:3, :3] @ eye + x[3:]
    return move, deviation(jacobian, CORRELATED * np.median(np.abs(error)))


def _visible_fraction(depth: np.ndarray, K: np.ndarray, T: np.ndarray, points: np.ndarray) -> float:
    """Fraction of the surface points with a depth reading at which the reading is the surface's."""
    local = (points - T[:3, 3]) @ T[:3, :3]
    u, v = np.floor(local[:, :2] / local[:, 2:] * K[[0, 1], [0, 1]] + K[:2, 2]).astype(int).T
    inside = (u >= 0) & (u < depth.shape[1]) & (v >= 0) & (v < depth.shape[0])
    there = depth[v[inside], u[inside]]
    return (
        float(np.mean(np.abs(there - local[inside, 2])[there > 0] < 2 * GATES[-1]))
        if (there > 0).any()
        else 0.0
    )
