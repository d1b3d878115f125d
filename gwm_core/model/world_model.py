"""The world model: p(next latent | past latents, action) by diffusion in the latent space of the 3D
VAE.

EDM (Karras et al., arXiv 2206.00364) around a transformer over the K tokens. Tokens of a history
are aligned: token k of every latent is the same piece of the world (``scene.track``), so what is
diffused is how each changes. Its place is where a token was last, and rotates the attention; the
action is attended to at the place of the gripper.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from gwm_core.model.config import VAEConfig, WorldModelConfig
from gwm_core.model.transformer import WorldBlock, rotary
from gwm_core.model.vae import add_to_riders

ACTION = 10  # pose row: xyz [m], rot6d, gripper width [m]
HEADS = 2  # reward, and the logit that the task is done


def rotations(rows: Tensor) -> Tensor:
    """Rotation matrices (..., 3, 3) of pose rows (..., 10) that were made from rotations."""
    x, y = rows[..., 3:6], rows[..., 6:9]
    z = x.roll(-1, -1) * y.roll(-2, -1) - x.roll(-2, -1) * y.roll(-1, -1)
    return torch.stack([x, y, z], dim=-1)


class WorldModel(nn.Module):
    """Latents (B, K, D) are the VAE's means; all normalisation happens in here and is stored with
    the weights.
    """

    def __init__(self, config: WorldModelConfig, vae: VAEConfig):
        super().__init__()
        self.config, d = config, config.width
        self.enter = nn.Linear((1 + config.context) * vae.latent, d)
        self.action = nn.Linear(2 * ACTION, 2 * d)
        self.null = nn.Parameter(torch.randn(2, d) * 0.02)
        self.level = nn.Sequential(nn.Linear(64, d), nn.SiLU(), nn.Linear(d, d))
        if config.ahead:
            # in place of an action: what comes of itself
            self.glance = nn.Parameter(torch.randn(2, d) * 0.02)
            self.register_buffer("ahead_std", torch.ones(vae.latent))
        # which of the riders a token is
        self.part = nn.Parameter(0.02 * torch.randn(1, vae.riders, d))
        self.blocks = nn.ModuleList(WorldBlock(d, config.heads) for _ in range(config.layers))
        self.norm, self.leave = nn.RMSNorm(d), nn.Linear(d, vae.latent)
        self.heads = nn.Linear(d, HEADS)
        nn.init.zeros_(self.leave.weight)
        nn.init.zeros_(self.leave.bias)
        low, high = torch.tensor(vae.lift.low), torch.tensor(vae.lift.high)
        self.register_buffer("middle", (low + high) / 2)
        self.register_buffer("extent", (high - low) / 2)
        self.register_buffer("latent_mean", torch.zeros(vae.latent))
        self.register_buffer("latent_std", torch.ones(vae.latent))
        self.register_buffer("change_std", torch.ones(vae.latent))
        generator = torch.Generator().manual_seed(0)
        self.register_buffer("noise", torch.randn(vae.tokens, vae.latent, generator=generator))

    def set_normalization(
        self, latents: Tensor, changes: Tensor, ahead: Tensor | None = None
    ) -> None:
        """Take spreads of latents, of their changes over one step and over ``config.ahead`` steps,
        all (..., D).
        """
        latents, changes = latents.flatten(0, -2), changes.flatten(0, -2)
        self.latent_mean.copy_(latents.mean(0))
        self.latent_std.copy_(latents.std(0))
        self.change_std.copy_(changes.std(0))
        if ahead is not None:
            self.ahead_std.copy_(ahead.flatten(0, -2).std(0))

    def describe(
        self,
        history: Tensor,
        actions: Tensor,
        hidden: Tensor | None = None,
        null: Tensor | None = None,
    ):
        """What does not change while denoising: context (B, K, c D), action tokens (B, 2, d), their
        ``rotary``.

        Args:
            history: (B, context, K, D), oldest first. actions: (B, 2, 10), commanded now and one
                step later.
            hidden: (B,) bool, whose action is hidden behind the tokens ``null`` (2, d), by default
                ``self.null``.
        """
        context = ((history - self.latent_mean) / self.latent_std).transpose(1, 2).flatten(2)
        here = history[:, -1, :, :3] * self.extent  # relative to the middle of the workspace
        # where it is, and where it is told to go: a token at each
        hand = actions[..., :3] - self.middle
        width = actions[..., 9:] / 0.08
        move = (actions[:, 1:, :3] - actions[:, :1, :3]) * 20.0  # 5 cm in a step are fast
        turned = actions[:, 1:, 3:9] - actions[:, :1, 3:9]
        now = hand[:, :1] / self.extent, actions[:, :1, 3:9], width[:, :1]
        told = torch.cat([*now, move, turned, width[:, 1:] - width[:, :1]], dim=-1)
        tokens = self.action(told).unflatten(-1, (2, -1))[:, 0]
        if hidden is not None:
            tokens = torch.where(hidden[:, None, None], self.null if null is None else null, tokens)
            hand = torch.where(hidden[:, None, None], 0.0, hand)
        channels = self.config.width // self.config.heads
        return context, tokens, rotary(here, channels), rotary(hand, channels)

    def network(
        self, x: Tensor, level: Tensor, described, layers: list | None = None
    ) -> tuple[Tensor, Tensor]:
        """F(c_in x; c_noise): (B, K, D), and the pooled features (B, d). ``layers`` collects what
        each block leaves.
        """
        context, action, places, hand = described
        frequencies = torch.exp(torch.linspace(0, math.log(1000.0), 32, device=x.device))
        condition = self.level(
            torch.cat([(level * frequencies).sin(), (level * frequencies).cos()], dim=-1)
        )
        h = add_to_riders(self.enter(torch.cat([x, context], dim=-1)), self.part)
        for block in self.blocks:
            h = block(h, condition, action, places, hand)
            if layers is not None:
                layers.append(h)
        h = self.norm(h.float())
        return self.leave(h), h.mean(1)

    def denoise(
        self, x: Tensor, sigma: Tensor, described, layers: list | None = None
    ) -> tuple[Tensor, Tensor]:
        """The change (B, K, D) behind noised x at noise levels sigma (B, 1, 1), and pooled
        features.
        """
        data = self.config.sigma_data
        root = (sigma**2 + data**2) ** 0.5
        out, pooled = self.network(x / root, sigma.log() / 4, described, layers)
        return data**2 / root**2 * x + sigma * data / root * out, pooled

    def draw(self, count: int) -> dict[str, Tensor]:
        """What is random in ``loss``: noise levels, whose action is hidden, whose past is not
        known, and noise.
        """
        c, shape = self.config, (count, *self.noise.shape)
        return {
            "sigma": torch.where(
                torch.rand(count, 1, 1) < c.first,
                c.sigma_max,
                torch.exp(c.p_mean + c.p_std * torch.randn(count, 1, 1)),
            ),
            "hidden": torch.rand(count) < c.null,
            "still": torch.rand(count) < c.still,
            "noise": torch.randn(shape),
            "astray": torch.randn(count, c.context, *shape[1:]),
        }

    def loss(
        self,
        latents,
        actions,
        done,
        sigma,
        hidden,
        still,
        noise,
        astray,
        now=None,
        later=None,
        jitter: float = 0.0,
    ) -> Tensor:
        """EDM loss of one step, plus that of the reward and success head, and of features that look
        ahead.

        Args:
            latents: (B, context + 1 + n, K, D) aligned, the last is the target. The n between are
                imagined, not shown, so that the model learns to put right its own errors.
            actions: (B, n + 2, 10) commanded at the last of the context, and then on.
            done: (B,) float, whether the task is done at the target.
            now, later: (B, K, D) ``config.ahead`` steps apart, if features look ahead. The rest: as
                of ``draw``.
            jitter: noise on the history, in spreads of a change, as much as the model's own errors.
        """
        c, history = self.config, latents[:, : self.config.context]
        for k in range(actions.shape[1] - 2):
            with torch.no_grad():
                future, _ = self.step(history, actions[:, k : k + 2], steps=1)
            history = torch.cat([history[:, 1:], future[:, None].float()], dim=1)
        torch.clear_autocast_cache()  # else weights cast without a gradient would be used again
        history = torch.where(still[:, None, None, None], history[:, -1:], history)
        history = history + jitter * self.change_std * astray
        target = (latents[:, -1] - history[:, -1]) / self.change_std * c.sigma_data
        described = self.describe(history, actions[:, -2:], hidden)
        guess, pooled = self.denoise(target + sigma * noise, sigma, described)
        weight = (sigma**2 + c.sigma_data**2) / (sigma * c.sigma_data) ** 2
        reward, logit = self.heads(pooled).float().unbind(-1)
        ends = (reward - done) ** 2 + nn.functional.binary_cross_entropy_with_logits(
            logit, done, reduction="none"
        )
        loss = (weight * (guess.float() - target) ** 2).mean() + 0.1 * ends.mean()
        return loss if now is None else loss + self.foresight_loss(now, later)

    def step(
        self, history: Tensor, actions: Tensor, steps: int | None = None
    ) -> tuple[Tensor, Tensor]:
        """The next latent (B, K, D), and reward and probability of being done (B, 2).

        Args:
            history: (B, context, K, D), oldest first. actions: (B, 2, 10), commanded now and one
                step later.
            steps: instead of the configuration's. One gives the mean of what may come, more give
                one of them.
        """
        c, described = self.config, self.describe(history, actions)
        most, least = c.sigma_max ** (1 / c.rho), c.sigma_min ** (1 / c.rho)
        steps = steps or c.steps
        ramp = torch.arange(steps, device=history.device) / max(1, steps - 1)
        levels = (most + ramp * (least - most)) ** c.rho
        x = self.noise.expand(history.shape[0], -1, -1) * levels[0]
        for sigma, following in zip(levels, [*levels[1:], torch.zeros(())]):
            clean, pooled = self.denoise(x, sigma.expand(x.shape[0], 1, 1), described)
            x = clean + following / sigma * (x - clean)  # Euler step of the probability flow
        reward, logit = self.heads(pooled).unbind(-1)
        future = self._ride(
            history[:, -1], history[:, -1] + x / c.sigma_data * self.change_std, actions
        )
        return future, torch.stack([reward, logit.sigmoid()], dim=-1)

    def _ride(self, last: Tensor, future: Tensor, actions: Tensor) -> Tensor:
        """Riders outside of the workspace, of which nothing is seen, go where the gripper is told
        to go.
        """
        count = self.part.shape[1]
        places = last[:, :count, :3]
        now, told = rotations(actions).unbind(1)
        away = places * self.extent + self.middle - actions[:, :1, :3]
        ridden = (
            away @ now @ told.transpose(-1, -2) + actions[:, 1:, :3] - self.middle
        ) / self.extent
        outside = places.abs().amax(-1, keepdim=True) > 1.0
        moved = torch.cat(
            [torch.where(outside, ridden, future[:, :count, :3]), future[:, :count, 3:]], dim=-1
        )
        return torch.cat([moved, future[:, count:]], dim=1)

    def rollout(self, history: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        """Futures (B, H, K, D) and heads (B, H, 2) for actions (B, H + 1, 10) commanded now, one
        step later, ....
        """
        futures, heads = [], []
        for k in range(actions.shape[1] - 1):
            future, head = self.step(history, actions[:, k : k + 2])
            history = torch.cat([history[:, 1:], future[:, None]], dim=1)
            futures.append(future)
            heads.append(head)
        return torch.stack(futures, dim=1), torch.stack(heads, dim=1)

    def features(self, z: Tensor) -> Tensor:
        """What the first denoising step knows of the future of z (B, K, D), for a policy.

        No action, fixed noise, and no past: a policy is asked at moments of its own choosing.

        Returns:
            (B, K, D) the mean change over ``config.ahead`` steps, in its spreads; or, for ``ahead``
            = 0, (B, K, layers / 2 * d) what every second block leaves, each normalised.
        """
        B, c = z.shape[0], self.config
        history = z[:, None].expand(-1, c.context, -1, -1)
        none, hidden = z.new_zeros(B, 2, ACTION), torch.ones(B, dtype=torch.bool, device=z.device)
        described = self.describe(history, none, hidden, self.glance if c.ahead else self.null)
        layers: list[Tensor] = []
        sigma = z.new_full((B, 1, 1), c.sigma_max)
        change, _ = self.denoise(self.noise.expand(B, -1, -1) * sigma, sigma, described, layers)
        if c.ahead:
            return change / c.sigma_data
        return torch.cat(
            [nn.functional.layer_norm(known, known.shape[-1:]) for known in layers[1::2]], dim=-1
        )

    def foresight_loss(self, now: Tensor, later: Tensor) -> Tensor:
        """Squared error of ``features`` of latents now (B, K, D), of which ``later`` is what came
        of them.
        """
        return (self.features(now).float() - (later - now) / self.ahead_std).square().mean()
