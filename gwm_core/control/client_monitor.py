"""The gate's view of a robot behind a client of our own: its mode, and the client's trouble."""

from __future__ import annotations

from collections.abc import Callable

from gwm_core.control import recovery


class ClientMonitor:
    """A ``RobotMonitor`` with the one step that such a robot needs. ``now`` is in seconds.

    Args:
        clear: clears the robot's errors and calls its argument with "" or the error, once.
        stopped: called with the cause whenever the robot follows no command.
        topic: of the robot's state.
    """

    def __init__(
        self,
        clear: Callable[[Callable[[str], None]], None],
        stopped: Callable[[str], None],
        topic: str,
    ):
        self._robot = recovery.RobotMonitor(
            lambda _, answer: clear(answer), stopped, (recovery.CLEAR,), topic
        )
        self._stopped = stopped
        self._client = ""

    def receive(self, mode: str, trouble: str, now: float) -> None:
        """Take the robot's mode, "" for unknown, and the client's trouble, "" for none."""
        if mode == "other":
            trouble = trouble or recovery.BRAKES
        self._client = f"robot: {trouble}" if trouble else ""
        if self._client:
            self._stopped(self._client)
        if mode in recovery.MODES:
            self._robot.receive(recovery.MODES.index(mode), now)

    def trouble(self, now: float) -> str:
        """Why the arm may not move, or ""."""
        return self._robot.trouble(now) or self._client

    def needs_recovery(self, cause: str, now: float) -> bool:
        """Whether ``recover`` must come before the gate leaves a FAULT for ``cause``."""
        return self._client != "" or self._robot.needs_recovery(cause, now)

    def recover(self, now: float, finished: Callable[[], None]) -> str:
        """Clear the errors, then ``finished()``. Returns "" or why it cannot begin."""
        return self._robot.recover(now, finished)

    def tick(self, now: float) -> None:
        """Check for silence, and go on with the recovery."""
        self._robot.tick(now)
