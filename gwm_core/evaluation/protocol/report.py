"""What a protocol found, in numbers: rates with intervals, differences with corrected tests, and
how far they go.
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path

import numpy as np

from gwm_core.errors import InputError
from gwm_core.evaluation.protocol.definition import TrialOrder
from gwm_core.evaluation.protocol.journal import Journal, JournalEntry
from gwm_core.evaluation.stats.agreement import kappa, pearson, spearman
from gwm_core.evaluation.stats.sequential_test import SequentialTest
from gwm_core.evaluation.stats.success_rates import (
    better,
    difference_interval,
    holm,
    interval,
    letters,
    mcnemar,
    posterior,
    power,
)

# of comparisons in which a difference of the size that is named before the start is found
SHARE = 0.8


def foreseen(trials: int, alpha: float) -> list[tuple[float, float]]:
    """Before the first trial: for some rates of one policy, the least rate of a better one found in
    80 % of the cases.

    Rates for which none is are left out. Independent outcomes assumed; of starts that differ less
    is enough.
    """
    found = []
    for rate in (0.1, 0.3, 0.5, 0.7, 0.9):
        others = np.arange(round(100 * rate) + 1, 101) / 100
        enough = [
            other for other in others if power(rate, float(other), trials, alpha=alpha) >= SHARE
        ]
        found += [(rate, float(enough[0]))] if enough else []
    return found


def summarize(plan: TrialOrder, journal: Journal, names: dict[str, str]) -> dict:
    """Everything that is reported, JSON-able; a figure that is undefined is None.

    Args:
        names: code -> what a policy is called; the codes themselves while nobody may know.
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
        apart = [
            (p["a"], p["b"])
            for p in pairs
            if p["task"] == task and p["p_holm"] <= plan.protocol.alpha
        ]
        best_first = sorted(
            rows, key=lambda name: -rows[name]["successes"] / max(rows[name]["trials"], 1)
        )
        for name, letter in letters(best_first, apart).items():
            rows[name]["letters"] = letter
    if plan.protocol.stop == "sequential":
        found["sequential"] = look(plan, journal, names)
    return found


def _rates(entries: list[JournalEntry], names: dict[str, str]) -> dict[str, dict]:
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
    """Outcomes (T,) of codes a and b from the starts that both had, in the order in which the
    second was made.
    """
    won: dict[int, dict[str, bool]] = {}
    order = []
    for entry in entries:
        start = won.setdefault(entry.slot.seed, {})
        start[entry.slot.code] = entry.outcome.success
        if entry.slot.code in (a, b) and {a, b} <= set(start):
            order.append(entry.slot.seed)
    return np.array([won[s][a] for s in order], bool), np.array([won[s][b] for s in order], bool)


def _pairs(task: str, entries: list[JournalEntry], names: dict[str, str]) -> list[dict]:
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
                "a_better": better(int(won_a.sum()), len(won_a), int(won_b.sum()), len(won_b)),
            }
        )
    return rows


def look(plan: TrialOrder, journal: Journal, names: dict[str, str]) -> dict:
    """What the sequential test says after the trials so far."""
    a, b = sorted(names, key=names.get)
    outcomes = paired(journal.counted(), a, b)
    seen = SequentialTest(plan.protocol.trials, plan.protocol.alpha).look(*outcomes)
    decided = {"a": f"{names[a]} is better", "b": f"{names[b]} is better"}.get(
        seen.decision, seen.decision
    )
    return {
        "decision": decided,
        "over": seen.decision != "go on",
        "trials": seen.trials,
        "p": seen.p,
    }


def against_imagined(found: dict, imagined: dict[str, dict[str, float]]) -> dict:
    """Rates that were imagined beside those that came, and how they go together over policies and
    tasks.

    Args:
        found: as of ``summarize``. imagined: task -> policy -> rate.
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
    seen = {"points": points}
    if len(points) >= 4 and np.ptp(x) > 0 and np.ptp(y) > 0:
        seen |= {"pearson": list(pearson(x, y)), "spearman": list(spearman(x, y))}
    return seen


def second_rating(journal: Journal, file: Path) -> dict:
    """Kappa with a second rater's CSV of columns number and success, in UTF-8, as spreadsheets
    write it.

    Raises InputError naming the line that is no rating of a trial that was made, or contradicts
    another.
    """
    won = {entry.slot.number: entry.outcome.success for entry in journal.counted()}
    rated: dict[int, tuple[bool, int]] = {}  # number -> verdict and the line it is from
    for line, number, verdict in _ratings(file):
        if number not in won:
            raise InputError(f"{file}: line {line}: trial {number} was not made, or does not count")
        before, earlier = rated.setdefault(number, (verdict, line))
        if before != verdict:
            raise InputError(
                f"{file}: lines {earlier} and {line} contradict each other about trial {number}"
            )
    if not rated:
        raise InputError(f"{file} rates no trial: columns number and success (1 or 0) are wanted")
    first = np.array([won[number] for number in rated], bool)
    value, low, high = kappa(first, np.array([verdict for verdict, _ in rated.values()], bool))
    return {
        "rated": len(rated),
        "share": len(rated) / max(len(won), 1),
        "kappa": value,
        "ci95": [low, high],
    }


def _ratings(file: Path) -> Iterator[tuple[int, int, bool]]:
    """Line, trial and verdict of every row that is not blank."""
    try:
        lines = Path(file).read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        raise InputError(f"cannot read {file}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise InputError(f"{file} is no text in UTF-8: save it as CSV (UTF-8)") from None
    semicolons = bool(lines) and ";" in lines[0]  # spreadsheets where the comma is the decimal sign
    rows = csv.reader(lines, delimiter=";" if semicolons else ",")
    head = [name.strip().lower() for name in next(rows, [])]
    if not {"number", "success"} <= set(head):
        raise InputError(
            f"{file}: columns number and success are wanted in its first line, not"
            f" {', '.join(head)}"
        )
    places = head.index("number"), head.index("success")
    for row in rows:
        cells = [cell.strip() for cell in row]
        if not any(cells):
            continue
        number, success = (cells[k] if k < len(cells) else "" for k in places)
        if not number.isdecimal() or success not in ("0", "1"):
            raise InputError(
                f"{file}: line {rows.line_num}: a trial's number and success (1 or 0) are wanted in"
                f" columns number and success, not '{number}' and '{success}'"
            )
        yield rows.line_num, int(number), success == "1"
