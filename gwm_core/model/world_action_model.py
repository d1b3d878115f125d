"""One network that plans and predicts: a scene encoder, and decoders of plans, futures and success.

Scene tokens know no task. The plan decoder turns them and a task into a chunk of pose rows; the
future decoder turns them, a latent and commanded rows into the latent after a jump; the success
head estimates whether a task is done, and whether its trial will succeed. Plans never see futures,
so that acting does not compute them. The gain for the plan is that futures, also of failures, of
play and of other tasks, train the scene encoder (UWM, arXiv 2504.02792; Fast-WAM, arXiv
2603.16666).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from gwm_core.model.config import ACTION, WorldActionConfig
from gwm_core.model.flow_matching import TIME_FEATURES, euler, noised, time_features
from gwm_core.model.future_decoder import Future, FutureDecoder, Tokens
from gwm_core.model.transformer import CrossAttention, DiTBlock, EncoderBlock, fourier, mlp

_POINT_SCALE = 30.0  # 1 / (about 3 cm): brings offsets within a patch near one


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


class SceneEncoder(nn.Module):
    """Patches of the scene and proprioception -> scene tokens (B, 1 + K, d)."""

    def __init__(self, config: WorldActionConfig):
        super().__init__()
        d = config.width
        # makes the widest tensor of a training step: keep it cheap
        self.patch = nn.Sequential(nn.Linear(6, d), nn.ReLU())
        self.patch_out, self.center_position = nn.Linear(d, d), nn.Linear(3 * 16 + 3, d)
        self.proprio = nn.Linear(9, d)
        self.blocks = nn.ModuleList(
            EncoderBlock(d, config.heads) for _ in range(config.encoder_layers)
        )
        self.norm = nn.LayerNorm(d)

    def forward(self, patches: Tensor, proprio: Tensor) -> Tensor:
        """Patches (B, K, k, 6) of ``gather_patches``, proprio (B, 11) of ``proprioception``."""
        centers, tint = patches[:, :, 0, :3], patches[..., 3:]
        around = _POINT_SCALE * (patches[..., :3] - centers[:, :, None])
        tokens = self.patch_out(self.patch(torch.cat([around, tint - 0.5], dim=-1)).mean(dim=2))
        position = fourier(centers - proprio[:, None, :3])
        tokens = tokens + self.center_position(
            torch.cat([position, tint.mean(dim=2) - 0.5], dim=-1)
        )
        # height, rotation and widths; x and y stay unknown
        body = torch.cat([proprio[:, 2:9], proprio[:, 9:11] / 0.08], dim=-1)
        tokens = torch.cat([self.proprio(body)[:, None], tokens], dim=1)
        for block in self.blocks:
            tokens = block(tokens)
        return self.norm(tokens)


class PlanDecoder(nn.Module):
    """Scene tokens and a task -> normalised pose rows, by flow matching."""

    def __init__(self, config: WorldActionConfig):
        super().__init__()
        d = config.width
        self.steps = config.steps
        self.task = nn.Embedding(len(config.tasks), d)
        self.action_in, self.action_out = nn.Linear(ACTION, d), nn.Linear(d, ACTION)
        self.row = nn.Parameter(torch.randn(config.rows, d) * 0.02)
        self.time = nn.Sequential(nn.Linear(TIME_FEATURES, d), nn.SiLU(), nn.Linear(d, d))
        self.blocks = nn.ModuleList(DiTBlock(d, config.heads) for _ in range(config.plan_layers))
        self.norm = nn.LayerNorm(d)
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

    def condition(self, tokens: Tensor, task: Tensor):
        """What stays the same over all denoising steps: a condition (B, 1, d), and keys and values.

        Args:
            tokens: (B, S, d) of the scene. task: (B,) number.
        """
        task = self.task(task)[:, None]
        context = torch.cat([tokens, task], dim=1)
        return tokens[:, :1] + task, [block.cross.cache(context) for block in self.blocks]

    def modulate(self, condition: Tensor, t: Tensor) -> list[Tensor]:
        """Modulation (B, S, 6 d) of each block by a condition (B, 1, d) and times t (B, S, 1)."""
        condition = condition + self.time(time_features(t))
        return [block.modulate(condition) for block in self.blocks]

    def velocity(self, x: Tensor, modulations: list[Tensor], kv) -> Tensor:
        """Velocity (B, H, 10) at noised normalised rows x (B, H, 10).

        Args:
            modulations: (B, 1, 6 d) of each block, at one time. kv: of ``condition``.
        """
        h = self.action_in(x) + self.row
        for block, modulation, cache in zip(self.blocks, modulations, kv):
            h = block(h, modulation, cache)
        return self.action_out(self.norm(h))

    def normalize(self, rows: Tensor, gripper: Tensor) -> Tensor:
        """Absolute rows (B, H, 10) -> relative to the gripper (B, 3), zero mean, unit spread."""
        relative = torch.cat([rows[..., :3] - gripper[:, None], rows[..., 3:]], dim=-1)
        return (relative - self.mean) / self.std

    def absolute(self, x: Tensor, gripper: Tensor) -> Tensor:
        """The inverse of ``normalize``."""
        rows = x * self.std + self.mean
        return torch.cat([rows[..., :3] + gripper[:, None], rows[..., 3:]], dim=-1)

    def forward(self, tokens: Tensor, task: Tensor, noise: Tensor | None = None) -> Tensor:
        """Sample normalised rows (B, H, 10) from noise (B, H, 10), by default the stored one."""
        condition, kv = self.condition(tokens, task)
        noise = self.noise.expand(len(tokens), -1, -1) if noise is None else noise
        return euler(
            lambda x, t: self.velocity(x, self.modulate(condition, t), kv), noise, self.steps
        )

    def loss(
        self, tokens: Tensor, task: Tensor, x: Tensor, valid: Tensor, noise: Tensor, times: Tensor
    ) -> Tensor:
        """Flow-matching loss over the valid (B, H) of normalised rows x (B, H, 10).

        Args:
            noise: (B, samples, H, 10). times: (B, samples, 1, 1) in [0, 1).
        """
        condition, kv = self.condition(tokens, task)
        total = 0.0
        for k in range(noise.shape[1]):
            noisy = noised(x, noise[:, k], times[:, k])
            v = self.velocity(noisy, self.modulate(condition, times[:, k]), kv)
            error = ((v - (x - noise[:, k])) ** 2).mean(-1)
            total = total + ((error * valid).sum(1) / valid.sum(1).clamp(min=1)).mean()
        return total / noise.shape[1]


class SuccessHead(nn.Module):
    """Scene tokens and a question -> a logit, and the calibrated probability of a yes.

    Of T tasks, question t asks whether task t is done now. Question T + t asks whether this trial
    of task t will end in success: its answer is the value of the scene.
    """

    def __init__(self, config: WorldActionConfig):
        super().__init__()
        d, questions = config.width, 2 * len(config.tasks)
        self.question = nn.Embedding(questions, d)
        # slope and offset of every question
        self.register_buffer("calibration", torch.tensor([1.0, 0.0]).repeat(questions, 1))
        self.norms = nn.ModuleList(nn.LayerNorm(d) for _ in range(2 * config.success_layers + 1))
        self.attentions = nn.ModuleList(
            CrossAttention(d, config.heads) for _ in range(config.success_layers)
        )
        self.mlps = nn.ModuleList(mlp(d) for _ in range(config.success_layers))
        self.out = nn.Linear(d, 1)

    def forward(self, tokens: Tensor, question: Tensor) -> Tensor:
        """Logits (B,) before calibration, for tokens (B, S, d) and numbers of questions (B,)."""
        h = self.question(question)[:, None]
        for k, (attention, feed) in enumerate(zip(self.attentions, self.mlps)):
            h = h + attention(self.norms[2 * k](h), attention.cache(tokens))
            h = h + feed(self.norms[2 * k + 1](h))
        return self.out(self.norms[-1](h))[:, 0, 0]

    def probability(self, tokens: Tensor, question: Tensor) -> Tensor:
        """Probability (B,) of a yes: the sigmoid of slope * logit + offset (Platt 1999).

        Arguments as of ``forward``.
        """
        slope, offset = self.calibration[question].unbind(-1)
        return (slope * self(tokens, question) + offset).sigmoid()


class WorldActionModel(nn.Module):
    """Inputs and outputs are metric. Normalisation is inside, stored with the weights."""

    def __init__(self, config: WorldActionConfig):
        super().__init__()
        self.config = config
        self.encoder = SceneEncoder(config)
        self.plan_decoder = PlanDecoder(config)
        if config.vae:
            self.future_decoder = FutureDecoder(config)
            self.success_head = SuccessHead(config)

    @property
    def noise(self) -> Tensor:
        """The noise (H, 10) that every chunk starts from."""
        return self.plan_decoder.noise

    def set_normalization(self, relative_rows: Tensor) -> None:
        """As ``PlanDecoder.set_normalization``."""
        self.plan_decoder.set_normalization(relative_rows)

    def gather(self, points: Tensor, colors: Tensor, keep: Tensor | None = None) -> Tensor:
        """``gather_patches`` of the centres ``keep``, by default all (training drops some)."""
        keep = slice(self.config.centers) if keep is None else keep
        return gather_patches(points, colors, keep, self.config.neighbors)

    def training_tokens(self, points: Tensor, colors: Tensor, proprio: Tensor) -> Tensor:
        """Scene tokens (B, S, d) of 15 in 16 centres.

        Args:
            points: (B, N, 3) [m] base frame, farthest-point order; colors: (B, N, 3) in [0, 1].
            proprio: (B, 11) of ``inputs.proprioception``.
        """
        centers = self.config.centers
        keep = torch.randperm(centers, device=points.device)[: centers * 15 // 16]
        return self.encoder(self.gather(points, colors, keep), proprio)

    def encode(self, patches: Tensor, proprio: Tensor, task: Tensor):
        """Condition and cached keys and values of a plan, as of ``PlanDecoder.condition``."""
        return self.plan_decoder.condition(self.encoder(patches, proprio), task)

    def modulate(self, condition: Tensor, t: Tensor) -> list[Tensor]:
        """As ``PlanDecoder.modulate``."""
        return self.plan_decoder.modulate(condition, t)

    def denoise(self, x: Tensor, modulations: list[Tensor], kv) -> Tensor:
        """As ``PlanDecoder.velocity``."""
        return self.plan_decoder.velocity(x, modulations, kv)

    def absolute(self, x: Tensor, proprio: Tensor) -> Tensor:
        """Absolute pose rows (B, H, 10) of normalised ones."""
        return self.plan_decoder.absolute(x, proprio[:, :3])

    def forward(self, points: Tensor, colors: Tensor, proprio: Tensor, task: Tensor) -> Tensor:
        """Plan: absolute pose rows (B, H, 10) from the stored noise. Arguments as of
        ``training_tokens``; task: (B,) number.
        """
        tokens = self.encoder(self.gather(points, colors), proprio)
        return self.absolute(self.plan_decoder(tokens, task), proprio)

    def success(self, tokens: Tensor, task: Tensor) -> Tensor:
        """Calibrated probability (B,) that the tasks (B,) are done."""
        return self.success_head.probability(tokens, task)

    def value(self, tokens: Tensor, task: Tensor) -> Tensor:
        """Calibrated probability (B,) that these trials of the tasks (B,) end in success."""
        return self.success_head.probability(tokens, task + len(self.config.tasks))

    def future(
        self, scene: Tensor, proprio: Tensor, tokens: Tokens, rows: Tensor, jump, noise=None
    ) -> Future:
        """What is there after a jump. Arguments as of ``FutureDecoder``; rows are absolute, and
        those after the end of the jump do not count.
        """
        conditioning = self._future_condition(scene, proprio, tokens, rows, jump)
        return self.future_decoder(conditioning, tokens, jump, noise)

    def plan_loss(self, tokens, proprio, task, rows, valid, noise, times) -> Tensor:
        """As ``PlanDecoder.loss``, of absolute rows."""
        x = self.plan_decoder.normalize(rows, proprio[:, :3])
        return self.plan_decoder.loss(tokens, task, x, valid, noise, times)

    def future_loss(
        self, scene, proprio, tokens: Tokens, rows, jump, later: Future, noise, times
    ) -> Tensor:
        """Losses (B,) of ``future`` against what was ``later``."""
        conditioning = self._future_condition(scene, proprio, tokens, rows, jump)
        change = torch.cat(later.tokens, dim=-1) - torch.cat(tokens, dim=-1)
        return self.future_decoder.loss(conditioning, change, later.motions, jump, noise, times)

    def _future_condition(self, scene, proprio, tokens, rows, jump):
        gripper = proprio[:, :3]
        rows = self.plan_decoder.normalize(rows, gripper)
        return self.future_decoder.condition(scene, tokens, rows, gripper, jump)
