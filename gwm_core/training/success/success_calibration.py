"""Calibrate the success head on trials that the network has not seen.

The head is fitted on as many samples of each answer, which no trial has. A slope and an offset of
its logits make probabilities of them that agree with the trials (Platt, "Probabilistic outputs for
support vector machines", 1999). Samples of one trial resemble each other, so trials count, and not
samples: trials as a whole are held out, and a prior is worth about one of them.
"""

from __future__ import annotations

import numpy as np
import torch
from scipy.optimize import minimize
from scipy.special import expit
from torch import Tensor

from gwm_core.model.calibration import Calibration
from gwm_core.model.vae import VAE
from gwm_core.model.world_action_model import WorldActionModel
from gwm_core.runtime.imagined_world import imagined_world
from gwm_core.training.datasets.future_samples import UNKNOWN, FutureSamples
from gwm_core.training.success.sample_states import sample_state
from gwm_core.training.training_run import Progress, silent

DONE, VALUE, PREDICTED = "done", "value", "predicted"  # questions of a task that are calibrated
BINS = 10  # of the calibration error
# standard deviations of a normal prior on the logarithm of the slope, and on the offset
_PRIOR = np.array([1.0, 2.0])
_LIMIT = 5.0  # of the logarithm of the slope: exp does not overflow on the way to the minimum
_PREDICTIONS = 1500  # scenes of trials that are predicted, at most


def fit_calibration(logits: np.ndarray, labels: np.ndarray, trials: int) -> Calibration:
    """The most probable slope above 0 and offset, by logistic regression.

    A label that is 1 counts as (P + 1) / (P + 2) and one that is 0 as 1 / (N + 2), where P and N
    are the numbers of both (Platt 1999). The prior makes the result finite where labels
    are few or all alike, and keeps the slope positive where the logits tell nothing.

    Args:
        logits: (S,). labels: (S,) 1 or 0. trials: number of independent ones that they are of.

    Returns:
        With the covariance of the Laplace approximation: the inverse of the second derivative of
        the negative log posterior at its minimum.

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
    slope, offset = float(np.exp(found.x[0])), float(found.x[1])
    curvature = _curvature(slope, offset, logits, targets)
    covariance = np.linalg.inv(trials * curvature + np.diag(_PRIOR**-2))
    return Calibration(slope, offset, tuple(map(tuple, covariance.tolist())))


def _curvature(slope: float, offset: float, logits: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Second derivatives (2, 2) of the mean loss by the logarithm of the slope, and the offset.

    At a bound of the slope they may not be positive; then without the residuals (Gauss-Newton).
    """
    chance = expit(slope * logits + offset)
    derivatives = np.stack([slope * logits, np.ones(len(logits))])  # of the logit by both
    squares = (derivatives * chance * (1 - chance)) @ derivatives.T / len(logits)
    bend = float(((chance - targets) * slope * logits).mean())
    whole = squares + np.diag([bend, 0.0])
    return whole if np.linalg.eigvalsh(whole).min() > 0 else squares


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


def calibrate_success(
    model: WorldActionModel, vae: VAE, samples: FutureSamples, progress: Progress = silent
) -> dict[str, dict]:
    """Calibrate ``model.success_head`` on trials, in place for observed scenes.

    A task's questions are calibrated on trials of that task. A question keeps slope 1 and offset 0
    where its labels are all alike or of one trial: they cannot tell both.

    Args:
        progress: called with the number of scenes that are predicted so far, and of all.

    Returns:
        By task and then by question: "done" and "value" in observed scenes, and "predicted", which
        is "done" in scenes predicted by the longest jump. For each ``Calibration`` by name, the
        number of trials and of samples, and ``calibration_figures`` "before" and "after". Those
        after are of samples whose half of the trials the calibration did not see. Trials that
        began alike count as one.
    """
    own = np.where(samples.outcome == UNKNOWN, np.int8(UNKNOWN), samples.done)
    head, tasks = model.success_head, model.config.tasks
    observed = question_logits(model, samples)
    figures: dict[str, dict] = {}
    calibration = torch.tensor([1.0, 0.0]).repeat(2 * len(tasks), 1)
    for number, task in enumerate(tasks):
        labels = {DONE: own[:, number], VALUE: samples.outcome[:, number]}
        for question, (name, label) in zip((number, len(tasks) + number), labels.items()):
            known = np.flatnonzero(label != UNKNOWN)
            found = _calibration(observed[known, question], label[known], samples.episode[known])
            if found:
                calibration[question] = torch.tensor([found["slope"], found["offset"]])
                figures.setdefault(task, {})[name] = found
    head.calibration.copy_(calibration)
    for task, found in _of_predictions(model, vae, samples, progress).items():
        figures.setdefault(task, {})[PREDICTED] = found
    return figures


def _calibration(logits: np.ndarray, labels: np.ndarray, trial: np.ndarray) -> dict | None:
    """A calibration and its figures; None where the labels cannot tell slope and offset."""
    trials = len(np.unique(trial))
    if trials < 2 or len(np.unique(labels)) < 2:
        return None
    return fit_calibration(logits, labels, trials)._asdict() | {
        "trials": trials,
        "samples": len(labels),
        "before": calibration_figures(logits, labels),
        "after": calibration_figures(cross_fitted(logits, labels, trial), labels),
    }


@torch.no_grad()
def _of_predictions(
    model: WorldActionModel, vae: VAE, samples: FutureSamples, progress: Progress
) -> dict[str, dict]:
    """By task, the calibration of "done" in scenes predicted by the longest jump, along the
    recorded rows.
    """
    world, (*_, steps) = imagined_world(model, vae), model.config.jumps
    judged = samples.valid[:, -1, None] & (samples.outcome != UNKNOWN)
    later = np.where(judged, samples.later_done[:, -1], np.int8(UNKNOWN))
    index = np.flatnonzero((later != UNKNOWN).any(1))
    index = index[:: -(-len(index) // _PREDICTIONS)] if len(index) else index
    tokens = []
    for done, k in enumerate(index):
        state = world.after(sample_state(world, samples, k), samples.rows[k, :steps], encode=False)
        tokens.append(torch.from_numpy(world.tokens(state)))
        progress(done + 1, len(index), {})
    figures = {}
    for number, task in enumerate(model.config.tasks):
        known = np.flatnonzero(later[index, number] != UNKNOWN)
        if not len(known):
            continue
        seen = torch.stack([tokens[k] for k in known]).to(model.noise.device)
        logits = [
            model.success_head(part, torch.full((len(part),), number, device=part.device))
            for part in seen.split(128)
        ]
        found = _calibration(
            torch.cat(logits).cpu().double().numpy(),
            later[index[known], number],
            samples.episode[index[known]],
        )
        if found:
            figures[task] = found
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
