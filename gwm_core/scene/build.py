"""Render a scene, and compare it with a frame that it was not built from."""

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
COVERED = 0.5  # alpha above which a pixel counts as covered


@dataclass(frozen=True)
class HeldOutQuality:
    """A held-out frame against its rendering. PSNR [dB], each over the pixels named."""

    coverage: float  # fraction of pixels that the scene covers
    psnr: float  # pixels that the scene covers
    ssim: float  # the same pixels
    psnr_baseline_mask: float  # pixels that the point baseline covers
    baseline_coverage: float
    baseline_psnr: float  # of the point baseline, on its own pixels
    psnr_either: float  # pixels that either covers; uncovered ones are black
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
    """Render the view of ``held_out`` from a scene that was built from ``others``, and compare."""
    height, width = held_out.depth.shape
    truth = held_out.color / np.float32(255)
    image, alpha = render_scene(scene, held_out.K, held_out.T_base_camera, width, height)
    # colour of the surfels alone, without the black background
    image = image / np.maximum(alpha, 1e-6)[..., None]
    covered = alpha > COVERED
    baseline, baseline_covered = project_points(others, held_out)
    _, similarity = structural_similarity(truth, image, channel_axis=2, data_range=1.0, full=True)
    either = covered | baseline_covered
    return HeldOutQuality(
        coverage=float(covered.mean()),
        psnr=psnr(image, truth, covered),
        ssim=float(similarity[covered].mean()),
        psnr_baseline_mask=psnr(image, truth, baseline_covered),
        baseline_coverage=float(baseline_covered.mean()),
        baseline_psnr=psnr(baseline, truth, baseline_covered),
        psnr_either=psnr(image * covered[..., None], truth, either),
        baseline_psnr_either=psnr(baseline, truth, either),
    )


def side_by_side(scene: np.ndarray, frame: Frame) -> np.ndarray:
    """The camera's image (left) beside the rendering of its view, (H, 2 W, 3) in [0, 1]."""
    height, width = frame.depth.shape
    image, _ = render_scene(scene, frame.K, frame.T_base_camera, width, height)
    return np.concatenate([frame.color / np.float32(255), image], axis=1)


def project_points(frames: list[Frame], view: Frame) -> tuple[np.ndarray, np.ndarray]:
    """The baseline: project every depth pixel of ``frames`` into ``view``, nearest per pixel.

    Returns:
        the image (H, W, 3) and the pixels that it covers (H, W).
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
        nearest[pixel], image[pixel] = z, colors  # the last one written is the nearest
    return image.reshape(height, width, 3), np.isfinite(nearest).reshape(height, width)


def psnr(image: np.ndarray, truth: np.ndarray, mask: np.ndarray) -> float:
    """Peak signal-to-noise ratio [dB] over the masked pixels; images in [0, 1]."""
    error = np.mean((np.clip(image[mask], 0, 1) - truth[mask]) ** 2)
    return float(-10 * np.log10(max(error, 1e-12)))
