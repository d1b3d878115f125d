"""The C twins of the hot kernels, compiled on first use where a C compiler exists; elsewhere numba's do the work."""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import platform
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

SOURCE = Path(__file__).with_name("kernels.c")
# without -fno-tree-pre GCC 12 leaves the backward loop scalar, six times slower
FLAGS = (
    "-O3",
    "-march=native",
    "-ffast-math",
    "-fopenmp-simd",
    "-fno-tree-pre",
    "-mprefer-vector-width=512",
    "-shared",
    "-fPIC",
)
OFF = "GWM_NO_NATIVE"  # set to anything: numba's kernels


@functools.cache
def load() -> Native | None:
    """The compiled kernels, or None without a compiler, a place to keep them, or success."""
    compiler = shutil.which("cc")
    if compiler is None or os.environ.get(OFF):
        return None
    path = _place(compiler)
    try:
        if not path.exists():
            _compile(compiler, path)
        if path.stat().st_uid != os.getuid() or path.stat().st_mode & 0o022:  # others could have put code there
            return None
        return Native(ctypes.CDLL(str(path)))
    except (OSError, subprocess.SubprocessError):  # a read-only home, or a compiler that lacks a flag
        return None


def _place(compiler: str) -> Path:
    """A file name that changes with the source, the flags, the compiler and the processor."""
    known = f"{SOURCE.read_text()} {FLAGS} {Path(compiler).resolve()} {os.stat(compiler).st_mtime_ns} {_processor()}"
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gwm"
    return folder / f"kernels-{hashlib.sha256(known.encode()).hexdigest()[:16]}.so"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return " ".join(sorted({line for line in lines if line.startswith(("model name", "flags"))}))


def _compile(compiler: str, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    partial = path.with_suffix(f".{os.getpid()}.partial")
    try:
        command = [compiler, *FLAGS, "-o", str(partial), str(SOURCE), "-lm"]
        subprocess.run(command, check=True, capture_output=True, timeout=60)
        partial.chmod(0o700)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


class Native:
    """``forward`` and ``backward`` with the arguments of the numba kernels; tiles are dealt out to threads."""

    def __init__(self, library: ctypes.CDLL):
        self._library, self._threads = library, max(1, int(os.environ.get("OMP_NUM_THREADS") or os.cpu_count() or 1))
        self._pool = ThreadPoolExecutor(self._threads, "rasterize")

    def forward(self, G, features, off, ids, tiles_x, image, light, last) -> None:
        """Blend."""
        sizes = len(off) - 1, tiles_x, image.shape[1], image.shape[0]
        self._deal(self._library.forward, (G, features, off, ids), sizes, lambda thread: (image, light, last))

    def backward(self, G, features, off, ids, tiles_x, image, light, last, d_image, d_light, sums) -> None:
        """Gradients; a thread adds to its own part of ``sums``, of which there must be one for each."""
        sizes, rest = (len(off) - 1, tiles_x, image.shape[1], image.shape[0]), (image, light, last, d_image, d_light)
        self._deal(
            self._library.backward, (G, features, off, ids), sizes, lambda thread: (*rest, sums[thread]), len(sums)
        )

    def _deal(self, function, arrays, sizes, others, most: int = 1 << 16) -> None:
        threads = min(self._threads, most)

        def run(thread: int) -> None:
            words = [
                *map(_pointer, arrays),
                *map(ctypes.c_int, (*sizes, thread, threads)),
                *map(_pointer, others(thread)),
            ]
            function(*words)

        if threads == 1:
            run(0)
        else:
            list(self._pool.map(run, range(threads)))


def _pointer(array: np.ndarray) -> ctypes.c_void_p:
    if not array.flags.c_contiguous:
        raise ValueError("the kernels want arrays in one piece")
    return ctypes.c_void_p(array.ctypes.data)
