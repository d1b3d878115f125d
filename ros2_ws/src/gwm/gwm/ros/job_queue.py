"""A worker thread with a bounded backlog, which refuses what does not fit."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from rclpy.node import Node

from gwm.ros.hand_over import HandOver
from gwm_core.recording.backlog import PendingWrite, WriteBacklog

WhenDone = Callable[[Any, BaseException | None], None]
_IDLE = 0.1  # [s] at most between two calls of ``tick``


class JobQueue:
    """A long-lived thread that runs jobs in order.

    Args:
        node: its executor delivers results and exceptions.
        tick: called in the thread after every job, and regularly without one.
        backlog: jobs that wait, and how many may.
    """

    def __init__(self, node: Node, tick: Callable[[], None], backlog: WriteBacklog):
        self._tick, self._backlog = tick, backlog
        self._changed = threading.Condition()
        self._results = HandOver(node, self._hand_over)
        self._closed = False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def offer(self, work: Callable[[], float], size: int, picture: bool = False) -> str:
        """Add a job that writes a message.

        Args:
            work: for a picture it returns how long it encoded [s].
            size: of the message [bytes].
            picture: whether it is an image.

        Returns:
            "", or why the job was refused.
        """
        with self._changed:
            if reason := self._backlog.refusal(size, picture):
                return reason
            self._backlog.put(work, size, picture)
            self._changed.notify()
        return ""

    def tell(self, work: Callable[[], Any]) -> None:
        """Add a small job, before waiting pictures."""
        with self._changed:
            self._backlog.put(work)
            self._changed.notify()

    def ask(
        self, work: Callable[[], Any], when_done: WhenDone, after_pictures: bool = True
    ) -> None:
        """Add a job after all earlier ones, or after all but pictures.

        Args:
            when_done: called with the job's result or its exception, in the executor's thread.
        """
        with self._changed:
            self._backlog.put(work, after_images=after_pictures, when_done=when_done)
            self._changed.notify()

    def close(self) -> None:
        """End the thread after all waiting jobs."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join(timeout=10.0)

    def _run(self) -> None:
        try:
            while True:
                with self._changed:
                    self._changed.wait_for(lambda: self._backlog.waiting or self._closed, _IDLE)
                    job = self._backlog.next()
                if job is not None:
                    self._do(job)
                elif self._closed:
                    return
                begun = time.monotonic()
                self._tick()
                with self._changed:
                    self._backlog.spend(0.0, time.monotonic() - begun)
        except BaseException as error:  # raised again in the executor's thread
            self._send(None, None, error)

    def _do(self, job: PendingWrite) -> None:
        begun = time.monotonic()
        result, error = None, None
        try:
            result = job.work()
        except Exception as raised:
            if job.when_done is None:
                raise
            error = raised
        encoding = result if job.is_image else 0.0
        # A job that somebody waits for writes no message.
        writing = time.monotonic() - begun - encoding if job.when_done is None else 0.0
        with self._changed:
            self._backlog.finish(job, encoding, writing)
        if job.when_done is not None:
            self._send(job.when_done, result, error)

    def _send(self, *result) -> None:
        if not self._closed:
            self._results.put(result)

    def _hand_over(self, result: tuple[WhenDone | None, Any, BaseException | None]) -> None:
        when_done, value, error = result
        if when_done is None:
            raise error
        when_done(value, error)
