"""Batches of plans that the policy learns from, and its error on held-out ones."""

from __future__ import annotations

import hashlib
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from gwm_core.errors import InputError
from gwm_core.model.config import ACTION, WorldActionTraining
from gwm_core.model.flow_matching import sample_times
from gwm_core.model.world_action_model import WorldActionModel
from gwm_core.training.datasets.policy_samples import PolicySamples
from gwm_core.training.sample_arrays import SampleArrays
from gwm_core.training.symmetries import draw, transform_rows, transformed
from gwm_core.training.training_loop import Batch
from gwm_core.training.training_run import held_out


class Augmented(NamedTuple):
    """What the policy sees in training."""

    points: Tensor  # (B, N, 3) [m]
    colors: Tensor  # (B, N, 3) in [0, 1]
    proprio: Tensor  # (B, 11)
    shift: Tensor  # (B, 1, 3) [m] of the points, and of all that is where they are


def augment(points: Tensor, colors: Tensor, proprio: Tensor) -> Augmented:
    """Jitter points, shift clouds, change the lighting, and add noise to the proprioception."""
    device, count = points.device, len(points)

    def normal(*shape, scale=1.0):
        return torch.randn(*shape, device=device) * scale

    jitter, shift = normal(*points.shape, scale=0.0015), normal(count, 1, 3, scale=0.003)
    points = points + jitter + shift
    gain = 1 + normal(count, 1, 1, scale=0.10) + normal(count, 1, 3, scale=0.05)
    spread = torch.tensor([0.002] * 3 + [0.01] * 6 + [0.001, 0.0], device=device)
    noisy = proprio + normal(*proprio.shape) * spread  # rows stay absolute
    return Augmented(points, (colors * gain).clamp(0, 1), noisy, shift)


class PolicyBatches:
    """Samples, and augmented batches of them on one device."""

    def __init__(
        self,
        samples: PolicySamples,
        device: torch.device,
        config: WorldActionTraining,
        rows: int,
        held: bool = True,
    ):
        """``held``: whether some episodes are held out."""
        self.device = device
        self._noise_samples = config.noise_samples
        self._rotation, self._reflect = config.rotation, config.reflect
        self._rows = rows
        self._arrays = SampleArrays(samples, device)
        out = held_out(samples.episode, config.held_out) if held else np.zeros(len(samples), bool)
        out = torch.from_numpy(out).to(device)
        self.training = (~out).nonzero()[:, 0]
        self.validation = out.nonzero()[:, 0]
        parts = (("to train on", self.training), ("held out", self.validation))
        for name, index in parts if held else parts[:1]:
            if not self._arrays["valid"][index].any():
                raise InputError(
                    f"nothing is {name}: in none of these episodes did the arm follow the task;"
                    " `gwm data verify` says which ones are fit to train on"
                )

    def held_episodes(self) -> list[int]:
        """Numbers of the held-out episodes."""
        return self._arrays["episode"][self.validation].unique().tolist()

    def take(self, index: Tensor) -> Batch:
        """The samples with these numbers (B,), as the policy takes them."""
        return self._arrays.take(index)

    def sample_batch(self, count: int) -> Batch:
        """An augmented training batch."""
        batch = self.take(
            self.training[torch.randint(len(self.training), (count,), device=self.device)]
        )
        seen = augment(batch["points"], batch["colors"], batch["proprio"])
        batch |= {"points": seen.points, "colors": seen.colors, "proprio": seen.proprio}
        batch = transformed(batch, draw(count, self._rotation, self._reflect, self.device))
        shape = (count, self._noise_samples, self._rows, ACTION)
        batch["noise"] = torch.randn(shape, device=self.device)
        batch["times"] = sample_times((count, self._noise_samples, 1, 1), self.device)
        return batch

    def relative_rows(self, limit: int = 20_000) -> Tensor:
        """Training rows (S, H, 10) relative to the gripper, of about ``limit`` samples, which are
        moved as in training.
        """
        some = self.training[:: max(1, len(self.training) // limit)]
        matrices = draw(len(some), self._rotation, self._reflect, self.device)
        now, rows = (
            transform_rows(self._arrays.read(name, some), matrices) for name in ("proprio", "rows")
        )
        return torch.cat([rows[..., :3] - now[:, None, :3], rows[..., 3:]], -1)


def fingerprint(samples) -> str:
    """SHA-256 of what policy or future samples teach, without their scenes."""
    digest = hashlib.sha256()
    for name in ("proprio", "rows", "valid", "task", "done", "outcome", "episode"):
        if (array := getattr(samples, name, None)) is not None:
            digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


@torch.no_grad()
def validate_policy(
    policy: WorldActionModel, batches: PolicyBatches, limit: int = 1024
) -> dict[str, float]:
    """Mean position error [mm] over valid rows of held-out episodes, sampled as at run time."""
    errors = []
    index = batches.validation[:: max(1, len(batches.validation) // limit)]
    for part in index.split(128):
        b = batches.take(part)
        inputs = ("points", "colors", "proprio", "task")
        rows = policy(**{name: b[name] for name in inputs})
        errors.append((rows[..., :3] - b["rows"][..., :3]).norm(dim=-1)[b["valid"]])
    return {"position_mm": 1000 * float(torch.cat(errors).mean())}
