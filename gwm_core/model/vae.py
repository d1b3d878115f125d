"""3D VAE: Gaussians (N, 14) <-> K latent tokens (K, D). Each token has a 3D anchor position.

The encoder starts from anchors (``scene.token_tracking``): those of the gripper tokens move with
the gripper, the others are spread over the rest of the scene. A token attends to the Gaussians
around its anchor, then to a sample of all Gaussians, weighted by distance. The decoder sees only
the latent: each token emits N / K Gaussians around its anchor.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn

from gwm_core.model.config import VAEConfig
from gwm_core.model.transformer import (
    CrossAttention,
    EncoderBlock,
    attend,
    fourier,
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
_REACH = 0.02  # [m] a usual distance of a Gaussian from its anchor
_RANGES = (0.015, 0.03, 0.08, 0.3)  # [m] standard deviation of each head's weight over distance


def describe(gaussians: Tensor) -> Tensor:
    """Features (..., FEATURES) of Gaussians (..., 14) without their positions, near unit spread."""
    size = (gaussians[..., SCALES].clamp(min=1e-5) / _SIZE).log()
    rotation = rotation_matrices(gaussians[..., QUATS]).flatten(-2)
    return torch.cat(
        [size, rotation, 2 * gaussians[..., COLORS] - 1, 2 * gaussians[..., OPACITY, None] - 1],
        dim=-1,
    )


def distances(a: Tensor, b: Tensor) -> Tensor:
    """Distances (B, M, N) of points (B, M, 3) and (B, N, 3), in full precision under autocast."""
    if torch.compiler.is_exporting():  # ONNX has no cdist
        return (a[:, :, None] - b[:, None]).square().sum(-1).sqrt()
    return torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist")


class NearAttention(CrossAttention):
    """Cross-attention from queries to points in space; each head has its own range."""

    def __init__(self, width: int, heads: int):
        super().__init__(width, heads)
        ranges = torch.tensor(_RANGES).repeat(math.ceil(heads / len(_RANGES)))[:heads]
        self.register_buffer("sharpness", -0.5 / ranges[:, None, None] ** 2)

    def forward(self, x: Tensor, context: Tensor, squared: Tensor) -> Tensor:
        """X (B, K, d), context (B, N, d), squared distances (B, K, N) [m^2] -> (B, K, d)."""
        k, v = self.cache(context)
        bias = squared[:, None] * self.sharpness
        return self.out(join_heads(attend(split_heads(self.q(x), self.heads), k, v, bias)))


def add_to_gripper_tokens(x: Tensor, embedding: Tensor) -> Tensor:
    """Add an embedding (1, A, d) to the first A of the tokens x (B, K, d), the gripper tokens."""
    return x + nn.functional.pad(embedding, (0, 0, 0, x.shape[1] - embedding.shape[1]))


class VAE(nn.Module):
    """Inputs and outputs are metric; normalisation is inside."""

    def __init__(self, config: VAEConfig):
        super().__init__()
        d = config.width
        self.config = config
        self.gaussians_per_token = config.lift.count // config.tokens
        low, high = torch.tensor(config.lift.low), torch.tensor(config.lift.high)
        self.register_buffer("middle", (low + high) / 2)  # [m] of the workspace
        self.register_buffer("extent", (high - low) / 2)
        # anchors of the gripper tokens [m] in the gripper's frame
        self.register_buffer("gripper_tokens", torch.zeros(config.gripper_tokens, 3))
        self.query = nn.Linear(3 * 16, d)
        self.gripper_query = nn.Parameter(0.02 * torch.randn(1, config.gripper_tokens, d))
        self.patch = nn.Sequential(nn.Linear(3 + FEATURES, d), nn.GELU(), nn.Linear(d, d))
        self.point = nn.Linear(3 * 16 + FEATURES, d)
        self.near_norm, self.near = nn.LayerNorm(d), NearAttention(d, config.heads)
        self.near_mlp = nn.Sequential(nn.LayerNorm(d), mlp(d))
        self.encoder = nn.ModuleList(
            EncoderBlock(d, config.heads) for _ in range(config.encoder_layers)
        )
        self.posterior = nn.Sequential(nn.LayerNorm(d), nn.Linear(d, 2 * config.latent))
        self.latent = nn.Linear(config.latent + 3 * 16, d)
        self.gripper_latent = nn.Parameter(0.02 * torch.randn(1, config.gripper_tokens, d))
        self.decoder = nn.ModuleList(
            EncoderBlock(d, config.heads) for _ in range(config.decoder_layers)
        )
        self.emit = nn.Sequential(nn.LayerNorm(d), nn.Linear(d, self.gaussians_per_token * 14))
        nn.init.zeros_(self.posterior[1].weight[config.latent :])
        nn.init.constant_(self.posterior[1].bias[config.latent :], -9.0)  # log variance
        # a token's Gaussians begin apart
        nn.init.normal_(self.emit[1].bias, std=0.7)

    @torch.no_grad()
    def observe(self, scenes: np.ndarray, poses: np.ndarray) -> Tensor:
        """Latents (T, K, D) of consecutive scenes (T, N, 14), the gripper at poses (T, 4, 4)."""
        gripper_tokens = self.gripper_tokens.cpu().numpy()
        anchors = track_tokens(scenes, poses, gripper_tokens, self.config.tokens)
        arrays = (
            torch.from_numpy(np.ascontiguousarray(a)).to(self.middle.device)
            for a in (scenes, anchors)
        )
        return self.encode(*arrays)[0]

    def encode(self, gaussians: Tensor, anchors: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log variance (B, K, D) of the posterior.

        Args:
            gaussians: (B, N, 14), farthest points first.
            anchors: (B, K, 3) [m] of the tokens, those of the gripper first.
        """
        c, batch = self.config, torch.arange(gaussians.shape[0], device=gaussians.device)[:, None]
        points, features = gaussians[..., MEANS], describe(gaussians)
        distance = distances(anchors, points)  # (B, K, N)
        nearest = distance.topk(c.neighbors, largest=False, sorted=False).indices  # (B, K, k)
        around = points[batch[..., None], nearest] - anchors[:, :, None]
        patch = torch.cat([_POINT_SCALE * around, features[batch[..., None], nearest]], dim=-1)
        x = add_to_gripper_tokens(self.query(fourier(anchors - self.middle)), self.gripper_query)
        x = x + self.patch(patch).mean(dim=2)
        some = slice(c.context)
        context = self.embed_points(points[:, some], features[:, some])
        x = x + self.near(self.near_norm(x), context, distance[..., some] ** 2)
        x = x + self.near_mlp(x)
        for block in self.encoder:
            x = block(x)
        mean, log_variance = self.posterior(x).chunk(2, dim=-1)
        position = nn.functional.pad((anchors - self.middle) / self.extent, (0, c.latent - 3))
        return mean + position, log_variance

    def embed_points(self, points: Tensor, features: Tensor) -> Tensor:
        """Tokens (B, M, d) of Gaussians at points (B, M, 3) with features (B, M, FEATURES)."""
        return self.point(torch.cat([fourier(points - self.middle), features], dim=-1))

    def anchors(self, z: Tensor) -> Tensor:
        """Anchors (..., K, 3) [m] of the tokens of latents (..., K, D)."""
        return z[..., :3] * self.extent + self.middle

    def decode(self, z: Tensor) -> Tensor:
        """Latent (B, K, D) -> Gaussians (B, N, 14)."""
        anchors = self.anchors(z)
        x = self.latent(torch.cat([z, fourier(anchors - self.middle)], dim=-1))
        x = add_to_gripper_tokens(x, self.gripper_latent)
        for block in self.decoder:
            x = block(x)
        out = (
            self.emit(x).float().unflatten(-1, (self.gaussians_per_token, 14))
        )  # (B, K, N / K, 14)
        means = anchors[:, :, None] + _REACH * out[..., MEANS]
        scales = _SIZE * nn.functional.softplus(out[..., SCALES] + 0.5)
        quats = out[..., QUATS] + out.new_tensor([1.0, 0.0, 0.0, 0.0])
        opacity = torch.sigmoid(out[..., OPACITY, None] + 2.0)
        return torch.cat(
            [means, scales, quats, torch.sigmoid(out[..., COLORS]), opacity], dim=-1
        ).flatten(1, 2)

    def forward(
        self, gaussians: Tensor, anchors: Tensor, noise: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Encode, sample with unit ``noise`` (B, K, D), and decode.

        Returns:
            Gaussians (B, N, 14), mean and log variance (B, K, D).
        """
        mean, log_variance = self.encode(gaussians, anchors)
        return self.decode(mean + torch.exp(0.5 * log_variance) * noise), mean, log_variance


def kl_divergence(mean: Tensor, log_variance: Tensor) -> Tensor:
    """Kullback-Leibler divergence from the unit normal, mean over all elements."""
    return 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance).mean()
