"""``gwm bench policy`` and ``gwm bench bundle``: parity with the trained network, and speed."""

from __future__ import annotations

import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
from gwm.tools.terminal import ProgressBar

from benchmarks.data.damaged_bundles import damaged
from gwm_core.evaluation.golden_inputs import recorded, simulated
from gwm_core.files.json_files import write_json
from gwm_core.runtime.bundle import drift, open_bundle
from gwm_core.runtime.graphs.backends import PRECISIONS, choose, why_not
from gwm_core.runtime.policy_runner import PolicyRunner

START = """
import sys, time
begun = time.perf_counter()
from pathlib import Path
from safetensors.numpy import load_file
from gwm_core.runtime.policy_runner import PolicyRunner
actor = PolicyRunner(Path(sys.argv[1]))
known = load_file(Path(sys.argv[1]) / "golden.safetensors")
actor.rows(*(known[name][0] for name in ("scene", "proprio", "task")))
print(time.perf_counter() - begun)
"""  # from an interpreter that has loaded nothing to a verified bundle's first rows
STARTS = 3


def bench_policy(
    folder: Path,
    count: int,
    threads: int,
    seed: int,
    data: Path | None,
    renderer: str,
    path: str | None,
) -> int:
    """Time every runtime on the same observations, interleaved, and compare the chunks."""
    bundle = open_bundle(folder)
    actors, default = _actors(folder, threads), choose("auto", "auto")
    reference = actors["torch", "fp32"]
    observations = (
        recorded(reference, count, data) if data else simulated(reference, count, seed, renderer)
    )
    runs: dict[tuple, Callable] = {"eager": eager(folder, threads)}
    runs |= {key: actor.rows for key, actor in actors.items()}
    for run in runs.values():
        for inputs in observations[:5]:
            run(*inputs)
    made, times = {key: [] for key in runs}, {key: [] for key in runs}
    for inputs in observations:
        for key, run in runs.items():
            begun = time.perf_counter()
            rows = run(*inputs)
            times[key].append(1e3 * (time.perf_counter() - begun))
            made[key].append(rows)
    known, spread = np.stack(made["eager"]), bundle.golden()["spread"]
    eager_ms = statistics.median(times["eager"])
    rows = []
    for backend, precision in actors:
        key = backend, precision
        far = asdict(drift(np.stack(made[key]), known, spread))
        rows.append(
            {
                "backend": backend,
                "precision": precision,
                "default": key == default,
                "ms_median": statistics.median(times[key]),
                "ms_p99": float(np.quantile(times[key], 0.99)),
                "ratio_to_eager": eager_ms / statistics.median(times[key]),
                "max_abs_err": far["normalized"],
                "max_mm": far["mm"],
                "max_degrees": far["degrees"],
            }
        )
    figures = {
        "policy": str(folder),
        "moments": len(observations),
        "threads": threads,
        "eager_ms_median": eager_ms,
        "start_s": _starts(folder),
        "rows": rows,
    }
    if path:
        write_json(path, figures)
    _table(figures)
    return 0


def _actors(folder: Path, threads: int) -> dict[tuple[str, str], PolicyRunner]:
    """Return a runner for each runtime and precision that works here.

    Drift is what is measured, so it is not refused.
    """
    actors = {}
    for backend, precisions in PRECISIONS.items():
        if reason := why_not(backend):
            print(f"{backend}: {reason}", file=sys.stderr)
            continue
        for precision in precisions:
            actors[backend, precision] = PolicyRunner(
                folder, threads, backend, precision, trusted=True
            )
    return actors


def eager(folder: Path, threads: int) -> Callable[..., np.ndarray]:
    """The trained network as it was trained, neighbours found in torch, fp32, no gradients."""
    import torch

    from gwm_core.model.checkpoint import load_policy
    from gwm_core.scene.gaussians import COLORS, MEANS

    torch.set_num_threads(threads)
    policy = load_policy(folder)

    @torch.inference_mode()
    def rows(scene, proprio, task) -> np.ndarray:
        inputs = scene[:, MEANS], scene[:, COLORS], proprio, np.array(task)
        return policy(*(torch.from_numpy(np.array(part[None])) for part in inputs))[0].numpy()

    return rows


def _starts(folder: Path) -> float:
    """Seconds, median of some, from a fresh interpreter to the first rows, everything compiled
    before.
    """
    words = [sys.executable, "-c", START, str(folder)]
    done = [
        subprocess.run(words, capture_output=True, text=True, check=True).stdout
        for _ in range(STARTS)
    ]
    return statistics.median(map(float, done))


def _table(figures: dict) -> None:
    eager, start = figures["eager_ms_median"], figures["start_s"]
    print(
        f"{figures['moments']} observations, {figures['threads']} thread(s), torch eager"
        f" {eager:.2f} ms; {start:.1f} s from a fresh interpreter to the first rows"
    )
    print(
        f"{'runtime':14}{'precision':11}{'ms':>8}{'p99':>8}{'x eager':>9}"
        f"{'max err':>10}{'mm':>8}{'deg':>8}"
    )
    for r in figures["rows"]:
        print(
            f"{r['backend']:14}{r['precision']:11}{r['ms_median']:>8.2f}{r['ms_p99']:>8.2f}"
            f"{r['ratio_to_eager']:>9.2f}{r['max_abs_err']:>10.1e}{r['max_mm']:>8.3f}{r['max_degrees']:>8.3f}"
            f"{'  default' * r['default']}"
        )


def bench_bundle(folder: Path, flips: int, cuts: int, seed: int, path: str | None) -> int:
    """Damage copies of a bundle; exit 1 when one is taken."""
    open_bundle(folder)
    bar = ProgressBar(flips + cuts, "damage")
    with tempfile.TemporaryDirectory() as scratch:
        copy = Path(scratch) / "bundle"
        shutil.copytree(folder, copy)
        report = damaged(copy, flips, cuts, seed, bar.step)
    figures = {"policy": str(folder), "seed": seed, **report}
    if path:
        write_json(path, figures)
    taken = ", ".join(report["taken"]) or "none"
    print(
        f"refused: {report['flips_refused']} of {flips} flipped bits, {report['cuts_refused']} of"
        f" {cuts} cuts, over {report['files']} files; taken: {taken}"
    )
    return int(bool(report["taken"]))
