"""``gwm bench gate`` and ``gwm bench faults``: the gate alone, without ROS."""

from __future__ import annotations

import gc
import time
from dataclasses import asdict

import numpy as np
from gwm.tools.terminal import ProgressBar

from benchmarks.gate.faults.gate_killed import rows as gate_killed
from benchmarks.gate.faults.table import ELSEWHERE, HARDWARE, run, scenarios
from benchmarks.gate.fuzz import fuzz
from benchmarks.gate.recorded_chunks import recorded_chunks
from benchmarks.gate.simulated_arm import SimulatedArm
from gwm_core.files.json_files import write_json
from gwm_core.gate_status import State
from gwm_core.geometry.kinematics import HOME_Q
from gwm_core.types import ActionChunk

KILLS = 200
TIMED_PERIODS = 4000
CHUNK_EVERY = 50  # periods between two chunks


def bench_gate(actions: int, seed: int, path: str | None) -> int:
    """Fuzz the gate. Returns 1 when a forbidden command came out, else 0."""
    chunks, bar = recorded_chunks(), ProgressBar(actions, "gate")
    begun, cpu = time.perf_counter(), time.process_time()
    report = fuzz(actions, seed, chunks, lambda done: bar.to(min(done, actions)))
    figures = asdict(report) | {"seed": seed, "seconds": time.perf_counter() - begun}
    figures["cpu_seconds"] = time.process_time() - cpu
    figures["tick_ms"] = _period_quantiles(chunks)
    if path:
        write_json(path, figures)
    print(
        f"{report.actions} actions in {figures['seconds']:.0f} s ({figures['cpu_seconds']:.0f} s of"
        f" CPU): {report.violations} violations, {report.nonfinite} not finite, {report.partial}"
        f" half used, {report.unwatched} unwatched"
    )
    cost = ", ".join(f"{name} {ms:.2f} ms" for name, ms in figures["tick_ms"].items())
    print(f"a period's work in motion, without messages: {cost}")
    print(
        f"{report.moving} in motion; {report.plans} plans, {report.accepted} followed;"
        f" {report.resets} resets; least clearance {1e3 * report.least_clearance:.1f} mm"
    )
    for what, counts in (
        ("broken", report.broken),
        ("refused", report.refused),
        ("stops", report.stops),
    ):
        print(f"{what}: {', '.join(f'{k} {n}' for k, n in sorted(counts.items())) or 'none'}")
    return int(report.violations + report.nonfinite + report.partial + report.unwatched > 0)


def _period_quantiles(chunks: list[ActionChunk]) -> dict[str, float]:
    """Quantiles [ms] of a period's work in motion: joints and heartbeats in, a command out."""
    arm, times = SimulatedArm(), []
    arm.start()
    gc.collect()
    gc.disable()  # as in the gate's process
    try:
        for k in range(TIMED_PERIODS):
            if k % CHUNK_EVERY == 0:
                chunk = chunks[k // CHUNK_EVERY % len(chunks)]
                # the same motion, towards home
                away = np.where(arm.q > HOME_Q, -1.0, 1.0) * np.abs(chunk.q - chunk.q[0])
                arm.offer(ActionChunk(arm.stamp(), arm.q + away, chunk.width), age=0.0)
            begun = time.perf_counter()
            arm.tick()
            if arm.gate.state is State.RUNNING:
                times.append(1e3 * (time.perf_counter() - begun))
    finally:
        gc.enable()
    return dict(zip(("p50", "p99", "p99.9"), np.quantile(times, [0.5, 0.99, 0.999]).tolist()))


def bench_faults(seed: int, path: str | None) -> int:
    """Inject every fault that needs no hardware. Returns 1 when a row fails, else 0."""
    table = []
    for scenario in scenarios(recorded_chunks()):
        table.append(run(scenario, seed))
        _print_row(table[-1])
    for row in gate_killed(seed, KILLS):
        table.append(row)
        _print_row(row)
    left_out = {"hardware": HARDWARE, "elsewhere": ELSEWHERE}
    if path:
        write_json(path, {"rows": table, "not_run": left_out, "seed": seed})
    print(
        f"not run here: {', '.join(map(str, HARDWARE))} (hardware),"
        f" {', '.join(map(str, ELSEWHERE))} (other parts)"
    )
    return int(not all(row["ok"] for row in table))


def _print_row(row: dict) -> None:
    more = (
        f"  travel {row['travel_mm']:.1f} mm, at rest after {row['rest_ms']} ms"
        if "travel_mm" in row
        else ""
    )
    print(
        f"{'ok' if row['ok'] else 'FAILED':6} {row['id']:>2} "
        f" {row['passed']:>3}/{row['injected']:<3} worst {row['worst_ms']:>7.1f} of"
        f" {row['limit_ms']:>6.0f} ms  {row['name']}{more}",
        flush=True,
    )
