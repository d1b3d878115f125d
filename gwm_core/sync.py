"""Synchronise colour with depth, cameras with each other and joints with images, by stamp alone.

Pure: no clock, no ROS.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from gwm_core.types import ArmState

MS = 1_000_000  # [ns]


@dataclass(frozen=True)
class SyncConfig:
    """Largest skews within one observation [ns], and how much is buffered."""

    color_depth: int = 20 * MS  # between colour and depth of a camera
    cameras: int = 40 * MS  # between two cameras
    joints_gap: int = 50 * MS  # joints are not interpolated over a longer gap
    # an image this much older than the newest means that the clock was set: the buffers are cleared
    jump: int = 1000 * MS
    joints_jump: int = 20 * MS  # the same for a joint state, whose publisher keeps their order
    images: int = 4  # buffered per stream
    joints: int = 1000  # joint states buffered


class SyncedObservation(NamedTuple):
    """Images of all cameras and the joints at one stamp."""

    stamp: int  # [ns] of the newest colour image
    images: dict[str, tuple[int, Any, Any]]  # camera -> (stamp [ns] of colour, colour, depth)
    state: ArmState  # joints at ``stamp``


class Sync:
    """Buffers images and joint states; ``latest`` returns the newest complete observation once.

    Args:
        cameras: names of all cameras; an observation has images of each.
    """

    def __init__(self, cameras: tuple[str, ...], config: SyncConfig = SyncConfig()):
        self._config = config
        self._streams = {(c, kind): [] for c in cameras for kind in ("color", "depth")}
        self._cameras = cameras
        self._joints: deque[ArmState] = deque(maxlen=config.joints)
        self._returned = 0

    def image(self, camera: str, kind: str, stamp: int, content: Any) -> None:
        """Take a "color" or "depth" image; its content is passed through."""
        stream = self._streams[camera, kind]
        if stream and stamp < stream[-1][0] - self._config.jump:
            self._clear()
        insort(stream, (stamp, content), key=lambda item: item[0])
        del stream[: -self._config.images]

    def joints(self, state: ArmState) -> None:
        """Take a joint state. One that is slightly older than the newest is dropped."""
        if self._joints and state.stamp < self._joints[-1].stamp - self._config.joints_jump:
            self._clear()
        if not self._joints or state.stamp > self._joints[-1].stamp:
            self._joints.append(state)

    def _clear(self) -> None:
        for stream in self._streams.values():
            stream.clear()
        self._joints.clear()
        self._returned = 0

    def latest(self) -> SyncedObservation | None:
        """The newest complete observation; None if there is none since the last call."""
        reference = self._streams[self._cameras[0], "color"]
        for stamp, _ in reversed(reference):
            if stamp <= self._returned:
                return None
            pairs = {camera: self._pair(camera, stamp) for camera in self._cameras}
            if any(pair is None for pair in pairs.values()):
                continue
            stamps = [pair[0] for pair in pairs.values()]
            newest, state = max(stamps), self.joints_at(max(stamps))
            # a camera on the hand needs the joints at its own stamp
            if state is None or self.joints_at(min(stamps)) is None:
                continue
            self._returned = stamp
            return SyncedObservation(newest, pairs, state)
        return None

    def reason(self) -> str:
        """Why the newest images make no observation, or ""; the reason starts with its kind."""
        for (camera, kind), stream in self._streams.items():
            if not stream:
                return f"images: no {kind} image of {camera} that can be used"
        newest = {camera: self._streams[camera, "color"][-1][0] for camera in self._cameras}
        return self._skew_reason(newest) or self._joints_reason(newest)

    def _skew_reason(self, newest: dict[str, int]) -> str:
        for camera in newest:
            depths = [depth for depth, _ in self._streams[camera, "depth"]]
            skew = min(
                abs(depth - color)
                for depth in depths
                for color, _ in self._streams[camera, "color"]
            )
            if skew > self._config.color_depth:
                return (
                    f"colour and depth: those of {camera} are {_ms(skew)} apart,"
                    f" {_ms(self._config.color_depth)} at most; one rate for both"
                )
        first = min(newest, key=newest.get)
        last = max(newest, key=newest.get)
        skew = newest[last] - newest[first]
        if skew > 2 * self._config.cameras:  # free cameras may be half a period apart at any time
            return (
                f"cameras: images of {first} are {_ms(skew)} older than those of {last}; one"
                " host's clock is wanted"
            )
        return ""

    def _joints_reason(self, newest: dict[str, int]) -> str:
        if not self._joints:
            return "joints: no joint state that can be used"
        limit = self._config.joints_gap
        gap = self._joints[-1].stamp - self._joints[-2].stamp if len(self._joints) > 1 else 0
        if gap > limit:
            return f"joints: the last two states are {_ms(gap)} apart, {_ms(limit)} at most"
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

    def _pair(self, camera: str, stamp: int) -> tuple[int, Any, Any] | None:
        """(stamp, colour, depth) of a camera nearest to ``stamp``; None if none is near enough."""
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
        """Joints interpolated to ``stamp`` [ns]; None outside the buffer or in a long gap."""
        return joints_at(self._joints, stamp, self._config.joints_gap)


def _ms(ns: int) -> str:
    return f"{ns / MS:.0f} ms"


def joints_at(
    states: Sequence[ArmState], stamp: int, gap: int = SyncConfig.joints_gap
) -> ArmState | None:
    """Joints interpolated to ``stamp`` [ns]; None outside ``states`` or in a longer gap [ns]."""
    i = bisect_left(states, stamp, key=lambda state: state.stamp)
    if i == len(states):
        return None
    after = states[i]
    if after.stamp == stamp:
        return after
    if i == 0 or after.stamp - states[i - 1].stamp > gap:
        return None
    before = states[i - 1]
    w = (stamp - before.stamp) / (after.stamp - before.stamp)

    def interpolated(name: str):
        return (1 - w) * getattr(before, name) + w * getattr(after, name)

    return replace(
        before, stamp=stamp, q=interpolated("q"), dq=interpolated("dq"), width=interpolated("width")
    )
