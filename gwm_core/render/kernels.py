"""The kernels of the CPU rasteriser: C where a compiler exists, else numba.

numba's are compiled twice: parallel, and serial for forked children.
"""

from __future__ import annotations

import functools
import os
import threading
import warnings
from types import FunctionType

import numpy as np

from gwm_core.files.numba_cache import cached_njit
from gwm_core.render import numba_kernels
from gwm_core.render.native import Native, load


class NumbaKernels:
    """The compiled kernels, parallel or serial."""

    def __init__(self, parallel: bool):
        self.project, self.bin, self.forward, self.backward = (
            cached_njit(parallel=parallel, fastmath=True, error_model="numpy")(
                _renamed(function, parallel)
            )
            for function in (
                numba_kernels.project,
                numba_kernels.bin,
                numba_kernels.forward,
                numba_kernels.backward,
            )
        )


def _renamed(function, parallel: bool):
    """A copy of a function under another name: numba's disk cache does not tell parallel from
    serial.
    """
    copy = FunctionType(function.__code__, function.__globals__, function.__name__)
    copy.__qualname__ = f"{function.__name__}_{'parallel' if parallel else 'serial'}"
    return copy


_parallel, _serial = NumbaKernels(True), NumbaKernels(False)
_forked, _lock = False, threading.Lock()


def _after_fork() -> None:
    global _forked
    _forked = True  # GNU OpenMP kills a forked child that goes parallel


os.register_at_fork(after_in_child=_after_fork)


def kernels() -> NumbaKernels | Native:
    """The fastest kernels that this process can use."""
    if _forked:
        return _serial
    with _lock:
        return _fastest()


@functools.cache
def _fastest() -> NumbaKernels | Native:
    native = load()
    if native is not None:
        return native
    try:
        none = np.zeros((0, 8), np.float32)
        _parallel.bin(
            none,
            np.zeros(0, np.int64),
            1,
            1,
            1,
            np.zeros(1, np.int64),
            np.zeros(0, np.int32),
            False,
        )
    except ValueError as error:  # numba: no threading layer
        warnings.warn(f"rendering on one core: {error} (apt install libgomp1)", stacklevel=2)
        return _serial
    return _parallel
