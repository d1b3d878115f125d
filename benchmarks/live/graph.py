"""``gwm bench graph``: processor time of every process of the graph, with busy loops beside it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from copy import copy

from gwm.graph.environment import process_environment
from gwm.process.session import INTERRUPTED
from gwm.tools.demo import drive

from gwm_core.files.json_files import write_json

# it ends with this process, also where that is killed
LOOP = """
from gwm.graph.environment import end_with_parent
end_with_parent()
while True:
    pass
"""


def bench_graph(args, policy: str) -> int:
    """Run the demo with 0 to ``args.busy`` loops beside it, and print a table for each."""
    rows, code = [], 0
    for loops in range(args.busy + 1):
        with busy_loops(loops):
            figures, out = drive(copy(args), policy, args.idle)
        rows.append(_row(loops, figures))
        _show(rows[-1], out)
        code = max(code, figures["code"])
        if code == INTERRUPTED:
            break
    if args.json:
        write_json(args.json, {"cores": os.cpu_count(), "seed": args.seed, "rows": rows})
    return code


@contextmanager
def busy_loops(count: int) -> Iterator[None]:
    """Endless loops of normal priority."""
    environment = {**os.environ, **process_environment()}
    loops = [
        subprocess.Popen([sys.executable, "-c", LOOP], process_group=0, env=environment)
        for _ in range(count)
    ]
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


def _row(loops: int, figures: dict) -> dict:
    gate = figures["gate"]
    topics = figures["topics"].values()
    return {
        "busy_loops": loops,
        "cores": figures["cores"],
        "successes": figures["successes"],
        "ended": figures["episodes"],
        "violations": gate["violations"],
        "latency_ms": figures["latency_ms"],
        "without_capture_ms": figures["stages_ms"].get("all but capture"),
        "late_fraction": gate["late_fraction"],
        "idle_late_fraction": gate["idle_late_fraction"],
        "lost": sum(n["sent"] - n["received"] for n in topics),
        "sent": sum(n["sent"] for n in topics),
        "frames_not_drawn": figures["frames_not_drawn"],
        "futures_per_s": figures["imagination"]["per_s"],
        "trouble": figures["trouble"],
    }


def _show(row: dict, out) -> None:
    latency, parts = row["latency_ms"], row["without_capture_ms"] or {}
    print(
        f"\n{row['busy_loops']} busy loops: {row['successes']} of {row['ended']} episodes"
        f" succeeded, {row['violations']} violations, {row['lost']} of {row['sent']} messages lost"
    )
    if row["trouble"]:
        print(f"  ended early: {row['trouble']}; log in {out}")
    if latency["plans"]:
        print(
            f"  latency p50 {latency['p50']:.0f}, p99 {latency['p99']:.0f} ms; without capture p50"
            f" {parts['p50']:.0f}, p99 {parts['p99']:.0f} ms"
        )
    print(
        f"  {100 * row['late_fraction']:.2f} % of the gate's periods late (idle loop beside it:"
        f" {100 * row['idle_late_fraction']:.2f} %), {row['futures_per_s']:.1f} futures/s"
    )
    names = sorted({name for cores in row["cores"].values() for name in cores})
    for name in [*names, "all"]:
        shares = {
            when: sum(cores.values()) if name == "all" else cores.get(name, 0.0)
            for when, cores in row["cores"].items()
        }
        text = "   ".join(f"{when} {share:5.2f}" for when, share in shares.items())
        print(f"  {name:12} {text} cores")
