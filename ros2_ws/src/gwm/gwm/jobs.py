"""A bounded queue in front of one thread: jobs are done in order, those that cannot wait are refused."""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from rclpy.node import Node
from rclpy.task import Future

from gwm_core.data.backlog import Backlog

_IDLE = 0.1  # [s] at most between calls of ``tick``


class Jobs:
    """One long-lived thread that does what it is given.

    Args:
        node: whose executor delivers results and exceptions.
        tick: called in the thread after every job, and now and then without one.
        backlog: what may wait.
    """

    def __init__(self, node: Node, tick: Callable[[], None], backlog: Backlog):
        self._tick, self._backlog = tick, backlog
        self._lock, self._jobs = threading.Lock(), queue.SimpleQueue()
        self._results: deque[tuple[Future | None, Any, BaseException | None]] = deque()
        self._guard = node.create_guard_condition(self._hand_over)
        self._closed = False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def offer(self, job: Callable[[], float], size: int, picture: bool = False) -> str:
        """Do a job that holds ``size`` bytes; it returns how long [s] of its time it encoded. Returns "" or why not."""
        with self._lock:
            if reason := self._backlog.refuses(size, picture):
                return reason
        self._put(job, size, picture, None)
        return ""

    def tell(self, job: Callable[[], Any]) -> None:
        """Do a job that holds next to nothing, after all before it."""
        self._put(job, 0, False, None)

    def ask(self, job: Callable[[], Any]) -> Future:
        """Do a job after all before it; what it returns or raises is the future's."""
        future = Future()
        self._put(job, 0, False, future)
        return future

    def _put(self, job: Callable, size: int, picture: bool, future: Future | None) -> None:
        with self._lock:
            self._backlog.put(size, picture)
        self._jobs.put((job, size, picture, future))

    def close(self) -> None:
        """End the thread when everything that waits is done."""
        self._closed = True
        self._thread.join(timeout=10.0)

    def _run(self) -> None:
        try:
            while True:
                try:
                    job = self._jobs.get(timeout=_IDLE)
                except queue.Empty:
                    if self._closed:
                        return
                else:
                    self._do(*job)
                begun = time.monotonic()
                self._tick()
                with self._lock:
                    self._backlog.spend(0.0, time.monotonic() - begun)
        except BaseException as error:  # whatever it is, it is raised again in the executor's thread
            self._send(None, None, error)

    def _do(self, job: Callable, size: int, picture: bool, future: Future | None) -> None:
        begun, result, error = time.monotonic(), None, None
        try:
            result = job()
        except Exception as raised:
            if future is None:
                raise
            error = raised
        encoding = result if picture else 0.0
        writing = time.monotonic() - begun - encoding if future is None else 0.0  # what was asked for is no message
        with self._lock:
            self._backlog.take(size, picture, encoding, writing)
        if future is not None:
            self._send(future, result, error)

    def _send(self, *result) -> None:
        self._results.append(result)
        if not self._closed:
            self._guard.trigger()

    def _hand_over(self) -> None:
        while self._results:
            future, value, error = self._results.popleft()
            if future is None:
                raise error
            future.set_exception(error) if error is not None else future.set_result(value)
