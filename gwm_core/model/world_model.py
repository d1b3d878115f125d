"""World model: p(next latent | past latents, action), by diffusion in the latent space of the VAE.

EDM (Karras et al., arXiv 2206.00364) around a transformer over the K tokens. The tokens of a
history are aligned: token k stands for the same piece of the scene in every latent
(``scene.token_tracking``), so the model diffuses how each token changes. Rotary attention uses the
last anchor of each token. Actions are tokens at the position of the gripper.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from gwm_core.model.config import VAEConfig, WorldModelConfig
from gwm_core.model.flow_matching import time_features
from gwm_core.model.transformer import WorldBlock, rotary
from gwm_core.model.vae import add_to_gripper_tokens

ACTION = 10  # pose row: xyz [m], rot6d, gripper width [m]
_OPEN_WIDTH = 0.08  # [m]
_STEP = 20.0  # 1 / (5 cm): a fast step


def rotations(rows: Tensor) -> Tensor:
    """Rotation matrices (..., 3, 3) of pose rows (..., 10) that were made from rotations."""
    x, y = rows[..., 3:6], rows[..., 6:9]
    z = x.roll(-1, -1) * y.roll(-2, -1) - x.roll(-2, -1) * y.roll(-1, -1)
    return torch.stack([x, y, z], dim=-1)


class WorldModel(nn.Module):
    """Latents (B, K, D) are means of the VAE. Normalisation is inside, stored with the weights."""

    def __init__(self, config: WorldModelConfig, vae: VAEConfig):
        super().__init__()
        d = config.width
        self.config = config
        self.latent_in = nn.Linear((1 + config.context) * vae.latent, d)
        self.action = nn.Linear(2 * ACTION, 2 * d)
        self.hidden_action = nn.Parameter(torch.randn(2, d) * 0.02)  # tokens of no action
        self.level = nn.Sequential(nn.Linear(64, d), nn.SiLU(), nn.Linear(d, d))
        if config.lookahead:  # tokens that ask for the change over ``lookahead`` steps
            self.lookahead_action = nn.Parameter(torch.randn(2, d) * 0.02)
            self.register_buffer("lookahead_std", torch.ones(vae.latent))
        self.gripper_query = nn.Parameter(0.02 * torch.randn(1, vae.gripper_tokens, d))
        self.blocks = nn.ModuleList(WorldBlock(d, config.heads) for _ in range(config.layers))
        self.norm, self.latent_out = nn.RMSNorm(d), nn.Linear(d, vae.latent)
        # two estimates of success, a number and a logit; only the logit is read
        self.outcome = nn.Linear(d, 2)
        nn.init.zeros_(self.latent_out.weight)
        nn.init.zeros_(self.latent_out.bias)
        low, high = torch.tensor(vae.lift.low), torch.tensor(vae.lift.high)
        self.register_buffer("middle", (low + high) / 2)  # [m] of the workspace
        self.register_buffer("extent", (high - low) / 2)
        self.register_buffer("latent_mean", torch.zeros(vae.latent))
        self.register_buffer("latent_std", torch.ones(vae.latent))
        self.register_buffer("change_std", torch.ones(vae.latent))
        generator = torch.Generator().manual_seed(0)
        self.register_buffer("noise", torch.randn(vae.tokens, vae.latent, generator=generator))

    def set_normalization(
        self, latents: Tensor, changes: Tensor, lookahead_changes: Tensor | None = None
    ) -> None:
        """Measure the standard deviations of latents, of their changes over one step and over
        ``config.lookahead`` steps, all (..., D).
        """
        latents, changes = latents.flatten(0, -2), changes.flatten(0, -2)
        self.latent_mean.copy_(latents.mean(0))
        self.latent_std.copy_(latents.std(0))
        self.change_std.copy_(changes.std(0))
        if lookahead_changes is not None:
            self.lookahead_std.copy_(lookahead_changes.flatten(0, -2).std(0))

    def condition(
        self,
        history: Tensor,
        actions: Tensor,
        hidden: Tensor | None = None,
        hidden_action: Tensor | None = None,
    ):
        """Inputs that stay the same over all denoising steps.

        Args:
            history: (B, context, K, D), oldest first. actions: (B, 2, 10), commanded now and one
                step later.
            hidden: (B,) bool, whose action is replaced by the tokens ``hidden_action`` (2, d), by
                default ``self.hidden_action``.

        Returns:
            context (B, K, c D), action tokens (B, 2, d), and the ``rotary`` of both.
        """
        context = ((history - self.latent_mean) / self.latent_std).transpose(1, 2).flatten(2)
        anchors = history[:, -1, :, :3] * self.extent  # relative to the middle of the workspace
        # two tokens: the gripper's present pose, and the commanded one
        gripper = actions[..., :3] - self.middle
        width = actions[..., 9:] / _OPEN_WIDTH
        move = (actions[:, 1:, :3] - actions[:, :1, :3]) * _STEP
        rotation = actions[:, 1:, 3:9] - actions[:, :1, 3:9]
        now = gripper[:, :1] / self.extent, actions[:, :1, 3:9], width[:, :1]
        features = torch.cat([*now, move, rotation, width[:, 1:] - width[:, :1]], dim=-1)
        tokens = self.action(features).unflatten(-1, (2, -1))[:, 0]
        if hidden is not None:
            hidden_action = self.hidden_action if hidden_action is None else hidden_action
            tokens = torch.where(hidden[:, None, None], hidden_action, tokens)
            gripper = torch.where(hidden[:, None, None], 0.0, gripper)
        channels = self.config.width // self.config.heads
        return context, tokens, rotary(anchors, channels), rotary(gripper, channels)

    def network(
        self, x: Tensor, level: Tensor, conditioning, layers: list | None = None
    ) -> tuple[Tensor, Tensor]:
        """F(c_in x; c_noise): (B, K, D), and pooled features (B, d).

        Args:
            layers: filled with the output of each block.
        """
        context, action, anchors, gripper = conditioning
        condition = self.level(time_features(level))
        h = self.latent_in(torch.cat([x, context], dim=-1))
        h = add_to_gripper_tokens(h, self.gripper_query)
        for block in self.blocks:
            h = block(h, condition, action, anchors, gripper)
            if layers is not None:
                layers.append(h)
        h = self.norm(h.float())
        return self.latent_out(h), h.mean(1)

    def denoise(
        self, x: Tensor, sigma: Tensor, conditioning, layers: list | None = None
    ) -> tuple[Tensor, Tensor]:
        """Estimate the change (B, K, D) from noised x at noise levels sigma (B, 1, 1); also returns
        pooled features (B, d).
        """
        data = self.config.sigma_data
        root = (sigma**2 + data**2) ** 0.5
        out, pooled = self.network(x / root, sigma.log() / 4, conditioning, layers)
        return data**2 / root**2 * x + sigma * data / root * out, pooled

    def sample_noise(self, count: int) -> dict[str, Tensor]:
        """Random inputs of ``loss``: noise levels, hidden actions, hidden pasts, and noise."""
        c, shape = self.config, (count, *self.noise.shape)
        return {
            "sigma": torch.where(
                torch.rand(count, 1, 1) < c.sigma_max_fraction,
                c.sigma_max,
                torch.exp(c.p_mean + c.p_std * torch.randn(count, 1, 1)),
            ),
            "hidden": torch.rand(count) < c.hidden_action_fraction,
            "hidden_past": torch.rand(count) < c.hidden_past_fraction,
            "noise": torch.randn(shape),
            "history_noise": torch.randn(count, c.context, *shape[1:]),
        }

    def loss(
        self,
        latents,
        actions,
        done,
        sigma,
        hidden,
        hidden_past,
        noise,
        history_noise,
        now=None,
        later=None,
        jitter: float = 0.0,
    ) -> Tensor:
        """EDM loss of one step, plus the losses of success and of lookahead features.

        Args:
            latents: (B, context + 1 + n, K, D) aligned; the last is the target. The model predicts
                the n between itself, so that it learns to correct its own errors.
            actions: (B, n + 2, 10) commanded at the last latent of the context, and then on.
            done: (B,) float, whether the task is done at the target.
            now, later: (B, K, D) ``config.lookahead`` steps apart, if features look ahead.
            jitter: noise on the history, in standard deviations of a change; as large as the
                model's own error.

        The others are those of ``sample_noise``.
        """
        c, history = self.config, latents[:, : self.config.context]
        for k in range(actions.shape[1] - 2):
            with torch.no_grad():
                future, _ = self.step(history, actions[:, k : k + 2], steps=1)
            history = torch.cat([history[:, 1:], future[:, None].float()], dim=1)
        torch.clear_autocast_cache()  # it may hold weights that were cast without a gradient
        history = torch.where(hidden_past[:, None, None, None], history[:, -1:], history)
        history = history + jitter * self.change_std * history_noise
        target = (latents[:, -1] - history[:, -1]) / self.change_std * c.sigma_data
        conditioning = self.condition(history, actions[:, -2:], hidden)
        estimate, pooled = self.denoise(target + sigma * noise, sigma, conditioning)
        weight = (sigma**2 + c.sigma_data**2) / (sigma * c.sigma_data) ** 2
        number, logit = self.outcome(pooled).float().unbind(-1)
        outcome_loss = (number - done) ** 2 + nn.functional.binary_cross_entropy_with_logits(
            logit, done, reduction="none"
        )
        loss = (weight * (estimate.float() - target) ** 2).mean() + 0.1 * outcome_loss.mean()
        return loss if now is None else loss + self.lookahead_loss(now, later)

    def step(
        self, history: Tensor, actions: Tensor, steps: int | None = None
    ) -> tuple[Tensor, Tensor]:
        """Predict the next latent (B, K, D) and the probability (B,) that the task is done.

        Args:
            history: (B, context, K, D), oldest first. actions: (B, 2, 10), commanded now and one
                step later.
            steps: of denoising, by default ``config.steps``. One step predicts the mean, several
                sample.
        """
        c, conditioning = self.config, self.condition(history, actions)
        highest, lowest = c.sigma_max ** (1 / c.rho), c.sigma_min ** (1 / c.rho)
        steps = steps or c.steps
        ramp = torch.arange(steps, device=history.device) / max(1, steps - 1)
        levels = (highest + ramp * (lowest - highest)) ** c.rho
        x = self.noise.expand(history.shape[0], -1, -1) * levels[0]
        for sigma, following in zip(levels, [*levels[1:], torch.zeros(())]):
            clean, pooled = self.denoise(x, sigma.expand(x.shape[0], 1, 1), conditioning)
            x = clean + following / sigma * (x - clean)  # Euler step of the probability flow
        _, logit = self.outcome(pooled).unbind(-1)
        future = history[:, -1] + x / c.sigma_data * self.change_std
        return self._move_gripper_tokens(history[:, -1], future, actions), logit.sigmoid()

    def _move_gripper_tokens(self, last: Tensor, future: Tensor, actions: Tensor) -> Tensor:
        """Let gripper tokens whose anchor lies outside the workspace follow the command."""
        count = self.gripper_query.shape[1]
        anchors = last[:, :count, :3]
        now, commanded = rotations(actions).unbind(1)
        offset = anchors * self.extent + self.middle - actions[:, :1, :3]
        moved = (
            offset @ now @ commanded.transpose(-1, -2) + actions[:, 1:, :3] - self.middle
        ) / self.extent
        outside = anchors.abs().amax(-1, keepdim=True) > 1.0
        gripper_tokens = torch.cat(
            [torch.where(outside, moved, future[:, :count, :3]), future[:, :count, 3:]], dim=-1
        )
        return torch.cat([gripper_tokens, future[:, count:]], dim=1)

    def rollout(self, history: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        """Predict latents (B, H, K, D) and probabilities (B, H) that the task is done.

        Args:
            actions: (B, H + 1, 10), commanded now, one step later, ....
        """
        futures, done = [], []
        for k in range(actions.shape[1] - 1):
            future, probability = self.step(history, actions[:, k : k + 2])
            history = torch.cat([history[:, 1:], future[:, None]], dim=1)
            futures.append(future)
            done.append(probability)
        return torch.stack(futures, dim=1), torch.stack(done, dim=1)

    def features(self, z: Tensor) -> Tensor:
        """Features of a latent (B, K, D) for a policy, from the first denoising step.

        Without action, with fixed noise and without a past, because a policy plans at any time.

        Returns:
            (B, K, D) mean change over ``config.lookahead`` steps, in its standard deviations; for
            ``lookahead`` 0, the normalised output (B, K, layers / 2 * d) of every second block.
        """
        B, c = z.shape[0], self.config
        history = z[:, None].expand(-1, c.context, -1, -1)
        none, hidden = z.new_zeros(B, 2, ACTION), torch.ones(B, dtype=torch.bool, device=z.device)
        tokens = self.lookahead_action if c.lookahead else self.hidden_action
        conditioning = self.condition(history, none, hidden, tokens)
        layers: list[Tensor] = []
        sigma = z.new_full((B, 1, 1), c.sigma_max)
        change, _ = self.denoise(self.noise.expand(B, -1, -1) * sigma, sigma, conditioning, layers)
        if c.lookahead:
            return change / c.sigma_data
        return torch.cat(
            [nn.functional.layer_norm(layer, layer.shape[-1:]) for layer in layers[1::2]], dim=-1
        )

    def lookahead_loss(self, now: Tensor, later: Tensor) -> Tensor:
        """Squared error of ``features`` of latents now (B, K, D), ``lookahead`` steps before
        ``later``.
        """
        return (self.features(now).float() - (later - now) / self.lookahead_std).square().mean()
