"""A one-slot mailbox in front of one long-lived thread: the newest item wins, nothing queues up.

The thread builds what it works with (a model, a GL context) and is the only one to touch it.
Results come back in the executor's thread; so does an exception, which ends the node instead of
vanishing.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

from rclpy.node import Node


class LatestWorker:
    """Runs ``build()`` once, then ``step(item)`` on the newest item put in, which yields results.

    Args:
        node: whose executor delivers the results.
        build: makes the step function; called in the thread.
        deliver: called in the executor's thread with each result.
    """

    def __init__(
        self,
        node: Node,
        build: Callable[[], Callable[[Any], Iterable]],
        deliver: Callable[[Any], None],
    ):
        self._deliver, self._build = deliver, build
        self._changed, self._item, self._closed = threading.Condition(), None, False
        self._results: deque = deque()
        self._guard = node.create_guard_condition(self._hand_over)
        self.ready = False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def put(self, item: Any) -> None:
        """Leave the newest item; one that still waits is replaced."""
        with self._changed:
            self._item = item
            self._changed.notify()

    def close(self) -> None:
        """End the thread after the step it is in."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join(timeout=5.0)

    def _run(self) -> None:
        try:
            step = self._build()
            self.ready = True
            while True:
                with self._changed:
                    self._changed.wait_for(lambda: self._item is not None or self._closed)
                    if self._closed:
                        return
                    item, self._item = self._item, None
                for result in step(item):
                    self._send((result, None))
        except (
            BaseException
        ) as error:  # whatever it is, it is raised again in the executor's thread
            self._send((None, error))

    def _send(self, result: tuple[Any, BaseException | None]) -> None:
        self._results.append(result)
        if not self._closed:
            self._guard.trigger()

    def _hand_over(self) -> None:
        while self._results:
            value, error = self._results.popleft()
            if error is not None:
                raise error
            self._deliver(value)
