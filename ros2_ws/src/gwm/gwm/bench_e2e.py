"""``gwm bench e2e``: where the time from a frame to the first command made from it goes, over the live graph."""

from __future__ import annotations

import statistics
from copy import copy

from gwm.demo import drive
from gwm_core.json_files import write_json

WHOLE = "all but capture"
PARTS = {
    "capture": "drawing and publishing, in the simulation",
    "receive": "over DDS, until the moment is whole",
    "lift": "RGB-D to Gaussians",
    "act": "the networks",
    "solve": "inverse kinematics",
    "handover": "to the brain's thread and back",
    "gate": "to the gate, and until its next period",
    WHOLE: "",
}


def bench_e2e(args, policy: str) -> int:
    """Run the demo's episodes with imagination and without, in turns; print both tables of stages."""
    runs: dict[bool, list[dict]] = {True: [], False: []}
    for _ in range(args.rounds):
        for imagination, done in runs.items():
            wish = copy(args)
            wish.imagination = imagination
            done.append(drive(wish, policy)[0])
    tables = {imagination: _table(figures) for imagination, figures in runs.items()}
    slower = {q: tables[True][WHOLE][q] / tables[False][WHOLE][q] - 1 for q in ("p50", "p99")}
    result = {"seed": args.seed, "episodes": args.episodes, "rounds": args.rounds, "imagination_raises": slower}
    for imagination, table in tables.items():
        result["on" if imagination else "off"] = {
            "plans": sum(f["latency_ms"]["plans"] for f in runs[imagination]),
            "successes": sum(f["successes"] for f in runs[imagination]),
            "futures_per_s": statistics.median(f["imagination"]["per_s"] for f in runs[imagination]),
            "rows": [{"stage": name, **values} for name, values in table.items()],
        }
    if args.json:
        write_json(args.json, result)
    _show(result)
    return 0


def _table(figures: list[dict]) -> dict[str, dict[str, float]]:
    """Stage -> p50 and p99 [ms], medians over runs."""
    return {
        name: {q: statistics.median(f["stages_ms"][name][q] for f in figures) for q in ("p50", "p99")} for name in PARTS
    }


def _show(result: dict) -> None:
    for state in ("off", "on"):
        r = result[state]
        print(
            f"\nimagination {state}: {r['plans']} plans, {r['successes']} successes, {r['futures_per_s']:.1f} futures/s"
        )
        for row in r["rows"]:
            note = PARTS[row["stage"]]
            print(f"  {row['stage']:16} p50 {row['p50']:6.1f} ms   p99 {row['p99']:6.1f} ms   {note}".rstrip())
    raised = result["imagination_raises"]
    print(f"\nimagination raises p50 by {100 * raised['p50']:+.0f} %, p99 by {100 * raised['p99']:+.0f} %")
