"""RealSense cameras without realsense-ros: the same topics, encodings and frame ids.

Each pair of images is checked before it is published. One process runs all cameras, with a capture
thread each: a second process that searches the USB bus disturbs a camera that starts. The list of
processes, which has no YAML reader, then needs no list of cameras.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.node import Node
from sensor_msgs.msg import CameraInfo, Image

from gwm.graph.environment import process_environment
from gwm.hardware.realsense import AlignedPair, DeviceGone, RealSense, connected, recording
from gwm.ros import image_messages, messages
from gwm.ros.node import RELIABLE, STEADY, declare, now_ns, spin
from gwm.ros.worker import LatestWorker
from gwm_core import topics
from gwm_core.errors import InputError
from gwm_core.scene.stream_monitor import Backoff, StreamConfig, StreamMonitor
from gwm_core.site import DEFAULT_FILE, Camera, load_site


@dataclass(frozen=True)
class CameraParameters:
    """Parameters of the node.

    There is also ``offset_ms.<camera>``, which is added to the stamps of that camera [ms].
    """

    site: str = ""
    width: int = 424
    height: int = 240
    camera_hz: float = 15.0
    record: str = ""  # folder for <camera>.db3
    playback: str = ""  # folder with <camera>.db3 to play instead of connected cameras
    restart_after: float = 5.0  # [s] of silence until the camera is reopened


class PairSource(Protocol):
    """A source of image pairs, like RealSense. ``open`` and ``wait`` block, in a thread of it."""

    def open(self) -> None:
        """Start. Raises DeviceGone."""

    def wait(self) -> AlignedPair | None:
        """Return the next pair, or None when none came in a few periods. Raises DeviceGone."""

    def close(self) -> None:
        """Stop, from any state."""


def realsense(name: str, camera: Camera, p: CameraParameters, config: StreamConfig) -> RealSense:
    """Return the source of a camera of the site."""
    find = (
        partial(recording, _file(p.playback, name))
        if p.playback
        else partial(connected, camera.serial)
    )
    return RealSense(find, config, _file(p.record, name) if p.record else None)


class CameraStream:
    """One camera with its thread, its monitor and its publishers. Only good pairs are published."""

    def __init__(
        self,
        node: Node,
        name: str,
        prefix: str,
        source: PairSource,
        config: StreamConfig,
        restart_after: float,
    ):
        self._node = node
        self._name = name
        self._prefix = prefix
        self._source = source
        self._restart_after = restart_after
        self._offset = round(1e6 * node.declare_parameter(f"offset_ms.{name}", 0.0).value)  # [ns]
        self._log = node.get_logger().get_child(name)  # a child throttles by itself
        self._monitor = StreamMonitor(config)
        self._backoff = Backoff()
        self._absent = "not opened yet"  # why there is no device; "": it streams
        self._retry_at: float | None = None  # [s]
        self._recent_faults: set[str] = set()
        self._sent = 0
        self._reported = (0, time.monotonic())  # pairs sent, and when
        self._color = node.create_publisher(Image, topics.color(prefix), RELIABLE)
        self._depth = node.create_publisher(Image, topics.depth(prefix), RELIABLE)
        self._infos = [
            node.create_publisher(CameraInfo, t(prefix), RELIABLE)
            for t in (topics.info, topics.depth_info)
        ]
        self._worker = LatestWorker(node, self._build, self._deliver)
        self._worker.put(False)

    def _build(self):
        try:
            self._source.open()
        except DeviceGone as gone:  # at the start: a mistake in the site file or the wiring
            raise InputError(f"camera {self._name}: {gone}") from None
        return self._step

    def _step(self, reopen: bool) -> Iterator[AlignedPair | DeviceGone | None]:
        """Wait for a pair, in the camera's thread."""
        try:
            if reopen:
                self._source.close()
                self._source.open()
            yield self._source.wait()
        except DeviceGone as gone:
            yield gone

    def _deliver(self, result: AlignedPair | DeviceGone | None) -> None:
        now = time.monotonic()
        if isinstance(result, DeviceGone):
            self._lose(str(result), now)
        elif result is None and self._monitor.silence(now) > self._restart_after:
            self._lose(f"no pair for {self._monitor.silence(now):.1f} s", now)
        else:
            # The thread waits for the next pair while this one is checked.
            self._worker.put(False)
            if result is not None:
                self._take(result, now)
            elif self._monitor.stalled:
                self._log.error("stalled: it is there but sends nothing", throttle_duration_sec=2.0)

    def _lose(self, reason: str, now: float) -> None:
        if not self._absent:
            self._monitor.count_loss()
        wait = self._backoff.wait()
        self._absent, self._retry_at = reason, now + wait
        self._log.error(f"{reason}; next try in {wait:g} s")

    def retry(self) -> None:
        """Reopen the camera when its retry is due."""
        if self._retry_at is not None and time.monotonic() >= self._retry_at:
            self._retry_at = None
            self._monitor.restart()
            self._worker.put(True)

    def _take(self, pair: AlignedPair, now: float) -> None:
        if self._absent:
            self._log.info("streaming")
            self._absent = ""
            self._backoff.reset()
        faults = self._monitor.check(pair.color, pair.depth, now)
        if faults:
            self._recent_faults.update(faults)
            self._log.warn(f"pair not published: {', '.join(faults)}", throttle_duration_sec=2.0)
            return
        color, depth = pair.color.stamp + self._offset, pair.depth.stamp + self._offset
        height, width = pair.depth.content.shape
        self._color.publish(image_messages.image(color, self._name, pair.color.content))
        self._depth.publish(image_messages.image(depth, self._name, pair.depth.content))
        for publisher, stamp in zip(self._infos, (color, depth)):
            publisher.publish(
                image_messages.camera_info(
                    stamp, self._name, pair.K, width, height, pair.distortion
                )
            )
        self._sent += 1

    def report(self) -> DiagnosticArray:
        """Return state and counts since the start."""
        now, (sent, then) = time.monotonic(), self._reported
        state = (
            f"absent: {self._absent}"
            if self._absent
            else "stalled"
            if self._monitor.stalled
            else ""
        )
        state = state or ", ".join(sorted(self._recent_faults)) or "streaming"
        values = {
            "hz": f"{(self._sent - sent) / max(now - then, 1e-3):.1f}",
            **{f"sent {kind(self._prefix)}": self._sent for kind in (topics.color, topics.depth)},
            **self._monitor.counts,
        }
        self._reported = (self._sent, now)
        self._recent_faults = set()
        name = f"camera {self._name}"
        return messages.diagnostics(
            now_ns(self._node), name, state, values, ok=state == "streaming"
        )

    def close(self) -> None:
        """End the thread, then the source, so that a recording is complete."""
        self._worker.close()
        self._source.close()


class CameraNode(Node):
    """Runs all cameras of the site that have a serial number or a recording."""

    def __init__(
        self,
        make_source: Callable[
            [str, Camera, CameraParameters, StreamConfig], PairSource
        ] = realsense,
    ):
        super().__init__("cameras")
        self._streams: list[CameraStream] = []
        p = declare(self, CameraParameters)
        config = StreamConfig(p.width, p.height, p.camera_hz)
        for name, camera in _chosen_cameras(p).items():
            source = make_source(name, camera, p, config)
            self._streams.append(
                CameraStream(self, name, camera.prefix, source, config, p.restart_after)
            )
        self._diagnostics = self.create_publisher(DiagnosticArray, topics.DIAGNOSTICS, RELIABLE)
        self.create_timer(0.1, self._retry, clock=STEADY)
        self.create_timer(0.5, self._report, clock=STEADY)

    def _retry(self) -> None:
        for stream in self._streams:
            stream.retry()

    def _report(self) -> None:
        for stream in self._streams:
            self._diagnostics.publish(stream.report())

    def close(self) -> None:
        """End the threads and close the cameras."""
        for stream in self._streams:
            stream.close()


def _file(folder: str, camera: str) -> Path:
    return Path(folder).expanduser() / f"{camera}.db3"


def _chosen_cameras(p: CameraParameters) -> dict[str, Camera]:
    """Return the cameras to run, by name.

    Raises:
        InputError: there is none, or the parameters contradict each other.
    """
    site = p.site or DEFAULT_FILE
    cameras = load_site(site).cameras
    if p.record and p.playback:
        raise InputError("record and playback exclude each other")
    if p.playback:
        chosen = {
            name: camera for name, camera in cameras.items() if _file(p.playback, name).is_file()
        }
        if not chosen:
            raise InputError(
                f"no recording in {p.playback}: looked for {', '.join(f'{n}.db3' for n in cameras)}"
            )
        return chosen
    chosen = {name: camera for name, camera in cameras.items() if camera.serial}
    if not chosen:
        raise InputError(
            f'no camera in {site} has a serial (of {", ".join(cameras)}): add serial: "...", '
            "or use realsense-ros"
        )
    if p.record:
        try:
            Path(p.record).expanduser().mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"cannot write {p.record}: {error.strerror}") from None
    return chosen


def main() -> int:
    """Entry point. It sets the environment of a starter, without which large images are lost."""
    for name, value in process_environment().items():
        os.environ.setdefault(name, value)
    return spin(CameraNode)


if __name__ == "__main__":
    sys.exit(main())
