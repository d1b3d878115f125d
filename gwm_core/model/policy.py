"""The policy: scene tokens, proprioception and task -> a chunk of pose rows, by flow matching.

``encode`` runs once per chunk and caches keys and values; ``denoise`` runs once per step, on the
action tokens alone. Positions of points and rows are relative to the gripper at t_obs, which is
more robust to camera errors. The rows that go out are absolute.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from gwm_core.model.config import PolicyConfig
from gwm_core.model.flow_matching import euler, noised, time_features
from gwm_core.model.transformer import DiTBlock, EncoderBlock

ACTION = 10
POINT_SCALE = 30.0  # 1 / (about 3 cm): brings offsets within a patch near one


def fourier(x: Tensor, octaves: int = 8) -> Tensor:
    """Sines and cosines (..., C * 2 * octaves) of positions (..., C) [m], from 2 m wavelength."""
    angles = x[..., None] * (math.pi * 2.0 ** torch.arange(octaves, device=x.device, dtype=x.dtype))
    return torch.cat([angles.sin(), angles.cos()], dim=-1).flatten(-2)


def gather_patches(points: Tensor, colors: Tensor, keep: Tensor | slice, neighbors: int) -> Tensor:
    """Patches (B, K, k, 6): positions [m] and colours of the k Gaussians nearest to each of K
    centres, the centre first.

    Args:
        points: (B, N, 3) [m] base frame, farthest-point order; colors: (B, N, 3) in [0, 1].
        keep: indices (K,) or slice of the points that are centres. neighbors: k.
    """
    centers = points[:, keep]
    distance = torch.cdist(centers, points, compute_mode="donot_use_mm_for_euclid_dist")
    nearest = distance.topk(neighbors, largest=False).indices  # (B, K, k)
    batch = torch.arange(len(points), device=points.device)[:, None, None]
    return torch.cat([points, colors], dim=-1)[batch, nearest]


class Policy(nn.Module):
    """Inputs and outputs are metric. Normalisation is inside, stored with the weights."""

    def __init__(self, config: PolicyConfig):
        super().__init__()
        d = config.width
        self.config = config
        # makes the widest tensor of a training step: keep it cheap
        self.patch = nn.Sequential(nn.Linear(6, d), nn.ReLU())
        self.patch_out, self.center_position = nn.Linear(d, d), nn.Linear(3 * 16 + 3, d)
        if config.world_features:
            self.world_features = nn.Linear(config.world_features, d)
            self.anchor_position = nn.Linear(3 * 16, d)
        self.proprio, self.task = nn.Linear(9, d), nn.Embedding(len(config.tasks), d)
        self.encoder = nn.ModuleList(
            EncoderBlock(d, config.heads) for _ in range(config.encoder_layers)
        )
        self.encoder_norm = nn.LayerNorm(d)
        self.action_in, self.action_out = nn.Linear(ACTION, d), nn.Linear(d, ACTION)
        self.row = nn.Parameter(torch.randn(config.rows, d) * 0.02)
        self.time = nn.Sequential(nn.Linear(64, d), nn.SiLU(), nn.Linear(d, d))
        self.blocks = nn.ModuleList(DiTBlock(d, config.heads) for _ in range(config.decoder_layers))
        self.out_norm = nn.LayerNorm(d)
        nn.init.zeros_(self.action_out.weight)
        nn.init.zeros_(self.action_out.bias)
        # normalisation of relative rows, and the noise that every chunk starts from
        self.register_buffer("mean", torch.zeros(ACTION))
        self.register_buffer("std", torch.ones(ACTION))
        generator = torch.Generator().manual_seed(0)
        self.register_buffer("noise", torch.randn(config.rows, ACTION, generator=generator))

    def set_normalization(self, relative_rows: Tensor) -> None:
        """Measure mean and spread of relative rows (S, H, 10); a small spread is raised to a floor,
        so that noise is not amplified.
        """
        rows = relative_rows.flatten(0, 1)
        floor = torch.tensor([0.05] * 3 + [0.15] * 6 + [0.02], device=rows.device)
        self.mean.copy_(rows.mean(0))
        self.std.copy_(torch.maximum(rows.std(0), floor))

    def gather(self, points: Tensor, colors: Tensor, keep: Tensor | None = None) -> Tensor:
        """``gather_patches`` of the centres ``keep``, by default all (training drops some)."""
        keep = slice(self.config.centers) if keep is None else keep
        return gather_patches(points, colors, keep, self.config.neighbors)

    def encode(self, patches: Tensor, proprio: Tensor, task: Tensor, features=None, anchors=None):
        """Condition (B, 1, d), and the cached keys and values of every block.

        Args:
            patches: of ``gather``. proprio: (B, 11) of ``inputs.proprioception``. task: (B,) index.
            features, anchors: (B, K, world_features) and (B, K, 3) [m] of ``WorldFeatures``, where
                the configuration has them.
        """
        gripper = proprio[:, None, :3]
        centers, tint = patches[:, :, 0, :3], patches[..., 3:]
        around = POINT_SCALE * (patches[..., :3] - centers[:, :, None])
        tokens = self.patch_out(self.patch(torch.cat([around, tint - 0.5], dim=-1)).mean(dim=2))
        tokens = tokens + self.center_position(
            torch.cat([fourier(centers - gripper), tint.mean(dim=2) - 0.5], dim=-1)
        )
        widths = proprio[:, 9:11] / 0.08
        # height and rotation; x and y stay unknown
        body = torch.cat([proprio[:, 2:9], widths], dim=-1)
        tokens = [(self.proprio(body) + self.task(task))[:, None], tokens]
        if self.config.world_features:
            position = self.anchor_position(fourier(anchors.float() - gripper))
            tokens.append(self.world_features(features.float()) + position)
        tokens = torch.cat(tokens, dim=1)  # (B, 1 + centers [+ K], d)
        for block in self.encoder:
            tokens = block(tokens)
        tokens = self.encoder_norm(tokens)
        return tokens[:, :1], [block.cross.cache(tokens) for block in self.blocks]

    def modulate(self, condition: Tensor, t: Tensor) -> list[Tensor]:
        """Modulation (B, S, 6 d) of each block by a condition (B, 1, d) and times t (B, S, 1)."""
        condition = condition + self.time(time_features(t))
        return [block.modulate(condition) for block in self.blocks]

    def denoise(self, x: Tensor, modulations: list[Tensor], kv) -> Tensor:
        """Velocity (B, H, 10) at noised normalised rows x (B, H, 10).

        Args:
            modulations: (B, 1, 6 d) of each block, at one time. kv: of ``encode``.
        """
        h = self.action_in(x) + self.row  # (B, H, d)
        for block, modulation, cache in zip(self.blocks, modulations, kv):
            h = block(h, modulation, cache)
        return self.action_out(self.out_norm(h))

    def normalize(self, rows: Tensor, proprio: Tensor) -> Tensor:
        """Absolute rows (B, H, 10) -> relative to the gripper, zero mean, unit spread."""
        return (
            torch.cat([rows[..., :3] - proprio[:, None, :3], rows[..., 3:]], dim=-1) - self.mean
        ) / self.std

    def absolute(self, x: Tensor, proprio: Tensor) -> Tensor:
        """The inverse of ``normalize``."""
        rows = x * self.std + self.mean
        return torch.cat([rows[..., :3] + proprio[:, None, :3], rows[..., 3:]], dim=-1)

    def forward(self, points, colors, proprio, task, features=None, anchors=None) -> Tensor:
        """Sample absolute rows (B, H, 10) from the stored noise. Arguments as of ``loss``."""
        condition, kv = self.encode(self.gather(points, colors), proprio, task, features, anchors)
        noise = self.noise.expand(len(points), -1, -1)
        x = euler(
            lambda x, t: self.denoise(x, self.modulate(condition, t), kv), noise, self.config.steps
        )
        return self.absolute(x, proprio)

    def loss(
        self, points, colors, proprio, task, rows, valid, noise, times, features=None, anchors=None
    ) -> Tensor:
        """Flow-matching loss over the valid rows. A scene is encoded once, some tokens dropped.

        Args:
            points: (B, N, 3) [m] base frame, farthest-point order; colors: (B, N, 3) in [0, 1].
            noise: (B, samples, H, 10); times: (B, samples, 1, 1) in [0, 1).
        """
        keep = torch.randperm(self.config.centers, device=points.device)[
            : self.config.centers * 15 // 16
        ]
        condition, kv = self.encode(
            self.gather(points, colors, keep), proprio, task, features, anchors
        )
        x, total = self.normalize(rows, proprio), 0.0
        for k in range(noise.shape[1]):
            noisy = noised(x, noise[:, k], times[:, k])
            v = self.denoise(noisy, self.modulate(condition, times[:, k]), kv)
            error = ((v - (x - noise[:, k])) ** 2).mean(-1)  # (B, H)
            total = total + ((error * valid).sum(1) / valid.sum(1).clamp(min=1)).mean()
        return total / noise.shape[1]
