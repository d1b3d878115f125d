"""A scene to time renderers with: surfels of a wall, a table and eight balls."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def surfel_scene(
    count: int, width: int, height: int, seed: int = 0, size: float = 1.0
) -> dict[str, Tensor]:
    """Return arguments of ``rasterize`` (float32): ``count`` surfels, viewed from the side.

    Args:
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
