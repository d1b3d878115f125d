"""Intervals and tests for success rates."""

from __future__ import annotations

import numpy as np
from scipy.optimize import brentq
from scipy.stats import binomtest, norm


def interval(successes: int, trials: int) -> tuple[float, float]:
    """95 % Clopper-Pearson (exact) interval of a success rate; (0, 1) without trials."""
    if trials == 0:
        return 0.0, 1.0
    ci = binomtest(successes, trials).proportion_ci(0.95, method="exact")
    return float(ci.low), float(ci.high)


def paired_interval(a: np.ndarray, b: np.ndarray, draws: int = 10_000) -> tuple[float, float, float]:
    """Mean of a - b and its 95 % interval, for outcomes (S, T) of S trainings on the same T trials.

    Percentile bootstrap over trainings and trials at once (crossed, Owen 2007): neither is the last word.
    """
    rng, apart = np.random.default_rng(0), a - b
    trainings, trials = apart.shape
    rows = rng.multinomial(trainings, np.full(trainings, 1 / trainings), draws) / trainings
    columns = rng.multinomial(trials, np.full(trials, 1 / trials), draws) / trials
    means = ((rows @ apart) * columns).sum(1)
    return float(apart.mean()), *(float(v) for v in np.percentile(means, [2.5, 97.5]))


def mcnemar(a: np.ndarray, b: np.ndarray) -> float:
    """P value of McNemar's exact test that outcomes a and b (T,) of the same trials have the same rate."""
    only_a, only_b = int(np.sum(a & ~b)), int(np.sum(b & ~a))
    return float(binomtest(only_a, only_a + only_b).pvalue) if only_a + only_b else 1.0


def difference_interval(a: np.ndarray, b: np.ndarray) -> tuple[float, float]:
    """95 % score interval of the difference in rate of outcomes a and b (T,) of the same trials.

    Tango, Statistics in Medicine 17 (1998) 891: holds its level where hardly a trial, or none, differs.
    """
    trials, only_a, only_b = len(a), int(np.sum(a & ~b)), int(np.sum(b & ~a))

    def score(delta: float) -> float:
        linear = -only_a - only_b + (2 * trials - only_a + only_b) * delta
        root = np.sqrt(linear**2 + 8 * trials * only_b * delta * (1 - delta))
        q = (root - linear) / (4 * trials)  # likeliest rate of trials that only b wins, were the difference delta
        return (only_a - only_b - trials * delta) / np.sqrt(trials * (2 * q + delta * (1 - delta)))

    middle, z, edge = (only_a - only_b) / trials, norm.ppf(0.975), 1 - 1e-9
    low = brentq(lambda d: score(d) - z, -edge, middle - 1e-9) if middle > -edge else -1.0
    high = brentq(lambda d: score(d) + z, middle + 1e-9, edge) if middle < edge else 1.0
    return float(low), float(high)
