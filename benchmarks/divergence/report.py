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
FRACTIONS = np.round(np.geomspace(0.4, 2.5, 12), 2)  # of the limits, for the curve


def _outcomes(policy: str, kind: str, task: str, seeds: range, renderer: str) -> list:
    bar = ProgressBar(len(seeds), kind)
    return run_all(
        [DisturbedEpisode(policy, kind, seed, task, renderer) for seed in seeds],
        cores(),
        lambda _: bar.step(),
    )


def fit(policy: str, task: str, seeds: range, renderer: str) -> int:
    """Fit the limits to normal episodes, and write them into the folder of the world model."""
    found = _outcomes(policy, "none", task, seeds, renderer)
    rows = [gaps for outcome in found for _, gaps in outcome.rows]
    limits = fit_limits(
        Path(policy), rows, f"largest of {len(rows)} moments, {task}, seeds {seeds[0]}-{seeds[-1]}"
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
            outcomes = _outcomes(policy, kind, task, normal if kind == "none" else seeds, renderer)
            figures[kind] = _figures(kind, outcomes, limits)
            print(figures[kind]["text"], flush=True)
    except KeyboardInterrupt:
        print("interrupted: the other kinds are missing", file=sys.stderr)
        code = 130
    curve = [
        {"share": float(s)}
        | {k: float(np.mean([top > s for top in row["largest"]])) for k, row in figures.items()}
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


def _figures(kind: str, outcomes: list, limits: DivergenceLimits) -> dict:
    """Figures of one kind of disturbance."""
    quiet = kind == "none"
    cases = outcomes if quiet else [o for o in outcomes if np.isfinite(o.disturbed)]
    after = np.array([o.detected(limits) - (0.0 if quiet else o.disturbed) for o in cases])
    hits = int(np.isfinite(after).sum() if quiet else (after <= WITHIN).sum())
    low, high = interval(hits, len(cases))
    what = "false holds" if quiet else f"noticed within {WITHIN:g} s"
    text = f"{kind:7} {what} {hits}/{len(cases)} [{100 * low:.0f}, {100 * high:.0f}] %"
    if not quiet and np.isfinite(after).any():
        text += (
            f", ever {int(np.isfinite(after).sum())}, median"
            f" {np.median(after[np.isfinite(after)]):.2f} s"
        )
    largest = [o.largest(limits, np.inf if quiet else WITHIN) for o in cases]
    seeds = [o.case.seed for o in cases]
    return {
        "text": text,
        "hits": hits,
        "cases": len(cases),
        "ci95": [low, high],
        "seeds": seeds,
        "largest": largest,
        "after_s": [float(a) if np.isfinite(a) else None for a in after],
    }
