"""Figures of improved policies: success rates, paired differences, and when rounds end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from gwm_core.evaluation.stats.success_rates import difference_interval, interval, mcnemar
from gwm_core.improvement.trial_records import TrialRecord

IMAGINED_GAIN = 0.1  # rise of the imagined rate above which a real gain is expected


def rate_figures(trials: Sequence[TrialRecord]) -> dict:
    """Figures of one policy.

    Returns:
        trials, successes, ci95: of the rate, Clopper-Pearson. seconds: median time to success [s].
        seconds_per_success: time of all trials for each success [s]. Both None without success.
        violations, stops, refused: sums; the last two by cause.
    """
    times = [trial.seconds for trial in trials if trial.success]
    stops, refused = Counter(), Counter()
    for trial in trials:
        stops.update(trial.stops)
        refused.update(trial.refused)
    return {
        "trials": len(trials),
        "successes": len(times),
        "ci95": list(interval(len(times), len(trials))),
        "seconds": float(np.median(times)) if times else None,
        "seconds_per_success": sum(t.seconds for t in trials) / len(times) if times else None,
        "violations": sum(trial.violations for trial in trials),
        "stops": {cause: count for cause, count in sorted(stops.items()) if count},
        "refused": {cause: count for cause, count in sorted(refused.items()) if count},
    }


def paired_figures(before: Sequence[TrialRecord], after: Sequence[TrialRecord]) -> dict:
    """Two policies on the same starts.

    Returns:
        before, after: as ``rate_figures``. difference: of the rates, after minus before. ci95:
        Tango's interval of it. p: McNemar's exact test. seconds: mean change of the time to
        success [s] over starts where both succeed; None without any.

    Raises:
        ValueError: the starts are not the same.
    """
    if [trial.seed for trial in before] != [trial.seed for trial in after]:
        raise ValueError("trials of the same starts, in the same order, are wanted")
    b, a = (np.array([trial.success for trial in some], bool) for some in (before, after))
    changes = [y.seconds - x.seconds for x, y in zip(before, after) if x.success and y.success]
    return {
        "before": rate_figures(before),
        "after": rate_figures(after),
        "difference": float(a.mean() - b.mean()),
        "ci95": list(difference_interval(a, b)),
        "p": mcnemar(a, b),
        "seconds": float(np.mean(changes)) if changes else None,
    }


def reason_to_stop(imagined: tuple[int, int], real: tuple[int, int], trials: int) -> str:
    """Why no further round follows, or "".

    The rule: the imagined success rate of the new policy is more than 10 points above that of the
    old one, and its real success rate on the same starts is not above. Then the policy learnt what
    the model gets wrong, and further practice in this model would teach more of it.

    Args:
        imagined, real: successes of the old and of the new policy on the same starts.
        trials: how many each policy had, imagined and real.
    """
    imagined_gain, real_gain = ((new - old) / trials for old, new in (imagined, real))
    if imagined_gain <= IMAGINED_GAIN + 1e-9 or real_gain > 0:
        return ""
    return (
        f"imagined success rose from {imagined[0]} to {imagined[1]} of {trials} and real success"
        f" did not: {real[0]} before, {real[1]} after, from the same starts; the policy learns the"
        " model's errors"
    )


def best_policy(successes: Sequence[int]) -> int:
    """The number of the policy with the most successes on the same starts, the first of equals.

    Args:
        successes: of the starting policy and of each round's.
    """
    return int(np.argmax(successes))
