"""The Franka hand through libfranka: widths in, one goal at a time out, in a thread of its own."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from gwm.hardware.fci.control import one_line
from gwm_core.control.gripper_goals import GripperGoal, GripperGoals
from gwm_core.types import OPEN_WIDTH

PERIOD = 0.05  # [s]
RETRY = 2.0  # [s] between attempts to connect
ANY_OBJECT = OPEN_WIDTH  # [m] grasp epsilon: a grasp of any width counts as reached
HOMED = 0.01  # [m] a hand that has not measured its stroke reports less


class Hand:
    """Connects by itself, and again after the connection was lost.

    Args:
        address: of the robot.
        on_width: called with the measured opening [m], from the hand's thread.

    Attributes:
        trouble: what is wrong with it, or "".
    """

    def __init__(self, address: str, on_width: Callable[[float], None]):
        self._address = address
        self._on_width = on_width
        self._goals = GripperGoals()
        self._wanted: float | None = None  # [m]
        self._homing: Callable[[str], None] | None = None
        self._over = threading.Event()
        self.trouble = "hand: not connected yet"
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def move(self, width: float) -> None:
        """Request an opening [m]; the newest counts."""
        self._wanted = width

    def home(self, answer: Callable[[str], None]) -> None:
        """Let the hand measure its stroke; ``answer(error)`` is called once, from its thread."""
        self._homing = answer

    def close(self) -> None:
        """End the thread."""
        self._over.set()
        self._thread.join(timeout=5.0)

    def _run(self) -> None:
        import franky

        while not self._over.is_set():
            try:
                self._serve(franky.Gripper(self._address))
            except Exception as error:  # of several libraries' classes
                self.trouble = f"hand: {one_line(error)}"
            self._over.wait(RETRY)

    def _serve(self, gripper) -> None:
        goal: GripperGoal | None = None
        future = None
        while not self._over.wait(PERIOD):
            state = gripper.state
            self._on_width(state.width)
            if self._homing is not None and future is None:
                self._home(gripper)
            if state.max_width < HOMED:
                self.trouble = "hand: it has not measured its stroke: call fci/home_hand"
                continue
            if future is not None and future.wait(0.0):
                self._end(goal, future)
                future = None
            if future is None and self._wanted is not None:
                goal = self._goals.request(self._wanted, time.monotonic())
                future = None if goal is None else _start(gripper, goal)
            self.trouble = self._goals.trouble

    def _end(self, goal: GripperGoal, future) -> None:
        try:
            self._goals.ended(goal, future.get())
        except Exception as error:  # a grasp that failed; of several libraries' classes
            self._goals.ended(goal, False, one_line(error))

    def _home(self, gripper) -> None:
        answer, self._homing = self._homing, None
        try:
            answer("" if gripper.homing() else "the hand did not reach both ends")
        except Exception as error:
            answer(one_line(error))
            raise


def _start(gripper, goal: GripperGoal):
    if goal.grasp:
        return gripper.grasp_async(goal.width, goal.speed, goal.force, ANY_OBJECT, ANY_OBJECT)
    return gripper.move_async(goal.width, goal.speed)
