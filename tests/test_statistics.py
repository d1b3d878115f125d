"""Laws, published values, and the rate of errors of everything that calls one policy better than
another.
"""

from collections import defaultdict
from functools import cache
from itertools import product

import numpy as np
import pytest
from scipy.stats import beta, binom

from gwm_core.errors import InputError
from gwm_core.evaluation.stats import sequential_test
from gwm_core.evaluation.stats.agreement import (
    kappa,
    pearson,
    rank_violation,
    rate_agreement,
    rate_error,
    spearman,
)
from gwm_core.evaluation.stats.sequential_test import (
    GO_ON,
    NO_DIFFERENCE,
    A,
    B,
    SequentialTest,
    decide,
)
from gwm_core.evaluation.stats.success_rates import (
    discordant,
    holm,
    interval,
    letters,
    mcnemar,
    posterior,
    power,
    probability_better,
    trials_for,
    unpaired,
)

NULLS = (0.05, 0.2, 0.5, 0.8, 0.95)
RUNS = 20_000
RATES = np.arange(1, 100) / 100


def coverage(of, n):
    """Chance that the interval holds the rate, for every rate of RATES: a sum, not a simulation."""
    low, high = np.array([of(k, n)[-2:] for k in range(n + 1)]).T
    held = (low <= RATES[:, None]) & (RATES[:, None] <= high)
    return (binom.pmf(np.arange(n + 1), n, RATES[:, None]) * held).sum(1)


def pairs(p_a, p_b, n, seed=0, runs=RUNS):
    """Outcomes (R, n) of two policies, independent."""
    rng = np.random.default_rng(seed)
    return rng.random((runs, n)) < p_a, rng.random((runs, n)) < p_b


def won(a, b):
    return a.astype(int) - b


# --- one rate


def test_clopper_pearson_is_as_published():
    table = {
        (16, 20): (0.56, 0.94),
        (18, 20): (0.68, 0.99),
        (40, 50): (0.66, 0.90),
        (80, 100): (0.71, 0.87),
    }
    assert {key: tuple(round(v, 2) for v in interval(*key)) for key in table} == table
    for n in (50, 300, 1000, 3000):  # nothing failed: two-sided 95 % is one-sided 97.5 %
        assert interval(n, n)[0] == pytest.approx(0.025 ** (1 / n))


@pytest.mark.parametrize("n", [1, 2, 5, 10, 20, 50, 100, 200, 500])
def test_clopper_pearson_covers_every_rate(n):
    assert coverage(interval, n).min() >= 0.95


@pytest.mark.parametrize("n", [5, 10, 20, 50, 100, 200])
def test_the_posterior_covers_on_average_only(n):
    covered = coverage(posterior, n)
    assert 0.84 < covered.min() < 0.95 and abs(covered.mean() - 0.95) < 0.02


def test_the_posterior_turns_with_the_outcome_and_lies_within_the_exact_interval():
    assert posterior(0, 0) == (0.5, 0.0, 1.0)
    for k in range(21):
        mean, low, high = posterior(k, 20)
        np.testing.assert_allclose(posterior(20 - k, 20), (1 - mean, 1 - high, 1 - low), atol=1e-12)
        assert (
            mean == pytest.approx((k + 0.5) / 21)
            and interval(k, 20)[0] <= low < mean < high <= interval(k, 20)[1]
        )


# --- two rates, a fixed number of trials


def test_better_is_a_probability_with_its_symmetries():
    assert probability_better(7, 10, 7, 10) == pytest.approx(0.5) and probability_better(
        0, 0, 0, 0
    ) == pytest.approx(0.5)
    for args in ((10, 10, 9, 10), (3, 20, 5, 11), (100, 200, 101, 200), (0, 500, 500, 500)):
        k_a, n_a, k_b, n_b = args
        assert probability_better(*args) + probability_better(k_b, n_b, k_a, n_a) == pytest.approx(
            1, abs=1e-12
        )
        assert probability_better(*args) == pytest.approx(
            probability_better(n_b - k_b, n_b, n_a - k_a, n_a), abs=1e-6
        )  # failures, the other way
    chances = [probability_better(k, 20, 10, 20) for k in range(21)]
    assert np.all(np.diff(chances) > 0) and chances[0] < 1e-4 and chances[-1] > 1 - 1e-4


@pytest.mark.parametrize(
    "args", [(10, 10, 9, 10), (3, 20, 5, 11), (80, 100, 70, 100), (1, 2, 300, 1000)]
)
def test_better_is_the_integral_over_both_posteriors(args):
    k_a, n_a, k_b, n_b = args
    angle = (np.arange(20_000) + 0.5) * np.pi / 40_000  # rate = sin^2, where the density is finite
    density = (
        beta.pdf(np.sin(angle) ** 2, k_a + 0.5, n_a - k_a + 0.5)
        * np.sin(2 * angle)
        * np.pi
        / 40_000
    )
    below = beta.cdf(np.sin(angle) ** 2, k_b + 0.5, n_b - k_b + 0.5)
    assert probability_better(*args) == pytest.approx(density @ below, abs=1e-6)


@cache
def mcnemar_table(n):
    """(n + 1, n + 1) whether it rejects, by trials that only a and that only b won."""
    table = np.zeros((n + 1, n + 1), bool)
    for i in range(n + 1):
        for j in range(n + 1 - i):
            table[i, j] = mcnemar(np.arange(n) < i, np.arange(n) >= n - j) <= 0.05
    return table


def unpaired_table(n_a, n_b):
    table, known = np.zeros((n_a + 1, n_b + 1), bool), {}
    for i, j in product(range(n_a + 1), range(n_b + 1)):
        same = [(i, j), (n_a - i, n_b - j)] + ([(j, i), (n_b - j, n_a - i)] if n_a == n_b else [])
        if min(same) not in known:
            known[min(same)] = unpaired(min(same)[0], n_a, min(same)[1], n_b) <= 0.05
        table[i, j] = known[min(same)]
    return table


def unpaired_size(n_a, n_b, p_a, p_b):
    return (
        binom.pmf(np.arange(n_a + 1), n_a, p_a)
        @ unpaired_table(n_a, n_b)
        @ binom.pmf(np.arange(n_b + 1), n_b, p_b)
    )


def test_mcnemar_errs_as_rarely_as_it_says():
    table = mcnemar_table(50)
    for p in NULLS:
        a, b = pairs(p, p, 50)
        assert table[(a & ~b).sum(1), (b & ~a).sum(1)].mean() <= 0.055


def test_the_power_of_mcnemar_is_the_sum_over_every_outcome():
    n, p_a, p_b, rho = 30, 0.6, 0.8, 0.2
    only_a, only_b = discordant(p_a, p_b, rho)
    i, j = np.nonzero(mcnemar_table(n))
    chance = binom.pmf(i, n, only_a) * binom.pmf(j, n - i, only_b / (1 - only_a))
    assert power(p_a, p_b, n, rho) == pytest.approx(chance.sum())


def test_barnard_errs_as_rarely_as_it_says():
    table = unpaired_table(20, 20)
    for p in NULLS:
        a, b = pairs(p, p, 20)
        assert table[a.sum(1), b.sum(1)].mean() <= 0.055
    chance = binom.pmf(np.arange(21), 20, np.linspace(0.001, 0.999, 999)[:, None])
    assert np.einsum("pi,ij,pj->p", chance, table, chance).max() <= 0.05


@pytest.mark.slow
@pytest.mark.parametrize("sizes", [(10, 25), (30, 30), (50, 50)])
def test_barnard_errs_as_rarely_as_it_says_at_every_rate(sizes):
    table, rates = unpaired_table(*sizes), np.linspace(0.001, 0.999, 999)[:, None]
    a, b = (binom.pmf(np.arange(n + 1), n, rates) for n in sizes)
    # scipy takes its maximum over the rate from a few
    assert np.einsum("pi,ij,pj->p", a, table, b).max() <= 0.0505


def test_barnard_is_the_same_either_way_and_whatever_is_called_success():
    for k_a, n_a, k_b, n_b in ((3, 10, 9, 12), (0, 20, 5, 20), (18, 20, 11, 20)):
        p = unpaired(k_a, n_a, k_b, n_b)
        assert p == unpaired(k_a, n_a, k_b, n_b)
        assert p == pytest.approx(unpaired(k_b, n_b, k_a, n_a), rel=1e-4)
        assert p == pytest.approx(unpaired(n_a - k_a, n_a, n_b - k_b, n_b), rel=1e-4)
    assert unpaired(0, 5, 0, 7) == unpaired(5, 5, 7, 7) == unpaired(0, 0, 3, 7) == 1.0


def naive_peeking(a, b, first=5):
    """Whether a z test at 5 % after every trial rejects at any: what nobody should do."""
    n = np.arange(1, a.shape[1] + 1)
    rate_a, rate_b = a.cumsum(1) / n, b.cumsum(1) / n
    pooled = (rate_a + rate_b) / 2
    z = np.abs(rate_a - rate_b) / np.sqrt(np.maximum(pooled * (1 - pooled) * 2 / n, 1e-12))
    return (z > 1.959964)[:, first - 1 :].any(1)


def test_a_z_test_after_every_trial_is_caught():
    assert naive_peeking(*pairs(0.5, 0.5, 50)).mean() > 0.2
    (a, b), table = pairs(0.5, 0.5, 50), mcnemar_table(50)
    rejects = table[(a & ~b).cumsum(1), (b & ~a).cumsum(1)]
    # nor may the exact test be looked at again and again
    assert rejects[:, 4:].any(1).mean() > 0.08


# --- planning


def test_power_grows_with_trials_and_distance_and_is_symmetric():
    assert power(0.5, 0.7, 50) < power(0.5, 0.7, 100) < power(0.5, 0.7, 200)
    assert power(0.5, 0.6, 50) < power(0.5, 0.7, 50) < power(0.5, 0.8, 50)
    np.testing.assert_allclose([power(0.7, 0.5, 60), power(0.5, 0.3, 60)], power(0.5, 0.7, 60))
    assert power(0.5, 0.7, 50, rho=0.4) > power(0.5, 0.7, 50) and power(
        0.5, 0.7, 50, alpha=0.01
    ) < power(0.5, 0.7, 50)
    assert power(0.0, 0.0, 50) == power(1.0, 1.0, 50) == 0 and power(0.0, 1.0, 6) == 1
    assert all(power(p, p, n) <= 0.05 for p in NULLS for n in (5, 6, 50, 200))


def test_the_trials_that_are_needed_are_enough_and_one_fewer_is_not():
    for p_a, p_b in ((0.5, 0.7), (0.8, 0.9), (0.0, 1.0)):
        n = trials_for(p_a, p_b)
        assert power(p_a, p_b, n) >= 0.8 > (power(p_a, p_b, n - 1))
    assert trials_for(0.5, 0.7, power=0.9) > trials_for(0.5, 0.7) > trials_for(0.5, 0.8)


def test_discordant_chances_are_those_of_correlated_coins():
    assert discordant(0.5, 0.7) == pytest.approx((0.15, 0.35))
    assert discordant(0.6, 0.6, 1.0) == pytest.approx((0, 0), abs=1e-12)
    only_a, only_b = discordant(0.3, 0.8, 0.1)
    both = 0.3 - only_a
    assert both + only_b == pytest.approx(0.8)
    assert (both - 0.24) / np.sqrt(0.21 * 0.16) == pytest.approx(0.1)


# --- looking while trials come in


def test_whichever_trials_differ_the_sequential_test_errs_as_rarely_as_it_says():
    """Exactly: every course of 10 trials, each one's chance given which trials differ."""
    courses = np.array(list(product((-1, 0, 1), repeat=10)))
    for n_max in (10, 12):
        lead, _, _ = decide(courses, n_max, 0.05)
        error = defaultdict(float)
        for course, decided in zip(courses, lead != 0):
            error[tuple(course != 0)] += decided * 0.5 ** np.count_nonzero(course)
        assert len(error) == 1024 and max(error.values()) <= 0.05 * (10 / n_max) ** 2
        assert max(error.values()) > 0  # at most six of one kind decide nothing


@pytest.mark.parametrize("p", NULLS)
@pytest.mark.parametrize("n_max", [50, pytest.param(200, marks=pytest.mark.slow)])
def test_the_sequential_test_errs_as_rarely_as_it_says(n_max, p):
    lead, _, p_value = decide(won(*pairs(p, p, n_max)), n_max, 0.05)
    assert np.mean(lead != 0) <= 0.055
    assert all(
        np.mean(p_value <= level) <= level + 0.005 for level in (0.001, 0.01, 0.02, 0.05, 0.2)
    )


def test_pairs_that_are_alike_do_not_make_the_sequential_test_err():
    a, b = pairs(0.5, 0.5, 50)
    hard = np.random.default_rng(1).random(a.shape) < 0.4  # starts that neither manages
    lead, _, _ = decide(won(a & ~hard, b & ~hard), 50, 0.05)
    assert np.mean(lead != 0) <= 0.055


def test_the_sequential_test_finds_what_the_fixed_one_finds_with_fewer_trials():
    found, trials = SequentialTest(100).power(0.5, 0.7, runs=4000)
    assert found > power(0.5, 0.7, 100) - 0.04 and trials < 75
    lead, stop, _ = decide(won(*pairs(0.5, 0.7, 100, runs=4000)), 100, 0.05)
    # the same without its own draws
    assert abs(np.mean(lead != 0) - found) < 0.03 and abs(stop.mean() - trials) < 2
    assert np.mean(lead == 1) < 0.002


def test_one_comparison_is_as_many_and_a_decision_is_not_taken_back():
    a, b = pairs(0.4, 0.75, 50, runs=12)
    lead, stop, p = decide(won(a, b), 50, 0.05)
    test = SequentialTest(50)
    for run in range(12):
        looks = [test.look(a[run, :n], b[run, :n]) for n in range(51)]
        decisions = [look.decision for look in looks]
        last = looks[-1]
        assert (
            last.decision == {1: A, -1: B, 0: NO_DIFFERENCE}[lead[run]] and last.trials == stop[run]
        )
        assert last.p == p[run] and (last.p <= 0.05) == (last.decision in (A, B))
        assert decisions[: stop[run]] == [GO_ON] * stop[run] and decisions[stop[run] :] == [
            last.decision
        ] * (51 - stop[run])
        assert last.lead == won(a, b)[run, : stop[run]].sum()


def test_nobody_undecided_is_further_apart_than_is_kept(monkeypatch):
    courses = won(*pairs(0.3, 0.75, 60, runs=500))
    narrow = decide(courses, 60, 0.05)
    monkeypatch.setattr(sequential_test, "_width", lambda n_max, alpha: n_max + 2)
    np.testing.assert_array_equal(narrow, decide(courses, 60, 0.05))


def test_swapping_policies_swaps_the_decision():
    a, b = pairs(0.45, 0.7, 60, runs=500)
    (lead, *rest), (other, *others) = decide(won(a, b), 60, 0.05), decide(won(b, a), 60, 0.05)
    np.testing.assert_array_equal(lead, -other)
    np.testing.assert_array_equal(rest, others)
    assert SequentialTest(20).look(np.ones(20, bool), np.zeros(20, bool)).decision == A
    assert SequentialTest(20).look(np.zeros(20, bool), np.ones(20, bool)).decision == B


def test_whether_both_succeed_or_both_fail_is_the_same():
    (a, b), other = pairs(0.5, 0.75, 50, runs=20), np.random.default_rng(2).random((20, 50)) < 0.5
    test, alike = SequentialTest(50), a == b
    for run in range(20):
        flip = alike[run] & other[run]
        assert test.look(a[run] ^ flip, b[run] ^ flip) == test.look(a[run], b[run])


def test_nothing_that_differs_is_no_difference_and_no_evidence():
    alike = np.ones(30, bool)
    look = SequentialTest(30).look(alike, alike)
    assert (look.decision, look.trials, look.lead, look.p) == (NO_DIFFERENCE, 30, 0, 1.0)
    assert SequentialTest(30).look(alike[:0], alike[:0]).decision == GO_ON


def test_fewer_trials_than_decide_anything_are_refused():
    with pytest.raises(InputError, match="from 6 on"):
        SequentialTest(5)
    assert SequentialTest(6).look(np.ones(6), np.zeros(6)).decision == A


# --- several policies


def test_holm_corrects_as_in_the_paper_and_keeps_order():
    np.testing.assert_allclose(holm([0.01, 0.04, 0.03, 0.005]), [0.03, 0.06, 0.06, 0.02])
    np.testing.assert_allclose(holm([0.5, 0.9]), [1.0, 1.0])
    assert holm([0.03]) == [0.03] and len(holm([])) == 0
    p = np.random.default_rng(0).random(12) ** 3
    assert np.all(np.diff(holm(np.sort(p))) >= 0) and np.all(holm(p) >= p)
    order = np.random.default_rng(1).permutation(12)
    np.testing.assert_array_equal(holm(p)[order], holm(p[order]))


def test_holm_keeps_all_comparisons_together_at_the_level():
    p = np.random.default_rng(0).random((RUNS, 6))  # six nulls: one false alarm is one too many
    assert np.mean([holm(row).min() <= 0.05 for row in p[:4000]]) <= 0.06
    assert np.mean(p.min(1) <= 0.05) > 0.25  # without it


@pytest.mark.parametrize("seed", range(20))
def test_policies_share_a_letter_exactly_if_no_difference_is_shown(seed):
    rng, names = np.random.default_rng(seed), list("PQRSTUV")
    pairs_ = [(x, y) for i, x in enumerate(names) for y in names[i + 1 :]]
    significant = [pair for pair in pairs_ if rng.random() < rng.choice([0.2, 0.5, 0.8])]
    shown = letters(names, significant)
    assert all(shown.values()) and "a" in shown["P"]
    for x, y in pairs_:
        assert bool(set(shown[x]) & set(shown[y])) == ((x, y) not in significant)
    assert letters(names, [pair[::-1] for pair in significant[::-1]]) == shown


def test_letters_of_a_chain():
    assert letters(["best", "mid", "low"], [("best", "low")]) == {
        "best": "a",
        "mid": "ab",
        "low": "b",
    }
    assert letters(["x", "y"], []) == {"x": "a", "y": "a"} and letters([], []) == {}


# --- raters, imagined and real


def test_kappa_is_as_published():
    first, second = (
        np.repeat([1, 1, 0, 0], [20, 5, 10, 15]),
        np.repeat([1, 0, 1, 0], [20, 5, 10, 15]),
    )
    assert kappa(first, second) == pytest.approx((0.4, 0.151, 0.649), abs=1e-3)
    first, second = (
        np.repeat([1, 1, 0, 0], [45, 15, 25, 15]),
        np.repeat([1, 0, 1, 0], [45, 15, 25, 15]),
    )
    assert kappa(first, second)[0] == pytest.approx(0.1304, abs=1e-4)
    assert kappa(second.astype(bool), first.astype(bool)) == pytest.approx(kappa(first, second))
    # names of labels do not matter
    assert kappa(7 - 3 * first, 7 - 3 * second) == pytest.approx(kappa(first, second))


def test_kappa_is_finite_at_the_ends():
    assert kappa(np.ones(8, bool), np.ones(8, bool)) == (1.0, -1.0, 1.0)
    assert kappa(np.ones(8, bool), np.zeros(8, bool))[0] == 0
    value, low, high = kappa(np.arange(20) % 2, np.arange(20) % 2)
    assert (value, high) == (1, 1) and 0.6 < low < 0.7  # 20 of 20 is not certainty
    for seed in range(200):
        labels = np.random.default_rng(seed).integers(0, 3, (2, 1 + seed % 7))
        value, low, high = kappa(*labels)
        assert np.isfinite([value, low, high]).all() and -1 <= low <= value <= high <= 1


def test_the_interval_of_kappa_covers():
    share = np.array([[0.4, 0.1], [0.1, 0.4]])
    cells = np.random.default_rng(0).choice(4, (2000, 60), p=share.ravel())
    held = [low <= 0.6 <= high for _, low, high in (kappa(row // 2, row % 2) for row in cells)]
    assert 0.92 < np.mean(held) < 0.98


def test_correlations_are_as_published():
    x, y = np.array([1.0, 2, 3, 4, 5, 6, 7]), np.array([2.0, 1, 4, 3, 7, 5, 6])
    assert pearson(x, y)[0] == pytest.approx(np.corrcoef(x, y)[0, 1])
    r, n = 0.5, 28  # Fisher: z = 0.5493, 1 / sqrt(25) = 0.2
    x = np.random.default_rng(0).normal(size=n)
    y = np.random.default_rng(1).normal(size=n)
    x, y = x - x.mean(), y - y.mean()
    y -= x * (x @ y) / (x @ x)
    value, low, high = pearson(
        x, r * x / np.linalg.norm(x) + np.sqrt(1 - r * r) * y / np.linalg.norm(y)
    )
    assert (value, low, high) == pytest.approx(
        (0.5, np.tanh(0.5493 - 0.392), np.tanh(0.5493 + 0.392)), abs=1e-4
    )
    assert spearman([1, 2, 3, 4, 5, 6], [1, 2, 3, 4, 6, 5])[0] == pytest.approx(1 - 12 / 210)


@pytest.mark.parametrize("of", [pearson, spearman])
def test_correlations_keep_their_symmetries(of):
    x, y = np.random.default_rng(3).random((2, 8))
    r, low, high = of(x, y)
    assert -1 < low < r < high < 1
    for same in (of(y, x), of(3 * x + 1, y)):
        assert same == pytest.approx((r, low, high))
    assert of(-x, y) == pytest.approx((-r, -high, -low))
    assert spearman(np.exp(5 * x), y) == spearman(x, y)


def test_a_perfect_order_of_six_is_not_certainty():
    r, low, high = spearman(np.arange(6), np.arange(6) ** 3)
    assert (r, high) == (1, 1) and 0.3 < low < 0.5
    assert spearman(np.arange(6), -np.arange(6)) == pytest.approx((-1, -1, -low))
    assert pearson(np.arange(6), 2.0 * np.arange(6)) == (1, 1, 1)


@pytest.mark.parametrize("n", [6, 10, 20])
def test_intervals_of_correlations_cover(n):
    rng = np.random.default_rng(0)
    for rho in (0.0, 0.5, 0.8):
        x, noise = rng.normal(size=(2, 1000, n))
        y = rho * x + np.sqrt(1 - rho**2) * noise
        ranks = 6 / np.pi * np.arcsin(rho / 2)  # of the normal distribution
        for of, truth in ((pearson, rho), (spearman, ranks)):
            held = [low <= truth <= high for _, low, high in (of(*pair) for pair in zip(x, y))]
            assert np.mean(held) > 0.92, (of, rho)


def test_rank_violations_by_hand():
    """SIMPLER's definition: the largest violation of every policy, and the mean of these."""
    real = [0.9, 0.6, 0.2]
    assert rank_violation(real, [0.8, 0.5, 0.1]) == 0
    # the first two change places: 0.3 for both of them, 0 for the third
    assert rank_violation(real, [0.5, 0.8, 0.1]) == pytest.approx((0.3 + 0.3 + 0) / 3)
    # the whole order turned: 0.7, 0.4 and 0.7
    assert rank_violation(real, [0.1, 0.5, 0.8]) == pytest.approx((0.7 + 0.4 + 0.7) / 3)
    # ties of the imagined rates contradict the order for the policy with the lower real rate alone
    assert rank_violation(real, [0.5, 0.5, 0.5]) == pytest.approx((0 + 0.3 + 0.7) / 3)
    assert rank_violation([0.5, 0.5], [0.1, 0.9]) == 0  # equal real rates: nothing to lose
    assert rate_error(real, [0.8, 0.7, 0.5]) == pytest.approx((10 + 10 + 30) / 3)


@pytest.mark.parametrize("seed", range(10))
def test_laws_of_rank_violations(seed):
    rng = np.random.default_rng(seed)
    real, imagined = rng.random((2, 6))
    assert rank_violation(real, real) == rate_error(real, real) == 0
    assert rank_violation(real[:2], real[1::-1]) == pytest.approx(abs(real[0] - real[1]))
    order = rng.permutation(6)
    assert rank_violation(real[order], imagined[order]) == pytest.approx(
        rank_violation(real, imagined)
    )
    assert rate_error(real[order], imagined[order]) == pytest.approx(rate_error(real, imagined))
    # only the order of the imagined rates counts, and no violation is larger than the range
    assert rank_violation(real, imagined**3) == rank_violation(real, imagined)
    assert 0 <= rank_violation(real, imagined) <= np.ptp(real)


def imagined_outcomes(rng, rates, shown, trials):
    """Real outcomes (P, T), and imagined ones by the rates ``shown``."""
    return tuple(rng.random((len(rates), trials)) < np.array(p)[:, None] for p in (rates, shown))


def test_agreement_is_the_mean_over_tasks_with_intervals_that_hold_it():
    rng = np.random.default_rng(0)
    lift = imagined_outcomes(rng, (0.9, 0.7, 0.4, 0.2), (0.5, 0.8, 0.6, 0.1), 40)
    stack = imagined_outcomes(rng, (0.6, 0.5, 0.3, 0.1), (0.6, 0.5, 0.3, 0.1), 25)
    found = rate_agreement([lift, stack])
    for name, of in (("mmrv", rank_violation), ("error_points", rate_error)):
        value, low, high = found[name]
        each = [of(real.mean(1), imagined.mean(1)) for real, imagined in (lift, stack)]
        assert value == pytest.approx(np.mean(each)) and low < value < high
    assert rate_agreement([(lift[0], lift[0])]) == {"mmrv": [0, 0, 0], "error_points": [0, 0, 0]}
    # the order of the policies changes the resamples alone
    turned = rate_agreement([tuple(rows[::-1] for rows in lift)])
    for name, figures in rate_agreement([lift]).items():
        assert turned[name][0] == pytest.approx(figures[0])
        np.testing.assert_allclose(turned[name], figures, rtol=0.15, atol=0.01)


def test_intervals_of_agreement_cover_where_it_is_far_from_perfect():
    """Policies are drawn anew in every study. With 0 as truth no interval above it could cover."""
    rng, held = np.random.default_rng(0), np.zeros(2)
    many = rng.random((2, 4000, 8))
    truths = {
        "mmrv": np.mean([rank_violation(*pair) for pair in zip(*many)]),
        "error_points": 100 / 3,  # of two uniform rates
    }
    for real, imagined in zip(*many[:, :200]):
        found = rate_agreement([imagined_outcomes(rng, real, imagined, 60)], samples=300)
        held += [found[name][1] <= truth <= found[name][2] for name, truth in truths.items()]
    assert (held / 200 > 0.85).all(), held


# --- what is refused


@pytest.mark.parametrize(
    "call",
    [
        lambda: interval(3, 2),
        lambda: posterior(-1, 5),
        lambda: posterior(1.5, 5),
        lambda: probability_better(6, 5, 1, 5),
        lambda: unpaired(1, 5, 6, 5),
        lambda: power(0.5, 1.2, 10),
        lambda: power(0.5, np.nan, 10),
        lambda: power(0.5, 0.7, 0),
        lambda: power(0.5, 0.7, 10, alpha=0),
        lambda: power(0.1, 0.9, 10, rho=0.9),
        lambda: trials_for(0.5, 0.5),
        lambda: trials_for(0.5, 0.7, power=1.0),
        lambda: SequentialTest(50, alpha=0.7),
        lambda: SequentialTest(50.0),
        lambda: power(0.5, 0.7, 10.5),
        lambda: posterior(1, np.inf),
        lambda: SequentialTest(10).look(np.ones(3, bool), np.ones(4, bool)),
        lambda: SequentialTest(10).look(np.ones(11, bool), np.ones(11, bool)),
        lambda: SequentialTest(10).look(np.array([0, 2]), np.array([0, 1])),
        lambda: SequentialTest(10).look(np.array([0, np.nan]), np.array([0, 1])),
        lambda: holm([0.5, np.nan]),
        lambda: holm([[0.5]]),
        lambda: letters(["a", "a"], []),
        lambda: letters(["a", "b"], [("a", "c")]),
        lambda: letters(["a", "b"], [("a", "a")]),
        lambda: kappa([], []),
        lambda: kappa([1, 0], [1]),
        lambda: kappa([0.5, 0.1], [0.5, 0.1]),
        lambda: pearson([1, 2, 3], [1, 2, 3]),
        lambda: spearman([1, 2, 3, 4], [1, 2, 3]),
        lambda: pearson([1, 2, 3, np.nan], [1, 2, 3, 4]),
        lambda: spearman([1, 1, 1, 1], [1, 2, 3, 4]),
        lambda: rank_violation([0.5], [0.5]),
        lambda: rank_violation([0.5, 0.6], [0.5, 0.6, 0.7]),
        lambda: rank_violation([0.5, np.nan], [0.5, 0.6]),
        lambda: rate_error([0.5, 50], [0.5, 0.6]),
        lambda: rate_agreement([]),
        lambda: rate_agreement([(np.ones((2, 0)), np.ones((2, 0)))]),
        lambda: rate_agreement([(np.ones((2, 5)), np.ones((2, 4)))]),
        lambda: rate_agreement([(np.ones((1, 5)), np.ones((1, 5)))]),
        lambda: rate_agreement([(np.ones((2, 5)),) * 2, (np.ones((3, 5)),) * 2]),
        lambda: rate_agreement([(np.full((2, 5), 0.5),) * 2]),
    ],
)
def test_bad_input_is_refused_in_one_line(call):
    with pytest.raises(InputError) as error:
        call()
    assert "\n" not in str(error.value)
