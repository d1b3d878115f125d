"""``gwm bench divergence``: detected disturbances, and false alarms."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from gwm.tools.terminal import ProgressBar, cores

from benchmarks.divergence.disturbances import KINDS, DisturbedEpisode, run_all
from gwm_core.errors import InputError
from gwm_core.evaluation.stats.success_rates import interval
from gwm_core.files.json_files import write_json
from gwm_core.runtime.divergence import DivergenceLimits, fit_limits, load_limits

WITHIN = 1.0  # [s]
NONE, KNOCK = "none", "knock"  # normal episodes, and those of them with a knock
FRACTIONS = np.round(np.geomspace(0.4, 2.5, 12), 2)  # of the limits, for the curve


def _outcomes(policy: str, kind: str, task: str, seeds: range, renderer: str) -> list:
    bar = ProgressBar(len(seeds), kind)
    return run_all(
        [DisturbedEpisode(policy, kind, seed, task, renderer) for seed in seeds],
        cores(),
        lambda _: bar.step(),
    )


def fit(policy: str, task: str, seeds: range, renderer: str) -> int:
    """Fit the limits to normal episodes, and write them into the policy's folder."""
    found = _outcomes(policy, NONE, task, seeds, renderer)
    rows = [gaps for outcome in found for gaps in outcome.normal()]
    limits = fit_limits(
        Path(policy),
        rows,
        f"largest of {len(rows)} observations, {task}, seeds {seeds[0]}-{seeds[-1]}",
    )
    limits.save(Path(policy))
    for horizon, terms in limits.terms.items():
        print(
            f"{int(horizon) / 10} s: "
            + ", ".join(f"{term} {value:.3g}" for term, value in terms.items())
        )
    return 0


def bench_divergence(
    policy: str, task: str, seeds: range, normal: range, renderer: str, file: str | None
) -> int:
    """Detections within a second of every kind of disturbance, and false holds without one.

    Ctrl-C ends with the kinds that are done.
    """
    limits = load_limits(Path(policy))
    if limits is None:
        raise InputError(f"{policy} has no limits: `gwm bench divergence --fit --policy {policy}`")
    figures, code = {}, 0
    try:
        for kind in KINDS:
            outcomes = _outcomes(policy, kind, task, normal if kind == NONE else seeds, renderer)
            found = _figures(kind, outcomes, limits)
            figures |= found
            print(*(row["text"] for row in found.values()), sep="\n", flush=True)
    except KeyboardInterrupt:
        print("interrupted: the other kinds are missing", file=sys.stderr)
        code = 130
    curve = [
        {"share": float(s)}
        | {k: sum(v > s for v in r["largest"]) / max(r["cases"], 1) for k, r in figures.items()}
        for s in FRACTIONS
    ]
    print("share of the limits   " + "  ".join(f"{kind:>7}" for kind in figures))
    for point in curve:
        print(
            f"{point['share']:19.2f}   "
            + "  ".join(f"{100 * point[kind]:5.0f} %" for kind in figures)
        )
    if file:
        report = {
            "policy": policy,
            "task": task,
            "limits": limits.provenance,
            "kinds": figures,
            "curve": curve,
        }
        write_json(file, report)
    return code


def _figures(kind: str, outcomes: list, limits: DivergenceLimits) -> dict[str, dict]:
    """Figures of one kind of episodes; normal ones have their knocks beside them."""
    if kind != NONE:
        return {kind: _detections(kind, outcomes, limits)}
    return {NONE: _false_holds(outcomes, limits), KNOCK: _detections(KNOCK, outcomes, limits)}


def _detections(kind: str, outcomes: list, limits: DivergenceLimits) -> dict:
    """Figures of the episodes in which a disturbance happened."""
    cases = [o for o in outcomes if np.isfinite(o.disturbed)]
    after = np.array([o.detected(limits) - o.disturbed for o in cases])
    largest = [o.largest(limits, WITHIN) for o in cases]
    noticed = after[np.isfinite(after)]
    figures = _rate(cases, largest, int((after <= WITHIN).sum()))
    figures["text"] = f"{kind:7} noticed within {WITHIN:g} s {figures['text']}"
    if len(noticed):
        figures["text"] += f", ever {len(noticed)}, median {np.median(noticed):.2f} s"
    return figures | {"after_s": [float(a) if np.isfinite(a) else None for a in after]}


def _false_holds(outcomes: list, limits: DivergenceLimits) -> dict:
    """Figures of episodes without a disturbance, each up to where the policy itself makes one."""
    largest = [o.largest_before(limits) for o in outcomes]
    figures = _rate(outcomes, largest, sum(score > 1 for score in largest))
    return figures | {"text": f"{NONE:7} false holds {figures['text']}"}


def _rate(cases: list, largest: list[float], hits: int) -> dict:
    low, high = interval(hits, len(cases)) if cases else (0.0, 1.0)
    return {
        "text": f"{hits}/{len(cases)} [{100 * low:.0f}, {100 * high:.0f}] %",
        "hits": hits,
        "cases": len(cases),
        "ci95": [low, high],
        "seeds": [o.case.seed for o in cases],
        "largest": largest,
    }
