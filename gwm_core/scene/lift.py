"""RGB-D frames -> one metric Gaussian scene: a surfel per pixel, fused over cameras and cropped to the workspace."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from gwm_core.scene.camera import back_project
from gwm_core.scene.gaussians import sample
from gwm_core.types import Frame


@dataclass(frozen=True)
class LiftConfig:
    """Numbers of the lift. The crop leaves out the bare table (z below 12 mm) and most of the arm."""

    low: tuple[float, float, float] = (0.28, -0.38, 0.012)  # [m] base frame
    high: tuple[float, float, float] = (0.76, 0.38, 0.24)
    count: int = 1024
    edge: float = 0.04  # drop pixels whose 3x3 neighbourhood spans more than this share of their depth
    footprint: float = 0.6  # surfel radius over pixel footprint
    opacity: float = 0.9


def lift(frames: tuple[Frame, ...], config: LiftConfig = LiftConfig()) -> np.ndarray:
    """Scene (count, 14) from the frames of all cameras of one moment."""
    return sample(np.concatenate([lift_frame(frame, config) for frame in frames]), config.count)


def lift_frame(frame: Frame, config: LiftConfig = LiftConfig()) -> np.ndarray:
    """Gaussians (M, 14) of one frame inside the crop, flying pixels removed. M may be 0."""
    depth = frame.depth
    R, t = frame.T_base_camera[:3, :3].astype(np.float32), frame.T_base_camera[:3, 3].astype(np.float32)
    local = back_project(depth, frame.K)  # (H, W, 3)
    base = local @ R.T + t
    inside = np.all((base > np.float32(config.low)) & (base < np.float32(config.high)), axis=-1) & (depth > 0)
    kernel = np.ones((3, 3), np.uint8)
    nearest = cv2.erode(np.where(depth > 0, depth, np.float32(np.inf)), kernel)
    inside &= cv2.dilate(depth, kernel) - nearest < config.edge * depth
    inside[[0, -1]] = inside[:, [0, -1]] = False
    v, u = np.nonzero(inside)
    if len(v) == 0:
        return np.zeros((0, 14), np.float32)
    normal = _normals(base, depth, v, u, t)
    towards = (t - base[v, u]) / np.linalg.norm(t - base[v, u], axis=1, keepdims=True)
    slant = np.clip(np.abs(np.sum(normal * towards, axis=1)), 0.3, 1.0)
    radius = config.footprint * depth[v, u] / np.float32(frame.K[0, 0]) / slant
    out = np.empty((len(v), 14), np.float32)
    out[:, 0:3] = base[v, u]
    out[:, 3:6] = radius[:, None] * np.float32([1.0, 1.0, 0.2])
    out[:, 6:10] = _turn_z_to(normal)
    out[:, 10:13] = frame.color[v, u] / np.float32(255.0)
    out[:, 13] = config.opacity
    return out


def _normals(base, depth, v, u, eye) -> np.ndarray:
    """Unit normals (M, 3) from the four neighbours, turned towards the camera; a hole beside falls back to the ray."""
    across, down = base[v, u + 1] - base[v, u - 1], base[v + 1, u] - base[v - 1, u]
    normal = np.cross(down, across)
    length = np.linalg.norm(normal, axis=1)
    whole = (depth[v, u + 1] > 0) & (depth[v, u - 1] > 0) & (depth[v + 1, u] > 0) & (depth[v - 1, u] > 0)
    ray = eye - base[v, u]
    ray /= np.linalg.norm(ray, axis=1, keepdims=True)
    good = whole & (length > 1e-12)
    normal = np.where(good[:, None], normal / np.maximum(length, 1e-12)[:, None], ray)
    return normal * np.where(np.sum(normal * ray, axis=1) < 0, -1, 1)[:, None]


def _turn_z_to(normal: np.ndarray) -> np.ndarray:
    """Shortest rotations (M, 4) wxyz that turn z to unit normals (M, 3)."""
    quat = np.stack([1 + normal[:, 2], -normal[:, 1], normal[:, 0], np.zeros(len(normal), np.float32)], axis=1)
    quat[normal[:, 2] < -1 + 1e-6] = [0, 1, 0, 0]
    return quat / np.linalg.norm(quat, axis=1, keepdims=True)
