"""A bounded queue in front of one thread: jobs are done in order, those that do not fit are dropped."""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

from rclpy.node import Node
from rclpy.task import Future

_IDLE = 0.1  # [s] at most between calls of ``tick``


class Jobs:
    """One long-lived thread that does what it is given.

    Args:
        node: whose executor delivers results and exceptions.
        tick: called in the thread after every job, and now and then without one.
        most: bytes that may wait.
    """

    def __init__(self, node: Node, tick: Callable[[], None], most: int):
        self._tick, self._most, self._waiting = tick, most, 0
        self._lock, self._jobs = threading.Lock(), queue.SimpleQueue()
        self._results: deque[tuple[Future | None, Any, BaseException | None]] = deque()
        self._guard = node.create_guard_condition(self._hand_over)
        self._closed = False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Bytes that wait."""
        return self._waiting

    def offer(self, job: Callable[[], None], size: int) -> bool:
        """Do a job that holds ``size`` bytes, unless too much waits: False."""
        with self._lock:
            if self._waiting + size > self._most:
                return False
            self._waiting += size
        self._jobs.put((job, size, None))
        return True

    def ask(self, job: Callable[[], Any]) -> Future:
        """Do a job after all before it; what it returns or raises is the future's."""
        future = Future()
        self._jobs.put((job, 0, future))
        return future

    def close(self) -> None:
        """End the thread when everything that waits is done."""
        self._closed = True
        self._thread.join(timeout=10.0)

    def _run(self) -> None:
        try:
            while True:
                try:
                    job, size, future = self._jobs.get(timeout=_IDLE)
                except queue.Empty:
                    if self._closed:
                        return
                else:
                    self._do(job, size, future)
                self._tick()
        except BaseException as error:  # whatever it is, it is raised again in the executor's thread
            self._send(None, None, error)

    def _do(self, job: Callable, size: int, future: Future | None) -> None:
        try:
            result, error = job(), None
        except Exception as raised:
            if future is None:
                raise
            result, error = None, raised
        finally:
            with self._lock:
                self._waiting -= size
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
