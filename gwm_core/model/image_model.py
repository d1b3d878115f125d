"""The baseline without Gaussians: a U-Net that predicts the next image of a camera from two.

Its inputs are two observations and the actions commanded now and one step later, but no geometry:
the camera is a learned embedding. Channels are wide where pixels are few, so that it trains on a
CPU.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from gwm_core.model.config import ACTION, ImageModelConfig

CONTEXT = 2  # past images
_GROUPS = 8
_STEP = 20.0  # 1 / (5 cm): a fast step


class UNetBlock(nn.Module):
    """Residual block of two convolutions. The condition scales and shifts the second norm (FiLM,
    arXiv 1709.07871).
    """

    def __init__(self, channels: int, condition: int):
        super().__init__()
        self.first_norm, self.second_norm = (nn.GroupNorm(_GROUPS, channels) for _ in range(2))
        self.first, self.second = (nn.Conv2d(channels, channels, 3, padding=1) for _ in range(2))
        self.film = nn.Linear(condition, 2 * channels)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """X (B, C, H, W), condition (B, c) -> (B, C, H, W)."""
        scale, shift = self.film(condition)[..., None, None].chunk(2, dim=1)
        h = self.first(nn.functional.silu(self.first_norm(x)))
        h = self.second(nn.functional.silu(self.second_norm(h) * (1 + scale) + shift))
        return x + h


class ImageModel(nn.Module):
    """Images (B, 3, S, S) in [0, 1]; S halves once for each width."""

    def __init__(self, config: ImageModelConfig):
        super().__init__()
        self.config, c, widths = config, config.condition, config.widths
        pairs = list(pairwise(widths))
        self.action = nn.Sequential(nn.Linear(2 * ACTION, c), nn.SiLU(), nn.Linear(c, c))
        self.camera = nn.Embedding(config.cameras, c)
        self.image_in = nn.Conv2d(3 * CONTEXT + 2, widths[0], 3, stride=2, padding=1)
        self.before = nn.ModuleList(UNetBlock(a, c) for a in widths[:-1])
        self.down = nn.ModuleList(nn.Conv2d(a, b, 3, stride=2, padding=1) for a, b in pairs)
        self.middle = nn.ModuleList(UNetBlock(widths[-1], c) for _ in range(config.blocks))
        self.up = nn.ModuleList(nn.Conv2d(b, a, 3, padding=1) for a, b in pairs)
        self.after = nn.ModuleList(UNetBlock(a, c) for a in widths[:-1])
        self.norm, self.image_out = (
            nn.GroupNorm(_GROUPS, widths[0]),
            nn.Conv2d(widths[0], 3 * 4, 3, padding=1),
        )
        nn.init.zeros_(self.image_out.weight)
        nn.init.zeros_(self.image_out.bias)

    def forward(self, past: Tensor, actions: Tensor, camera: Tensor) -> Tensor:
        """Predict the next image (B, 3, S, S), not limited to [0, 1].

        Args:
            past: (B, 2, 3, S, S), oldest first. actions: (B, 2, 10), commanded now and one step
                later.
            camera: (B,) index.
        """
        move = (actions[:, 1] - actions[:, 0]) * torch.tensor(
            [_STEP] * 3 + [1.0] * 6 + [_STEP], device=past.device
        )
        condition = self.action(torch.cat([actions[:, 0], move], dim=-1)) + self.camera(camera)
        line = torch.linspace(-1, 1, past.shape[-1], device=past.device)
        # coordinates of the pixels, without which a pose means nothing to a convolution
        pixels = torch.stack(torch.meshgrid(line, line, indexing="ij"))
        h = self.image_in(
            torch.cat([2 * past.flatten(1, 2) - 1, pixels.expand(len(past), -1, -1, -1)], dim=1)
        )
        skips = []
        for block, down in zip(self.before, self.down):
            h = block(h, condition)
            skips.append(h)
            h = down(h)
        for block in self.middle:
            h = block(h, condition)
        for k in reversed(range(len(skips))):
            h = self.up[k](nn.functional.interpolate(h, scale_factor=2.0)) + skips[k]
            h = self.after[k](h, condition)
        change = nn.functional.pixel_shuffle(self.image_out(nn.functional.silu(self.norm(h))), 2)
        return past[:, -1] + change.float()

    def rollout(self, past: Tensor, actions: Tensor, camera: Tensor) -> Tensor:
        """Predict images (B, H, 3, S, S) in [0, 1], each from the last two.

        Args:
            actions: (B, H + 1, 10), commanded now, one step later, ....
        """
        futures = []
        for k in range(actions.shape[1] - 1):
            future = self(past, actions[:, k : k + 2], camera).clamp(0, 1)
            past = torch.cat([past[:, 1:], future[:, None]], dim=1)
            futures.append(future)
        return torch.stack(futures, dim=1)
