"""What must hold before a camera's images are believed: new, together, as asked for, not empty.
Pure, no clock.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np

from gwm_core.sync import MS, SyncConfig

# a pair's faults
WRONG, REPEATED, APART, EMPTY = "wrong format", "repeated", "desynchronised", "no depth"
DROPPED, STALLED, LOST = "dropped", "stalled", "lost"  # a stream's
ENCODINGS = {"color": ("rgb8", np.uint8), "depth": ("16UC1", np.uint16)}


@dataclass(frozen=True)
class CameraImage:
    """One image as a camera gave it."""

    number: int  # the camera's own count
    stamp: int  # [ns] mid-exposure, host time
    encoding: str  # as in sensor_msgs/Image
    content: np.ndarray  # (H, W, 3) or (H, W)


@dataclass(frozen=True)
class StreamConfig:
    """What was asked of the camera, and what is borne."""

    width: int
    height: int
    hz: float
    skew: int = SyncConfig.color_depth  # [ns] between colour and depth
    patience: float = 5.0  # periods without a pair that are a stall


class StreamMonitor:
    """Looks at every pair of one camera and counts what is wrong, by name."""

    def __init__(self, config: StreamConfig):
        self._config = config
        self.counts: Counter[str] = Counter(
            {f"{fault} {stream}": 0 for fault in (WRONG, REPEATED) for stream in ENCODINGS}
            | dict.fromkeys((APART, EMPTY, DROPPED, STALLED, LOST), 0)
        )
        self.restart()

    def restart(self) -> None:
        """Forget the last pair, not the counts: the camera was opened anew and may number from
        0.
        """
        self._last: dict[str, CameraImage] = {}
        self._heard: float | None = None
        self._stalled = False

    def look(self, color: CameraImage, depth: CameraImage, now: float) -> tuple[str, ...]:
        """The faults of a pair that came at ``now`` [s]; empty when it is good. Frames that never
        came are counted.
        """
        self._heard, self._stalled = now, False
        faults = [
            f"{WRONG} {s}"
            for s, p in (("color", color), ("depth", depth))
            if not self._as_asked(s, p)
        ]
        faults += [
            f"{REPEATED} {s}"
            for s, p in (("color", color), ("depth", depth))
            if self._is_repeated(s, p)
        ]
        if abs(color.stamp - depth.stamp) > self._config.skew:
            faults.append(APART)
        if not depth.content.any():
            faults.append(EMPTY)
        if self._last:
            self.counts[DROPPED] += max(0, color.number - self._last["color"].number - 1)
        self._last = {"color": color, "depth": depth}
        self.counts.update(faults)
        return tuple(faults)

    def silence(self, now: float) -> float:
        """Time without a pair [s], from the first call on when there was none; a stall is counted
        once.
        """
        if self._heard is None:
            self._heard = now
        silence = now - self._heard
        if silence > self._config.patience / self._config.hz and not self._stalled:
            self._stalled = True
            self.counts[STALLED] += 1
        return silence

    @property
    def stalled(self) -> bool:
        """Whether the stream stood still when it was last asked for."""
        return self._stalled

    def lost(self) -> None:
        """Count a device that went away."""
        self.counts[LOST] += 1

    def _as_asked(self, stream: str, picture: CameraImage) -> bool:
        encoding, kind = ENCODINGS[stream]
        shape = (self._config.height, self._config.width) + (3,) * (stream == "color")
        return (picture.encoding, picture.content.shape, picture.content.dtype) == (
            encoding,
            shape,
            kind,
        )

    def _is_repeated(self, stream: str, picture: CameraImage) -> bool:
        last = self._last.get(stream)
        if last is None:
            return False
        if picture.number <= last.number or picture.stamp <= last.stamp:
            return True
        # of a real sensor no two images are alike
        return np.array_equal(picture.content, last.content)


class DeviceClock:
    """A camera's clock -> host time, by the fastest transfer seen: it has the least (arrival -
    device time).

    The estimate lives on the host's steady clock, which is never set, so that a host clock that is
    set moves every stamp from then on by as much. The delay of the fastest transfer stays in the
    stamps; it is constant, and part of a measured stamp offset.
    """

    # a fast transfer is forgotten at this rate: twice what two quartz clocks differ by
    DRIFT = 1e-4
    RESET = 1000 * MS  # the camera restarted

    def __init__(self):
        self._offset: float | None = None  # [ns] of the steady clock over the camera's
        self._last = 0

    def __call__(self, device: int, steady: int, host: int) -> int:
        """Host time [ns] of ``device`` [ns], which arrived at ``steady`` and ``host`` [ns] of the
        host's two clocks.
        """
        offset = steady - device
        if self._offset is None or abs(offset - self._offset) > self.RESET:
            self._offset = offset
        else:
            self._offset = min(offset, self._offset + self.DRIFT * (steady - self._last))
        self._last = steady
        return device + round(self._offset) + host - steady


class Backoff:
    """How long to wait before the next try [s]: twice as long each time, up to a bound."""

    def __init__(self, first: float = 0.5, longest: float = 8.0):
        self._first, self._longest = first, longest
        self.reset()

    def reset(self) -> None:
        """Start again with the shortest wait."""
        self._next = self._first

    def wait(self) -> float:
        """The wait before the coming try [s]."""
        wait, self._next = self._next, min(2 * self._next, self._longest)
        return wait
