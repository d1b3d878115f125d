"""Intervals for success rates."""

from __future__ import annotations

import numpy as np
from scipy.stats import binomtest


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
