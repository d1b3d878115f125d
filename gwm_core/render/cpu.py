"""The CPU backend: C or numba kernels, float32, all cores, differentiable.

Rendering without gradients does not use autograd.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from gwm_core.render.kernels import NumbaKernels, kernels
from gwm_core.render.native import Native
from gwm_core.render.numba_kernels import CHANNELS, LOG2E
from gwm_core.render.projection import Ellipses
from gwm_core.render.reference import TILE


def composite(ellipses: Ellipses, opacities: Tensor, features: Tensor, width: int, height: int):
    """As ``reference.composite``, with the same gradients: (C, H, W, D) and (C, H, W)."""
    parts = [
        _Composite.apply(*(part[c] for part in ellipses), opacities[c], features[c], width, height)
        for c in range(len(features))
    ]
    images, lights = zip(*parts)
    return torch.stack(images), torch.stack(lights)


def render(
    means: Tensor,
    quats: Tensor,
    scales: Tensor,
    opacities: Tensor,
    colors: Tensor,
    depth_channel: bool,
    viewmats: Tensor,
    Ks: Tensor,
    width: int,
    height: int,
    near_plane: float,
    far_plane: float,
    eps2d: float,
):
    """Project and composite without gradients.

    Args:
        colors: (C, N, D), with D = 0 where only depth is wanted.
    """
    run = kernels()
    m, q, s, o = (_array(x) for x in (means, quats, scales, opacities))
    images, lights = [], []
    for view, K, tint in zip(_array(viewmats), _array(Ks), _array(colors)):
        G, key = np.empty((len(m), 8), np.float32), np.empty(len(m), np.float32)
        intrinsics = K[0, 0], K[1, 1], K[0, 2], K[1, 2]
        camera = np.array([*intrinsics, width, height, near_plane, far_plane, eps2d], np.float32)
        run.project(m, q, s, o, view, camera, G, key)
        features = np.concatenate([tint, key[:, None]], axis=1) if depth_channel else tint
        image, light, *_ = _rasterize(run, G, key, features, width, height)
        images.append(torch.from_numpy(image))
        lights.append(torch.from_numpy(light))
    return torch.stack(images), torch.stack(lights)


def _array(x: Tensor) -> np.ndarray:
    return np.ascontiguousarray(x.detach().numpy(), np.float32)


def _rasterize(
    run: NumbaKernels | Native,
    G: np.ndarray,
    key: np.ndarray,
    features: np.ndarray,
    width: int,
    height: int,
):
    """Sort by depth, bin into tiles, and blend."""
    order = _by_depth(key)
    tiles_x, tiles_y = -(-width // TILE), -(-height // TILE)
    bands = min(tiles_y, torch.get_num_threads())
    counts = np.zeros(tiles_x * tiles_y, np.int64)
    run.bin(G, order, tiles_x, tiles_y, bands, counts, np.empty(0, np.int32), False)
    off = np.concatenate([[0], np.cumsum(counts)])
    ids = np.empty(off[-1], np.int32)
    run.bin(G, order, tiles_x, tiles_y, bands, off[:-1].copy(), ids, True)
    light, last, parts = np.empty((height, width), np.float32), np.empty(len(counts), np.int64), []
    for part in _fours(features):
        parts.append(np.empty((height, width, CHANNELS), np.float32))
        run.forward(G, part, off, ids, tiles_x, parts[-1], light, last)
    image = parts[0] if len(parts) == 1 else np.concatenate(parts, axis=-1)
    return np.ascontiguousarray(image[..., : features.shape[1]]), light, off, ids, last


def _by_depth(key: np.ndarray) -> np.ndarray:
    """Visible Gaussians, nearest first; an integer sort is twice as fast as argsort."""
    visible = np.flatnonzero(key)
    both = key.view(np.uint32)[visible].astype(np.uint64) << np.uint64(32) | visible.astype(
        np.uint64
    )
    both.sort()  # positive floats sort as their bits
    return (both & np.uint64(0xFFFFFFFF)).astype(np.int64)


def _fours(x: np.ndarray) -> list[np.ndarray]:
    """Split (..., D) into parts of ``CHANNELS``, at least one, padded with zeros."""
    groups = max(1, -(-x.shape[-1] // CHANNELS))
    if x.shape[-1] != groups * CHANNELS:
        x = np.concatenate(
            [x, np.zeros((*x.shape[:-1], groups * CHANNELS - x.shape[-1]), np.float32)], axis=-1
        )
    return (
        [x]
        if groups == 1
        else [np.ascontiguousarray(part) for part in np.split(x, groups, axis=-1)]
    )


class _Composite(torch.autograd.Function):
    """Compositing for one camera."""

    @staticmethod
    def forward(ctx, means2d, conics, depths, radii, opacities, features, width, height):
        a, b, c = _array(conics).T
        visible = radii.numpy().min(-1) > 0
        G = np.stack(
            [
                *_array(means2d).T,
                -0.5 * LOG2E * a,
                -LOG2E * b,
                -0.5 * LOG2E * c,
                _array(opacities),
                *_array(radii).T,
            ],
            axis=-1,
        )
        key = np.where(visible, _array(depths), np.float32(0))
        f = _array(features)
        image, light, off, ids, last = _rasterize(kernels(), G, key, f, width, height)
        ctx.saved = G, f, off, ids, -(-width // TILE), image, light, last
        ctx.kinds = [x.dtype for x in (means2d, conics, opacities, features)]
        return torch.from_numpy(image).to(features.dtype), torch.from_numpy(light).to(
            features.dtype
        )

    @staticmethod
    def backward(ctx, d_image, d_light):
        G, features, off, ids, tiles_x, image, light, last = ctx.saved
        d_light, moments, d_features = _array(d_light), 0.0, []
        # moments add up over the channels
        for part in zip(_fours(features), _fours(image), _fours(_array(d_image))):
            sums = np.zeros((torch.get_num_threads(), len(G), 6 + CHANNELS), np.float32)
            kernels().backward(
                G, part[0], off, ids, tiles_x, part[1], light, last, part[2], d_light, sums
            )
            total, d_light = sums.sum(0), np.zeros_like(d_light)
            moments = moments + total[:, :6]
            d_features.append(total[:, 6:])
        s0, sx, sy, sxx, sxy, syy = moments.T
        a, b, c = -2 * G[:, 2] / LOG2E, -G[:, 3] / LOG2E, -2 * G[:, 4] / LOG2E
        d_means = np.stack([a * sx + b * sy, b * sx + c * sy], axis=-1)
        d_conics = np.stack([-0.5 * sxx, -sxy, -0.5 * syy], axis=-1)
        d_opacities = s0 / np.maximum(G[:, 5], 1e-12)
        parts = (
            d_means,
            d_conics,
            d_opacities,
            np.concatenate(d_features, axis=1)[:, : features.shape[1]].copy(),
        )
        grads = [torch.from_numpy(g).to(k) for g, k in zip(parts, ctx.kinds)]
        return grads[0], grads[1], None, None, grads[2], grads[3], None, None
