"""numba's compiler with a cache on disk whose failures only cost time.

numba itself raises an error for a cache file that a power loss cut (numba #10434), for a full disk,
and without a writable folder, as in a container that runs as another user (numba #5566).
"""

from __future__ import annotations

import contextlib

import numba
from numba.core.caching import FunctionCache


def cached_njit(**options):
    """``numba.njit`` with ``cache=True``, for a function of a module."""

    def compiled(function):
        dispatcher = numba.njit(**options)(function)
        # without a writable folder every process compiles it again
        with contextlib.suppress(RuntimeError):
            dispatcher._cache = _Cache(function)  # what its enable_caching() does
        return dispatcher

    return compiled


class _Cache(FunctionCache):
    def load_overload(self, sig, target_context):
        """The compiled function, or None where the cache does not have it."""
        try:
            return super().load_overload(sig, target_context)
        except Exception:  # of many kinds; the compiler raises the errors of the function itself
            with contextlib.suppress(OSError):
                self.flush()  # otherwise saving reads the damaged index again
            return None

    def save_overload(self, sig, data):
        """Save a compiled function, where the disk has space."""
        with contextlib.suppress(OSError):
            super().save_overload(sig, data)
