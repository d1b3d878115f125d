"""The robot's own state, and the order of the steps that recover it after a reflex.

Modes: franka_msgs/FrankaRobotState. Order: franka_ros2 3.4, franka_hardware/doc/index.rst,
"Recovery Steps". On Humble the controllers must be deactivated by hand first (ros2_control #2318).

An error of the hardware deactivates every controller on it, also the broadcasters of the joints and
of the robot's state (seen with ros2_control 4.46). So the broadcasters come back before the
controller. A CRISP controller takes targets while it is inactive and goes to the last one as soon
as it is active (seen with crisp_controllers 8093548). So its target is set to where the arm is
first.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

MODES = ("other", "idle", "move", "guiding", "reflex", "user stopped", "automatic error recovery")
BRAKES = "its brakes are closed, or Desk is programming it: open them, and activate FCI"  # "other"
# modes in which the robot follows no command
STOPPED = ("guiding", "reflex", "user stopped", "automatic error recovery")
STATE = "franka_robot_state_broadcaster/robot_state"  # the topic
BROADCASTERS = ("joint_state_broadcaster", "franka_robot_state_broadcaster")

# [s] without a robot state, which comes at 50 Hz; after a reflex the hardware publishes none
SILENCE = 0.5
STEP_TIME = 10.0  # [s] for one step of the recovery

CLEAR, HARDWARE = "clear the error", "activate the hardware"
SENSE = "activate the broadcasters"
PLACE = "tell the controller where the arm is"
CONTROL = "activate the controller"
RELEASE = "deactivate the controller"
HINTS = {
    HARDWARE: " (where it never answers, only starting the drivers again helps: franka_ros2 #212)"
}
STEPS = (CLEAR, HARDWARE, SENSE, PLACE, CONTROL)
HUMBLE_STEPS = (RELEASE, *STEPS)


def trouble(mode: int | None, silent_for: float, topic: str = STATE) -> str:
    """Why the robot follows no command, or "".

    Args:
        mode: last heard; None: never.
        silent_for: [s] since then.
        topic: of the state.
    """
    if mode is None:
        return f"robot: nothing heard on {topic}"
    name = _name(mode)
    if name in STOPPED or name.startswith("mode"):
        return f"robot: {name}"
    return f"robot: silent, no state for {SILENCE} s" if silent_for > SILENCE else ""


def to_switch(
    states: dict[str, str], wanted: tuple[str, ...], active: bool
) -> tuple[list[str], str]:
    """The ``wanted`` controllers that must still be switched, and "" or why they cannot be.

    A strict switch refuses a controller that is already in its state, so only the others are named.

    Args:
        states: name -> state of every loaded controller, as controller_manager lists them.
        active: whether to activate them, or to deactivate them.
    """
    for name in wanted:
        if states.get(name) not in ("active", "inactive"):
            return [], f"{name} is {states.get(name, 'not loaded')}: start the drivers again"
    return [name for name in wanted if (states[name] == "active") is not active], ""


def _name(mode: int) -> str:
    return MODES[mode] if 0 <= mode < len(MODES) else f"mode {mode}, which we do not know"


class RecoveryStep(NamedTuple):
    """A step of one attempt: an answer to an attempt that was given up does not count."""

    attempt: int
    step: str


class Recovery:
    """Keeps the steps in order. Only the operator begins; each step runs once in an attempt.

    Attributes:
        failure: the step that failed and why, or "".
    """

    def __init__(self, steps: tuple[str, ...] = STEPS):
        self._steps = steps
        self._left: tuple[str, ...] = ()
        self._attempt = 0
        self._since = 0.0  # [s] when the current step began
        self.failure = ""

    @property
    def current(self) -> RecoveryStep | None:
        """The step that is under way, or None."""
        return RecoveryStep(self._attempt, self._left[0]) if self._left else None

    def begin(self, mode: int | None, now: float) -> str:
        """Start at the first step, also after a failure. Returns "" or why not."""
        name = "" if mode is None else _name(mode)
        if name == "user stopped":
            return "the user stop is pressed: release it first"
        if name == "guiding":
            return "the arm is being guided by hand: let go of it first"
        if self._left:
            return f"still at '{self._left[0]}'"
        self._left = self._steps
        self._since = now
        self.failure = ""
        self._attempt += 1
        return ""

    def end(self, step: RecoveryStep, error: str, now: float) -> None:
        """End a step, with an error or "". Raises ValueError for a step that is not under way."""
        if step.attempt != self._attempt or not self._left:
            return  # an answer to an attempt that was given up
        if step != self.current:
            raise ValueError(f"'{step.step}' out of order: it is the turn of '{self._left[0]}'")
        if error:
            self.failure = f"{step.step}: {error}; mend that, then call gate/reset again"
        self._left = () if error else self._left[1:]
        self._since = now

    def check_time(self, now: float, why: str) -> None:
        """Give up a step that takes longer than ``STEP_TIME``, for the reason ``why``."""
        if self._left and now - self._since > STEP_TIME:
            self.end(self.current, why + HINTS.get(self._left[0], ""), now)


class RobotMonitor:
    """Listens to the robot's state, and recovers the robot.

    It owns no thread and reads no clock: ``now`` is in seconds.

    Args:
        run_step: ``run_step(step, answer)`` carries out a step; ``answer(error)`` is called once
            with the result, now or later. ``PLACE`` is run again until its answer is "".
        stopped: called with the cause whenever the robot follows no command.
        steps: of the recovery.
        topic: of the robot's state.
    """

    def __init__(
        self,
        run_step: Callable[[str, Callable[[str], None]], None],
        stopped: Callable[[str], None],
        steps: tuple[str, ...] = STEPS,
        topic: str = STATE,
    ):
        self._run_step = run_step
        self._stopped = stopped
        self._topic = topic
        self._recovery = Recovery(steps)
        self._mode: int | None = None
        self._heard_at = 0.0  # [s]
        self._now = 0.0  # [s] of the last tick
        self._started: RecoveryStep | None = None
        self._place_error = ""  # why ``PLACE`` does not succeed yet
        self._finished: Callable[[], None] = lambda: None

    def receive(self, mode: int, now: float) -> None:
        """Take the robot's mode."""
        self._mode = mode
        self._heard_at = now
        if cause := trouble(mode, 0.0):
            self._stopped(cause)

    def trouble(self, now: float) -> str:
        """Why the arm may not move: the robot, a recovery under way, or one that failed; or ""."""
        step = self._recovery.current
        under_way = f"recovery: {step.step}" if step else ""
        return under_way or self._recovery.failure or self._robot_trouble(now)

    def _robot_trouble(self, now: float) -> str:
        return trouble(self._mode, now - self._heard_at, self._topic)

    def needs_recovery(self, cause: str, now: float) -> bool:
        """Whether the robot must be recovered before the gate leaves a FAULT for ``cause``.

        After a user stop that was pressed and released unnoticed the robot reports "idle" and no
        error, and moves only after a recovery (franka_ros #308). That shows by an arm that does not
        follow.
        """
        left_behind = cause.startswith("leash") and self._mode == MODES.index("idle")
        return left_behind or self.trouble(now) != ""

    def recover(self, now: float, finished: Callable[[], None]) -> str:
        """Begin the steps; ``finished()`` is called after the last. Returns "" or why not."""
        recent = now - self._heard_at <= SILENCE  # else the user stop may have been released since
        if reason := self._recovery.begin(self._mode if recent else None, now):
            return reason
        self._finished = finished
        self._now = now
        return ""

    def tick(self, now: float) -> None:
        """Check silence and time limits, and run the current step. Call it about every 0.1 s."""
        self._now = now
        if cause := self._robot_trouble(now):
            self._stopped(cause)
        self._recovery.check_time(now, self._place_error or f"no answer within {STEP_TIME:.0f} s")
        step = self._recovery.current
        if step is None or (step == self._started and step.step != PLACE):
            return
        self._started = step
        self._place_error = ""
        self._run_step(step.step, lambda error: self._end_step(step, error))

    def _end_step(self, step: RecoveryStep, error: str) -> None:
        if error and step.step == PLACE:
            self._place_error = error  # fresh joints may still come
            return
        was_current = self._recovery.current == step
        self._recovery.end(step, error, self._now)
        if was_current and self._recovery.current is None and not self._recovery.failure:
            self._finished()
