"""What the gate asks of any robot that reports its state."""

from __future__ import annotations

import time
from collections.abc import Callable

from gwm_core.control.client_monitor import ClientMonitor
from gwm_core.control.recovery import RobotMonitor


class ReportingRobot:
    """A robot's state, and its recovery by ``gate/reset``.

    Attributes:
        hand_trouble: of the hand, where the robot tells it; "" for none.
    """

    hand_trouble = ""

    def __init__(self, monitor: RobotMonitor | ClientMonitor):
        self._monitor = monitor

    @property
    def trouble(self) -> str:
        """Why the arm may not move, or ""."""
        return self._monitor.trouble(time.monotonic())

    def needs_recovery(self, cause: str) -> bool:
        """Whether ``recover`` must come before the gate leaves a FAULT for ``cause``."""
        return self._monitor.needs_recovery(cause, time.monotonic())

    def recover(self, finished: Callable[[], None]) -> str:
        """Run the steps in their order, then ``finished()``. Returns "" or why it cannot begin."""
        return self._monitor.recover(time.monotonic(), finished)

    def tick(self) -> None:
        """Check for silence, and go on with the recovery."""
        self._monitor.tick(time.monotonic())
