"""Workers that leave Ctrl-C to the process that started them."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker
from typing import Protocol

from gwm_core.workers import cluster


class Pool(Protocol):
    """What runs ``work`` for every job."""

    def imap(self, work: Callable, jobs: Iterable) -> Iterator:
        """The results in the order of the jobs."""

    def imap_unordered(self, work: Callable, jobs: Iterable) -> Iterator:
        """The results as they come."""


@contextmanager
def workers(processes: int, jobs: int) -> Iterator[Pool]:
    """A pool for ``jobs`` jobs; an exception in the block ends it at once.

    It is the Ray cluster's within ``cluster.joined``, and of at most ``processes`` else. These are
    spawned, as a fork hangs once a GL context exists. They inherit a blocked SIGINT, so they print
    no traceback when the run is interrupted.
    """
    if (pool := cluster.current()) is not None:
        yield pool
        return
    resource_tracker.ensure_running()  # unblocks the signal when it starts
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        own = multiprocessing.get_context("spawn").Pool(max(1, min(processes, jobs)))
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    with own:
        yield own
