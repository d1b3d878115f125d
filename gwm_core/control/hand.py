"""The Franka hand takes goals, not a stream: one per edge of the wished width, and one at a time.

The hysteresis that makes edges out of a policy's widths is the gate's (``close_below``, ``open_above``). Its driver
starts a thread for every goal it is given and refuses none, so that waiting for the last one is up to us.
"""

from __future__ import annotations

from typing import NamedTuple

PATIENCE = 3.0  # [s] full travel takes 0.8 s at 0.1 m/s; a goal unanswered for longer is taken for lost


class Goal(NamedTuple):
    """A goal for the hand. Closing is a grasp (it keeps pressing), opening a move."""

    grasp: bool
    width: float  # [m]
    speed: float = 0.1  # [m/s] the driver's default
    force: float = 30.0  # [N] of the hand's continuous 70


class Hand:
    """Wished widths in, the few goals out."""

    def __init__(self):
        self.told: float | None = None  # [m] the width last asked for
        self.trouble = ""
        self._before, self._taken = None, True  # the width before the goal that is out, and whether that was taken
        self._out_since: float | None = None

    def wish(self, width: float, now: float) -> Goal | None:
        """The goal to send now, or None. The first wish is what the gate found, and moves nothing."""
        if self.told is None:
            self.told = width
        if self._out_since is not None:
            if now - self._out_since <= PATIENCE:
                return None
            if self._taken:
                self.trouble = f"gripper: no answer for {PATIENCE:.0f} s"
            self._out_since = None
        if width == self.told:
            return None
        goal = Goal(width < self.told, width)
        self._before, self.told, self._out_since, self._taken = self.told, width, now, True
        return goal

    def refused(self, error: str) -> None:
        """The goal was not taken: the hand still has the one before, and is asked again after ``PATIENCE``."""
        self.told, self._taken, self.trouble = self._before, False, f"gripper: {error}"

    def answered(self, success: bool, error: str = "") -> None:
        """The goal that was out has ended."""
        self._out_since = None
        self.trouble = "" if success else f"gripper: {error or 'goal not reached'}"
