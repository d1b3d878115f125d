"""``gwm bench e2e``: where the time from a frame to the first command made from it goes, over the live graph."""

from __future__ import annotations

import json
from pathlib import Path

from gwm.demo import drive

PARTS = {
    "capture": "drawing and publishing, in the simulation",
    "receive": "over DDS, until the moment is whole",
    "lift": "RGB-D to Gaussians",
    "act": "the networks",
    "solve": "inverse kinematics",
    "handover": "to the brain's thread and back",
    "gate": "to the gate, and until its next period",
    "all but capture": "",
}


def bench_e2e(args, policy: str) -> int:
    """Run the demo's episodes and print the table of stages."""
    figures, out = drive(args, policy)
    rows = [{"stage": name, **figures["stages_ms"][name]} for name in PARTS]
    result = {"imagination": False, "plans": figures["latency_ms"]["plans"], "seed": args.seed, "rows": rows}
    if args.json:
        Path(args.json).write_text(json.dumps(result, indent=1) + "\n")
    print(f"{result['plans']} plans of {figures['episodes']} episodes, {figures['successes']} successes; log: {out}")
    for row in rows:
        print(f"  {row['stage']:16} p50 {row['p50']:6.1f} ms   p99 {row['p99']:6.1f} ms   {PARTS[row['stage']]}")
    return 0
