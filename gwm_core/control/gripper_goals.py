"""The Franka hand takes goals, not a stream: one per edge of the wished width, and one at a time.

The hysteresis that makes edges out of a policy's widths is the gate's (``close_below``,
``open_above``). Its driver starts a thread for every goal it is given and refuses none, so that
waiting for the last one is up to us.
"""

from __future__ import annotations

import math
from typing import NamedTuple

PATIENCE = 3.0  # [s] a goal unanswered for longer is lost; full travel takes 0.8 s at 0.1 m/s


class GripperGoal(NamedTuple):
    """A goal for the hand. Closing is a grasp (it keeps pressing), opening a move."""

    grasp: bool
    width: float  # [m]
    speed: float = 0.1  # [m/s] the driver's default
    force: float = 30.0  # [N] of the hand's continuous 70


class GripperGoals:
    """Wished widths in, the few goals out."""

    def __init__(self):
        self.told: float | None = None  # [m] last asked for, where the hand did not fail
        self.trouble = ""
        self._goal: GripperGoal | None = None  # the last that was sent
        self._before, self._sent_at = None, -math.inf  # the width before it [m], and when [s]
        self._out = self._missed = self._astray = False  # under way; refused or failed; failed

    def wish(self, width: float, now: float) -> GripperGoal | None:
        """The goal to send now, or None. The first wish is what the gate found, and moves
        nothing.
        """
        if self.told is None:
            self.told = width
        patient = now - self._sent_at <= PATIENCE
        if self._out and patient:
            return None
        if self._out:
            self._out, self.trouble = False, f"gripper: no answer for {PATIENCE:.0f} s"
        if self._missed and width == self._goal.width:
            if patient:
                return None
            goal = GripperGoal(*self._goal)  # the same again, told apart by its identity
        elif width == self.told and not self._astray:
            return None
        else:
            goal = GripperGoal(width < (self._goal.width if self._missed else self.told), width)
        self._goal, self._before, self._sent_at, self.told = goal, self.told, now, width
        self._out, self._missed, self._astray = True, False, False
        return goal

    def refused(self, goal: GripperGoal, error: str) -> None:
        """``goal`` was not taken: the hand still has the one before, and is asked again after
        ``PATIENCE``.
        """
        if goal is self._goal:
            self._miss(error)

    def answered(self, goal: GripperGoal, success: bool, error: str = "") -> None:
        """``goal`` has ended. After a failure the fingers may be anywhere: any other width is asked
        for at once.
        """
        if goal is not self._goal:
            return  # one that was taken for lost, and replaced
        if success:
            self._out, self.trouble = False, ""
        else:
            self._miss(error or "goal not reached")
            self._astray = True

    def _miss(self, error: str) -> None:
        self._out, self._missed = False, True
        self.told, self.trouble = self._before, f"gripper: {error}"
