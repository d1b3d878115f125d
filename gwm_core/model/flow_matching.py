"""Flow matching (Lipman et al., arXiv 2210.02747) with straight paths: x_t = (1 - t) noise + t
data, v = data - noise.

It works with any function ``denoise(x, t) -> v``.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

TIME_FEATURES = 64  # channels of ``time_features``


def time_features(t: Tensor) -> Tensor:
    """Sines and cosines (..., 64) of a time or noise level (..., 1)."""
    frequencies = torch.exp(
        torch.linspace(0, math.log(1000.0), TIME_FEATURES // 2, device=t.device)
    )
    return torch.cat([(t * frequencies).sin(), (t * frequencies).cos()], dim=-1)


def sample_times(shape: tuple[int, ...], device: torch.device) -> Tensor:
    """Training times in [0, 1), denser near the noise: 1 - Beta(1.5, 1) (pi0, arXiv 2410.24164)."""
    return 1.0 - torch.rand(shape, device=device) ** (1 / 1.5)


def noised(x: Tensor, noise: Tensor, t: Tensor) -> Tensor:
    """The point at time ``t`` (broadcastable) between noise and data."""
    return (1 - t) * noise + t * x


def euler(denoise: Callable[[Tensor, Tensor], Tensor], noise: Tensor, steps: int) -> Tensor:
    """Integrate from noise (B, T, C) at t = 0 to data at t = 1 in equal steps."""
    x = noise
    for i in range(steps):
        t = torch.full((x.shape[0], 1, 1), i / steps, device=x.device)
        x = x + denoise(x, t) / steps
    return x
