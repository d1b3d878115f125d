"""numba's compiler with its cache on disk, the loss of which costs time and nothing else.

numba itself raises where a power loss cut a file of the cache (numba #10434), where the disk is
full, and where it finds no folder to write to, as in a container that is run as another user (numba
#5566).
"""

from __future__ import annotations

import contextlib

import numba
from numba.core.caching import FunctionCache


def cached_njit(**options):
    """``numba.njit`` with ``cache=True``, for a function of a module."""

    def compiled(function):
        dispatcher = numba.njit(**options)(function)
        # no folder can be written to: compiled anew in every process
        with contextlib.suppress(RuntimeError):
            dispatcher._cache = _Cache(function)  # what its enable_caching() does
        return dispatcher

    return compiled


class _Cache(FunctionCache):
    def load_overload(self, sig, target_context):
        """The compiled function, or None where it has to be compiled."""
        try:
            return super().load_overload(sig, target_context)
        except (
            Exception
        ):  # of many kinds, by how the file is damaged; what is wrong otherwise the compiler says
            with contextlib.suppress(OSError):
                self.flush()  # else saving reads the damaged index again
            return None

    def save_overload(self, sig, data):
        """Keep what was compiled, where there is room."""
        with contextlib.suppress(OSError):
            super().save_overload(sig, data)
