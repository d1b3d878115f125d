"""Take values from any thread to the thread of a node's executor."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from rclpy.task import Future

from gwm.ros.node import end
from gwm_core.errors import InputError


class HandOver:
    """Calls ``deliver`` with each value, in the executor's thread and in order.

    An exception of ``deliver`` ends the executor, and an InputError ends ``spin``. A timer is what
    wakes the executor: EventsExecutor knows no guard conditions, and crashes where a task raises.
    """

    def __init__(self, node: Node, deliver: Callable[[Any], None]):
        self._node, self._deliver = node, deliver
        self._values: deque = deque()
        # of a clock of its own: EventsExecutor calls other timers of the same clock twice
        clock = Clock(clock_type=ClockType.STEADY_TIME)
        self._timer = node.create_timer(0.0, self._deliver_all, clock=clock)

    def put(self, value: Any) -> None:
        """Hand over a value, from any thread."""
        self._values.append(value)
        self._timer.reset()

    def _deliver_all(self) -> None:
        self._timer.cancel()
        try:
            while self._values:
                self._deliver(self._values.popleft())
        except InputError as error:
            end(self._node, error)


class FutureCallbacks:
    """Calls back with the results of futures.

    EventsExecutor crashes where the callback of a future raises. Here it ends the executor.
    """

    def __init__(self, node: Node):
        self._done = HandOver(node, self._call)

    def when_done(self, future: Future, callback: Callable[[Any], None]) -> None:
        """Call ``callback(result)`` in the executor's thread; a future's exception is raised."""
        future.add_done_callback(lambda done: self._done.put((callback, done)))

    @staticmethod
    def _call(ended: tuple[Callable[[Any], None], Future]) -> None:
        callback, future = ended
        callback(future.result())
