"""Training of the policy: one loop, resumable to the same losses, weights averaged (EMA), cosine schedule."""

from __future__ import annotations

import copy
import json
import math
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from gwm_core.errors import InputError
from gwm_core.learn.dataset import Samples
from gwm_core.model.checkpoint import save_policy
from gwm_core.model.config import PolicyConfig, TrainConfig
from gwm_core.model.policy import Policy

STATE = "train_state.safetensors"


class Batches:
    """All samples on one device, drawn at random and augmented."""

    def __init__(self, samples: Samples, device: torch.device, held_out: float):
        self.device = device
        self._arrays = {name: torch.from_numpy(getattr(samples, name)).to(device) for name in samples.__annotations__}
        episodes = int(samples.episode.max()) + 1
        every = max(2, round(1 / held_out))
        if episodes < every:
            raise InputError(f"{episodes} episodes are too few: at least {every} are needed")
        held = self._arrays["episode"] % every == every - 1
        self.training, self.validation = (~held).nonzero()[:, 0], held.nonzero()[:, 0]

    def take(self, index: Tensor) -> dict[str, Tensor]:
        """Samples by number, as the policy wants them."""
        a = {name: array[index] for name, array in self._arrays.items() if name != "episode"}
        return a | {"points": a["points"].float(), "colors": a["colors"].float() / 255}

    def draw(self, count: int) -> dict[str, Tensor]:
        """An augmented training batch: jittered points, shifted clouds, other lighting, noisy proprioception."""
        batch = self.take(self.training[torch.randint(len(self.training), (count,), device=self.device)])

        def normal(*shape, scale):
            return torch.randn(*shape, device=self.device) * scale

        points = batch["points"]
        points = points + normal(*points.shape, scale=0.0015) + normal(count, 1, 3, scale=0.003)
        gain = 1 + normal(count, 1, 1, scale=0.10) + normal(count, 1, 3, scale=0.05)
        batch["points"], batch["colors"] = points, (batch["colors"] * gain).clamp(0, 1)
        spread = torch.tensor([0.002] * 3 + [0.01] * 6 + [0.001, 0.0], device=self.device)
        batch["proprio"] = batch["proprio"] + normal(count, 11, scale=1.0) * spread  # the rows stay absolute
        return batch


def schedule(config: TrainConfig, iteration: int) -> float:
    """Share of the learning rate: linear warm-up, then cosine to 2 %."""
    if iteration < config.warmup:
        return (iteration + 1) / config.warmup
    done = (iteration - config.warmup) / max(1, config.iterations - config.warmup)
    return 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * done))


@torch.no_grad()
def validate(policy: Policy, batches: Batches, limit: int = 1024) -> float:
    """Mean position error [mm] over valid rows of held-out episodes, sampled as at run time."""
    errors = []
    index = batches.validation[:: max(1, len(batches.validation) // limit)]
    for part in index.split(128):
        b = batches.take(part)
        rows = policy(b["points"], b["colors"], b["proprio"], b["task"])
        errors.append((rows[..., :3] - b["rows"][..., :3]).norm(dim=-1)[b["valid"]])
    return 1000 * float(torch.cat(errors).mean())


def train(
    samples: Samples,
    policy_config: PolicyConfig,
    config: TrainConfig,
    out: Path,
    provenance: dict,
    device: str = "cpu",
    progress: Callable[[int, int, dict], None] = lambda done, total, figures: None,
) -> dict:
    """Train, resuming from ``out`` when it holds an unfinished run of the same configuration.

    Returns the last figures: loss and validation error [mm].
    """
    torch.manual_seed(config.seed)
    batches = Batches(samples, torch.device(device), config.held_out)
    policy = Policy(policy_config).to(device)
    every = batches.take(batches.training[:: max(1, len(batches.training) // 20000)])
    relative = torch.cat([every["rows"][..., :3] - every["proprio"][:, None, :3], every["rows"][..., 3:]], dim=-1)
    policy.set_normalization(relative)
    average = copy.deepcopy(policy)
    optimizer = torch.optim.AdamW(
        policy.parameters(), config.learning_rate, betas=(0.9, 0.98), weight_decay=config.weight_decay, fused=True
    )
    key = json.dumps([asdict(policy_config), asdict(config), len(samples)])
    start = _resume(Path(out), key, policy, average, optimizer)
    figures, begun = {}, time.monotonic()
    for iteration in range(start, config.iterations):
        torch.manual_seed(config.seed * 1_000_003 + iteration)  # so a resumed run draws what the whole run would
        for group in optimizer.param_groups:
            group["lr"] = config.learning_rate * schedule(config, iteration)
        batch = batches.draw(config.batch)
        keep = torch.randperm(policy_config.centers, device=device)[: policy_config.centers * 15 // 16]
        with torch.autocast(torch.device(device).type, torch.bfloat16):
            loss = policy.loss(**batch, keep=keep, draws=config.draws)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(policy.parameters(), config.clip)
        optimizer.step()
        _average(average, policy, min(config.ema, (1 + iteration) / (10 + iteration)))
        done = iteration + 1
        if done % config.validate_every == 0 or done == config.iterations:
            figures = {"loss": float(loss.detach()), "position_mm": validate(average, batches)}
            _save(Path(out), key, done, policy, average, optimizer)
        if done % 20 == 0 or done == config.iterations:
            progress(done, config.iterations, figures | {"loss": float(loss.detach())})
    minutes = (time.monotonic() - begun) / 60
    record = {"train": asdict(config), "samples": len(samples), "minutes": round(minutes, 1), "device": device}
    save_policy(Path(out), average, provenance | record | figures)
    (Path(out) / STATE).unlink(missing_ok=True)
    return figures


@torch.no_grad()
def _average(average: Policy, policy: Policy, decay: float) -> None:
    torch._foreach_lerp_(list(average.parameters()), list(policy.parameters()), 1 - decay)


def _save(out: Path, key: str, done: int, policy: Policy, average: Policy, optimizer) -> None:
    out.mkdir(parents=True, exist_ok=True)
    tensors = {f"policy.{n}": t for n, t in policy.state_dict().items()}
    tensors |= {f"average.{n}": t for n, t in average.state_dict().items()}
    for i, parameter in enumerate(policy.parameters()):
        tensors |= {f"adam.{i}.{n}": t for n, t in optimizer.state[parameter].items()}
    tensors = {n: t.detach().cpu().clone() for n, t in tensors.items()}
    partial = out / (STATE + ".partial")
    save_file(tensors, partial, metadata={"key": key, "done": str(done)})
    partial.rename(out / STATE)


def _resume(out: Path, key: str, policy: Policy, average: Policy, optimizer) -> int:
    if not (out / STATE).exists():
        return 0
    with safe_open(out / STATE, framework="pt") as file:
        metadata = file.metadata()
    if metadata["key"] != key:
        raise InputError(f"{out} holds an unfinished run with other settings: choose another --out or remove it")
    tensors = load_file(out / STATE)

    def under(prefix: str) -> dict[str, Tensor]:
        return {n[len(prefix) :]: t for n, t in tensors.items() if n.startswith(prefix)}

    policy.load_state_dict(under("policy."))
    average.load_state_dict(under("average."))
    for i, parameter in enumerate(policy.parameters()):
        state = under(f"adam.{i}.")
        optimizer.state[parameter] = {n: t.to(parameter.device) if n != "step" else t for n, t in state.items()}
    return int(metadata["done"])
