"""Pairs colour with depth, cameras with each other and joints with images, by stamp alone. Pure: no
clock, no ROS.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from gwm_core.types import ArmState

MS = 1_000_000  # [ns]


@dataclass(frozen=True)
class SyncConfig:
    """Largest skews that still count as one moment [ns], and how much is kept."""

    color_depth: int = 20 * MS
    cameras: int = 40 * MS
    joints_apart: int = 50 * MS  # joints are not interpolated over a longer gap
    # an image this far back means the clock was set: everything older is forgotten
    jump: int = 1000 * MS
    joints_jump: int = 20 * MS  # the same of a joint state, whose publisher keeps their order
    depth: int = 4  # images kept per stream
    joints: int = 1000  # joint states kept


class Sync:
    """Collects images and joint states; ``latest`` gives the newest complete moment, each moment
    once.

    Args:
        cameras: names that must all be there.
    """

    def __init__(self, cameras: tuple[str, ...], config: SyncConfig = SyncConfig()):
        self._config = config
        self._streams = {(c, kind): [] for c in cameras for kind in ("color", "depth")}
        self._cameras = cameras
        self._joints: deque[ArmState] = deque(maxlen=config.joints)
        self._given = 0

    def image(self, camera: str, kind: str, stamp: int, content: Any) -> None:
        """Take a "color" or "depth" image; what it is is the caller's business."""
        stream = self._streams[camera, kind]
        if stream and stamp < stream[-1][0] - self._config.jump:
            self._forget()
        insort(stream, (stamp, content), key=lambda item: item[0])
        del stream[: -self._config.depth]

    def joints(self, state: ArmState) -> None:
        """Take a joint state. One that is a little older than the newest is dropped."""
        if self._joints and state.stamp < self._joints[-1].stamp - self._config.joints_jump:
            self._forget()
        if not self._joints or state.stamp > self._joints[-1].stamp:
            self._joints.append(state)

    def _forget(self) -> None:
        for stream in self._streams.values():
            stream.clear()
        self._joints.clear()
        self._given = 0

    def latest(self) -> tuple[int, dict[str, tuple[int, Any, Any]], ArmState] | None:
        """(stamp, {camera: (stamp, colour, depth)}, joints at the stamp), or None if there is
        nothing new and whole.

        The stamp is that of the newest colour image of the moment.
        """
        reference = self._streams[self._cameras[0], "color"]
        for stamp, _ in reversed(reference):
            if stamp <= self._given:
                return None
            pairs = {camera: self._pair(camera, stamp) for camera in self._cameras}
            if any(pair is None for pair in pairs.values()):
                continue
            stamps = [pair[0] for pair in pairs.values()]
            newest, state = max(stamps), self.joints_at(max(stamps))
            # a camera on the hand needs them at its own stamp
            if state is None or self.joints_at(min(stamps)) is None:
                continue
            self._given = stamp
            return newest, pairs, state
        return None

    def why(self) -> str:
        """What keeps the newest images from being a whole moment, or ""; kind and a colon first."""
        for (camera, kind), stream in self._streams.items():
            if not stream:
                return f"images: no {kind} image of {camera} that can be used"
        newest = {camera: self._streams[camera, "color"][-1][0] for camera in self._cameras}
        return self._why_apart(newest) or self._why_no_joints(newest)

    def _why_apart(self, newest: dict[str, int]) -> str:
        for camera in newest:
            depths = [depth for depth, _ in self._streams[camera, "depth"]]
            apart = min(
                abs(depth - color)
                for depth in depths
                for color, _ in self._streams[camera, "color"]
            )
            if apart > self._config.color_depth:
                return (
                    f"colour and depth: those of {camera} are {_ms(apart)} apart,"
                    f" {_ms(self._config.color_depth)} at most; one rate for both"
                )
        first = min(newest, key=newest.get)
        last = max(newest, key=newest.get)
        apart = newest[last] - newest[first]
        if apart > 2 * self._config.cameras:  # free cameras may be half a period apart at any time
            return (
                f"cameras: images of {first} are {_ms(apart)} older than those of {last}; one"
                " host's clock is wanted"
            )
        return ""

    def _why_no_joints(self, newest: dict[str, int]) -> str:
        if not self._joints:
            return "joints: no joint state that can be used"
        limit = self._config.joints_apart
        if (
            len(self._joints) > 1
            and (apart := self._joints[-1].stamp - self._joints[-2].stamp) > limit
        ):
            return f"joints: the last two states are {_ms(apart)} apart, {_ms(limit)} at most"
        camera = max(newest, key=newest.get)
        late = newest[camera] - self._joints[-1].stamp
        if late > limit:
            return f"clocks: images of {camera} are {_ms(late)} newer than the newest joint state"
        camera = min(newest, key=newest.get)
        late = self._joints[0].stamp - newest[camera]
        if late > 0:
            return (
                f"clocks: images of {camera} are {_ms(late)} older than the oldest joint state that"
                " is kept"
            )
        return ""

    def _pair(self, camera: str, stamp: int):
        colors = [
            i for i in self._streams[camera, "color"] if abs(i[0] - stamp) <= self._config.cameras
        ]
        for color in sorted(colors, key=lambda item: abs(item[0] - stamp)):
            depths = self._streams[camera, "depth"]
            near = min(depths, key=lambda item: abs(item[0] - color[0]), default=None)
            if near is not None and abs(near[0] - color[0]) <= self._config.color_depth:
                return color[0], color[1], near[1]
        return None

    def joints_at(self, stamp: int) -> ArmState | None:
        """Joints interpolated to ``stamp``; None when it lies outside what was received."""
        return joints_at(self._joints, stamp, self._config.joints_apart)


def _ms(ns: int) -> str:
    return f"{ns / MS:.0f} ms"


def joints_at(
    states: Sequence[ArmState], stamp: int, apart: int = SyncConfig.joints_apart
) -> ArmState | None:
    """Joints interpolated to ``stamp`` [ns]; None outside ``states`` or in a gap of more than
    ``apart`` [ns].
    """
    i = bisect_left(states, stamp, key=lambda state: state.stamp)
    if i == len(states):
        return None
    after = states[i]
    if after.stamp == stamp:
        return after
    if i == 0 or after.stamp - states[i - 1].stamp > apart:
        return None
    before = states[i - 1]
    w = (stamp - before.stamp) / (after.stamp - before.stamp)

    def mix(name: str):
        return (1 - w) * getattr(before, name) + w * getattr(after, name)

    return replace(before, stamp=stamp, q=mix("q"), dq=mix("dq"), width=mix("width"))
