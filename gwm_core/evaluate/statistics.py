"""Intervals for success rates."""

from __future__ import annotations

from scipy.stats import binomtest


def interval(successes: int, trials: int) -> tuple[float, float]:
    """95 % Clopper-Pearson (exact) interval of a success rate; (0, 1) without trials."""
    if trials == 0:
        return 0.0, 1.0
    ci = binomtest(successes, trials).proportion_ci(0.95, method="exact")
    return float(ci.low), float(ci.high)
