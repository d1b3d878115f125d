"""Scenes to compare and time renderers with."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

LEAVES = ("means", "quats", "scales", "opacities", "colors")  # that have gradients


def surfel_scene(
    count: int, width: int, height: int, seed: int = 0, size: float = 1.0
) -> dict[str, Tensor]:
    """Return arguments of ``rasterize`` (float32): surfels of a wall, a table and eight balls.

    Args:
        count: of the surfels. width, height: [pixels] of the image, which is from the side.
        size: 1 for surfels that just cover the image, more for larger ones.
    """
    rng = np.random.default_rng(seed)
    focal = 0.9 * width
    pixels = rng.uniform([-0.05, -0.05], [1.05, 1.05], (count, 2)) * [width, height]
    rays = np.concatenate([(pixels - [width / 2, height / 2]) / focal, np.ones((count, 1))], axis=1)
    depth, normals = _nearest_surface(rays, rng)
    means = rays * depth[:, None] + rng.normal(0, 0.002, (count, 3))
    footprint = 0.6 * size * np.sqrt(1.21 * width * height / count) * depth / focal
    scales = footprint[:, None] * np.concatenate(
        [rng.uniform(0.7, 1.4, (count, 2)), np.full((count, 1), 0.15)], axis=1
    )
    # the shortest turn from z to the normal; the camera's side of a surface never looks along +z
    quats = np.stack([1 + normals[:, 2], -normals[:, 1], normals[:, 0], np.zeros(count)], axis=1)
    quats[normals[:, 2] < -0.999] = [0, 1, 0, 0]
    view = np.eye(4)
    c, s = np.cos(0.08), np.sin(0.08)
    view[:3] = [[c, 0, s, -0.1], [0, 1, 0, 0.02], [-s, 0, c, 0.15]]
    K = np.array([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]])
    arrays = {
        "means": means,
        "quats": quats,
        "scales": scales,
        "opacities": rng.uniform(0.6, 0.99, count),
        "colors": rng.uniform(0, 1, (count, 3)),
        "viewmats": view[None],
        "Ks": K[None],
    }
    tensors = {name: torch.from_numpy(array).float() for name, array in arrays.items()}
    return tensors | {"width": width, "height": height}


def _nearest_surface(rays: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return depth (N,) and normal (N, 3) of each ray's first hit.

    There are balls, the plane y = 0.35 and the wall z = 2.5.
    """
    depth, normals = np.full(len(rays), 2.5), np.tile([0.0, 0.0, -1.0], (len(rays), 1))
    with np.errstate(divide="ignore"):
        table = np.where(rays[:, 1] > 0, 0.35 / rays[:, 1], np.inf)
    depth, normals[table < depth] = np.minimum(depth, table), [0.0, -1.0, 0.0]
    for _ in range(8):
        radius, center = rng.uniform(0.05, 0.18), rng.uniform([-0.5, -0.3, 0.8], [0.5, 0.3, 1.6])
        along, square = rays @ center, (rays**2).sum(1)
        inside = along**2 - square * (center @ center - radius**2)
        hit = (along - np.sqrt(np.maximum(inside, 0))) / square
        nearer = (inside > 0) & (hit > 0) & (hit < depth)
        depth = np.where(nearer, hit, depth)
        normals[nearer] = ((rays * hit[:, None] - center) / radius)[nearer]
    return depth, normals


def random_scene(
    seed: int, count: int = 500, width: int = 150, height: int = 100, cameras: int = 2
) -> dict[str, Tensor]:
    """Return arguments of ``rasterize`` (float64): Gaussians anywhere, some behind the cameras."""
    g = torch.Generator().manual_seed(seed)

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(*shape, generator=g, dtype=torch.float64)

    view = torch.eye(4, dtype=torch.float64).repeat(cameras, 1, 1)
    view[:, 0, 3] = 0.1 * torch.arange(cameras)
    focal, center = (0.9 * width, 0.95 * width), (width / 2 - 1.3, height / 2 + 0.7)
    K = torch.tensor([[focal[0], 0, center[0]], [0, focal[1], center[1]], [0, 0, 1]])
    return {
        "means": torch.stack(
            [uniform(-1, 1, count), uniform(-0.8, 0.8, count), uniform(-0.2, 2.8, count)], -1
        ),
        "quats": torch.randn(count, 4, generator=g, dtype=torch.float64),
        "scales": uniform(0.003, 0.06, count, 3),
        "opacities": uniform(0.0, 1.0, count),
        "colors": uniform(0, 1, count, 3),
        "viewmats": view,
        "Ks": K.double().repeat(cameras, 1, 1),
        "width": width,
        "height": height,
    }


def as_double(scene: dict) -> dict:
    """Return the arguments of ``rasterize`` in float64."""
    return {k: v.double() if torch.is_tensor(v) else v for k, v in scene.items()}
