"""The CUDA backend: gsplat, whose conventions are ours."""

from __future__ import annotations

import functools

import torch


def rasterize(*args, **kwargs):
    """``gsplat.rasterization`` on GPU tensors. The caller adds backgrounds."""
    import gsplat

    return gsplat.rasterization(*args, **kwargs)


@functools.cache
def works() -> bool:
    """Whether gsplat renders here, by rendering: its kernels are compiled on first use."""
    if not torch.cuda.is_available():
        return False
    try:
        eye = torch.eye(4, device="cuda")[None]
        K = torch.tensor([[[8.0, 0, 4], [0, 8, 4], [0, 0, 1]]], device="cuda")
        one = torch.ones(1, 3, device="cuda")
        quat = torch.tensor([[1.0, 0, 0, 0]], device="cuda")
        ahead = torch.tensor([[0.0, 0, 1]], device="cuda")
        image, *_ = rasterize(ahead, quat, 0.1 * one, one[:, 0], one, eye, K, 8, 8)
        return bool(image.max() > 0.5)
    except Exception:  # of any kind, also a missing compiler: the CPU renders instead
        return False
