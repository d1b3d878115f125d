"""Predict how the tokens of a scene move and change over one jump in time.

A token of the future is the change of one latent token and of its anchor. It attends to the scene
tokens and to the rows that are commanded until the end of the jump; it knows no task. One jump
spans 0.4 to 1.6 s: predictions of 0.1 s that are fed back lose what the gripper carries after two
seconds (docs/benchmarks.md).

Each token is classified: it rests, it moves with the gripper, or it moves freely. A resting token
keeps latent and anchor exactly, so that objects at rest keep their shape over many jumps. The
changes of the others are learned by flow matching.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from gwm_core.model.config import ACTION, WorldActionConfig
from gwm_core.model.flow_matching import TIME_FEATURES, euler, noised, time_features
from gwm_core.model.transformer import DiTBlock, fourier
from gwm_core.model.vae import add_to_gripper_tokens
from gwm_core.scene.token_tracking import MOTIONS, RESTS


class Tokens(NamedTuple):
    """Tokens of scenes: latents (B, K, D), means of the VAE, and anchors (B, K, 3) [m]."""

    latent: Tensor
    anchors: Tensor


class Future(NamedTuple):
    """Tokens (B, K, D), (B, K, 3) after a jump, and how each moved (B, K): see ``token_motions``.

    The anchor of a token that moves with the gripper is as predicted freely.
    """

    tokens: Tokens
    motions: Tensor


class FutureDecoder(nn.Module):
    """Normalisation is inside, stored with the weights."""

    def __init__(self, config: WorldActionConfig):
        super().__init__()
        d, vae = config.width, config.vae
        self.steps = config.future_steps
        change = vae.latent + 3  # of the latent and of the anchor
        self.change_in, self.latent_in = nn.Linear(change, d), nn.Linear(vae.latent, d)
        self.anchor_position = nn.Linear(3 * 16, d)
        self.gripper_query = nn.Parameter(0.02 * torch.randn(1, vae.gripper_tokens, d))
        self.action = nn.Linear(ACTION, d)
        self.row = nn.Parameter(0.02 * torch.randn(config.rows, d))
        self.jump = nn.Embedding(len(config.jumps), d)
        self.time = nn.Sequential(nn.Linear(TIME_FEATURES, d), nn.SiLU(), nn.Linear(d, d))
        self.blocks = nn.ModuleList(DiTBlock(d, config.heads) for _ in range(config.future_layers))
        self.norm, self.change_out = nn.LayerNorm(d), nn.Linear(d, change)
        self.motion_out = nn.Linear(d, len(MOTIONS))
        nn.init.zeros_(self.change_out.weight)
        nn.init.zeros_(self.change_out.bias)
        self.gripper_tokens = vae.gripper_tokens
        self.register_buffer("jumps", torch.tensor(config.jumps), persistent=False)
        self.register_buffer("latent_mean", torch.zeros(vae.latent))
        self.register_buffer("latent_std", torch.ones(vae.latent))
        self.register_buffer("change_std", torch.ones(len(config.jumps), change))
        generator = torch.Generator().manual_seed(0)
        self.register_buffer("noise", torch.randn(vae.tokens, change, generator=generator))

    def set_normalization(self, tokens: Tokens) -> None:
        """Measure the spreads of latents now, and of all changes over each jump.

        Args:
            tokens: of (S, 1 + jumps, K) tokens: now, and after each jump.
        """
        now = tokens.latent[:, 0].flatten(0, 1)
        self.latent_mean.copy_(now.mean(0))
        self.latent_std.copy_(now.std(0))
        state = torch.cat(tokens, dim=-1)
        for k in range(len(self.jumps)):
            self.change_std[k] = (state[:, k + 1] - state[:, 0]).flatten(0, 1).std(0)

    def condition(self, scene: Tensor, tokens: Tokens, rows: Tensor, gripper: Tensor, jump):
        """What stays the same over all denoising steps.

        Args:
            scene: its tokens (B, S, d) of the encoder. tokens: those now.
            rows: (B, H, 10) commanded from now on, as ``PlanDecoder.normalize`` makes them.
            gripper: (B, 3) [m] position now. jump: (B,) number of the jump.

        Returns:
            query (B, K, d), condition (B, 1, d), and keys and values of every block.
        """
        commanded = self.action(rows) + self.row
        index = torch.arange(rows.shape[1], device=rows.device)
        commanded = commanded * (index < self.jumps[jump][:, None])[..., None]
        context = torch.cat([scene, commanded], dim=1)
        query = self.latent_in((tokens.latent - self.latent_mean) / self.latent_std)
        query = query + self.anchor_position(fourier(tokens.anchors - gripper[:, None]))
        query = add_to_gripper_tokens(query, self.gripper_query)
        kv = [block.cross.cache(context) for block in self.blocks]
        return query, self.jump(jump)[:, None], kv

    def features(self, x: Tensor, t: Tensor, conditioning) -> Tensor:
        """Features (B, K, d) of noised normalised changes x (B, K, D + 3) at times t (B, 1, 1)."""
        query, condition, kv = conditioning
        condition = condition + self.time(time_features(t))
        h = self.change_in(x) + query
        for block, cache in zip(self.blocks, kv):
            h = block(h, block.modulate(condition), cache)
        return self.norm(h)

    def loss(
        self, conditioning, change: Tensor, motions: Tensor, jump: Tensor, noise: Tensor, t: Tensor
    ) -> Tensor:
        """Losses (B,) of changes (B, K, D + 3) and motions (B, K) over the jumps (B,).

        Flow matching of the tokens that move: latents and anchors count alike, and so do the tokens
        of the gripper and the others, which are few. At time 0, where the noise tells nothing, also
        the cross-entropy of the motions.
        """
        x = change / self.change_std[jump][:, None]
        features = self.features(noised(x, noise, t), t, conditioning)
        error = (self.change_out(features).float() - (x - noise)).square()
        error = (error[..., :-3].mean(-1) + error[..., -3:].mean(-1)) / 2
        logits = self.motion_out(features).float().transpose(1, 2)
        missed = nn.functional.cross_entropy(logits, motions.long(), reduction="none")
        first = slice(self.gripper_tokens)
        moves = (motions != RESTS)[:, self.gripper_tokens :]
        others = (error[:, self.gripper_tokens :] * moves).sum(1) / moves.sum(1).clamp(min=1)
        flow = (error[:, first].mean(1) + others) / 2
        return flow + missed.mean(1) * (t[:, 0, 0] == 0)

    def forward(self, conditioning, tokens: Tokens, jump: Tensor, noise=None) -> Future:
        """Predict the tokens after a jump. One step from the stored noise gives the mean, several
        steps from fresh ``noise`` (B, K, D + 3) a sample.
        """
        noise = self.noise.expand(jump.shape[0], -1, -1) if noise is None else noise
        logits = []

        def velocity(x: Tensor, t: Tensor) -> Tensor:
            features = self.features(x, t, conditioning)
            logits.append(self.motion_out(features))
            return self.change_out(features)

        change = euler(velocity, noise, self.steps) * self.change_std[jump][:, None]
        motions = logits[0].argmax(-1)  # of time 0, which its loss is of
        change = torch.where(self._moves(motions)[..., None], change, 0.0)
        latent, anchors = change.split([tokens.latent.shape[-1], 3], dim=-1)
        return Future(Tokens(tokens.latent + latent, tokens.anchors + anchors), motions)

    def _moves(self, motions: Tensor) -> Tensor:
        """Which tokens (B, K) change: all of the gripper do, since its fingers may."""
        of_gripper = torch.arange(motions.shape[1], device=motions.device) < self.gripper_tokens
        return of_gripper | (motions != RESTS)
