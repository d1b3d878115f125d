"""``gwm bench e2e``: parts of the time from a frame to its first command, over the live graph."""

from __future__ import annotations

import statistics
import sys
from copy import copy

from gwm.process.session import INTERRUPTED
from gwm.tools.demo import drive

from gwm_core.files.json_files import write_json

WHOLE = "all but capture"
PARTS = {
    "capture": "rendering and publishing, in the simulation",
    "receive": "over DDS, until the observation is complete",
    "lift": "RGB-D to Gaussians",
    "act": "the networks",
    "solve": "inverse kinematics",
    "handover": "to the planner's thread and back",
    "gate": "to the gate, and until its next period",
    WHOLE: "",
}


def bench_e2e(args, policy: str) -> int:
    """Run the demo alternately with and without imagination, and print both tables."""
    runs: dict[bool, list[dict]] = {True: [], False: []}
    for imagination in (True, False) * args.rounds:
        run_args = copy(args)
        run_args.imagination = imagination
        figures, _ = drive(run_args, policy)
        runs[imagination].append(figures)
        for row in figures["rows"]:
            if row["trouble"]:
                print(f"seed {row['seed']}: {row['why']}", file=sys.stderr)
        if figures["trouble"]:
            print(f"round ended early: {figures['trouble']}", file=sys.stderr)
        if figures["code"] == INTERRUPTED:
            break
    tables = {imagination: _table(figures) for imagination, figures in runs.items()}
    result = {"seed": args.seed, "episodes": args.episodes, "rounds": args.rounds}
    if all(WHOLE in table for table in tables.values()):
        raised = {q: tables[True][WHOLE][q] / tables[False][WHOLE][q] - 1 for q in ("p50", "p99")}
        result["imagination_raises"] = raised
    for imagination, table in tables.items():
        done = runs[imagination]
        result["on" if imagination else "off"] = {
            "plans": sum(f["latency_ms"]["plans"] for f in done),
            "successes": sum(f["successes"] for f in done),
            "ended": sum(f["episodes"] for f in done),
            "futures_per_s": (
                statistics.median(f["imagination"]["per_s"] for f in done) if done else 0.0
            ),
            "rows": [{"stage": name, **values} for name, values in table.items()],
        }
    if args.json:
        write_json(args.json, result)
    _show(result)
    return max((f["code"] for done in runs.values() for f in done), default=1)


def _table(figures: list[dict]) -> dict[str, dict[str, float]]:
    """Return p50 and p99 [ms] of each part, medians over the runs that have it."""
    found = {
        name: [f["stages_ms"][name] for f in figures if name in f["stages_ms"]] for name in PARTS
    }
    return {
        name: {q: statistics.median(stage[q] for stage in stages) for q in ("p50", "p99")}
        for name, stages in found.items()
        if stages
    }


def _show(result: dict) -> None:
    for state in ("off", "on"):
        r = result[state]
        print(
            f"\nimagination {state}: {r['plans']} plans, {r['successes']} of {r['ended']} episodes"
            f" succeeded, {r['futures_per_s']:.1f} futures/s"
        )
        for row in r["rows"]:
            note = PARTS[row["stage"]]
            print(
                f"  {row['stage']:16} p50 {row['p50']:6.1f} ms   p99 {row['p99']:6.1f} ms  "
                f" {note}".rstrip()
            )
    if raised := result.get("imagination_raises"):
        print(
            f"\nimagination raises p50 by {100 * raised['p50']:+.0f} %, p99 by"
            f" {100 * raised['p99']:+.0f} %"
        )
