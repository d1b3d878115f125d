"""Input devices as data: which axis and which button of a sensor_msgs/Joy means what. And a keyboard made into one."""

from __future__ import annotations

from dataclasses import dataclass

KEY_TIME = 0.15  # [s] a key counts as held for this long; a terminal repeats a held one about 30 times a second
KEYS = {  # key -> axis, direction
    "w": (0, 1), "s": (0, -1), "a": (1, 1), "d": (1, -1), "r": (2, 1), "f": (2, -1),
    "u": (3, 1), "o": (3, -1), "i": (4, 1), "k": (4, -1), "j": (5, 1), "l": (5, -1),
}  # fmt: skip
BUTTON_KEYS = {"c": 1, "v": 2, "b": 3}  # close, open, give back


@dataclass(frozen=True)
class Device:
    """Where a Joy message carries what.

    ``axes``: x, y, z, then turns about x, y, z, all of the base frame; each (index, sign), or None where it has none.
    Buttons: ``clutch`` is held to move; the same index for ``close`` and ``open`` makes a toggle.
    """

    axes: tuple[tuple[int, float] | None, ...]
    clutch: int
    close: int
    open: int
    give_back: int | None = None


DEVICES = {
    # spacenav_node: six axes, forward, left and up positive; two buttons
    "spacemouse": Device(tuple((i, 1.0) for i in range(6)), clutch=0, close=1, open=1),
    # joy_node with an Xbox pad: left stick x y, right stick z and yaw, cross roll and pitch; RB, A, B, Y
    "gamepad": Device(
        ((1, 1.0), (0, 1.0), (4, 1.0), (6, 1.0), (7, 1.0), (3, 1.0)), clutch=5, close=0, open=1, give_back=3
    ),
    "keyboard": Device(tuple((i, 1.0) for i in range(6)), clutch=0, close=1, open=2, give_back=3),
}


class Keyboard:
    """Keys pressed in a terminal, as the axes and buttons of a "keyboard" Joy. A terminal tells no releases."""

    def __init__(self):
        self._pressed: dict[str, float] = {}

    def press(self, key: str, now: float) -> None:
        """A key arrived."""
        self._pressed[key] = now

    def joy(self, now: float) -> tuple[list[float], list[int]]:
        """Axes (6) and buttons (4). The clutch is held while any motion key is."""
        held = [key for key, at in self._pressed.items() if now - at < KEY_TIME]
        axes, buttons = [0.0] * 6, [0] * 4
        for key in held:
            if key in KEYS:
                axis, direction = KEYS[key]
                axes[axis] += direction
                buttons[0] = 1
            elif key in BUTTON_KEYS:
                buttons[BUTTON_KEYS[key]] = 1
        return axes, buttons
