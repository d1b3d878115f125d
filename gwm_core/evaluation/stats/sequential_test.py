"""A sequential comparison of two policies, which may stop after any trial."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gwm_core.errors import InputError
from gwm_core.evaluation.stats.success_rates import discordant

A, B, GO_ON, NO_DIFFERENCE = "a", "b", "go on", "no difference shown"


@dataclass(frozen=True)
class InterimResult:
    """The result of the trials so far."""

    decision: str  # "a" or "b" is better, "go on", or "no difference shown" after the last trial
    trials: int  # up to the decision; later ones do not count
    lead: int  # trials that only a won, less those that only b won
    # chance, if both are equal, to stop earlier or to reach this lead; a p value once decided
    p: float


@dataclass(frozen=True)
class SequentialTest:
    """Two-sided test of two policies on the same trials, at most n_max, with a look after each.

    Null hypothesis: whatever the other trials gave, a trial is as likely to be won by a alone as by
    b alone. It holds where every start is equally hard for both, or where starts are sampled at
    random for every trial and mean rates are equal. It holds only roughly for a fixed list of
    starts of which some suit a and some b. It does not hold where a policy, or the choice of
    starts, depends on earlier outcomes.

    Under the null the trials that differ are fair coin flips. The boundary is computed for those
    that did differ: by trial i of n_max the chance ever to have decided, given them, is at most
    alpha (i / n_max)^2. The type-I error is at most alpha, exactly, for every rate and
    correlation. (Spending: Lan & DeMets, Biometrika 70 (1983) 659; its power family: Kim & DeMets,
    Biometrika 74 (1987) 149.)

    Fix n_max and alpha before the first trial. After an early stop the observed difference of the
    rates is too large. Raises InputError for an alpha outside 0-0.5, or for too few trials to
    decide anything.
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
        """The result after outcomes a and b (T,) of the same trials, in their order, T <= n_max.

        Raises InputError for outcomes that are not bool (or 0 and 1), of unequal number, or more
        than n_max.
        """
        a, b = _outcomes(a), _outcomes(b)
        if len(a) != len(b) or len(a) > self.n_max:
            raise InputError(
                f"as many outcomes of a as of b, at most {self.n_max}: {len(a)} and {len(b)}"
            )
        won = a.astype(int) - b
        decision, trials, p = (values[0] for values in decide(won[None], self.n_max, self.alpha))
        waiting = NO_DIFFERENCE if len(a) == self.n_max else GO_ON
        return InterimResult(
            {1: A, -1: B, 0: waiting}[int(decision)], int(trials), int(won[:trials].sum()), float(p)
        )

    def power(
        self, p_a: float, p_b: float, rho: float = 0.0, runs: int = 20_000, seed: int = 0
    ) -> tuple[float, float]:
        """Chance of a decision (the type-I error at equal rates) and mean number of trials.

        From ``runs`` seeded simulations, because the boundary depends on which trials differ; exact
        to 0.7 percentage points at 20 000.

        Args:
            p_a, p_b: true rates. rho: correlation of a pair's outcomes, as of ``discordant``.
        """
        only_a, only_b = discordant(p_a, p_b, rho)
        x = np.random.default_rng(seed).random((runs, self.n_max))
        won = (x < only_a).astype(int) - ((x >= only_a) & (x < only_a + only_b))
        decision, trials, _ = decide(won, self.n_max, self.alpha)
        return float(np.mean(decision != 0)), float(trials.mean())


def decide(won: np.ndarray, n_max: int, alpha: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Run the test on R comparisons at once.

    Args:
        won: (R, T) 1 where only a succeeded, -1 where only b did, 0 where both or neither did; T is
            up to n_max.

    Returns:
        decision (R,): 1 for a, -1 for b, 0 for none.
        trials (R,): up to the decision, T without one. p (R,): as of ``InterimResult``.
    """
    runs, trials = won.shape
    spent, p, rows = np.zeros(runs), np.ones(runs), np.arange(runs)
    lead, decision, stop = np.zeros(runs, int), np.zeros(runs, int), np.full(runs, trials)
    # chance under the null of a lead of k, for either policy, without a decision
    chances = np.zeros((runs, _width(n_max, alpha)))
    chances[:, 0] = 1.0
    for i in range(trials):
        differ = won[:, i] != 0
        chances[differ] = _flip(chances[differ])
        lead += won[:, i]
        tail = chances[:, ::-1].cumsum(1)[:, ::-1]
        # all leads from the first such k on
        decides = tail <= (alpha * ((i + 1) / n_max) ** 2 - spent)[:, None]
        undecided = decision == 0
        far = np.minimum(np.abs(lead), chances.shape[1] - 1)
        p[undecided] = (spent + tail[rows, far])[undecided]
        now = undecided & decides[rows, far]
        decision[now], stop[now] = np.sign(lead[now]), i + 1
        spent += np.where(decides, chances, 0.0).sum(1)
        chances[decides] = 0.0
    return decision, stop, np.minimum(p, 1.0)


def _flip(chances: np.ndarray) -> np.ndarray:
    """Chances (R, K) of a lead of k after one more fair coin flip."""
    after = np.zeros_like(chances)
    after[:, 1:] += chances[:, :-1] / 2
    after[:, :-1] += chances[:, 1:] / 2
    after[:, 1] += chances[:, 0] / 2  # from 0 both ways lead to 1
    return after


def _width(n_max: int, alpha: float) -> int:
    """Leads k to compute: higher ones are less likely than the alpha / n_max^2 that every look may
    spend (Hoeffding).
    """
    return min(n_max, int(np.sqrt(2 * n_max * np.log(2 * n_max**2 / alpha)))) + 2


def _outcomes(values: np.ndarray) -> np.ndarray:
    values = np.asarray(values)
    if values.ndim != 1 or not np.isin(values, (0, 1)).all():
        raise InputError("outcomes are a list of true and false, one a trial")
    return values.astype(bool)
