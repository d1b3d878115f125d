"""Reconstruction by the VAE: the loss of its training, and the figures of its evaluation."""

from __future__ import annotations

from collections.abc import Iterable

import cv2
import numpy as np
import torch
from torch import Tensor

from gwm_core.geometry.kinematics import from_rows
from gwm_core.model.vae import VAE, distances, kl_divergence
from gwm_core.render.api import rasterize
from gwm_core.scene.gaussians import COLORS, MEANS, OPACITY, QUATS, SCALES
from gwm_core.training.datasets.clips import CUBE, ROBOT, SEEN, WORKSPACE, SceneClips

PIXEL_WEIGHT = 3.0  # of pixels of robot and cube, which are few and matter to the task
SQUARE_WEIGHT, ALPHA_WEIGHT = 3.0, 0.1
CHAMFER_WEIGHT, APPEARANCE_WEIGHT = (
    10.0,
    0.2,
)  # per metre; per unit of colour, opacity and log scale
# [pixels^2] an area average has 1/12; the renderer's default of 0.3 would blur two-pixel details
BLUR = 0.1
_CHAMFER_SAMPLES = 256  # Gaussians of a scene in the Chamfer term of a step


def render(
    gaussians: Tensor, viewmat: Tensor, K: Tensor, width: int, height: int
) -> tuple[Tensor, Tensor]:
    """Image (H, W, 3) on black, and alpha (H, W), of a scene (N, 14)."""
    image, alpha, _ = rasterize(
        gaussians[:, MEANS],
        gaussians[:, QUATS],
        gaussians[:, SCALES],
        gaussians[:, OPACITY],
        gaussians[:, COLORS],
        viewmat[None],
        K[None],
        width,
        height,
        eps2d=BLUR,
    )
    return image[0], alpha[0, ..., 0]


def loss(vae: VAE, scenes, anchors, noise, images, behind, regions, viewmats, Ks) -> Tensor:
    """Rendered L1 + Chamfer distance + appearance of nearest pairs + KL.

    Args:
        scenes: (B, N, 14); anchors: (B, K, 3) [m] of the tokens; noise: (B, K, D).
        images, behind: (B, C, H, W, 3) in [0, 1], with and without the workspace's objects;
            regions: (B, C, H, W) bits. viewmats: (B, C, 4, 4); Ks: (B, C, 3, 3).
    """
    decoded, mean, log_variance = vae(scenes, anchors, noise)
    with torch.autocast(scenes.device.type, enabled=False):  # 16 bits cannot hold millimetres
        views = [
            _render_loss(scene, *parts)
            for scene, *all_of in zip(decoded, images, behind, regions, viewmats, Ks)
            for parts in zip(*all_of)
        ]
        return (
            torch.stack(views).mean()
            + _shape_loss(decoded, scenes)
            + vae.config.kl * kl_divergence(mean.float(), log_variance.float())
        )


def _render_loss(
    decoded: Tensor, image: Tensor, behind: Tensor, regions: Tensor, viewmat: Tensor, K: Tensor
) -> Tensor:
    """Absolute and squared error of the image per pixel of the workspace, plus alpha elsewhere."""
    rendered, alpha = render(decoded, viewmat, K, image.shape[1], image.shape[0])
    here = ((regions & WORKSPACE) > 0).float()
    weight = ((regions & SEEN) > 0) * (1 + (PIXEL_WEIGHT - 1) * ((regions & (ROBOT | CUBE)) > 0))
    difference = rendered + (1 - alpha[..., None]) * behind - image
    error = (difference.abs() + SQUARE_WEIGHT * difference**2).mean(-1)
    error = error + ALPHA_WEIGHT * (alpha - here).abs()
    return (error * weight).sum() / (here * weight).sum().clamp(min=1.0)


def _shape_loss(decoded: Tensor, scenes: Tensor) -> Tensor:
    """Chamfer distance of centres both ways, and difference in appearance of nearest pairs."""
    n = decoded.shape[1]
    some = torch.randperm(n, device=decoded.device)[:_CHAMFER_SAMPLES]
    total = 0.0
    for a, b in ((decoded[:, some], scenes), (scenes[:, some], decoded)):
        with torch.no_grad():
            nearest = distances(a[..., MEANS], b[..., MEANS]).argmin(-1)  # (B, some)
        pair = torch.gather(b, 1, nearest[..., None].expand(-1, -1, 14))
        distance = (a[..., MEANS] - pair[..., MEANS]).norm(dim=-1).mean()
        appearance = (_appearance(a) - _appearance(pair)).abs().mean()
        total = total + CHAMFER_WEIGHT * distance + APPEARANCE_WEIGHT * appearance
    return total / 2


def _appearance(g: Tensor) -> Tensor:
    """Colour, opacity and log scale of Gaussians (..., 14)."""
    return torch.cat(
        [g[..., COLORS], g[..., OPACITY, None], 0.2 * g[..., SCALES].clamp(min=1e-5).log()], dim=-1
    )


def background(image: np.ndarray, regions: np.ndarray) -> np.ndarray:
    """The image (H, W, 3) in [0, 1] without the workspace's objects, inpainted (Telea 2004)."""
    hidden = cv2.dilate((regions & WORKSPACE > 0).astype(np.uint8), np.ones((5, 5), np.uint8))
    return (
        cv2.inpaint(np.rint(image * 255).astype(np.uint8), hidden, 4, cv2.INPAINT_TELEA).astype(
            np.float32
        )
        / 255
    )


def image_over(gaussians: Tensor, behind: np.ndarray, viewmat: Tensor, K: Tensor) -> np.ndarray:
    """Image (H, W, 3) of a scene (N, 14) before a background."""
    rendered, alpha = render(gaussians, viewmat, K, behind.shape[1], behind.shape[0])
    return rendered.numpy() + (1 - alpha.numpy())[..., None] * behind


def psnr(squares: np.ndarray) -> float:
    """Peak signal to noise ratio [dB] of squared errors in [0, 1]."""
    return float(-10 * np.log10(np.mean(squares))) if squares.size else float("nan")


@torch.no_grad()
def rebuild(vae: VAE, clips: SceneClips, i: int) -> tuple[Tensor, Tensor, list[np.ndarray]]:
    """Moment ``i`` through the VAE: its scene, the decoded one (N, 14), and an image (H, W, 3) for
    every camera.
    """
    scene = clips.scenes[i].astype(np.float32)
    made = vae.decode(vae.observe(scene[None], from_rows(clips.poses[i])[None]))[0].cpu()
    images = []
    for image, regions, viewmat, K in zip(
        clips.images[i], clips.regions[i], clips.viewmats[i], clips.Ks[i]
    ):
        behind = background(image / np.float32(255), regions)
        images.append(image_over(made, behind, torch.from_numpy(viewmat), torch.from_numpy(K)))
    return torch.from_numpy(scene), made, images


def evaluate_vae(vae: VAE, clips: SceneClips, index: Iterable[int]) -> dict[str, float]:
    """Over the moments ``index``: PSNR [dB] of workspace pixels, and of cube and robot, and shape
    errors [mm].
    """
    whole, part, distance, centroid = [], [], [], []
    for i in index:
        scene, made, images = rebuild(vae, clips, i)
        squares = (np.stack(images) - clips.images[i] / np.float32(255)) ** 2
        whole.append(squares[clips.regions[i] & WORKSPACE > 0])
        part.append(squares[clips.regions[i] & (ROBOT | CUBE) > 0])
        distance.append(chamfer(made, scene))
        centroid.append(float((red_centroid(made) - red_centroid(scene)).norm()))
    found = np.array(centroid)[np.isfinite(centroid)]
    return {
        "psnr": psnr(np.concatenate(whole)),
        "psnr_parts": psnr(np.concatenate(part)),
        "chamfer_mm": 1e3 * float(np.mean(distance)),
        "cube_mm": 1e3 * float(np.median(found)) if len(found) else float("nan"),
    }


def chamfer(a: Tensor, b: Tensor) -> float:
    """Chamfer distance [m] of the centres of scenes (N, 14) and (M, 14), mean of both ways."""
    distance = torch.cdist(a[:, MEANS], b[:, MEANS])
    return float(distance.min(0).values.mean() + distance.min(1).values.mean()) / 2


def side_by_side(vae: VAE, clips: SceneClips, index: np.ndarray) -> np.ndarray:
    """A row for every moment of ``index``: the images of the cameras, then those of the VAE."""
    rows = [[*(clips.images[i] / np.float32(255)), *rebuild(vae, clips, i)[2]] for i in index]
    return np.concatenate([np.concatenate(row, axis=1) for row in rows]).clip(0, 1)


def red_centroid(gaussians: Tensor) -> Tensor:
    """Mean position (3,) [m] of the red Gaussians of a scene (N, 14), those of the cube, or NaN."""
    r, g, b = gaussians[:, COLORS].T
    red = (r > 0.35) & (r > 2.5 * g) & (r > 2.5 * b) & (gaussians[:, OPACITY] > 0.5)
    return gaussians[red][:, MEANS].mean(0)
