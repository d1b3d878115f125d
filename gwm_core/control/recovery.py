"""What the robot says of itself, and the order in which it is brought back after a reflex.

Modes: franka_msgs/FrankaRobotState. Order: franka_ros2 3.4, franka_hardware/doc/index.rst, "Recovery Steps"; on
Humble the controllers must be deactivated by hand first (ros2_control #2318).
"""

from __future__ import annotations

MODES = ("other", "idle", "move", "guiding", "reflex", "user stopped", "automatic error recovery")
STOPPED = ("guiding", "reflex", "user stopped", "automatic error recovery")  # in which no command is followed

SILENCE = 1.0  # [s] after an error the hardware, and with it the broadcaster of the state, is deactivated

STEPS = ("clear the error", "activate the hardware", "activate the controller")
HUMBLE_STEPS = ("deactivate the controller", *STEPS)


def trouble(mode: int | None) -> str:
    """Why the robot follows no command in this mode; "" where it may, or where nothing was heard of it yet."""
    if mode is None:
        return ""
    name = _name(mode)
    return f"robot: {name}" if name in STOPPED or name.startswith("mode") else ""


def needed(mode: int | None, silent_for: float) -> bool:
    """Whether a robot last heard ``silent_for`` [s] ago must be recovered before it can be commanded."""
    return mode is not None and (bool(trouble(mode)) or silent_for > SILENCE)


def _name(mode: int) -> str:
    return MODES[mode] if 0 <= mode < len(MODES) else f"mode {mode}, which we do not know"


class Recovery:
    """Keeps the steps in order. Begun by the operator alone; nothing is tried twice."""

    def __init__(self, steps: tuple[str, ...] = STEPS):
        self._steps, self._left = steps, ()
        self.failure = ""

    @property
    def next(self) -> str | None:
        """The step whose turn it is; None when there is none."""
        return self._left[0] if self._left else None

    def begin(self, mode: int | None) -> str:
        """Start at the first step. Returns "" or why not."""
        name = "" if mode is None else _name(mode)
        if name == "user stopped":
            return "the user stop is pressed: release it first"
        if name == "guiding":
            return "the arm is being guided by hand: let go of it first"
        if self._left:
            return f"still at '{self.next}'"
        self._left, self.failure = self._steps, ""
        return ""

    def ended(self, step: str, error: str = "") -> None:
        """A step ended, with an error or without. Raises ValueError for a step whose turn it was not."""
        if step != self.next:
            raise ValueError(f"'{step}' out of order: it is the turn of '{self.next}'")
        if error:
            self.failure = f"{step}: {error}; mend that, then call gate/reset again"
            self._left = ()
        else:
            self._left = self._left[1:]
