"""The shipped policy by every runtime: building, parity with the trained network, latency."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np
from gwm.tools.terminal import shipped

from benchmarks.gpu.figures import Figure, NotHereError, median_ms, remark
from benchmarks.speed.policy import eager
from gwm_core.runtime.bundle import LARGEST_DEG, LARGEST_MM, TOLERANCE, drift, open_bundle
from gwm_core.runtime.graphs import compile as graphs
from gwm_core.runtime.graphs.backends import PRECISIONS, TensorRT, why_not
from gwm_core.runtime.policy_runner import PolicyRunner


def measure(device: str, quick: bool) -> Iterator[Figure]:
    """Figures of every runtime that works here, on the golden inputs of the shipped bundle."""
    with tempfile.TemporaryDirectory() as cache:  # so that everything is built here
        os.environ["XDG_CACHE_HOME"] = cache
        yield from _measured(Path(shipped()), 2 if quick else 20)
    if device == "cpu":
        raise NotHereError("without an NVIDIA GPU no TensorRT engine runs")


def _measured(folder: Path, repeats: int) -> Iterator[Figure]:
    golden = open_bundle(folder).golden()
    inputs = list(zip(golden["scene"], golden["proprio"], golden["task"].tolist()))
    run = eager(folder, 1)
    known = np.stack([run(*one) for one in inputs])
    yield Figure("torch without compilation", _latency(run, inputs, repeats), "ms")
    for backend in sorted(PRECISIONS, key=lambda name: name != "tensorrt"):  # it first
        if reason := why_not(backend):
            yield remark(backend, reason)
            continue
        for precision in PRECISIONS[backend]:
            yield from _runtime(
                folder, backend, precision, inputs, known, golden["spread"], repeats
            )


def _runtime(
    folder: Path, backend: str, precision: str, inputs: list, known, spread, repeats: int
) -> Iterator[Figure]:
    name = f"{backend} {precision}"
    begun = time.perf_counter()
    runner = PolicyRunner(folder, 1, backend, precision, trusted=True)
    yield Figure(f"{name}: built in", time.perf_counter() - begun, "s")
    far = asdict(drift(np.stack([runner.rows(*one) for one in inputs]), known, spread))
    wanted = backend != "openvino" or precision == "fp32"  # its bf16 is known to be refused
    limits = (TOLERANCE[precision], LARGEST_MM, LARGEST_DEG) if wanted else (None,) * 3
    units = "spreads", "mm", "degrees"
    for value, unit, limit in zip(far.values(), units, limits):
        yield Figure(f"{name}: largest difference of a plan", value, unit, limit)
    yield Figure(f"{name}: a plan", _latency(runner.rows, inputs, repeats), "ms")
    if backend == "tensorrt":
        engine = graphs.engine_file(folder, "chunk", precision)
        plain = TensorRT(engine, captured=False)
        given = [runner.inputs(*one) for one in inputs]
        yield Figure(
            f"{name}: without a CUDA graph",
            _latency(lambda *one: plain(one[0]), [(g,) for g in given], repeats),
            "ms",
        )


def _latency(run, inputs: list, repeats: int) -> float:
    """Median time [ms] of a plan over the inputs in turn."""
    turn = iter([one for _ in range(repeats + 3) for one in inputs])
    return median_ms(lambda: run(*next(turn)), repeats * len(inputs))
