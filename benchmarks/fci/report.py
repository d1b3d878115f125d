"""``gwm bench fci``: libfranka's client and ours between the gate and a robot that says no."""

from __future__ import annotations

import numpy as np
from gwm.hardware.fci.control_process import check_installed
from gwm.tools.terminal import DeferredProgressBar

from benchmarks.fci.faults import FAULTS, moving, run
from benchmarks.fci.station import Station, tracking
from gwm_core.files.json_files import write_json

LOST = (1, 2, 3, 5, 10, 19)  # commands in a row, of the 20 that a robot tolerates


def bench_fci(minutes: int, losses: int, injections: int, seed: int, json: str | None) -> int:
    """Run all three parts, and print their tables. Returns 0 where nothing failed."""
    check_installed()
    rng = np.random.default_rng(seed)
    with Station(seed) as station:
        result = {
            "seed": seed,
            "tracking": _tracking(station, minutes),
            "lost": [_lost(station, count, losses, rng) for count in LOST],
            "faults": _faults(station, injections, rng),
        }
    if json:
        write_json(json, result)
    _show(result)
    well = result["tracking"]["reflexes"] == 0 and all(
        row["ok"] for row in result["lost"] + result["faults"]
    )
    return int(not well)


def _tracking(station: Station, minutes: int) -> dict:
    """Follow plans for some minutes; errors by the minute, and the use of the robot's limits."""
    errors = []
    bar = DeferredProgressBar("minutes")
    station.arm()
    for done in range(minutes):
        sent, measured = len(station.sent), len(station.measured)
        station.move(60.0)
        errors.append(tracking(station.sent[sent:], station.measured[measured:]))
        station.measured.clear()
        bar(done + 1, minutes)
    lag, rms, largest = np.array(errors).T
    return {
        "minutes": minutes,
        "lag_ms": [round(1e3 * float(lag.min()), 1), round(1e3 * float(lag.max()), 1)],
        "rms_mrad": round(1e3 * float(np.sqrt(np.mean(rms**2))), 2),
        "largest_mrad": round(1e3 * float(largest.max()), 1),
        "reflexes": len(station.robot.reflexes),
        "use": {name: round(use, 3) for name, use in station.robot.limits_used.items()},
    }


def _lost(station: Station, count: int, cases: int, rng: np.random.Generator) -> dict:
    """Lose ``count`` commands in a row, many times."""
    station.robot.reflexes.clear()
    bar = DeferredProgressBar(f"{count} lost")
    for case in range(cases):
        if case % 5 == 0:
            moving(station, rng)
        station.robot.drop = count
        station.run(rng.uniform(0.1, 0.2))
        bar(case + 1, cases)
    reflexes = len(station.robot.reflexes)
    return {"lost": count, "cases": cases, "reflexes": reflexes, "ok": reflexes == 0}


def _faults(station: Station, injections: int, rng: np.random.Generator) -> list[dict]:
    bar = DeferredProgressBar("faults")
    rows = []
    for fault in FAULTS:
        rows.append(run(station, fault, injections, rng))
        bar(len(rows), len(FAULTS))
    return rows


def _show(result: dict) -> None:
    row = result["tracking"]
    print(
        f"tracking, {row['minutes']} min: {row['rms_mrad']} mrad rms, {row['largest_mrad']} at"
        f" most, after a lag of {row['lag_ms'][0]:g}-{row['lag_ms'][1]:g} ms;"
        f" {row['reflexes']} reflexes"
    )
    for name, use in row["use"].items():
        print(f"  {name:36}{100 * use:6.1f} % of the limit")
    for row in result["lost"]:
        print(
            f"{row['lost']:3} commands lost in a row: {row['reflexes']} reflexes in {row['cases']}"
        )
    for row in result["faults"]:
        worst = "-" if row["worst_ms"] is None else f"{row['worst_ms']} ms"
        print(
            f"{row['name']:52}{row['passed']:4} of {row['injected']}  worst {worst}"
            f" (limit {row['limit_ms']})"
        )
        for miss in row["misses"]:
            print(f"    missed: {miss}")
