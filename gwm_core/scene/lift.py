"""Lift RGB-D frames to one metric Gaussian scene.

Each pixel becomes a surfel. The surfels of all cameras are fused and cropped to the workspace.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from gwm_core.errors import InputError
from gwm_core.files.numba_cache import cached_njit
from gwm_core.scene.fuse import in_free_space, merge_voxels, on_arm
from gwm_core.scene.gaussians import COLUMNS, MEANS, OPACITY, sample
from gwm_core.types import Frame

MINIMUM_COSINE = 0.3  # of the viewing angle: bounds the length of oblique surfels
THICKNESS = 0.2  # of a surfel over its radius


@dataclass(frozen=True)
class LiftConfig:
    """Parameters of the lift.

    The crop leaves out the bare table (z below 12 mm) and most of the arm.
    """

    low: tuple[float, float, float] = (0.28, -0.38, 0.012)  # [m] base frame
    high: tuple[float, float, float] = (0.76, 0.38, 0.24)  # [m]
    count: int = 1024  # Gaussians in the scene; 0 keeps all
    # drop pixels whose 3x3 neighbourhood spans more than this fraction of their depth
    edge: float = 0.04
    footprint: float = 0.6  # surfel radius over pixel footprint
    opacity: float = 0.9
    arm_margin: float = 0.0  # [m] drop surfels this near to the robot's body; 0 keeps them
    # drop surfels in front of a surface that another camera measures further away, by this fraction
    # of its depth; 0 keeps them
    free_space: float = 0.0
    voxel: float = 0.0  # [m] merge the surfels of a cell of this size; 0 keeps all
    sampling: str = "farthest"  # or importance
    # A camera with fewer surfels than this fraction of its pixels is blind. In 120 simulated scenes
    # of three tasks at 424x240: 0.0094 to 0.054, and at least 0.0017 without the arm.
    least_fraction: float = 0.001


class BlindError(InputError):
    """No camera sees anything in the crop, so there is no scene."""


class LiftResult(NamedTuple):
    """A scene, and the cameras that add nothing to it."""

    scene: np.ndarray  # (count, 14)
    blind_cameras: dict[str, str]  # camera -> reason


def lift(
    frames: tuple[Frame, ...], config: LiftConfig = LiftConfig(), q: np.ndarray | None = None
) -> np.ndarray:
    """Lift the frames of all cameras at one time to a scene (count, 14).

    Args:
        frames: one per camera.
        config: parameters.
        q: joints (7,) [rad], required for ``arm_margin``.

    Raises:
        BlindError: no camera sees anything in the crop.
    """
    return lift_with_report(frames, config, q).scene


def lift_with_report(
    frames: tuple[Frame, ...], config: LiftConfig = LiftConfig(), q: np.ndarray | None = None
) -> LiftResult:
    """As ``lift``, with the reasons of cameras that add nothing."""
    parts = [lift_frame(frame, config) for frame in frames]
    if config.free_space:
        parts = [
            part[~in_free_space(part[:, MEANS], frames, k, config.free_space)]
            for k, part in enumerate(parts)
        ]
    if config.arm_margin:
        parts = [part[~on_arm(part[:, MEANS], q, config.arm_margin)] for part in parts]
    blind = _blind_cameras(frames, parts, config)
    if len(blind) == len(frames):
        raise BlindError(f"blind: {', '.join(blind.values()) or 'no camera'}")
    scene = np.concatenate(parts)
    if config.voxel:
        scene = merge_voxels(scene, config.voxel)
    if config.count:
        scene = sample(scene, config.count, config.sampling)
    return LiftResult(scene, blind)


def _blind_cameras(
    frames: tuple[Frame, ...], parts: list[np.ndarray], config: LiftConfig
) -> dict[str, str]:
    """Camera -> reason, for cameras with too few surfels in the crop."""
    blind = {}
    for frame, part in zip(frames, parts):
        least = max(1, round(config.least_fraction * frame.depth.size))
        if len(part) < least:
            readings = np.count_nonzero(frame.depth > 0) / frame.depth.size
            empty = readings < config.least_fraction
            cause = "its depth is empty" if empty else "its depth lies elsewhere"
            blind[frame.camera] = (
                f"{frame.camera} sees {len(part)} points of the workspace, {least} wanted ({cause})"
            )
    return blind


def as_lifted(gaussians: np.ndarray, config: LiftConfig) -> np.ndarray:
    """Gaussians (M, 14) in any order, as of a decoder, as a lifted scene has them: (count, 14).

    Those outside the crop, or with less than half the opacity of a surfel, are left out. Policies
    see the first Gaussians of a scene, which are therefore the farthest ones.
    """
    means = gaussians[:, MEANS]
    inside = np.all((means > config.low) & (means < config.high), axis=1)
    kept = gaussians[inside & (gaussians[:, OPACITY] > config.opacity / 2)]
    return sample(kept, config.count, config.sampling)


def lift_frame(frame: Frame, config: LiftConfig = LiftConfig()) -> np.ndarray:
    """Surfels (M, 14), M >= 0, of one frame inside the crop.

    Pixels without a reading and at depth edges are left out.
    """
    K, T = frame.K, frame.T_base_camera.astype(np.float32)
    pinhole = np.array([K[0, 0], K[1, 1], K[0, 2], K[1, 2]], np.float32)
    crop = np.array([config.low, config.high], np.float32)
    out = np.empty((frame.depth.size, len(COLUMNS)), np.float32)
    numbers = np.float32(config.edge), np.float32(config.footprint), np.float32(config.opacity)
    count = _surfels(
        frame.depth, frame.color, pinhole, T[:3, :3].copy(), T[:3, 3].copy(), crop, *numbers, out
    )
    return out[:count].copy()


@cached_njit(error_model="numpy")
def _surfels(depth, color, pinhole, R, t, crop, edge, footprint, opacity, out):
    """Fill ``out`` with surfels in one pass over the pixels, and return their number."""
    fx, fy, cx, cy = pinhole
    half, one, count = np.float32(0.5), np.float32(1), 0
    for v in range(1, depth.shape[0] - 1):
        for u in range(1, depth.shape[1] - 1):
            z = depth[v, u]
            if not z > 0:
                continue
            x, y = (np.float32(u) + half - cx) / fx * z, (np.float32(v) + half - cy) / fy * z
            inside = True
            for i in range(3):
                p = R[i, 0] * x + R[i, 1] * y + R[i, 2] * z + t[i]
                out[count, i] = p
                inside &= crop[0, i] < p < crop[1, i]
            if not inside or not _smooth(depth, v, u, edge * z):
                continue
            length = np.sqrt(x * x + y * y + z * z)
            nx, ny, nz = _normal(depth, v, u, fx, fy, cx, cy, x / length, y / length, z / length)
            slant = max(-(nx * x + ny * y + nz * z) / length, np.float32(MINIMUM_COSINE))
            radius = footprint * z / fx / slant
            out[count, 3] = out[count, 4] = radius
            out[count, 5] = np.float32(THICKNESS) * radius
            # the shortest rotation from z to the normal in the base frame
            bx = R[0, 0] * nx + R[0, 1] * ny + R[0, 2] * nz
            by = R[1, 0] * nx + R[1, 1] * ny + R[1, 2] * nz
            w = one + R[2, 0] * nx + R[2, 1] * ny + R[2, 2] * nz
            if w < np.float32(1e-6):
                w, bx, by = np.float32(0), np.float32(0), one
            norm = np.sqrt(w * w + bx * bx + by * by)
            out[count, 6] = w / norm
            out[count, 7] = -by / norm
            out[count, 8] = bx / norm
            out[count, 9] = np.float32(0)
            for i in range(3):
                out[count, 10 + i] = np.float32(color[v, u, i]) / np.float32(255)
            out[count, 13] = opacity
            count += 1
    return count


@cached_njit(error_model="numpy")
def _smooth(depth, v, u, span):
    """Whether the readings of the 3x3 neighbourhood lie within ``span`` [m]."""
    near, far = depth[v, u], depth[v, u]
    for i in range(v - 1, v + 2):
        for j in range(u - 1, u + 2):
            z = depth[i, j]
            if z > 0:
                near, far = min(near, z), max(far, z)
    return far - near < span


@cached_njit(error_model="numpy")
def _normal(depth, v, u, fx, fy, cx, cy, rx, ry, rz):
    """Unit normal towards the camera, from the four neighbours.

    Where a neighbour has no reading it is the opposite of the ray (rx, ry, rz).
    """
    a, b, c, d = depth[v, u + 1], depth[v, u - 1], depth[v + 1, u], depth[v - 1, u]
    if not (a > 0 and b > 0 and c > 0 and d > 0):
        return -rx, -ry, -rz
    half, one = np.float32(0.5), np.float32(1)
    gx, gy = (np.float32(u) + half - cx) / fx, (np.float32(v) + half - cy) / fy
    ax, ay, az = (gx + one / fx) * a - (gx - one / fx) * b, gy * (a - b), a - b  # across
    dx, dy, dz = gx * (c - d), (gy + one / fy) * c - (gy - one / fy) * d, c - d  # down
    nx, ny, nz = dy * az - dz * ay, dz * ax - dx * az, dx * ay - dy * ax
    length = np.sqrt(nx * nx + ny * ny + nz * nz)
    if not length > np.float32(1e-12):
        return -rx, -ry, -rz
    if nx * rx + ny * ry + nz * rz > 0:
        length = -length
    return nx / length, ny / length, nz / length
