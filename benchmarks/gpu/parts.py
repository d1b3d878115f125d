"""Runs each part of ``gwm bench gpu`` in a process of its own, so that each may fail alone."""

from __future__ import annotations

import importlib
import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from gwm.graph.environment import ROOT, end_with_parent, process_environment

from benchmarks.gpu.figures import Figure, NotHereError, remark
from gwm_core.files.json_files import to_json

# the modules with a function ``measure``, and how long each may take [s]
PARTS = {
    "machine": 40,
    "gsplat": 600,  # where it is compiled; else some seconds
    "rendering": 60,
    "runtimes": 160,
    "imagination": 120,
    "training": 120,
}
NOT_HERE = 3  # exit status of a part that this machine cannot run
_OUT_OF_MEMORY = "out of GPU memory: end what else uses the GPU, or take one with more"


@dataclass(frozen=True)
class Result:
    """What came of a part.

    Attributes:
        trouble: why it ended early; "" where it did not. skipped: whether this machine cannot run
            it.
    """

    part: str
    figures: tuple[Figure, ...]
    seconds: float
    trouble: str = ""
    skipped: bool = False

    @property
    def passed(self) -> bool:
        """Whether nothing failed and all values are within their limits."""
        return (self.skipped or not self.trouble) and all(f.passed for f in self.figures)


def run_part(part: str, device: str, quick: bool, limit: float | None = None) -> Result:
    """Run a part in a new process, which is killed after its time.

    Args:
        device: "cpu" or "cuda". quick: measure once where it measures often. limit: [s].
    """
    words = [sys.executable, "-m", "benchmarks.gpu.parts", part, device, *["quick"] * quick]
    environment = {**os.environ, **process_environment(), "PYTHONPATH": _path()}
    limit = PARTS[part] if limit is None else limit
    begun = time.monotonic()
    process = subprocess.Popen(
        words,
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        out, said = process.communicate(timeout=limit)
        trouble = _trouble(process.returncode, said)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)  # compilers that it started, too
        out, said = process.communicate()
        trouble = f"not done after {limit:.0f} s"
    figures = tuple(Figure(**json.loads(line)) for line in out.splitlines() if line[:1] == "{")
    seconds = time.monotonic() - begun
    return Result(part, figures, seconds, trouble, process.returncode == NOT_HERE)


def _path() -> str:
    """PYTHONPATH of the parts: that of this process."""
    return os.pathsep.join(path for path in sys.path if path)


def _trouble(status: int, said: str) -> str:
    """Why a part ended with a status, in one line; "" for 0."""
    if status == 0:
        return ""
    if status < 0:
        return f"ended by signal {-status}" + ", as by a system out of memory" * (status == -9)
    last = (said.strip().splitlines() or [f"exit status {status}, and nothing said"])[-1]
    return last.replace(str(Path.home()), "~")[:300]  # the page is sent to others


def main(part: str, device: str, quick: bool) -> int:
    """Measure a part: a line of JSON for each figure."""
    import torch

    end_with_parent()
    measure: Callable[[str, bool], Iterator[Figure]]
    measure = importlib.import_module(f"benchmarks.gpu.{part}").measure
    try:
        for figure in measure(device, quick):
            print(to_json(asdict(figure)), flush=True)
    except NotHereError as error:
        print(error, file=sys.stderr)
        return NOT_HERE
    except torch.OutOfMemoryError:
        print(_OUT_OF_MEMORY, file=sys.stderr)
        return 1
    for figure in _memory(device):
        print(to_json(asdict(figure)), flush=True)
    return 0


def _memory(device: str) -> Iterator[Figure]:
    import torch

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    yield Figure("largest memory of the process", peak, "MB")
    if device == "cuda":
        used = torch.cuda.max_memory_allocated() / 2**20
        yield Figure("largest GPU memory of torch", used, "MB")
    else:
        yield remark("largest GPU memory of torch", "no GPU")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2], "quick" in sys.argv[3:]))
