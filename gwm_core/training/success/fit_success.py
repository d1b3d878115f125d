"""Fit the success head of a trained policy, on scenes as observed and as predicted.

The encoder stays as it is. The head answers two questions about each task: is it done, and will the
trial end in success. Rare answers have few samples, so a batch takes as many of them as of others.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy.stats import rankdata
from torch import Tensor, nn

from gwm_core.model.config import WorldActionTraining
from gwm_core.model.vae import VAE
from gwm_core.model.world_action_model import SuccessHead, WorldActionModel
from gwm_core.runtime.imagined_world import ImaginedWorld, imagined_world
from gwm_core.training.datasets.future_samples import FutureSamples
from gwm_core.training.success.sample_states import sample_state
from gwm_core.training.training_run import Progress, silent

_HIDDEN = 0.1  # fraction of the tokens that training hides
_EMA = 0.995


@dataclass(frozen=True)
class LabelledTokens:
    """Scene tokens (S, N, d) float16, and the answers there to the questions of the head (S, 2 T):
    1, 0 or -1.
    """

    tokens: Tensor
    answers: Tensor


def answers(samples: FutureSamples) -> np.ndarray:
    """Answers (S, 2 T) to the questions of ``SuccessHead`` in observed scenes: 1, 0 or -1."""
    return np.concatenate([samples.done, samples.outcome], axis=1)


def fit_success(
    model: WorldActionModel,
    vae: VAE,
    samples: FutureSamples,
    held: np.ndarray,
    config: WorldActionTraining,
    progress: Progress = silent,
    predicted: Progress = silent,
) -> dict[str, float]:
    """Fit ``model.success_head`` in place, and undo its calibration, which was of other weights.

    Args:
        held: (S,) bool, samples that only the figures are of.
        progress: called every 20 iterations. predicted: called with the number of scenes predicted
            so far, and of all.

    Returns:
        done, predicted_done: fraction of the known labels of observed and of predicted scenes that
            are right. done_missed, predicted_done_missed: of those that are 1, fraction that the
            head does not see. value_auc, predicted_value_auc: as of ``_value_auc``. A figure of no
            label is left out.
    """
    torch.manual_seed(config.seed)
    world, labels = imagined_world(model, vae), answers(samples)
    chosen = [_chosen(labels, part, config.success_samples) for part in (~held, held)]
    total = sum(map(len, chosen))
    trained, kept = (
        _labelled(
            world,
            samples,
            labels,
            index,
            lambda done, before=before: predicted(before + done, total, {}),
        )
        for index, before in zip(chosen, (0, len(chosen[0])))
    )
    figures = {}
    if trained := [part for part in trained if part]:
        _fit(model.success_head, _joined(trained), config, progress)
    for name, part in zip(("", "predicted_"), kept):
        figures |= _compare(model, part, name) if part else {}
    return figures


def _chosen(labels: np.ndarray, part: np.ndarray, count: int) -> np.ndarray:
    """Numbers of at most ``count`` samples of a part, as many of each question and answer, if
    there.
    """
    order = np.random.default_rng(0).permutation(np.flatnonzero(part))
    cells = [order[column == label] for column in labels[order].T for label in (0, 1)]
    each = count // max(1, sum(len(cell) > 0 for cell in cells))
    return np.unique(np.concatenate([cell[:each] for cell in cells]))


def _labelled(
    world: ImaginedWorld, samples: FutureSamples, labels: np.ndarray, index: np.ndarray, progress
) -> tuple[LabelledTokens | None, LabelledTokens | None]:
    """Scenes of samples as observed, and as predicted by one jump, drawn at random of those that
    the sample has. None where there is none.

    Args:
        labels: (S, 2 T) of the observed scenes.
    """
    generator = np.random.default_rng(0)
    parts = [], []
    for done, k in enumerate(index):
        state = sample_state(world, samples, k)
        parts[0].append((world.tokens(state), labels[k]))
        if (jumps := np.flatnonzero(samples.valid[k])).size:
            jump = generator.choice(jumps)
            later = world.after(state, samples.rows[k, : world.config.jumps[jump]])
            label = np.concatenate([samples.later_done[k, jump], samples.outcome[k]])
            parts[1].append((world.tokens(later), label))
        progress(done + 1)
    return tuple(_stacked(part) if part else None for part in parts)


def _stacked(part: list[tuple[np.ndarray, np.ndarray]]) -> LabelledTokens:
    tokens, labels = (torch.from_numpy(np.stack(values)) for values in zip(*part))
    return LabelledTokens(tokens.half(), labels)


def _joined(parts: list[LabelledTokens]) -> LabelledTokens:
    return LabelledTokens(
        torch.cat([p.tokens for p in parts]), torch.cat([p.answers for p in parts])
    )


def _fit(
    head: SuccessHead, samples: LabelledTokens, config: WorldActionTraining, progress: Progress
) -> None:
    """Train the head on batches of as many samples of each question and answer, and average it."""
    cells = [
        (question, label, found)
        for question in range(samples.answers.shape[1])
        for label in (0, 1)
        if len(found := (samples.answers[:, question] == label).nonzero()[:, 0])
    ]
    if not cells:
        return
    each = max(1, config.success_batch // len(cells))
    device = next(head.parameters()).device
    question = torch.tensor([question for question, _, _ in cells], device=device)
    question = question.repeat_interleave(each)
    labels = torch.tensor([float(label) for _, label, _ in cells], device=device)
    labels = labels.repeat_interleave(each)
    optimizer = torch.optim.AdamW(head.parameters(), config.learning_rate, weight_decay=0.05)
    average = torch.optim.swa_utils.AveragedModel(
        head, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(_EMA)
    )
    head.calibration.copy_(torch.tensor([1.0, 0.0]))
    for iteration in range(config.success_iterations):
        drawn = [found[torch.randint(len(found), (each,))] for _, _, found in cells]
        tokens = samples.tokens[torch.cat(drawn)].float().to(device)
        tokens = tokens * (torch.rand(*tokens.shape[:2], 1, device=device) > _HIDDEN)
        loss = nn.functional.binary_cross_entropy_with_logits(head(tokens, question), labels)
        left = 1 - iteration / config.success_iterations
        optimizer.param_groups[0]["lr"] = config.learning_rate * min((iteration + 1) / 50, left)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        average.update_parameters(head)
        if (done := iteration + 1) % 20 == 0 or done == config.success_iterations:
            progress(done, config.success_iterations, {"loss": float(loss.detach())})
    head.load_state_dict(average.module.state_dict())


@torch.no_grad()
def _compare(model: WorldActionModel, samples: LabelledTokens, name: str) -> dict[str, float]:
    """Figures whose names begin with ``name``."""
    head, device, labels = model.success_head, model.noise.device, samples.answers
    said = torch.cat(
        [
            torch.stack(
                [
                    head.probability(part, question.expand(len(part))).cpu()
                    for question in torch.arange(labels.shape[1], device=device)
                ],
                dim=1,
            )
            for part in (part.float().to(device) for part in samples.tokens.split(256))
        ]
    )
    tasks = labels.shape[1] // 2
    figures, called, known = {}, said[:, :tasks] > 0.5, labels[:, :tasks] >= 0
    done = labels[:, :tasks] == 1
    if known.any():
        figures[f"{name}done"] = float((called == done)[known].float().mean())
    if done.any():
        figures[f"{name}done_missed"] = float((~called)[done].float().mean())
    auc = _value_auc(said[:, tasks:].numpy(), labels[:, tasks:].numpy())
    return figures if auc is None else figures | {f"{name}value_auc": auc}


def _value_auc(value: np.ndarray, outcome: np.ndarray) -> float | None:
    """Area under the ROC curve of values (S, T) as a test of outcomes (S, T), mean over tasks.

    It is the probability that a scene of a success has a higher value than one of a failure
    (Hanley and McNeil 1982). None where no task has both outcomes.
    """
    areas = []
    for scores, labels in zip(value.T, outcome.T):
        ranks, won = rankdata(scores[labels >= 0]), labels[labels >= 0] == 1
        if won.any() and not won.all():
            wins = ranks[won].sum() - won.sum() * (won.sum() + 1) / 2
            areas.append(wins / (won.sum() * (~won).sum()))
    return float(np.mean(areas)) if areas else None
