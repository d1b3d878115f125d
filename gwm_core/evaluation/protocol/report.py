"""Figures of a protocol: rates with intervals, and differences with corrected tests."""

from __future__ import annotations

from collections import Counter
from itertools import combinations

import numpy as np

from gwm_core.evaluation.protocol.definition import TrialOrder
from gwm_core.evaluation.protocol.journal import Journal, JournalEntry
from gwm_core.evaluation.stats.agreement import pearson, spearman
from gwm_core.evaluation.stats.sequential_test import SequentialTest
from gwm_core.evaluation.stats.success_rates import (
    difference_interval,
    holm,
    interval,
    letters,
    mcnemar,
    posterior,
    power,
    probability_better,
)

# chance that a difference as large as named before the start is found
POWER = 0.8


def detectable_differences(trials: int, alpha: float) -> list[tuple[float, float]]:
    """Differences that a protocol can find, computed before the first trial.

    Pairs of a policy's rate and the smallest rate of a better policy that is found with 80 %
    chance, for outcomes that are independent. Rates without such a policy are left out.
    """
    found = []
    for rate in (0.1, 0.3, 0.5, 0.7, 0.9):
        others = np.arange(round(100 * rate) + 1, 101) / 100
        enough = [
            other for other in others if power(rate, float(other), trials, alpha=alpha) >= POWER
        ]
        found += [(rate, float(enough[0]))] if enough else []
    return found


def summarize(plan: TrialOrder, journal: Journal, names: dict[str, str]) -> dict:
    """All reported figures, for JSON; an undefined figure is None.

    Args:
        names: code -> name of the policy; the codes themselves while the trials are blind.
    """
    counted = journal.counted()
    tasks = {str(task): [e for e in counted if e.slot.task == task] for task in plan.protocol.tasks}
    pairs = [pair for task, entries in tasks.items() for pair in _pairs(task, entries, names)]
    for pair, corrected in zip(pairs, holm([pair["p"] for pair in pairs]) if pairs else ()):
        pair["p_holm"] = float(corrected)
    found = {
        "name": plan.protocol.name,
        "sha256": plan.sha256,
        "stop": plan.protocol.stop,
        "alpha": plan.protocol.alpha,
        "planned": len(plan.slots),
        "made": len(counted),
        "repeated": sum(entry.outcome.aborted == "hardware" for entry in journal.entries),
        "tasks": {task: _rates(entries, names) for task, entries in tasks.items()},
        "pairs": pairs,
    }
    for task, rows in found["tasks"].items():
        _add_letters(rows, [pair for pair in pairs if pair["task"] == task], plan.protocol.alpha)
    if plan.protocol.stop == "sequential":
        found["sequential"] = interim_result(plan, journal, names)
    return found


def _add_letters(rows: dict[str, dict], pairs: list[dict], alpha: float) -> None:
    """Add the compact letter display of a task to the figures of its policies."""
    significant = [(pair["a"], pair["b"]) for pair in pairs if pair["p_holm"] <= alpha]
    best_first = sorted(
        rows, key=lambda name: -rows[name]["successes"] / max(rows[name]["trials"], 1)
    )
    for name, letter in letters(best_first, significant).items():
        rows[name]["letters"] = letter


def _rates(entries: list[JournalEntry], names: dict[str, str]) -> dict[str, dict]:
    """Figures of each policy on one task."""
    rows = {}
    for code, name in sorted(names.items(), key=lambda item: item[1]):
        own = [entry.outcome for entry in entries if entry.slot.code == code]
        won = sum(outcome.success for outcome in own)
        mean, low, high = posterior(won, len(own))
        latencies = [outcome.latency_ms for outcome in own if outcome.latency_ms is not None]
        times = [outcome.seconds for outcome in own if outcome.success]
        rows[name] = {
            "trials": len(own),
            "successes": won,
            "ci95": list(interval(won, len(own))),
            "posterior": [mean, low, high],
            "score": float(np.mean([o.score for o in own])) if own else None,
            "seconds": float(np.median(times)) if times else None,
            "interventions": sum(o.interventions for o in own),
            "violations": sum(o.violations for o in own),
            "latency_ms": float(np.median(latencies)) if latencies else None,
            "aborted": sum(o.aborted == "policy" for o in own),
            "failures": dict(Counter(o.note for o in own if not o.success).most_common()),
        }
    return rows


def paired(entries: list[JournalEntry], a: str, b: str) -> tuple[np.ndarray, np.ndarray]:
    """Outcomes (T,) of codes a and b from their common starts, ordered by the later trial."""
    won: dict[int, dict[str, bool]] = {}
    order = []
    for entry in entries:
        start = won.setdefault(entry.slot.seed, {})
        start[entry.slot.code] = entry.outcome.success
        if entry.slot.code in (a, b) and {a, b} <= set(start):
            order.append(entry.slot.seed)
    return np.array([won[s][a] for s in order], bool), np.array([won[s][b] for s in order], bool)


def _pairs(task: str, entries: list[JournalEntry], names: dict[str, str]) -> list[dict]:
    """Figures of each pair of policies on one task."""
    rows = []
    for a, b in combinations(sorted(names, key=names.get), 2):
        won_a, won_b = paired(entries, a, b)
        if not len(won_a):
            continue
        rows.append(
            {
                "task": task,
                "a": names[a],
                "b": names[b],
                "trials": len(won_a),
                "differ": int((won_a != won_b).sum()),
                "difference": float(won_a.mean() - won_b.mean()),
                "ci95": list(difference_interval(won_a, won_b)),
                "p": mcnemar(won_a, won_b),
                "a_better": probability_better(
                    int(won_a.sum()), len(won_a), int(won_b.sum()), len(won_b)
                ),
            }
        )
    return rows


def interim_result(plan: TrialOrder, journal: Journal, names: dict[str, str]) -> dict:
    """The result of the sequential test after the trials so far."""
    a, b = sorted(names, key=names.get)
    outcomes = paired(journal.counted(), a, b)
    result = SequentialTest(plan.protocol.trials, plan.protocol.alpha).look(*outcomes)
    decided = {"a": f"{names[a]} is better", "b": f"{names[b]} is better"}.get(
        result.decision, result.decision
    )
    return {
        "decision": decided,
        "over": result.decision != "go on",
        "trials": result.trials,
        "p": result.p,
    }


def compare_with_predicted_rates(found: dict, imagined: dict[str, dict[str, float]]) -> dict:
    """Rates that the world model predicted beside the real ones, and their correlation.

    Args:
        found: of ``summarize``. imagined: task -> policy -> predicted rate.
    """
    points = [
        {
            "task": task,
            "policy": name,
            "imagined": imagined[task][name],
            "real": row["successes"] / row["trials"],
        }
        for task, rows in found["tasks"].items()
        for name, row in rows.items()
        if row["trials"]
    ]
    x, y = (np.array([point[key] for point in points]) for key in ("imagined", "real"))
    comparison = {"points": points}
    if len(points) >= 4 and np.ptp(x) > 0 and np.ptp(y) > 0:
        comparison |= {"pearson": list(pearson(x, y)), "spearman": list(spearman(x, y))}
    return comparison


def outcomes_beside_imagined(
    plan: TrialOrder, journal: Journal, imagined: dict[int, bool]
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Real and imagined outcomes (P, T) of each task, from the T starts that all policies tried.

    A task without such a start is left out.

    Args:
        imagined: number of a slot -> imagined success.
    """
    real = {entry.slot.number: entry.outcome.success for entry in journal.counted()}
    tasks = []
    for task in plan.protocol.tasks:
        starts: dict[int, list[int]] = {}
        for slot in sorted(plan.slots, key=lambda slot: slot.code):
            if slot.task == task and slot.number in real and slot.number in imagined:
                starts.setdefault(slot.seed, []).append(slot.number)
        whole = [
            numbers for numbers in starts.values() if len(numbers) == len(plan.protocol.policies)
        ]
        if whole:
            tasks.append(
                tuple(
                    np.array([[won[k] for k in start] for start in whole]).T
                    for won in (real, imagined)
                )
            )
    return tasks
