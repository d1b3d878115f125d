"""What the robot says of itself, and the order in which it is brought back after a reflex.

Modes: franka_msgs/FrankaRobotState. Order: franka_ros2 3.4, franka_hardware/doc/index.rst,
"Recovery Steps"; on Humble the controllers must be deactivated by hand first (ros2_control #2318).
An error of the hardware deactivates every controller on it, the broadcasters of the joints and of
the robot's state too (seen with ros2_control 4.46), so these come back before the controller. A
CRISP controller takes targets while it is inactive and goes to the last one as soon as it is active
(seen with crisp_controllers 8093548), so it is told where the arm is first.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

MODES = ("other", "idle", "move", "guiding", "reflex", "user stopped", "automatic error recovery")
STOPPED = ("guiding", "reflex", "user stopped", "automatic error recovery")  # follow no command
STATE = "franka_robot_state_broadcaster/robot_state"  # the topic
BROADCASTERS = ("joint_state_broadcaster", "franka_robot_state_broadcaster")

SILENCE = 0.5  # [s] without a robot state; at 50 Hz, and after a reflex the hardware publishes none
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


def trouble(mode: int | None, silent_for: float) -> str:
    """Why a robot last heard ``silent_for`` [s] ago in ``mode`` (None: never) follows no command;
    "" where it may.
    """
    if mode is None:
        return f"robot: nothing heard on {STATE}"
    name = _name(mode)
    if name in STOPPED or name.startswith("mode"):
        return f"robot: {name}"
    return f"robot: silent, no state for {SILENCE} s" if silent_for > SILENCE else ""


def to_switch(
    states: dict[str, str], wanted: tuple[str, ...], active: bool
) -> tuple[list[str], str]:
    """The ``wanted`` controllers that must still be switched, and "" or why they cannot be.

    A strict switch refuses a controller that is already as it should be, so only the others are
    named.

    Args:
        states: name -> state of every loaded controller, as controller_manager lists them.
        active: whether they are to become active, or inactive.
    """
    for name in wanted:
        if states.get(name) not in ("active", "inactive"):
            return [], f"{name} is {states.get(name, 'not loaded')}: start the drivers again"
    return [name for name in wanted if (states[name] == "active") is not active], ""


def _name(mode: int) -> str:
    return MODES[mode] if 0 <= mode < len(MODES) else f"mode {mode}, which we do not know"


class RecoveryStep(NamedTuple):
    """A step of one attempt: an answer that comes after the attempt was given up belongs to
    none.
    """

    attempt: int
    step: str


class Recovery:
    """Keeps the steps in order. Begun by the operator alone; each step is asked for once in an
    attempt.
    """

    def __init__(self, steps: tuple[str, ...] = STEPS):
        self._steps, self._left, self._attempt = steps, (), 0
        self._since = 0.0  # [s] when the step whose turn it is began
        self.failure = ""

    @property
    def turn(self) -> RecoveryStep | None:
        """The step whose turn it is; None when there is none."""
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
        self._left, self._since, self.failure = self._steps, now, ""
        self._attempt += 1
        return ""

    def ended(self, turn: RecoveryStep, error: str, now: float) -> None:
        """A step ended, with an error or without. Raises ValueError for a step whose turn it was
        not.
        """
        if turn.attempt != self._attempt or not self._left:
            return  # an answer to an attempt that was given up
        if turn != self.turn:
            raise ValueError(f"'{turn.step}' out of order: it is the turn of '{self._left[0]}'")
        if error:
            self.failure = f"{turn.step}: {error}; mend that, then call gate/reset again"
        self._left, self._since = () if error else self._left[1:], now

    def watch(self, now: float, why: str) -> None:
        """Give up when the step whose turn it is takes longer than ``STEP_TIME``, because of
        ``why``.
        """
        if self._left and now - self._since > STEP_TIME:
            self.ended(self.turn, why + HINTS.get(self._left[0], ""), now)


class RobotMonitor:
    """Listens to the robot's state and recovers it. Owns no thread and reads no clock: ``now`` in
    seconds.

    Args:
        ask: ``ask(step, answer)`` has a step carried out; ``answer(error)`` is called once with
            what came of it, now or later. ``PLACE`` is asked for again until its answer is "".
        stopped: called with the cause whenever the robot follows no command.
        steps: of the recovery.
    """

    def __init__(
        self,
        ask: Callable[[str, Callable[[str], None]], None],
        stopped: Callable[[str], None],
        steps: tuple[str, ...] = STEPS,
    ):
        self._ask, self._stopped, self._recovery = ask, stopped, Recovery(steps)
        self._mode: int | None = None
        self._heard_at = self._now = 0.0
        self._asked: RecoveryStep | None = None
        self._why, self._finished = "", lambda: None

    def heard(self, mode: int, now: float) -> None:
        """Take the robot's mode."""
        self._mode, self._heard_at = mode, now
        if cause := trouble(mode, 0.0):
            self._stopped(cause)

    def trouble(self, now: float) -> str:
        """Why the arm may not be moved: the robot, a recovery under way, or one that failed; ""
        when all is well.
        """
        turn = self._recovery.turn
        under_way = f"recovery: {turn.step}" if turn else ""
        return under_way or self._recovery.failure or trouble(self._mode, now - self._heard_at)

    def needed(self, cause: str, now: float) -> bool:
        """Whether the robot must be recovered before the gate leaves a FAULT for ``cause``.

        After a user stop that was pressed and released unseen the robot says "idle" and no error,
        and moves only after a recovery (franka_ros #308): that shows by an arm that does not
        follow.
        """
        left_behind = cause.startswith("leash") and self._mode == MODES.index("idle")
        return left_behind or self.trouble(now) != ""

    def recover(self, now: float, finished: Callable[[], None]) -> str:
        """Begin the steps, after the last of which ``finished()`` is called. Returns "" or why they
        cannot begin.
        """
        told = now - self._heard_at <= SILENCE  # else it may have been let go of since
        if reason := self._recovery.begin(self._mode if told else None, now):
            return reason
        self._finished, self._now = finished, now
        return ""

    def tick(self, now: float) -> None:
        """Look after silence and time limits, and ask for the step whose turn it is. Call it every
        0.1 s or so.
        """
        self._now = now
        if cause := trouble(self._mode, now - self._heard_at):
            self._stopped(cause)
        self._recovery.watch(now, self._why or f"no answer within {STEP_TIME:.0f} s")
        turn = self._recovery.turn
        if turn is None or (turn == self._asked and turn.step != PLACE):
            return
        self._asked, self._why = turn, ""
        self._ask(turn.step, lambda error: self._answered(turn, error))

    def _answered(self, turn: RecoveryStep, error: str) -> None:
        if error and turn.step == PLACE:
            self._why = error  # fresh joints may still come
            return
        over = self._recovery.turn == turn
        self._recovery.ended(turn, error, self._now)
        if over and self._recovery.turn is None and not self._recovery.failure:
            self._finished()
