"""Train the policy on samples of recorded episodes."""

from __future__ import annotations

import hashlib
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from gwm_core.errors import InputError
from gwm_core.files.json_files import to_json
from gwm_core.model.checkpoint import save_policy
from gwm_core.model.config import PolicyConfig, TrainConfig
from gwm_core.model.flow_matching import sample_times
from gwm_core.model.policy import ACTION, Policy
from gwm_core.model.weights_file import MANIFESTS
from gwm_core.training.datasets.policy_samples import PolicySamples
from gwm_core.training.training_loop import Batch
from gwm_core.training.training_run import TrainingRun, held_out


class PolicyBatches:
    """All samples on one device, and augmented batches of them."""

    def __init__(
        self, samples: PolicySamples, device: torch.device, config: TrainConfig, rows: int
    ):
        self.device = device
        self._noise_samples = config.noise_samples
        self._rows = rows
        arrays = {name: getattr(samples, name) for name in samples.__annotations__}
        self._arrays = {
            name: torch.from_numpy(a).to(device) for name, a in arrays.items() if a is not None
        }
        held = torch.from_numpy(held_out(samples.episode, config.held_out)).to(device)
        self.training = (~held).nonzero()[:, 0]
        self.validation = held.nonzero()[:, 0]
        for name, index in (("to train on", self.training), ("held out", self.validation)):
            if not self._arrays["valid"][index].any():
                raise InputError(
                    f"nothing is {name}: in none of these episodes did the arm follow the task;"
                    " `gwm data verify` says which ones are fit to train on"
                )

    def take(self, index: Tensor) -> Batch:
        """The samples with these numbers (B,), as the policy takes them."""
        a = {name: array[index] for name, array in self._arrays.items() if name != "episode"}
        return a | {"points": a["points"].float(), "colors": a["colors"].float() / 255}

    def sample_batch(self, count: int) -> Batch:
        """An augmented training batch: jittered points, shifted clouds, other lighting, noisy
        proprioception.
        """
        batch = self.take(
            self.training[torch.randint(len(self.training), (count,), device=self.device)]
        )

        def normal(*shape, scale=1.0):
            return torch.randn(*shape, device=self.device) * scale

        points = batch["points"]
        points = points + normal(*points.shape, scale=0.0015) + normal(count, 1, 3, scale=0.003)
        gain = 1 + normal(count, 1, 1, scale=0.10) + normal(count, 1, 3, scale=0.05)
        batch["points"], batch["colors"] = points, (batch["colors"] * gain).clamp(0, 1)
        spread = torch.tensor([0.002] * 3 + [0.01] * 6 + [0.001, 0.0], device=self.device)
        batch["proprio"] = batch["proprio"] + normal(count, 11) * spread  # the rows stay absolute
        batch["noise"] = normal(count, self._noise_samples, self._rows, ACTION)
        batch["times"] = sample_times((count, self._noise_samples, 1, 1), self.device)
        return batch

    def relative_rows(self, limit: int = 20_000) -> Tensor:
        """Training rows (S, H, 10) relative to the gripper, of about ``limit`` samples."""
        b = self.take(self.training[:: max(1, len(self.training) // limit)])
        return torch.cat([b["rows"][..., :3] - b["proprio"][:, None, :3], b["rows"][..., 3:]], -1)


def fingerprint(samples: PolicySamples) -> str:
    """SHA-256 of what the samples teach, without their scenes."""
    digest = hashlib.sha256()
    for name in ("proprio", "rows", "valid", "task", "episode", "features"):
        if (array := getattr(samples, name)) is not None:
            digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


@torch.no_grad()
def validate_policy(policy: Policy, batches: PolicyBatches, limit: int = 1024) -> dict[str, float]:
    """Mean position error [mm] over valid rows of held-out episodes, sampled as at run time."""
    errors = []
    index = batches.validation[:: max(1, len(batches.validation) // limit)]
    for part in index.split(128):
        b = batches.take(part)
        rows = policy(
            b["points"], b["colors"], b["proprio"], b["task"], b.get("features"), b.get("anchors")
        )
        errors.append((rows[..., :3] - b["rows"][..., :3]).norm(dim=-1)[b["valid"]])
    return {"position_mm": 1000 * float(torch.cat(errors).mean())}


def train_policy(
    samples: PolicySamples, policy_config: PolicyConfig, run: TrainingRun, world: Path | None = None
) -> dict:
    """Train a policy and save it in ``run.out``. Returns its figures, among them ``position_mm``.

    Args:
        world: folder of the world model that made the features in ``samples``.

    Raises:
        InputError: with ``run.trunk``, ``run.out`` holds a policy of other settings or samples.
    """
    settings = to_json([asdict(policy_config), fingerprint(samples)])
    if figures := run.finished(Path(run.out) / MANIFESTS["policy"], settings, len(samples)):
        return figures
    torch.manual_seed(run.config.seed)
    batches = PolicyBatches(samples, torch.device(run.device), run.config, policy_config.rows)
    policy = Policy(policy_config).to(run.device)
    policy.set_normalization(batches.relative_rows())
    return run.train(
        policy,
        Policy.loss,
        batches.sample_batch,
        lambda p: validate_policy(p, batches),
        settings,
        len(samples),
        lambda average, provenance: save_policy(run.out, average, provenance, world),
    )
