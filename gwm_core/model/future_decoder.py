"""Predict how the latent of a scene changes over one jump in time, by flow matching.

A token of the future is the change of one latent token. It attends to the scene tokens and to the
rows that are commanded until the end of the jump; it knows no task. One jump spans 0.4 to 1.6 s:
predictions of 0.1 s that are fed back lose what the gripper carries after two seconds
(docs/benchmarks.md).

Most tokens stay where they are. A logit says which ones move; the others keep their latent exactly,
so that objects at rest keep their shape over many jumps. The change is learned of those that move.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from gwm_core.model.config import WorldActionConfig
from gwm_core.model.flow_matching import TIME_FEATURES, euler, noised, time_features
from gwm_core.model.policy import ACTION, fourier
from gwm_core.model.transformer import DiTBlock
from gwm_core.model.vae import add_to_gripper_tokens

MOVED = 0.005  # [m] that the anchor of a token moves by: less is noise of the observation


class FutureDecoder(nn.Module):
    """Latents (B, K, D) are means of the VAE. Normalisation is inside, stored with the weights."""

    def __init__(self, config: WorldActionConfig):
        super().__init__()
        d, vae = config.width, config.vae
        self.steps = config.future_steps
        self.change_in, self.latent_in = nn.Linear(vae.latent, d), nn.Linear(vae.latent, d)
        self.anchor_position = nn.Linear(3 * 16, d)
        self.gripper_query = nn.Parameter(0.02 * torch.randn(1, vae.gripper_tokens, d))
        self.action = nn.Linear(ACTION, d)
        self.row = nn.Parameter(0.02 * torch.randn(config.rows, d))
        self.jump = nn.Embedding(len(config.jumps), d)
        self.time = nn.Sequential(nn.Linear(TIME_FEATURES, d), nn.SiLU(), nn.Linear(d, d))
        self.blocks = nn.ModuleList(DiTBlock(d, config.heads) for _ in range(config.future_layers))
        self.norm, self.change_out = nn.LayerNorm(d), nn.Linear(d, vae.latent)
        self.moves_out = nn.Linear(d, 1)
        nn.init.zeros_(self.change_out.weight)
        nn.init.zeros_(self.change_out.bias)
        self.gripper_tokens = vae.gripper_tokens
        low, high = torch.tensor(vae.lift.low), torch.tensor(vae.lift.high)
        self.register_buffer("jumps", torch.tensor(config.jumps), persistent=False)
        self.register_buffer("middle", (low + high) / 2)  # [m] of the workspace
        self.register_buffer("extent", (high - low) / 2)
        self.register_buffer("latent_mean", torch.zeros(vae.latent))
        self.register_buffer("latent_std", torch.ones(vae.latent))
        self.register_buffer("change_std", torch.ones(len(config.jumps), vae.latent))
        generator = torch.Generator().manual_seed(0)
        self.register_buffer("noise", torch.randn(vae.tokens, vae.latent, generator=generator))

    def set_normalization(self, latents: Tensor) -> None:
        """Measure the spreads of latents now and of their changes over each jump.

        Args:
            latents: (S, 1 + jumps, K, D): now, and after each jump.
        """
        now = latents[:, 0].flatten(0, 1)
        self.latent_mean.copy_(now.mean(0))
        self.latent_std.copy_(now.std(0))
        for k in range(len(self.jumps)):
            self.change_std[k] = (latents[:, k + 1] - latents[:, 0]).flatten(0, 1).std(0)

    def anchors(self, latent: Tensor) -> Tensor:
        """Anchors (..., K, 3) [m] of the tokens of a latent (..., K, D)."""
        return latent[..., :3] * self.extent + self.middle

    def condition(self, tokens: Tensor, latent: Tensor, rows: Tensor, gripper: Tensor, jump):
        """What stays the same over all denoising steps.

        Args:
            tokens: (B, S, d) of the scene. latent: (B, K, D) now.
            rows: (B, H, 10) commanded from now on, as ``PlanDecoder.normalize`` makes them.
            gripper: (B, 3) [m] position now. jump: (B,) number of the jump.

        Returns:
            query (B, K, d), condition (B, 1, d), and keys and values of every block.
        """
        commanded = self.action(rows) + self.row
        index = torch.arange(rows.shape[1], device=rows.device)
        commanded = commanded * (index < self.jumps[jump][:, None])[..., None]
        context = torch.cat([tokens, commanded], dim=1)
        query = self.latent_in((latent - self.latent_mean) / self.latent_std)
        query = query + self.anchor_position(fourier(self.anchors(latent) - gripper[:, None]))
        query = add_to_gripper_tokens(query, self.gripper_query)
        kv = [block.cross.cache(context) for block in self.blocks]
        return query, self.jump(jump)[:, None], kv

    def features(self, x: Tensor, t: Tensor, conditioning) -> Tensor:
        """Features (B, K, d) of noised normalised changes x (B, K, D) at times t (B, 1, 1)."""
        query, condition, kv = conditioning
        condition = condition + self.time(time_features(t))
        h = self.change_in(x) + query
        for block, cache in zip(self.blocks, kv):
            h = block(h, block.modulate(condition), cache)
        return self.norm(h)

    def moved(self, change: Tensor) -> Tensor:
        """Which tokens (B, K) move in changes (B, K, D) of a latent: those of the gripper do."""
        moved = (change[..., :3] * self.extent).norm(dim=-1) > MOVED
        moved[:, : self.gripper_tokens] = True
        return moved

    def loss(self, conditioning, change: Tensor, jump: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """Losses (B,) of changes (B, K, D) over the jumps (B,).

        Flow matching of the tokens that move. At time 0, where the noise tells nothing, also the
        cross-entropy of which ones do.
        """
        x = change / self.change_std[jump][:, None]
        features, moved = self.features(noised(x, noise, t), t, conditioning), self.moved(change)
        error = (self.change_out(features).float() - (x - noise)).square().mean(-1)
        logits = self.moves_out(features)[..., 0].float()
        unseen = nn.functional.binary_cross_entropy_with_logits(
            logits, moved.float(), reduction="none"
        )
        flow = (error * moved).sum(1) / moved.sum(1)
        return flow + unseen.mean(1) * (t[:, 0, 0] == 0)

    def forward(self, conditioning, latent: Tensor, jump: Tensor, noise=None) -> Tensor:
        """Predict the latent (B, K, D) after a jump. One step from the stored noise gives the mean,
        several steps from fresh ``noise`` (B, K, D) a sample.
        """
        noise = self.noise.expand(len(latent), -1, -1) if noise is None else noise
        logits = []

        def velocity(x: Tensor, t: Tensor) -> Tensor:
            features = self.features(x, t, conditioning)
            logits.append(self.moves_out(features))
            return self.change_out(features)

        x = euler(velocity, noise, self.steps)
        moves = logits[0] > 0  # of time 0, which its loss is of
        moves[:, : self.gripper_tokens] = True
        return torch.where(moves, latent + x * self.change_std[jump][:, None], latent)
