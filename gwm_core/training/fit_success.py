"""Fit the success head of a trained world action model, on scenes as observed and as predicted.

The encoder stays as it is. Moments at which a task is done are few, so a batch takes as many of
them as of others, for every task.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from gwm_core.model.config import WorldActionTraining
from gwm_core.model.vae import VAE
from gwm_core.model.world_action_model import WorldActionModel
from gwm_core.runtime.imagined_world import ImaginedState, ImaginedWorld, imagined_world
from gwm_core.scene.gaussians import COLORS, MEANS, OPACITY, QUATS, SCALES
from gwm_core.training.datasets.future_samples import FutureSamples

_HIDDEN = 0.1  # fraction of the tokens that training hides
_EMA = 0.995
_SIZE = 0.006  # [m] of a Gaussian, where samples keep the means and colours alone


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
    world = imagined_world(model, vae)
    trained, kept = (
        _labelled(world, samples, _chosen(samples.done, part, config.success_samples))
        for part in (~held, held)
    )
    figures = {}
    if trained := [part for part in trained if part]:
        _fit(model.success_head, _joined(trained), config)
    for name, part in zip(("done", "predicted_done"), kept):
        figures |= _compare(model, part, name) if part else {}
    return figures


def _chosen(done: np.ndarray, part: np.ndarray, count: int) -> np.ndarray:
    """Numbers of at most ``count`` samples of a part, as many of each task and label, if there."""
    order = np.random.default_rng(0).permutation(np.flatnonzero(part))
    each = count // (2 * done.shape[1])
    cells = [order[column == label][:each] for column in done[order].T for label in (0, 1)]
    return np.unique(np.concatenate(cells))


def _labelled(
    world: ImaginedWorld, samples: FutureSamples, index: np.ndarray
) -> tuple[LabelledTokens | None, LabelledTokens | None]:
    """Scenes of samples as observed, and as predicted by one jump, drawn at random of those that
    the sample has. None where there is none.
    """
    generator = np.random.default_rng(0)
    parts = [], []
    for k in index:
        state = _state(world, samples, k)
        parts[0].append((world.tokens(state), samples.done[k]))
        if (jumps := np.flatnonzero(samples.valid[k])).size:
            jump = generator.choice(jumps)
            later = world.after(state, samples.rows[k, : world.config.jumps[jump]])
            parts[1].append((world.tokens(later), samples.later_done[k, jump]))
    return tuple(_stacked(part) if part else None for part in parts)


def _stacked(part: list[tuple[np.ndarray, np.ndarray]]) -> LabelledTokens:
    tokens, done = (torch.from_numpy(np.stack(values)) for values in zip(*part))
    return LabelledTokens(tokens.half(), done)


def _state(world: ImaginedWorld, samples: FutureSamples, k: int) -> ImaginedState:
    scene = np.zeros((samples.points.shape[1], 14), np.float32)
    scene[:, MEANS], scene[:, COLORS] = samples.points[k], samples.colors[k] / np.float32(255)
    scene[:, SCALES], scene[:, QUATS.start] = _SIZE, 1.0
    scene[:, OPACITY] = world.lift_config.opacity
    latent, anchors = (np.float32(a[k, 0]) for a in (samples.latents, samples.anchors))
    return world.state(scene, samples.proprio[k], latent, anchors)


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
