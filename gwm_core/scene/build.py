"""A whole scene from many frames, and how well it shows a frame that was left out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from skimage.metrics import structural_similarity

from gwm_core.geometry.camera import back_project
from gwm_core.render.api import rasterize
from gwm_core.scene.gaussians import COLORS, MEANS, OPACITY, QUATS, SCALES
from gwm_core.scene.lift import LiftConfig
from gwm_core.types import Frame

EVERYWHERE = LiftConfig(
    low=(-1e3,) * 3,
    high=(1e3,) * 3,
    count=0,
    footprint=0.6,
    opacity=0.4,
    free_space=0.03,
    voxel=0.002,
)
COVERED = 0.5  # alpha above which a pixel counts as drawn


@dataclass(frozen=True)
class HeldOutQuality:
    """A left-out frame against its rendering. PSNR [dB] over the pixels named."""

    coverage: float  # share of pixels the scene draws
    psnr: float  # where the scene draws
    ssim: float  # there
    psnr_baseline_mask: float  # where the point baseline draws
    baseline_coverage: float
    baseline_psnr: float  # of the point baseline itself, same pixels
    psnr_either: float  # where either draws; what one of the two does not draw is black
    baseline_psnr_either: float


def render_scene(
    scene: np.ndarray,
    K: np.ndarray,
    T_world_camera: np.ndarray,
    width: int,
    height: int,
    mode: str = "RGB",
):
    """Image (H, W, X) and alpha (H, W) of a scene (N, 14), float32."""
    parts = torch.from_numpy(np.ascontiguousarray(scene, np.float32))
    view = torch.from_numpy(np.linalg.inv(T_world_camera)).float()
    image, alpha, _ = rasterize(
        parts[:, MEANS],
        parts[:, QUATS],
        parts[:, SCALES],
        parts[:, OPACITY],
        parts[:, COLORS],
        view[None],
        torch.from_numpy(K).float()[None],
        width,
        height,
        render_mode=mode,
    )
    return image[0].numpy(), alpha[0, ..., 0].numpy()


def compare(scene: np.ndarray, others: list[Frame], held_out: Frame) -> HeldOutQuality:
    """Draw ``held_out``'s view of a scene that was built from ``others``."""
    height, width = held_out.depth.shape
    truth = held_out.color / np.float32(255)
    image, alpha = render_scene(scene, held_out.K, held_out.T_base_camera, width, height)
    # colour of what is there, without the black behind it
    image = image / np.maximum(alpha, 1e-6)[..., None]
    mine = alpha > COVERED
    baseline, theirs = project_points(others, held_out)
    _, similarity = structural_similarity(truth, image, channel_axis=2, data_range=1.0, full=True)
    either = mine | theirs
    return HeldOutQuality(
        coverage=float(mine.mean()),
        psnr=psnr(image, truth, mine),
        ssim=float(similarity[mine].mean()),
        psnr_baseline_mask=psnr(image, truth, theirs),
        baseline_coverage=float(theirs.mean()),
        baseline_psnr=psnr(baseline, truth, theirs),
        psnr_either=psnr(image * mine[..., None], truth, either),
        baseline_psnr_either=psnr(baseline, truth, either),
    )


def side_by_side(scene: np.ndarray, frame: Frame) -> np.ndarray:
    """What the camera saw (left) and what the scene shows from there, (H, 2 W, 3) in [0, 1]."""
    height, width = frame.depth.shape
    image, _ = render_scene(scene, frame.K, frame.T_base_camera, width, height)
    return np.concatenate([frame.color / np.float32(255), image], axis=1)


def project_points(frames: list[Frame], view: Frame) -> tuple[np.ndarray, np.ndarray]:
    """The baseline: every depth pixel of ``frames`` as a point into ``view``, the nearest per pixel
    wins.

    Returns the image (H, W, 3) and where it has one (H, W).
    """
    height, width = view.depth.shape
    T = np.linalg.inv(view.T_base_camera)
    nearest, image = np.full(height * width, np.inf), np.zeros((height * width, 3), np.float32)
    for frame in frames:
        points = back_project(frame.depth, frame.K)[frame.depth > 0]
        colors = frame.color[frame.depth > 0] / np.float32(255)
        to_view = T @ frame.T_base_camera
        points = points @ to_view[:3, :3].T + to_view[:3, 3]
        z = points[:, 2]
        front = z > 0.01
        points, colors, z = points[front], colors[front], z[front]
        u, v = (
            np.floor(view.K[i, i] * points[:, i] / z + view.K[i, 2]).astype(int) for i in (0, 1)
        )
        inside = (u >= 0) & (u < width) & (v >= 0) & (v < height)
        pixel, z, colors = (v * width + u)[inside], z[inside], colors[inside]
        far_first = np.argsort(-z)
        pixel, z, colors = pixel[far_first], z[far_first], colors[far_first]
        closer = z < nearest[pixel]
        pixel, z, colors = pixel[closer], z[closer], colors[closer]
        nearest[pixel], image[pixel] = z, colors  # the last written, the nearest, stays
    return image.reshape(height, width, 3), np.isfinite(nearest).reshape(height, width)


def psnr(image: np.ndarray, truth: np.ndarray, mask: np.ndarray) -> float:
    """Peak signal-to-noise ratio [dB] over the masked pixels; images in [0, 1]."""
    error = np.mean((np.clip(image[mask], 0, 1) - truth[mask]) ** 2)
    return float(-10 * np.log10(max(error, 1e-12)))
