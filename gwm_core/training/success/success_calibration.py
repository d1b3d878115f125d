"""Calibrate the success head on trials that the network has not seen.

The head is fitted on as many samples of each answer, which no trial has. A slope and an offset of
its logits make probabilities of them that agree with the trials (Platt, "Probabilistic outputs for
support vector machines", 1999). Samples of one trial resemble each other, so trials count, and not
samples: trials as a whole are held out, and a prior is worth about one of them.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from scipy.optimize import minimize
from scipy.special import expit
from torch import Tensor

from gwm_core.model.world_action_model import WorldActionModel
from gwm_core.training.datasets.future_samples import UNKNOWN, FutureSamples

BINS = 10  # of the calibration error
# standard deviations of a normal prior on the logarithm of the slope, and on the offset
_PRIOR = np.array([1.0, 2.0])
_LIMIT = 5.0  # of the logarithm of the slope: exp does not overflow on the way to the minimum


class Calibration(NamedTuple):
    """The logit of a calibrated probability is ``slope * logit + offset``."""

    slope: float = 1.0
    offset: float = 0.0

    def __call__(self, logits: np.ndarray) -> np.ndarray:
        """Calibrated logits."""
        return self.slope * logits + self.offset


def fit_calibration(logits: np.ndarray, labels: np.ndarray, trials: int) -> Calibration:
    """The most probable slope above 0 and offset, by logistic regression.

    A label that is 1 counts as (P + 1) / (P + 2) and one that is 0 as 1 / (N + 2), where P and N
    are the numbers of both (Platt 1999). The prior makes the result finite where labels
    are few or all alike, and keeps the slope positive where the logits tell nothing.

    Args:
        logits: (S,). labels: (S,) 1 or 0. trials: number of independent ones that they are of.

    Raises:
        FloatingPointError: a logit is not finite.
    """
    if not np.isfinite(logits).all():
        raise FloatingPointError("a logit of the success head is not finite")
    positive = int((labels == 1).sum())
    negative = len(labels) - positive
    targets = np.where(labels == 1, (positive + 1) / (positive + 2), 1 / (negative + 2))

    def objective(x: np.ndarray) -> tuple[float, np.ndarray]:
        """Negative log posterior and gradient by log slope and offset."""
        slope = np.exp(x[0])
        calibrated = slope * logits + x[1]
        loss = (np.logaddexp(0, calibrated) - targets * calibrated).mean()
        residual = expit(calibrated) - targets
        gradient = np.array([(residual * slope * logits).mean(), residual.mean()])
        prior = 0.5 * np.square(x / _PRIOR).sum()
        return trials * loss + prior, trials * gradient + x / _PRIOR**2

    bounds = [(-_LIMIT, _LIMIT), (None, None)]
    found = minimize(objective, np.zeros(2), jac=True, method="L-BFGS-B", bounds=bounds)
    return Calibration(float(np.exp(found.x[0])), float(found.x[1]))


def calibration_figures(logits: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """How well the probabilities of logits (S,) agree with labels (S,), 1 or 0.

    Returns:
        ece: expected calibration error (Guo et al., arXiv 1706.04599). In each of 10 equally wide
            bins of the probability, the distance of its mean from the fraction of labels that are
            1; mean over the samples.
        brier: mean squared error of the probability. nll: mean negative log likelihood [nat].
    """
    probability = expit(logits)
    bins = np.minimum((BINS * probability).astype(int), BINS - 1)
    distance = np.bincount(bins, probability - labels, BINS)
    return {
        "ece": float(np.abs(distance).sum() / len(labels)),
        "brier": float(np.square(probability - labels).mean()),
        "nll": float((np.logaddexp(0, logits) - labels * logits).mean()),
    }


def cross_fitted(logits: np.ndarray, labels: np.ndarray, trial: np.ndarray) -> np.ndarray:
    """Logits (S,), calibrated by what the other half of the trials says.

    Args:
        trial: (S,) number of the trial of each sample, of two trials or more.
    """
    calibrated = np.empty(len(logits))
    second = _second_half(labels, trial)
    for part in (second, ~second):
        others = np.unique(trial[~part])
        calibrated[part] = fit_calibration(logits[~part], labels[~part], len(others))(logits[part])
    return calibrated


def _second_half(labels: np.ndarray, trial: np.ndarray) -> np.ndarray:
    """Mask (S,) of the samples of every second trial, in the order of their mean label.

    So both halves have alike labels. Trials with the same mean are in random order.
    """
    numbers, inverse = np.unique(trial, return_inverse=True)
    means = np.bincount(inverse, labels) / np.bincount(inverse)
    chance = np.random.default_rng(0).permutation(len(numbers))
    second = np.zeros(len(numbers), bool)
    second[np.lexsort((chance, means))[1::2]] = True
    return second[inverse]


def calibrate_success(model: WorldActionModel, samples: FutureSamples) -> dict[str, dict]:
    """Set ``model.success_head.calibration`` in place, from observed scenes of trials.

    A task's questions are calibrated on trials of that task. A question keeps slope 1 and offset 0
    where its labels are all alike or of one trial: they cannot tell both.

    Returns:
        By task and then by question, "done" or "value": slope, offset, number of trials and of
        samples, and ``calibration_figures`` "before" and "after". Those after are of samples whose
        half of the trials the calibration did not see. Trials that began alike count as one.
    """
    own = np.where(samples.outcome == UNKNOWN, np.int8(UNKNOWN), samples.done)
    labels = np.concatenate([own, samples.outcome], axis=1)
    head, tasks = model.success_head, model.config.tasks
    calibration, figures = torch.tensor([1.0, 0.0]).repeat(2 * len(tasks), 1), {}
    logits = question_logits(model, samples)
    for question in range(2 * len(tasks)):
        known = labels[:, question] != UNKNOWN
        scores, label = logits[known, question], labels[known, question]
        trial = samples.episode[known]
        trials = len(np.unique(trial))
        if trials < 2 or len(np.unique(label)) < 2:
            continue
        found = fit_calibration(scores, label, trials)
        calibration[question] = torch.tensor(found)
        number = question % len(tasks)
        name = "done" if question < len(tasks) else "value"
        figures.setdefault(tasks[number], {})[name] = found._asdict() | {
            "trials": trials,
            "samples": len(label),
            "before": calibration_figures(scores, label),
            "after": calibration_figures(cross_fitted(scores, label, trial), label),
        }
    head.calibration.copy_(calibration)
    return figures


@torch.no_grad()
def question_logits(model: WorldActionModel, samples: FutureSamples) -> np.ndarray:
    """Logits (S, 2 T) of the questions of ``SuccessHead`` in observed scenes, before calibration,
    float64.
    """
    device = model.noise.device
    questions = torch.arange(len(model.success_head.calibration), device=device)

    def tensor(values: np.ndarray) -> Tensor:
        return torch.from_numpy(np.asarray(values, np.float32)).to(device)

    parts = []
    for part in np.array_split(np.arange(len(samples)), max(1, len(samples) // 128)):
        points, colors = tensor(samples.points[part]), tensor(samples.colors[part]) / 255
        patches = model.gather(points, colors)
        tokens = model.encoder(patches, tensor(samples.proprio[part]))
        rows = [model.success_head(tokens, q.expand(len(part))) for q in questions]
        parts.append(torch.stack(rows, dim=1).cpu())
    return torch.cat(parts).double().numpy()
