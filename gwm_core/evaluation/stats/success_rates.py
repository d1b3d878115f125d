"""Intervals and tests for success rates."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from string import ascii_letters

import numpy as np
from scipy.optimize import brentq
from scipy.special import betainc, betaincinv
from scipy.stats import barnard_exact, beta, binom, binomtest, norm

from gwm_core.errors import InputError

_MAX_TRIALS = 100_000


def interval(successes: int, trials: int) -> tuple[float, float]:
    """95 % Clopper-Pearson (exact) interval of a success rate; (0, 1) without trials."""
    _refuse_counts(successes, trials)
    if trials == 0:
        return 0.0, 1.0
    ci = binomtest(int(successes), int(trials)).proportion_ci(0.95, method="exact")
    return float(ci.low), float(ci.high)


def posterior(successes: int, trials: int) -> tuple[float, float, float]:
    """Posterior mean and 95 % interval of a success rate under Jeffreys' prior, Beta(1/2, 1/2).

    Equal-tailed, but from 0 where nothing succeeded and up to 1 where everything did: Brown, Cai &
    DasGupta, Statistical Science 16 (2001) 101. Unlike ``interval`` it covers 95 % only on average
    over rates.
    """
    _refuse_counts(successes, trials)
    rate = beta(successes + 0.5, trials - successes + 0.5)
    low = rate.ppf(0.025) if successes else 0.0
    high = rate.ppf(0.975) if successes < trials else 1.0
    return float(rate.mean()), float(low), float(high)


def probability_better(k_a: int, n_a: int, k_b: int, n_b: int) -> float:
    """Posterior probability that rate a is above rate b, after k_a of n_a and k_b of n_b successes.

    Jeffreys' priors, independent policies: the mean, over the quantiles of one, of the other's
    distribution function. Trapezoidal rule in probits, over the policy with more trials, so that
    the integrand is smooth.
    """
    _refuse_counts(k_a, n_a)
    _refuse_counts(k_b, n_b)
    if n_a < n_b:
        return 1 - probability_better(k_b, n_b, k_a, n_a)
    z = np.linspace(-8, 8, 2001)
    rates = betaincinv(k_a + 0.5, n_a - k_a + 0.5, norm.cdf(z))
    return float(np.average(betainc(k_b + 0.5, n_b - k_b + 0.5, rates), weights=norm.pdf(z)))


def paired_interval(
    a: np.ndarray, b: np.ndarray, samples: int = 10_000
) -> tuple[float, float, float]:
    """Mean of a - b and its 95 % interval, for outcomes (S, T) of S trainings on the same T trials.

    Percentile bootstrap over trainings and trials at once (crossed, Owen 2007), since both vary.
    """
    rng, difference = np.random.default_rng(0), a - b
    trainings, trials = difference.shape
    rows = rng.multinomial(trainings, np.full(trainings, 1 / trainings), samples) / trainings
    columns = rng.multinomial(trials, np.full(trials, 1 / trials), samples) / trials
    means = ((rows @ difference) * columns).sum(1)
    return float(difference.mean()), *(float(v) for v in np.percentile(means, [2.5, 97.5]))


def mcnemar(a: np.ndarray, b: np.ndarray) -> float:
    """P value of McNemar's exact test of equal rates; outcomes a and b (T,) of the same trials."""
    only_a, only_b = int(np.sum(a & ~b)), int(np.sum(b & ~a))
    return float(binomtest(only_a, only_a + only_b).pvalue) if only_a + only_b else 1.0


def unpaired(k_a: int, n_a: int, k_b: int, n_b: int) -> float:
    """P value of Barnard's exact test that k_a of n_a and k_b of n_b trials, not the same ones,
    have the same rate.

    Barnard, Biometrika 34 (1947) 123: two-sided, pooled z, the largest p over the unknown common
    rate. Boschloo's test holds its level too, but scipy's doubles the smaller side, so it finds
    less, and it is slower from 100 trials on. Fixed n only: for trials that begin alike use
    ``mcnemar``, to look while they come in ``sequential.Sequential``.
    """
    _refuse_counts(k_a, n_a)
    _refuse_counts(k_b, n_b)
    if 0 in (n_a, n_b) or k_a + k_b in (0, n_a + n_b):  # z is 0 / 0
        return 1.0
    return float(barnard_exact([[k_a, k_b], [n_a - k_a, n_b - k_b]]).pvalue)


def difference_interval(a: np.ndarray, b: np.ndarray) -> tuple[float, float]:
    """95 % score interval of the difference in rate of outcomes a and b (T,) of the same trials.

    Tango, Statistics in Medicine 17 (1998) 891. It holds its level where few trials or none differ.
    """
    trials, only_a, only_b = len(a), int(np.sum(a & ~b)), int(np.sum(b & ~a))

    def score(delta: float) -> float:
        linear = -only_a - only_b + (2 * trials - only_a + only_b) * delta
        root = np.sqrt(linear**2 + 8 * trials * only_b * delta * (1 - delta))
        # most likely rate of trials that only b wins, given the difference delta
        q = (root - linear) / (4 * trials)
        return (only_a - only_b - trials * delta) / np.sqrt(trials * (2 * q + delta * (1 - delta)))

    middle, z, edge = (only_a - only_b) / trials, norm.ppf(0.975), 1 - 1e-9
    low = brentq(lambda d: score(d) - z, -edge, middle - 1e-9) if middle > -edge else -1.0
    high = brentq(lambda d: score(d) + z, middle + 1e-9, edge) if middle < edge else 1.0
    return float(low), float(high)


def discordant(p_a: float, p_b: float, rho: float = 0.0) -> tuple[float, float]:
    """Chances that only a and that only b succeeds in a trial.

    Raises InputError for rates outside 0-1, and for a correlation that no such pair can have.

    Args:
        p_a, p_b: rates. rho: correlation of a pair's outcomes; 0: the same start does not make them
            more alike.
    """
    if not (0 <= p_a <= 1 and 0 <= p_b <= 1):
        raise InputError(f"success rates are within 0-1: {p_a}, {p_b}")
    both = p_a * p_b + rho * np.sqrt(p_a * (1 - p_a) * p_b * (1 - p_b))
    if not max(0.0, p_a + p_b - 1) - 1e-12 <= both <= min(p_a, p_b) + 1e-12:
        raise InputError(
            f"outcomes with rates {p_a} and {p_b} cannot have correlation {rho}: nearer to 0 is"
            " valid"
        )
    return max(0.0, float(p_a - both)), max(0.0, float(p_b - both))


def power(p_a: float, p_b: float, n: int, rho: float = 0.0, alpha: float = 0.05) -> float:
    """Exact chance that ``mcnemar`` of n trials of both policies is at most alpha.

    The number of trials that differ is binomial, and so is, of those, the number that a wins. At
    equal rates this is the type-I error. Divide alpha by the number of comparisons to plan for
    ``holm``. Raises InputError for n outside 1-100000, alpha outside 0-1, and as ``discordant``.

    Args:
        p_a, p_b: true rates. rho: correlation of a pair's outcomes; 0 is cautious where the same
            starts are hard for both policies.
    """
    if not 1 <= n <= _MAX_TRIALS or n != int(n):
        raise InputError(f"trials are a whole number, 1-{_MAX_TRIALS}: {n}")
    if not 0 < alpha < 1:
        raise InputError(f"alpha is between 0 and 1: {alpha}")
    only_a, only_b = discordant(p_a, p_b, rho)
    differ = only_a + only_b
    if differ == 0:
        return 0.0
    m = np.arange(n + 1)
    # wins of the loser, of m that differ, that are significant
    fewest = binom.ppf(alpha / 2, m, 0.5)
    fewest -= binom.cdf(fewest, m, 0.5) > alpha / 2
    found = binom.cdf(fewest, m, only_a / differ) + binom.cdf(fewest, m, only_b / differ)
    return float(min(1.0, binom.pmf(m, n, differ) @ found))


def trials_for(
    p_a: float, p_b: float, power: float = 0.8, rho: float = 0.0, alpha: float = 0.05
) -> int:
    """Smallest number of trials with which ``mcnemar`` finds a difference with this power.

    By bisection, since the power of an exact test grows with n, apart from small steps back. Raises
    InputError where the rates are equal or too near for 100000 trials, and as ``power``.
    """
    if not 0 < power < 1:
        raise InputError(f"power is between 0 and 1: {power}")
    few, enough = 0, 1
    while _power(p_a, p_b, enough, rho, alpha) < power:
        if p_a == p_b or enough == _MAX_TRIALS:
            raise InputError(
                f"rates {p_a} and {p_b} are too near for {_MAX_TRIALS} trials: wider apart is valid"
            )
        few, enough = enough, min(2 * enough, _MAX_TRIALS)
    while enough - few > 1:
        middle = (few + enough) // 2
        few, enough = (
            (few, middle) if _power(p_a, p_b, middle, rho, alpha) >= power else (middle, enough)
        )
    return enough


_power = power  # for functions with an argument of this name


def holm(p: Sequence[float]) -> np.ndarray:
    """P values (K,) of K comparisons, corrected for their number.

    Holm, Scandinavian Journal of Statistics 6 (1979) 65; valid under any dependence. Raises
    InputError outside 0-1.
    """
    p = np.asarray(p, float)
    if p.ndim != 1 or not np.all((p >= 0) & (p <= 1)):
        raise InputError("p values are a list of numbers within 0-1")
    order = np.argsort(p, kind="stable")
    steps = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    corrected = np.empty_like(p)
    corrected[order] = np.minimum(steps, 1.0)
    return corrected


def letters(names: Sequence[str], significant: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Compact letter display: policies that share a letter do not differ significantly.

    Insert and absorb, Piepho, Journal of Computational and Graphical Statistics 13 (2004) 456.
    Letters begin with the first name, so give the best first. Raises InputError for repeated names,
    pairs of other names, or more than 52 letters.
    """
    if len(set(names)) != len(names):
        raise InputError(f"every name once: {', '.join(names)}")
    groups = [frozenset(names)] if names else []
    for one, other in significant:
        if one == other or not {one, other} <= set(names):
            raise InputError(f"a pair is two of {', '.join(names)}: not {one}, {other}")
        split = {
            group - {removed} if {one, other} <= group else group
            for group in groups
            for removed in (one, other)
        }
        groups = [group for group in split if not any(group < wider for wider in split)]
    if len(groups) > len(ascii_letters):
        raise InputError(
            f"{len(groups)} groups: up to {len(ascii_letters)} have a letter, compare fewer"
            " policies"
        )
    groups.sort(key=lambda group: [i for i, name in enumerate(names) if name in group])
    return {
        name: "".join(c for c, group in zip(ascii_letters, groups) if name in group)
        for name in names
    }


def _refuse_counts(successes: int, trials: int) -> None:
    if not (
        0 <= successes <= trials and float(successes).is_integer() and float(trials).is_integer()
    ):
        raise InputError(f"successes are a whole number of the trials, 0-{trials}: {successes}")
