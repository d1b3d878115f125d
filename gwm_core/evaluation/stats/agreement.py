"""How far two raters agree, and whether success in imagination goes with success in reality."""

from __future__ import annotations

import numpy as np
from scipy.stats import norm, rankdata

from gwm_core.errors import InputError
from gwm_core.evaluation.stats.success_rates import interval

_Z = float(norm.ppf(0.975))
_FEWEST = 4  # points: the intervals divide by n - 3


def kappa(first: np.ndarray, second: np.ndarray) -> tuple[float, float, float]:
    """Cohen's kappa of two raters' labels (N,), bool or int, and its 95 % interval.

    Kappa: Cohen, Educational and Psychological Measurement 20 (1960) 37. Interval: by the
    large-sample variance of Fleiss, Cohen & Everitt, Psychological Bulletin 72 (1969) 323. That is
    0 where they always agree: there, from the Clopper-Pearson interval of the agreement, with
    chance agreement taken as seen (ours). Where both gave everything the same one label kappa is 0
    / 0: then 1, and -1 to 1. Raises InputError for no labels, unequal numbers, or labels of another
    type.
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
    share = np.zeros((len(labels), len(labels)))  # of what one rater called i and the other j
    np.add.at(
        share, (np.searchsorted(labels, first), np.searchsorted(labels, second)), 1 / len(first)
    )
    rows, columns, agreed = share.sum(1), share.sum(0), float(np.mean(first == second))
    chance = float(rows @ columns)
    if len(labels) == 1:
        return 1.0, -1.0, 1.0
    value = (agreed - chance) / (1 - chance)
    spread = np.sqrt(_variance(share, rows, columns, value) / len(first))
    low, high = value - _Z * spread, value + _Z * spread
    if spread < 1e-7:
        low, high = (
            (p - chance) / (1 - chance) for p in interval(int(np.sum(first == second)), len(first))
        )
    return value, max(-1.0, float(low)), min(1.0, float(high))


def _variance(share: np.ndarray, rows: np.ndarray, columns: np.ndarray, value: float) -> float:
    """Of kappa, times the number of items (Fleiss, Cohen & Everitt 1969)."""
    chance = rows @ columns
    weight = ((columns[:, None] + rows) * (1 - value)) ** 2
    np.fill_diagonal(weight, (1 - (rows + columns) * (1 - value)) ** 2)
    return max(
        0.0, float((share * weight).sum() - (value - chance * (1 - value)) ** 2) / (1 - chance) ** 2
    )


def pearson(x: np.ndarray, y: np.ndarray) -> tuple[float, float, float]:
    """Correlation of x and y (N,), and its 95 % interval by Fisher's z: tanh(atanh r +- 1.96 /
    sqrt(N - 3)).

    Fisher, Metron 1 (1921) 3; for points that are about normal. A bootstrap is too narrow for as
    few points as there are policies. Raises InputError for fewer than 4 points, unequal numbers,
    NaN, or values that are all the same.
    """
    x, y = _points(x, y)
    r = _correlation(x, y)
    return r, *_fisher(r, 1 / np.sqrt(len(x) - 3))


def spearman(x: np.ndarray, y: np.ndarray) -> tuple[float, float, float]:
    """Rank correlation of x and y (N,), ties sharing their mean rank, and its 95 % interval.

    Fisher's z with the variance (1 + r^2 / 2) / (N - 3) of Bonett & Wright, Psychometrika 65 (2000)
    23. Ranks of few policies are easily in perfect order, where z is infinite: the interval is then
    that of the order with one pair of neighbours swapped, up to 1 (ours). Raises InputError as
    ``pearson``.
    """
    x, y = _points(x, y)
    n, r = len(x), _correlation(rankdata(x), rankdata(y))
    nearest = 1 - 12 / (n * (n * n - 1))
    used = float(np.clip(r, -nearest, nearest))
    low, high = _fisher(used, np.sqrt((1 + used**2 / 2) / (n - 3)))
    return r, -1.0 if r < -nearest else low, 1.0 if r > nearest else high


def _fisher(r: float, spread: float) -> tuple[float, float]:
    if abs(r) == 1:
        return r, r
    return float(np.tanh(np.arctanh(r) - _Z * spread)), float(np.tanh(np.arctanh(r) + _Z * spread))


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


def _correlation(x: np.ndarray, y: np.ndarray) -> float:
    x, y = x - x.mean(), y - y.mean()
    r = float(x @ y / np.sqrt((x @ x) * (y @ y)))
    return float(np.sign(r)) if abs(r) > 1 - 1e-12 else r
