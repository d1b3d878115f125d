"""Monitor a camera's stream: images must be new, synchronous, of the right format, not empty.

Pure: no clock.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np

from gwm_core.sync import MS, SyncConfig

# faults of a pair
WRONG_FORMAT = "wrong format"
REPEATED = "repeated"
DESYNCHRONISED = "desynchronised"
NO_DEPTH = "no depth"
# faults of a stream
DROPPED = "dropped"
STALLED = "stalled"
LOST = "lost"
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
    """The requested format of a stream, and its tolerances."""

    width: int
    height: int
    hz: float
    skew: int = SyncConfig.color_depth  # [ns] between colour and depth
    patience: float = 5.0  # periods without a pair that are a stall


class StreamMonitor:
    """Checks every pair of one camera and counts the faults by name."""

    def __init__(self, config: StreamConfig):
        self._config = config
        self.counts: Counter[str] = Counter(
            {f"{fault} {stream}": 0 for fault in (WRONG_FORMAT, REPEATED) for stream in ENCODINGS}
            | dict.fromkeys((DESYNCHRONISED, NO_DEPTH, DROPPED, STALLED, LOST), 0)
        )
        self.restart()

    def restart(self) -> None:
        """Forget the last pair, not the counts: a reopened camera may number from 0."""
        self._last: dict[str, CameraImage] = {}
        self._last_pair: float | None = None
        self._stalled = False

    def check(self, color: CameraImage, depth: CameraImage, now: float) -> tuple[str, ...]:
        """Return the faults of a pair that arrived at ``now`` [s]. Skipped numbers are counted."""
        self._last_pair = now
        self._stalled = False
        pair = {"color": color, "depth": depth}
        faults = [
            f"{WRONG_FORMAT} {stream}"
            for stream, image in pair.items()
            if not self._has_format(stream, image)
        ]
        faults += [
            f"{REPEATED} {stream}"
            for stream, image in pair.items()
            if self._is_repeated(stream, image)
        ]
        if abs(color.stamp - depth.stamp) > self._config.skew:
            faults.append(DESYNCHRONISED)
        if not depth.content.any():
            faults.append(NO_DEPTH)
        if self._last:
            self.counts[DROPPED] += max(0, color.number - self._last["color"].number - 1)
        self._last = pair
        self.counts.update(faults)
        return tuple(faults)

    def silence(self, now: float) -> float:
        """Time without a pair [s], from the first call on. Each stall is counted once."""
        if self._last_pair is None:
            self._last_pair = now
        silence = now - self._last_pair
        if silence > self._config.patience / self._config.hz and not self._stalled:
            self._stalled = True
            self.counts[STALLED] += 1
        return silence

    @property
    def stalled(self) -> bool:
        """Whether the stream was stalled at the last call of ``silence``."""
        return self._stalled

    def count_loss(self) -> None:
        """Count a device that was disconnected."""
        self.counts[LOST] += 1

    def _has_format(self, stream: str, image: CameraImage) -> bool:
        encoding, kind = ENCODINGS[stream]
        shape = (self._config.height, self._config.width) + (3,) * (stream == "color")
        return (image.encoding, image.content.shape, image.content.dtype) == (encoding, shape, kind)

    def _is_repeated(self, stream: str, image: CameraImage) -> bool:
        last = self._last.get(stream)
        if last is None:
            return False
        if image.number <= last.number or image.stamp <= last.stamp:
            return True
        # no two images of a real sensor are equal
        return np.array_equal(image.content, last.content)


class DeviceClock:
    """Converts stamps of a camera's clock to host time, by the fastest transfer.

    The fastest transfer has the smallest (arrival - device time). The estimate is on the host's
    steady clock, which is never set. So where the host's clock is set, all later stamps move with
    it. The stamps include the delay of the fastest transfer; it is constant, and part of a measured
    stamp offset.
    """

    # the estimate rises at this rate: twice the difference of two quartz clocks
    DRIFT = 1e-4
    RESET = 1000 * MS  # a larger change means that the camera restarted

    def __init__(self):
        self._offset: float | None = None  # [ns] of the steady clock over the camera's
        self._last = 0

    def __call__(self, device: int, steady: int, host: int) -> int:
        """Host time [ns] of a stamp of the ``device`` [ns].

        ``steady`` and ``host`` [ns] are its arrival by the host's two clocks.
        """
        offset = steady - device
        if self._offset is None or abs(offset - self._offset) > self.RESET:
            self._offset = offset
        else:
            self._offset = min(offset, self._offset + self.DRIFT * (steady - self._last))
        self._last = steady
        return device + round(self._offset) + host - steady


class Backoff:
    """The wait before the next attempt [s]: it doubles each time, up to a bound."""

    def __init__(self, shortest: float = 0.5, longest: float = 8.0):
        self._shortest = shortest
        self._longest = longest
        self.reset()

    def reset(self) -> None:
        """Begin again with the shortest wait."""
        self._next = self._shortest

    def wait(self) -> float:
        """The wait before the next attempt [s]."""
        wait, self._next = self._next, min(2 * self._next, self._longest)
        return wait
