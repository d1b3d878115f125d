"""``gwm bench train``: samples a second and memory of training on few and on many episodes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
from gwm.graph.environment import ROOT, process_environment

from benchmarks.gpu import made_up_samples
from benchmarks.gpu.training import of_samples, step_seconds
from gwm_core.files.json_files import to_json, write_json
from gwm_core.model.config import POLICIES, VAES, WorldActionConfig
from gwm_core.training.datasets.array_cache import load_arrays
from gwm_core.training.datasets.future_samples import STORED, FutureSamples
from gwm_core.training.datasets.policy_samples import SCENES, PolicySamples
from gwm_core.training.datasets.stored_rows import joined
from gwm_core.training.distributed import joined as joined_processes

# samples of an episode of 8 s
PLANS, FUTURES = 80, 27
_BLOCK = 10  # episodes that are made up; more are the same ones again


def bench_train(episodes: list[int], steps: int, config: str, path: str | None) -> int:
    """Train on made-up episodes, a process for each number of them, and print a table."""
    rows = []
    print(
        f"{'episodes':>9}{'processes':>11}{'samples/s':>11}{'memory [MB]':>13}{'on disk [MB]':>14}"
    )
    for count in episodes:
        with tempfile.TemporaryDirectory() as folder:
            size = write_samples(Path(folder), count, config)
            for processes in (1, 2):
                row = {"episodes": count, "processes": processes, "disk_mb": size}
                rows.append(row | _measured(Path(folder), steps, config, processes))
                r = rows[-1]
                print(
                    f"{count:9}{processes:11}{r['samples_per_s']:11.1f}{r['memory_mb']:13.0f}"
                    f"{size:14.0f}",
                    flush=True,
                )
    if path:
        write_json(path, {"rows": rows, "steps": steps, "config": config})
    return 0


def write_samples(folder: Path, episodes: int, name: str) -> float:
    """Write made-up samples as the cache has them. Returns their size [MB]."""
    config = _config(name)
    made = {
        "plans": made_up_samples.plans(_BLOCK * PLANS, config),
        "futures": made_up_samples.futures(_BLOCK * FUTURES, config),
    }
    for kind, samples in made.items():
        (folder / kind).mkdir()
        each = len(samples) // _BLOCK
        for field in fields(samples):
            array = getattr(samples, field.name)
            if isinstance(array, np.ndarray) and field.name != "episode":
                _write(folder / kind / f"{field.name}.npy", array, episodes * each)
        np.save(folder / kind / "episode.npy", np.arange(episodes * each) // each)
    return sum(file.stat().st_size for file in folder.rglob("*.npy")) / 1e6


def _write(file: Path, array: np.ndarray, count: int) -> None:
    """Write ``count`` rows, those of ``array`` again and again."""
    shape = count, *array.shape[1:]
    out = np.lib.format.open_memmap(file, mode="w+", dtype=array.dtype, shape=shape)
    for begin in range(0, count, len(array)):
        out[begin : begin + len(array)] = array[: count - begin]
    out.flush()


def _config(name: str) -> WorldActionConfig:
    return replace(POLICIES[name][0], vae=VAES[name][0])


def _measured(folder: Path, steps: int, config: str, processes: int) -> dict[str, float]:
    """What the training in processes of their own says of itself."""
    words = ["-m", "benchmarks.speed.training", str(folder), str(steps), config]
    if processes > 1:
        run = ["torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
        words = ["-m", *run, *words]
    environment = {**os.environ, **process_environment()}
    environment["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    done = subprocess.run(
        [sys.executable, *words],
        check=False,
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
    )
    said = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if done.returncode or not said:
        raise RuntimeError(f"training on {folder} failed: {done.stderr[-2000:]}")
    return json.loads(said[-1])


def main(folder: str, steps: str, name: str) -> None:
    """Train for some steps; the first process prints samples a second and memory as JSON."""
    config, training = _config(name), POLICIES[name][1]
    plans, futures = (load_arrays(Path(folder) / kind) for kind in ("plans", "futures"))
    starts = {kind: _starts(arrays) for kind, arrays in (("p", plans), ("f", futures))}
    with joined_processes("cpu") as rank:
        made = of_samples(
            PolicySamples(**joined([plans], SCENES), starts=starts["p"]),
            FutureSamples(**joined([futures], STORED), starts=starts["f"]),
            config,
            training,
            "cpu",
        )
        memory: list[float] = []

        def sample_batch(count: int) -> dict:
            memory.append(own_memory())
            return made.sample_batch(count)

        seconds = step_seconds(made._replace(sample_batch=sample_batch), int(steps))
        if rank == 0:
            each = training.batch + training.future_batch
            print(to_json({"samples_per_s": each / seconds, "memory_mb": max(memory)}), flush=True)


def _starts(arrays: dict[str, np.ndarray]) -> tuple[str, ...]:
    return tuple(f"start {k}" for k in range(int(arrays["episode"].max()) + 1))


def own_memory() -> float:
    """Memory [MB] of this process without pages of files, which the system takes back at will."""
    return sum(_status("RssAnon:", "RssShmem:")) / 1024


def _status(*names: str) -> Iterator[int]:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(names):
            yield int(line.split()[1])


if __name__ == "__main__":
    main(*sys.argv[1:])
