"""A worker thread that always takes the newest item; older ones are dropped, not queued.

The thread builds what it works with (a model, a GL context), and no other thread touches that.
Results are delivered in the executor's thread. So are exceptions, which therefore end the node.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import Any

from rclpy.node import Node

from gwm.ros.hand_over import HandOver

CLOSED_WITHIN = 2.0  # [s] a longer step is left to end with the process


class LatestWorker:
    """Runs ``build()`` once, then ``step(item)`` on the newest item; a step yields results.

    Args:
        node: its executor delivers the results.
        build: returns the step function; called in the thread.
        deliver: called in the executor's thread with each result.
    """

    def __init__(
        self,
        node: Node,
        build: Callable[[], Callable[[Any], Iterable]],
        deliver: Callable[[Any], None],
    ):
        self._deliver = deliver
        self._build = build
        self._changed = threading.Condition()
        self._item: Any = None
        self._closed = False
        self._results = HandOver(node, self._hand_over)
        self.ready = False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def put(self, item: Any) -> None:
        """Offer the newest item. It replaces one that still waits."""
        with self._changed:
            self._item = item
            self._changed.notify()

    def close(self) -> None:
        """End the thread after its current step."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join(timeout=CLOSED_WITHIN)

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
        except BaseException as error:  # raised again in the executor's thread
            self._send((None, error))

    def _send(self, result: tuple[Any, BaseException | None]) -> None:
        if not self._closed:
            self._results.put(result)

    def _hand_over(self, result: tuple[Any, BaseException | None]) -> None:
        value, error = result
        if error is not None:
            raise error
        self._deliver(value)
