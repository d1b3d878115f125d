"""The C kernels, compiled on first use. Without a C compiler numba's kernels are used instead."""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import platform
import shutil
import struct
import subprocess
from pathlib import Path

import numpy as np

SOURCE = Path(__file__).with_name("kernels.c")
# without -fno-tree-pre GCC 12 leaves the backward loop scalar, six times slower
FLAGS = (
    "-O3",
    "-march=native",
    "-ffast-math",
    "-fopenmp",
    "-fno-tree-pre",
    "-mprefer-vector-width=512",
    "-fPIC",
)
# without -ffast-math, with which GCC makes the whole process flush subnormal numbers to zero
LINK = ("-shared", "-fopenmp")
OFF = "GWM_NO_NATIVE"  # set to anything: numba's kernels


@functools.cache
def load() -> Native | None:
    """The compiled kernels, or None without a compiler or a folder to write to."""
    compiler = shutil.which("cc")
    if compiler is None or os.environ.get(OFF):
        return None
    path = _library_path(compiler)
    try:
        if not _is_complete(path):
            _compile(compiler, path)
        # a file that another user can write may hold any code
        if path.stat().st_uid != os.getuid() or path.stat().st_mode & 0o022:
            return None
        return Native(ctypes.CDLL(str(path)))
    except (OSError, subprocess.SubprocessError):  # a read-only home, or a missing compiler flag
        return None


def _library_path(compiler: str) -> Path:
    """The path of the library, which depends on source, flags, compiler and processor."""
    made_by = f"{Path(compiler).resolve()} {os.stat(compiler).st_mtime_ns} {_processor()}"
    inputs = f"{SOURCE.read_text()} {FLAGS} {LINK} {made_by}"
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gwm"
    return folder / f"kernels-{hashlib.sha256(inputs.encode()).hexdigest()[:16]}.so"


def _is_complete(path: Path) -> bool:
    """Whether a library exists to its end, where the linker puts the table of sections (ELF-64).

    A power loss may truncate it. Loading a truncated library ends the process with SIGBUS.
    """
    if not path.exists():
        return False
    with open(path, "rb") as file:
        head = file.read(64)
    if len(head) < 64:
        return False
    begin, size, count = struct.unpack("<40xQ10xHH2x", head)
    return begin + size * count <= path.stat().st_size


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return " ".join(sorted({line for line in lines if line.startswith(("model name", "flags"))}))


def _compile(compiler: str, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    partial = path.with_suffix(f".{os.getpid()}.partial")
    compiled = partial.with_suffix(".o")
    try:
        for command in (
            (*FLAGS, "-c", "-o", compiled, SOURCE),
            (*LINK, "-o", partial, compiled, "-lm"),
        ):
            subprocess.run([compiler, *command], check=True, capture_output=True, timeout=60)
        partial.chmod(0o700)
        with open(partial, "rb") as file:
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
        compiled.unlink(missing_ok=True)


class Native:
    """The four kernels, with the arguments of numba's."""

    def __init__(self, library: ctypes.CDLL):
        self._library = library

    def project(self, means, quats, scales, opacities, view, camera, G, key) -> None:
        """Project Gaussians to ellipses and depths."""
        self._call("project", means, quats, scales, opacities, len(means), view, camera, G, key)

    def bin(self, G, order, tiles_x, tiles_y, bands, first, ids, fill) -> None:
        """Count or list the Gaussians of every tile."""
        self._call("bin", G, order, len(order), tiles_x, tiles_y, first, ids if fill else None)

    def forward(self, G, features, off, ids, tiles_x, image, light, last) -> None:
        """Blend the Gaussians of every tile."""
        self._call(
            "forward",
            G,
            features,
            off,
            ids,
            len(last),
            tiles_x,
            *image.shape[1::-1],
            image,
            light,
            last,
        )

    def backward(
        self, G, features, off, ids, tiles_x, image, light, last, d_image, d_light, sums
    ) -> None:
        """Gradients; every thread adds to its own part of ``sums`` (threads, N, 10)."""
        sizes = len(G), len(last), tiles_x, *image.shape[1::-1]
        self._call(
            "backward",
            G,
            features,
            off,
            ids,
            *sizes,
            image,
            light,
            last,
            d_image,
            d_light,
            sums,
            len(sums),
        )

    def _call(self, name: str, *arguments) -> None:
        getattr(self._library, name)(*map(_word, arguments))


def _word(x: np.ndarray | int | None) -> ctypes.c_void_p | ctypes.c_int:
    if not isinstance(x, np.ndarray):
        return ctypes.c_void_p(None) if x is None else ctypes.c_int(x)
    if not x.flags.c_contiguous:
        raise ValueError("the kernels need contiguous arrays")
    return ctypes.c_void_p(x.ctypes.data)
