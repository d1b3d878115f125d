"""Fit the success head of a trained world action model, on scenes as observed and as predicted.

The encoder stays as it is. Moments at which a task is done are few, so a batch takes as many of
them as of others, for every task.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from gwm_core.geometry.kinematics import from_rows
from gwm_core.model.config import WorldActionTraining
from gwm_core.model.vae import VAE
from gwm_core.model.world_action_model import WorldActionModel
from gwm_core.scene.gaussians import COLORS, MEANS
from gwm_core.scene.gripped_width import gripped_width
from gwm_core.scene.lift import as_lifted
from gwm_core.training.datasets.future_samples import FutureSamples

_PART = 64  # samples that are encoded at once
_HIDDEN = 0.1  # fraction of the tokens that training hides
_EMA = 0.995


@dataclass(frozen=True)
class LabelledTokens:
    """Scene tokens (S, T, d) float16 and which tasks are done there (S, tasks): 1, 0 or -1."""

    tokens: Tensor
    done: Tensor


def fit_success(
    model: WorldActionModel,
    vae: VAE,
    samples: FutureSamples,
    held: np.ndarray,
    config: WorldActionTraining,
) -> dict[str, float]:
    """Fit ``model.success_head`` in place.

    Args:
        held: (S,) bool, samples that only the figures are of.

    Returns:
        done, predicted_done: fraction of the known labels of observed and of predicted scenes that
            are right. done_missed, predicted_done_missed: of those that are 1, fraction that the
            head does not see. A figure of no label is left out.
    """
    torch.manual_seed(config.seed)
    chosen = {
        k: _chosen(samples.done, part, config.success_samples)
        for k, part in enumerate((~held, held))
    }
    observed = {k: _observed(model, samples, index) for k, index in chosen.items()}
    predicted = {k: _predicted(model, vae, samples, index) for k, index in chosen.items()}
    _fit(model.success_head, _joined([observed[0], predicted[0]]), config)
    figures = {}
    for name, part in (("done", observed[1]), ("predicted_done", predicted[1])):
        figures |= _compare(model, part, name)
    return figures


def _chosen(done: np.ndarray, part: np.ndarray, count: int) -> np.ndarray:
    """Numbers of at most ``count`` samples of a part, as many of each task and label, if there."""
    order = np.random.default_rng(0).permutation(np.flatnonzero(part))
    each = count // (2 * done.shape[1])
    cells = [order[column == label][:each] for column in done[order].T for label in (0, 1)]
    return np.unique(np.concatenate(cells))


@torch.no_grad()
def _encode(model: WorldActionModel, points: Tensor, colors: Tensor, proprio: Tensor) -> Tensor:
    return model.encoder(model.gather(points, colors), proprio)


def _tensor(array: np.ndarray, model: WorldActionModel) -> Tensor:
    return torch.from_numpy(np.float32(array)).to(model.noise.device)


def _observed(model: WorldActionModel, samples: FutureSamples, index: np.ndarray) -> LabelledTokens:
    parts = [_observed_tokens(model, samples, part).half().cpu() for part in _parts(index)]
    return LabelledTokens(torch.cat(parts), torch.from_numpy(samples.done[index]))


def _observed_tokens(model: WorldActionModel, samples: FutureSamples, part: np.ndarray) -> Tensor:
    points, proprio = _tensor(samples.points[part], model), _tensor(samples.proprio[part], model)
    return _encode(model, points, _tensor(samples.colors[part] / np.float32(255), model), proprio)


def _parts(index: np.ndarray) -> list[np.ndarray]:
    return np.array_split(index, max(1, -(-len(index) // _PART)))


@torch.no_grad()
def _predicted(
    model: WorldActionModel, vae: VAE, samples: FutureSamples, index: np.ndarray
) -> LabelledTokens:
    """Of each sample that has a jump: the scene that is predicted after one, drawn at random."""
    index = index[samples.valid[index].any(1)]
    if not len(index):
        return _observed(model, samples, index)
    generator = np.random.default_rng(0)
    weights = generator.random(samples.valid[index].shape) * samples.valid[index]
    jumps = weights.argmax(1) if len(index) else np.zeros(0, np.int64)
    tokens = []
    for part, jump in zip(_parts(index), np.array_split(jumps, len(_parts(index)))):
        rows = samples.rows[part]
        now = _tensor(samples.latents[part, 0], model)
        later = model.future(
            _observed_tokens(model, samples, part),
            _tensor(samples.proprio[part], model),
            now,
            _tensor(rows, model),
            torch.from_numpy(jump).to(now.device),
        )
        last = rows[np.arange(len(part)), np.array(model.config.jumps)[jump] - 1]
        scenes = vae.decode(later).cpu().numpy()
        proprio = np.stack([predicted_proprio(scene, row) for scene, row in zip(scenes, last)])
        count = model.config.lift.count
        seen = np.stack([as_lifted(scene, vae.config.lift)[:count] for scene in scenes])
        seen = _tensor(seen, model)
        encoded = _encode(model, seen[..., MEANS], seen[..., COLORS], _tensor(proprio, model))
        tokens.append(encoded.half().cpu())
    done = samples.later_done[index, jumps]
    return LabelledTokens(torch.cat(tokens), torch.from_numpy(done))


def predicted_proprio(scene: np.ndarray, row: np.ndarray) -> np.ndarray:
    """The proprioception (11,) of an arm that has reached a pose row (10,) in a decoded scene
    (N, 14).
    """
    commanded = float(row[9])
    return np.float32([*row[:9], gripped_width(scene, from_rows(row), commanded), commanded])


def _joined(parts: list[LabelledTokens]) -> LabelledTokens:
    return LabelledTokens(torch.cat([p.tokens for p in parts]), torch.cat([p.done for p in parts]))


def _fit(head: nn.Module, samples: LabelledTokens, config: WorldActionTraining) -> None:
    """Train the head on batches of as many samples of each task and label, and average it."""
    tasks = samples.done.shape[1]
    cells = [
        (task, label, found)
        for task in range(tasks)
        for label in (0, 1)
        if len(found := (samples.done[:, task] == label).nonzero()[:, 0])
    ]
    if not cells:
        return
    each = max(1, config.success_batch // len(cells))
    device = next(head.parameters()).device
    task = torch.tensor([task for task, _, _ in cells], device=device).repeat_interleave(each)
    labels = torch.tensor([float(label) for _, label, _ in cells], device=device)
    labels = labels.repeat_interleave(each)
    optimizer = torch.optim.AdamW(head.parameters(), config.learning_rate, weight_decay=0.05)
    average = torch.optim.swa_utils.AveragedModel(
        head, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(_EMA)
    )
    for iteration in range(config.success_iterations):
        drawn = [found[torch.randint(len(found), (each,))] for _, _, found in cells]
        tokens = samples.tokens[torch.cat(drawn)].float().to(device)
        tokens = tokens * (torch.rand(*tokens.shape[:2], 1, device=device) > _HIDDEN)
        loss = nn.functional.binary_cross_entropy_with_logits(head(tokens, task), labels)
        left = 1 - iteration / config.success_iterations
        optimizer.param_groups[0]["lr"] = config.learning_rate * min((iteration + 1) / 50, left)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        average.update_parameters(head)
    head.load_state_dict(average.module.state_dict())


@torch.no_grad()
def _compare(model: WorldActionModel, samples: LabelledTokens, name: str) -> dict[str, float]:
    said = torch.stack(
        [
            torch.cat(
                [
                    model.success(part.float().to(model.noise.device), task.expand(len(part))).cpu()
                    for part in samples.tokens.split(256)
                ]
            )
            for task in torch.arange(samples.done.shape[1], device=model.noise.device)
        ],
        dim=1,
    )
    figures, done = {}, samples.done == 1
    if (known := samples.done >= 0).any():
        figures[name] = float(((said > 0.5) == done)[known].float().mean())
    if done.any():
        figures[f"{name}_missed"] = float((said <= 0.5)[done].float().mean())
    return figures
