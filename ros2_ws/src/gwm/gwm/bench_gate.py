"""``gwm bench gate`` and ``gwm bench faults``: the gate alone, without ROS, against everything that can be staged."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from pathlib import Path

from gwm.terminal import Bar
from gwm_core.bench.faults import ELSEWHERE, HARDWARE, run, scenarios
from gwm_core.bench.fuzz import fuzz
from gwm_core.bench.gate_killed import rows as gate_killed
from gwm_core.bench.plans import recorded_plans

KILLS = 200


def bench_gate(actions: int, seed: int, path: str | None) -> int:
    """Fuzz the gate; exit 1 when anything that it must not let through got through."""
    plans, bar = recorded_plans(), Bar(actions, "gate")
    begun, cpu = time.perf_counter(), time.process_time()
    report = fuzz(actions, seed, plans, lambda done: bar.to(min(done, actions)))
    figures = asdict(report) | {"seed": seed, "seconds": time.perf_counter() - begun}
    figures["cpu_seconds"] = time.process_time() - cpu
    if path:
        Path(path).write_text(json.dumps(figures, indent=1) + "\n")
    print(f"{report.actions} actions in {figures['seconds']:.0f} s ({figures['cpu_seconds']:.0f} s of CPU): "
          f"{report.violations} violations, {report.nonfinite} not finite, {report.partial} half used")  # fmt: skip
    print(f"{report.moving} in motion; {report.plans} plans, {report.accepted} followed; "
          f"least clearance {1e3 * report.least_clearance:.1f} mm")  # fmt: skip
    for what, counts in (("broken", report.broken), ("refused", report.refused), ("stops", report.stops)):
        print(f"{what}: {', '.join(f'{k} {n}' for k, n in sorted(counts.items())) or 'none'}")
    return int(report.violations + report.nonfinite + report.partial > 0)


def bench_faults(seed: int, path: str | None) -> int:
    """Stage every fault that needs no hardware; exit 1 when a row fails."""
    table = []
    for scenario in scenarios(recorded_plans()):
        table.append(run(scenario, seed))
        _show(table[-1])
    for row in gate_killed(seed, KILLS):
        table.append(row)
        _show(row)
    left_out = {"hardware": HARDWARE, "elsewhere": ELSEWHERE}
    if path:
        Path(path).write_text(json.dumps({"rows": table, "not_run": left_out, "seed": seed}, indent=1) + "\n")
    print(f"not run here: {', '.join(map(str, HARDWARE))} (hardware), {', '.join(map(str, ELSEWHERE))} (other parts)")
    return int(not all(row["ok"] for row in table))


def _show(row: dict) -> None:
    more = f"  travel {row['travel_mm']:.1f} mm, at rest after {row['rest_ms']} ms" if "travel_mm" in row else ""
    print(f"{'ok' if row['ok'] else 'FAILED':6} {row['id']:>2}  {row['passed']:>3}/{row['injected']:<3} "
          f"worst {row['worst_ms']:>7.1f} of {row['limit_ms']:>6.0f} ms  {row['name']}{more}", flush=True)  # fmt: skip
