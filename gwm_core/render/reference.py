"""Compositing in plain torch, tile by tile: the reference for the fast backends.

Differentiable, any float type.
"""

from __future__ import annotations

import torch
from torch import Tensor

from gwm_core.render.projection import ALPHA_MIN, Ellipses

ALPHA_MAX = 0.999
T_STOP = 1e-4  # transmittance below which a Gaussian, and all behind it, are left out
TILE = 16


def composite(ellipses: Ellipses, opacities: Tensor, features: Tensor, width: int, height: int):
    """Blend features front to back (RasterizeToPixels3DGSFwd.cu of gsplat 1.5.3).

    Args:
        ellipses: of C cameras; opacities: (C, N); features: (C, N, D).

    Returns:
        (C, H, W, D) sums of weight * feature, and (C, H, W) remaining transmittance.
    """
    images, lights = [], []
    for camera in range(len(features)):
        parts = Ellipses(*(part[camera] for part in ellipses))
        image, light = _composite_one(parts, opacities[camera], features[camera], width, height)
        images.append(image)
        lights.append(light)
    return torch.stack(images), torch.stack(lights)


def _composite_one(e: Ellipses, opacities: Tensor, features: Tensor, width: int, height: int):
    order = torch.argsort(e.depths.detach(), stable=True)
    order = order[(e.radii[order] > 0).all(-1)]
    low, high = (e.means2d - e.radii).detach(), (e.means2d + e.radii).detach()
    rows = []
    for top in range(0, height, TILE):
        in_rows = order[(high[order, 1] > top) & (low[order, 1] < top + TILE)]
        row = []
        for left in range(0, width, TILE):
            chosen = in_rows[(high[in_rows, 0] > left) & (low[in_rows, 0] < left + TILE)]
            size = min(TILE, width - left), min(TILE, height - top)
            row.append(_tile(e, opacities, features, chosen, left, top, *size))
        rows.append([torch.cat(part, dim=1) for part in zip(*row)])
    image, light = (torch.cat(part, dim=0) for part in zip(*rows))
    return image, light


def _tile(
    e: Ellipses,
    opacities: Tensor,
    features: Tensor,
    chosen: Tensor,
    left: int,
    top: int,
    w: int,
    h: int,
):
    """(h, w, D) and (h, w) of one tile; ``chosen`` are its Gaussians from front to back."""
    kind = {"dtype": features.dtype, "device": features.device}
    ys, xs = torch.meshgrid(
        torch.arange(h, **kind) + top + 0.5, torch.arange(w, **kind) + left + 0.5, indexing="ij"
    )
    pixels = torch.stack([xs, ys], dim=-1).reshape(-1, 1, 2)
    dx, dy = (pixels - e.means2d[chosen]).unbind(-1)  # (P, M)
    a, b, c = e.conics[chosen].unbind(-1)
    sigma = 0.5 * (a * dx * dx + c * dy * dy) + b * dx * dy
    alpha = torch.clamp(opacities[chosen] * torch.exp(-sigma), max=ALPHA_MAX)
    alpha = torch.where((sigma < 0) | (alpha < ALPHA_MIN), torch.zeros_like(alpha), alpha)
    after = torch.cumprod(1 - alpha, dim=1)  # transmittance behind each Gaussian
    before = torch.cat([torch.ones_like(after[:, :1]), after[:, :-1]], dim=1)
    kept = after > T_STOP
    weights = torch.where(kept, alpha * before, torch.zeros_like(alpha))
    light = torch.where(kept, 1 - alpha, torch.ones_like(alpha)).prod(dim=1)
    return (weights @ features[chosen]).reshape(h, w, -1), light.reshape(h, w)
