"""3D VAE: Gaussians (N, 14) <-> K latent tokens (K, D), each of which knows its place.

Queries are places (``scene.track``): some ride the gripper, the others spread over the rest. Each
gathers its neighbourhood, then a sample of all Gaussians through attention that favours what is
near. The decoder sees nothing but the latent: every token emits N / K Gaussians around its own
place.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn

from gwm_core.model.config import VAEConfig
from gwm_core.model.policy import fourier
from gwm_core.model.transformer import (
    CrossAttention,
    EncoderBlock,
    attend,
    join_heads,
    mlp,
    split_heads,
)
from gwm_core.render.projection import rotation_matrices
from gwm_core.scene.gaussians import COLORS, MEANS, OPACITY, QUATS, SCALES
from gwm_core.scene.token_tracking import track_tokens

FEATURES = 3 + 9 + 3 + 1  # log scales, rotation, colour, opacity
_POINT_SCALE = 30.0  # 1 / (about 3 cm)
_SIZE = 0.006  # [m] a usual scale
_REACH = 0.02  # [m] a usual distance of a Gaussian from its token
_RANGES = (0.015, 0.03, 0.08, 0.3)  # [m] at which the heads of the encoder begin to forget


def describe(gaussians: Tensor) -> Tensor:
    """What a Gaussian is like, wherever it is: (..., 14) -> (..., FEATURES), near unit spread."""
    size = (gaussians[..., SCALES].clamp(min=1e-5) / _SIZE).log()
    turn = rotation_matrices(gaussians[..., QUATS]).flatten(-2)
    return torch.cat(
        [size, turn, 2 * gaussians[..., COLORS] - 1, 2 * gaussians[..., OPACITY, None] - 1], dim=-1
    )


def distances(a: Tensor, b: Tensor) -> Tensor:
    """Distances (B, M, N) between points (B, M, 3) and (B, N, 3), in full precision under autocast
    too.
    """
    if torch.compiler.is_exporting():  # ONNX has no cdist
        return (a[:, :, None] - b[:, None]).square().sum(-1).sqrt()
    return torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist")


class NearAttention(CrossAttention):
    """Cross-attention from queries to points in space; each head forgets with a distance of its
    own.
    """

    def __init__(self, width: int, heads: int):
        super().__init__(width, heads)
        ranges = torch.tensor(_RANGES).repeat(math.ceil(heads / len(_RANGES)))[:heads]
        self.register_buffer("sharpness", -0.5 / ranges[:, None, None] ** 2)

    def forward(self, x: Tensor, context: Tensor, squared: Tensor) -> Tensor:
        """X (B, K, d), context (B, N, d), squared distances (B, K, N) [m^2] -> (B, K, d)."""
        k, v = self.cache(context)
        bias = squared[:, None] * self.sharpness
        return self.out(join_heads(attend(split_heads(self.q(x), self.heads), k, v, bias)))


def add_to_riders(x: Tensor, known: Tensor) -> Tensor:
    """Tokens x (B, K, d) with what is ``known`` (1, A, d) of each of the first A, the riders,
    added.
    """
    return x + nn.functional.pad(known, (0, 0, 0, x.shape[1] - known.shape[1]))


class VAE(nn.Module):
    """Inputs and outputs are metric; all normalisation happens in here."""

    def __init__(self, config: VAEConfig):
        super().__init__()
        self.config, d = config, config.width
        self.each = config.lift.count // config.tokens  # Gaussians per token
        low, high = torch.tensor(config.lift.low), torch.tensor(config.lift.high)
        self.register_buffer("middle", (low + high) / 2)
        self.register_buffer("extent", (high - low) / 2)
        self.register_buffer("riders", torch.zeros(config.riders, 3))  # [m] in the gripper's frame
        self.query, self.part = (
            nn.Linear(3 * 16, d),
            nn.Parameter(0.02 * torch.randn(1, config.riders, d)),
        )
        self.patch = nn.Sequential(nn.Linear(3 + FEATURES, d), nn.GELU(), nn.Linear(d, d))
        self.point = nn.Linear(3 * 16 + FEATURES, d)
        self.near_norm, self.near = nn.LayerNorm(d), NearAttention(d, config.heads)
        self.near_mlp = nn.Sequential(nn.LayerNorm(d), mlp(d))
        self.encoder = nn.ModuleList(
            EncoderBlock(d, config.heads) for _ in range(config.encoder_layers)
        )
        self.posterior = nn.Sequential(nn.LayerNorm(d), nn.Linear(d, 2 * config.latent))
        self.latent = nn.Linear(config.latent + 3 * 16, d)
        self.shown = nn.Parameter(0.02 * torch.randn(1, config.riders, d))
        self.decoder = nn.ModuleList(
            EncoderBlock(d, config.heads) for _ in range(config.decoder_layers)
        )
        self.emit = nn.Sequential(nn.LayerNorm(d), nn.Linear(d, self.each * 14))
        nn.init.zeros_(self.posterior[1].weight[config.latent :])
        nn.init.constant_(self.posterior[1].bias[config.latent :], -9.0)  # log variance
        nn.init.normal_(self.emit[1].bias, std=0.7)  # so that the Gaussians of a token begin apart

    @torch.no_grad()
    def observe(self, scenes: np.ndarray, poses: np.ndarray) -> Tensor:
        """Latents (T, K, D) of scenes (T, N, 14) that follow each other, while the gripper is at
        poses (T, 4, 4).
        """
        places = track_tokens(scenes, poses, self.riders.cpu().numpy(), self.config.tokens)
        arrays = (
            torch.from_numpy(np.ascontiguousarray(a)).to(self.middle.device)
            for a in (scenes, places)
        )
        return self.encode(*arrays)[0]

    def encode(self, gaussians: Tensor, centers: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log variance (B, K, D) of the posterior.

        Args:
            gaussians: (B, N, 14), farthest points first.
            centers: (B, K, 3) [m] where the tokens are, riders first.
        """
        c, batch = self.config, torch.arange(gaussians.shape[0], device=gaussians.device)[:, None]
        points, features = gaussians[..., MEANS], describe(gaussians)
        apart = distances(centers, points)  # (B, K, N)
        nearest = apart.topk(c.neighbors, largest=False, sorted=False).indices  # (B, K, k)
        around = points[batch[..., None], nearest] - centers[:, :, None]
        patch = torch.cat([_POINT_SCALE * around, features[batch[..., None], nearest]], dim=-1)
        x = add_to_riders(self.query(fourier(centers - self.middle)), self.part) + self.patch(
            patch
        ).mean(dim=2)
        some = slice(c.context)
        x = x + self.near(
            self.near_norm(x), self.known(points[:, some], features[:, some]), apart[..., some] ** 2
        )
        x = x + self.near_mlp(x)
        for block in self.encoder:
            x = block(x)
        mean, log_variance = self.posterior(x).chunk(2, dim=-1)
        place = nn.functional.pad((centers - self.middle) / self.extent, (0, c.latent - 3))
        return mean + place, log_variance

    def known(self, points: Tensor, features: Tensor) -> Tensor:
        """Tokens (B, M, d) of Gaussians at points (B, M, 3) with features (B, M, FEATURES)."""
        return self.point(torch.cat([fourier(points - self.middle), features], dim=-1))

    def centers(self, z: Tensor) -> Tensor:
        """Where the tokens (..., K, D) are: (..., K, 3) [m]."""
        return z[..., :3] * self.extent + self.middle

    def decode(self, z: Tensor) -> Tensor:
        """Latent (B, K, D) -> Gaussians (B, N, 14)."""
        centers = self.centers(z)
        x = add_to_riders(
            self.latent(torch.cat([z, fourier(centers - self.middle)], dim=-1)), self.shown
        )
        for block in self.decoder:
            x = block(x)
        out = self.emit(x).float().unflatten(-1, (self.each, 14))  # (B, K, N / K, 14)
        means = centers[:, :, None] + _REACH * out[..., MEANS]
        scales = _SIZE * nn.functional.softplus(out[..., SCALES] + 0.5)
        quats = out[..., QUATS] + out.new_tensor([1.0, 0.0, 0.0, 0.0])
        opacity = torch.sigmoid(out[..., OPACITY, None] + 2.0)
        return torch.cat(
            [means, scales, quats, torch.sigmoid(out[..., COLORS]), opacity], dim=-1
        ).flatten(1, 2)

    def forward(
        self, gaussians: Tensor, centers: Tensor, noise: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Reconstruct from a latent drawn with unit ``noise``: Gaussians (B, N, 14), mean, log
        variance (B, K, D).
        """
        mean, log_variance = self.encode(gaussians, centers)
        return self.decode(mean + torch.exp(0.5 * log_variance) * noise), mean, log_variance


def divergence(mean: Tensor, log_variance: Tensor) -> Tensor:
    """Kullback-Leibler divergence from the unit normal, mean over everything."""
    return 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance).mean()
