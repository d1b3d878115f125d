"""Worker processes that leave Ctrl-C to the process that started them."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker
from multiprocessing.pool import Pool


@contextmanager
def workers(processes: int, jobs: int) -> Iterator[Pool]:
    """A pool of at most ``processes`` for ``jobs`` jobs; an exception in the block ends it at once.

    The processes are spawned, as a fork hangs once a GL context exists. They inherit a blocked
    SIGINT, so they print no traceback when the run is interrupted.
    """
    resource_tracker.ensure_running()  # unblocks the signal when it starts
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        pool = multiprocessing.get_context("spawn").Pool(max(1, min(processes, jobs)))
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    with pool:
        yield pool
