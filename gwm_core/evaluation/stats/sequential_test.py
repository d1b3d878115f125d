"""A comparison of two policies that may be looked at after every trial and stopped as soon as it
decides.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gwm_core.errors import InputError
from gwm_core.evaluation.stats.success_rates import discordant

A, B, GO_ON, NO_DIFFERENCE = "a", "b", "go on", "no difference shown"


@dataclass(frozen=True)
class InterimResult:
    """What the trials so far say."""

    decision: str  # "a" or "b" is better, "go on", or "no difference shown" after the last trial
    trials: int  # it took; what came after a decision does not count
    apart: int  # trials that only a won, less those that only b won, up to then
    # chance, were both alike, to stop earlier or be as far apart now; a p value unless it is to go
    # on
    p: float


@dataclass(frozen=True)
class SequentialTest:
    """Two-sided test of two policies on the same trials: at most n_max of each, and a look after
    every one.

    Null: however the other trials went, a trial is as likely to be won by a alone as by b alone.
    That is so where every start is equally hard for both, or where starts are drawn at random, for
    every trial anew, and rates are equal on average. It is so only roughly on a fixed list of
    starts of which some suit a and some b, and not where a policy, or the choice of starts, follows
    what came out before.

    Under the null the trials that differ are fair coin flips, whichever and however many they are.
    So the boundary is computed for those that did differ: by trial i of n_max the chance ever to
    have decided, given them, is at most alpha (i / n_max)^2. Decisions err with at most alpha in
    all, exactly, for every rate and correlation. (Spending: Lan & DeMets, Biometrika 70 (1983) 659;
    its power family: Kim & DeMets, Biometrika 74 (1987) 149.)

    n_max and alpha are to be fixed before the first trial. After an early stop observed rates are
    apart too far. Raises InputError for an alpha outside 0-0.5, or so few trials that nothing could
    be decided.
    """

    n_max: int
    alpha: float = 0.05

    def __post_init__(self) -> None:
        if not 0 < self.alpha < 0.5:
            raise InputError(f"alpha is between 0 and 0.5: {self.alpha}")
        fewest = int(np.ceil(1 - np.log2(self.alpha)))  # all won by one policy: 2^(1 - n)
        if not isinstance(self.n_max, int | np.integer) or self.n_max < fewest:
            raise InputError(
                f"n_max is a whole number from {fewest} on, or nothing can be decided: {self.n_max}"
            )

    def look(self, a: np.ndarray, b: np.ndarray) -> InterimResult:
        """What outcomes a and b (T,) of the same trials, in the order they were done, say; T is up
        to n_max.

        Raises InputError for outcomes that are not bool (or 0 and 1), of unequal number, or more
        than n_max.
        """
        a, b = _outcomes(a), _outcomes(b)
        if len(a) != len(b) or len(a) > self.n_max:
            raise InputError(
                f"as many outcomes of a as of b, at most {self.n_max}: {len(a)} and {len(b)}"
            )
        won = a.astype(int) - b
        lead, trials, p = (values[0] for values in decide(won[None], self.n_max, self.alpha))
        waiting = NO_DIFFERENCE if len(a) == self.n_max else GO_ON
        return InterimResult(
            {1: A, -1: B, 0: waiting}[int(lead)], int(trials), int(won[:trials].sum()), float(p)
        )

    def power(
        self, p_a: float, p_b: float, rho: float = 0.0, runs: int = 20_000, seed: int = 0
    ) -> tuple[float, float]:
        """Chance of a decision (the type-I error at equal rates) and mean trials of each policy,
        for their true rates.

        From ``runs`` seeded simulations (the boundary depends on which trials differ, so no sum is
        short): within 0.7 points at 20 000. rho: correlation of a pair's outcomes, see
        ``statistics.discordant``.
        """
        only_a, only_b = discordant(p_a, p_b, rho)
        draw = np.random.default_rng(seed).random((runs, self.n_max))
        won = (draw < only_a).astype(int) - ((draw >= only_a) & (draw < only_a + only_b))
        lead, trials, _ = decide(won, self.n_max, self.alpha)
        return float(np.mean(lead != 0)), float(trials.mean())


def decide(won: np.ndarray, n_max: int, alpha: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The test on many comparisons at once.

    Args:
        won: (R, T) 1 where only a succeeded, -1 where only b did, 0 where both or neither did; T is
            up to n_max.

    Returns:
        lead (R,): 1 for a, -1 for b, 0 for no decision. trials (R,): it took, T if there is none. p
        (R,): see ``InterimResult``.
    """
    runs, trials = won.shape
    spent, p, rows = np.zeros(runs), np.ones(runs), np.arange(runs)
    apart, lead, stop = np.zeros(runs, int), np.zeros(runs, int), np.full(runs, trials)
    # chance under the null of being k apart, either way, and undecided
    left = np.zeros((runs, _width(n_max, alpha)))
    left[:, 0] = 1.0
    for i in range(trials):
        differ = won[:, i] != 0
        left[differ] = _flip(left[differ])
        apart += won[:, i]
        tail = left[:, ::-1].cumsum(1)[:, ::-1]
        # from the first such k on
        decides = tail <= (alpha * ((i + 1) / n_max) ** 2 - spent)[:, None]
        undecided = lead == 0
        far = np.minimum(np.abs(apart), left.shape[1] - 1)
        p[undecided] = (spent + tail[rows, far])[undecided]
        now = undecided & decides[rows, far]
        lead[now], stop[now] = np.sign(apart[now]), i + 1
        spent += np.where(decides, left, 0.0).sum(1)
        left[decides] = 0.0
    return lead, stop, np.minimum(p, 1.0)


def _flip(left: np.ndarray) -> np.ndarray:
    """Chances (R, K) of being k apart after one more fair coin flip."""
    after = np.zeros_like(left)
    after[:, 1:] += left[:, :-1] / 2
    after[:, :-1] += left[:, 1:] / 2
    after[:, 1] += left[:, 0] / 2  # from 0 both ways lead to 1
    return after


def _width(n_max: int, alpha: float) -> int:
    """How many k are enough: every look may spend alpha / n_max^2, and more are less likely than
    that (Hoeffding).
    """
    return min(n_max, int(np.sqrt(2 * n_max * np.log(2 * n_max**2 / alpha)))) + 2


def _outcomes(values: np.ndarray) -> np.ndarray:
    values = np.asarray(values)
    if values.ndim != 1 or not np.isin(values, (0, 1)).all():
        raise InputError("outcomes are a list of true and false, one a trial")
    return values.astype(bool)
