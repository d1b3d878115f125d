"""Agreement of two raters, and correlation of predicted and real success rates."""

from __future__ import annotations

import numpy as np
from scipy.stats import norm, pearsonr, spearmanr

from gwm_core.errors import InputError
from gwm_core.evaluation.stats.success_rates import interval

_Z = float(norm.ppf(0.975))
_ROUNDING = 1e-12
_FEWEST = 4  # points: the intervals divide by n - 3


def kappa(first: np.ndarray, second: np.ndarray) -> tuple[float, float, float]:
    """Cohen's kappa of two raters' labels (N,), bool or int, and its 95 % interval.

    Kappa: Cohen, Educational and Psychological Measurement 20 (1960) 37. Interval: by the
    large-sample variance of Fleiss, Cohen & Everitt, Psychological Bulletin 72 (1969) 323. That
    variance is 0 where the raters always agree. The interval then comes from the Clopper-Pearson
    interval of the agreement, with the observed chance agreement (ours). Where both raters use one
    single label, kappa is 0 / 0, reported as 1 with the interval -1 to 1. Raises InputError for no
    labels, unequal numbers, or labels of another type.
    """
    first, second = np.asarray(first), np.asarray(second)
    if first.ndim != 1 or first.shape != second.shape or not len(first):
        raise InputError(
            f"as many labels of one rater as of the other, at least one: {first.shape},"
            f" {second.shape}"
        )
    if first.dtype.kind not in "biu" or second.dtype.kind not in "biu":
        raise InputError(f"labels are bool or int: {first.dtype}, {second.dtype}")
    labels = np.union1d(first, second)
    fraction = np.zeros((len(labels), len(labels)))  # labelled i by one rater and j by the other
    np.add.at(
        fraction, (np.searchsorted(labels, first), np.searchsorted(labels, second)), 1 / len(first)
    )
    rows, columns, agreed = fraction.sum(1), fraction.sum(0), float(np.mean(first == second))
    chance = float(rows @ columns)
    if len(labels) == 1:
        return 1.0, -1.0, 1.0
    value = (agreed - chance) / (1 - chance)
    spread = np.sqrt(_variance(fraction, rows, columns, value) / len(first))
    low, high = value - _Z * spread, value + _Z * spread
    if spread < 1e-7:
        low, high = (
            (p - chance) / (1 - chance) for p in interval(int(np.sum(first == second)), len(first))
        )
    return value, max(-1.0, float(low)), min(1.0, float(high))


def _variance(fraction: np.ndarray, rows: np.ndarray, columns: np.ndarray, value: float) -> float:
    """Variance of kappa, times the number of items (Fleiss, Cohen & Everitt 1969)."""
    chance = rows @ columns
    weight = ((columns[:, None] + rows) * (1 - value)) ** 2
    np.fill_diagonal(weight, (1 - (rows + columns) * (1 - value)) ** 2)
    return max(
        0.0,
        float((fraction * weight).sum() - (value - chance * (1 - value)) ** 2) / (1 - chance) ** 2,
    )


def pearson(x: np.ndarray, y: np.ndarray) -> tuple[float, float, float]:
    """Correlation of x and y (N,), and its 95 % interval by Fisher's z (Metron 1 (1921) 3).

    For points that are about normal. A bootstrap is too narrow for as few points as there are
    policies. Raises InputError for fewer than 4 points, unequal numbers, NaN, or constant values.
    """
    result = pearsonr(*_points(x, y))
    r = float(result.statistic)
    if abs(r) > 1 - _ROUNDING:
        return float(np.sign(r)), float(np.sign(r)), float(np.sign(r))
    return r, *map(float, result.confidence_interval(0.95))


def spearman(x: np.ndarray, y: np.ndarray) -> tuple[float, float, float]:
    """Rank correlation of x and y (N,), ties sharing their mean rank, and its 95 % interval.

    Fisher's z with the variance (1 + r^2 / 2) / (N - 3) of Bonett & Wright, Psychometrika 65 (2000)
    23. Ranks of few policies are easily in perfect order, where z is infinite. The interval is then
    that of the order with one pair of neighbours swapped, up to 1 (ours). Raises InputError as
    ``pearson``.
    """
    x, y = _points(x, y)
    n, r = len(x), float(spearmanr(x, y).statistic)
    nearest = 1 - 12 / (n * (n * n - 1))
    used = float(np.clip(r, -nearest, nearest))
    z, spread = np.arctanh(used), np.sqrt((1 + used**2 / 2) / (n - 3))
    low, high = float(np.tanh(z - _Z * spread)), float(np.tanh(z + _Z * spread))
    beyond = abs(r) > nearest + _ROUNDING
    return r, -1.0 if beyond and r < 0 else low, 1.0 if beyond and r > 0 else high


def _points(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    x, y = np.asarray(x, float), np.asarray(y, float)
    if x.ndim != 1 or x.shape != y.shape or len(x) < _FEWEST:
        raise InputError(f"as many x as y, at least {_FEWEST} points: {x.shape}, {y.shape}")
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise InputError("points are finite numbers: leave out policies that were not tried")
    if np.ptp(x) == 0 or np.ptp(y) == 0:
        raise InputError(
            "points that are all the same correlate with nothing: at least two different x and"
            " two y"
        )
    return x, y
