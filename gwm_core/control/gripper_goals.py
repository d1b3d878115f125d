"""Turn the commanded width into goals for a gripper with actions.

The Franka hand takes goals, not a stream: one per change of the commanded width, one at a time. The
gate's hysteresis (``close_below``, ``open_above``) makes such changes out of a policy's widths. The
hand's driver starts a thread for every goal and refuses none, so we wait for the last one to end.
"""

from __future__ import annotations

import math
from typing import NamedTuple

GOAL_TIMEOUT = 3.0  # [s] after which a goal without an answer is lost; full travel takes 0.8 s


class GripperGoal(NamedTuple):
    """A goal for the hand: closing is a grasp, which keeps pressing, and opening a move."""

    grasp: bool
    width: float  # [m]
    speed: float = 0.1  # [m/s] the driver's default
    force: float = 30.0  # [N] of the hand's continuous 70


class GripperGoals:
    """Requested widths in, the few goals out.

    Attributes:
        requested: [m] the width last requested, where the hand did not fail.
        trouble: what is wrong with the hand, or "".
    """

    def __init__(self):
        self.requested: float | None = None
        self.trouble = ""
        self._goal: GripperGoal | None = None  # the last that was sent
        self._sent_at = -math.inf  # [s]
        self._width_before: float | None = None  # [m]
        self._pending = False  # not ended yet
        self._missed = False  # refused, or failed
        self._failed = False  # the fingers may be anywhere

    def request(self, width: float, now: float) -> GripperGoal | None:
        """The goal to send now, or None. The first width is as the gate found it: no motion."""
        if self.requested is None:
            self.requested = width
        recent = now - self._sent_at <= GOAL_TIMEOUT
        if self._pending and recent:
            return None
        if self._pending:
            self._pending = False
            self.trouble = f"gripper: no answer for {GOAL_TIMEOUT:.0f} s"
        if self._missed and width == self._goal.width:
            if recent:
                return None
            goal = GripperGoal(*self._goal)  # the same again; its identity tells the answers apart
        elif width == self.requested and not self._failed:
            return None
        else:
            before = self._goal.width if self._missed else self.requested
            goal = GripperGoal(width < before, width)
        self._goal = goal
        self._sent_at = now
        self._width_before = self.requested
        self.requested = width
        self._pending = True
        self._missed = False
        self._failed = False
        return goal

    def refused(self, goal: GripperGoal, error: str) -> None:
        """``goal`` was not taken: the hand is still at the one before.

        The goal is sent again after ``GOAL_TIMEOUT``.
        """
        if goal is self._goal:
            self._miss(error)

    def ended(self, goal: GripperGoal, success: bool, error: str = "") -> None:
        """``goal`` has ended.

        After a failure the fingers may be anywhere, so any other width is requested at once.
        """
        if goal is not self._goal:
            return  # a goal that counted as lost and was replaced
        if success:
            self._pending = False
            self.trouble = ""
        else:
            self._miss(error or "goal not reached")
            self._failed = True

    def _miss(self, error: str) -> None:
        self._pending = False
        self._missed = True
        self.requested = self._width_before
        self.trouble = f"gripper: {error}"
