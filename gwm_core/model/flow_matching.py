"""Flow matching (Lipman et al., arXiv 2210.02747) with straight paths: x_t = (1 - t) noise + t
data, v = data - noise.

It works with any function ``denoise(x, t) -> v``.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


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
        t = torch.full((len(x), 1, 1), i / steps, device=x.device)
        x = x + denoise(x, t) / steps
    return x
