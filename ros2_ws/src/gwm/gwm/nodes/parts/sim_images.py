"""The images of the simulated cameras: drawn in a thread, or handed to a process of their own."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass

from rclpy.node import Node
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import String

from gwm.ros import image_messages
from gwm.ros.node import NEWEST, RELIABLE
from gwm.ros.worker import LatestWorker
from gwm_core import topics
from gwm_core.files.json_files import to_json
from gwm_core.geometry.simulated_cameras import CAMERAS
from gwm_core.sim.cameras import SimCameras, by_clock, choose_renderer
from gwm_core.sim.simulator import Snapshot


@dataclass(frozen=True)
class CameraParameters:
    """Parameters of the simulated cameras."""

    renderer: str = "auto"
    width: int = 424
    height: int = 240
    # How far the cameras' clock is ahead of the host's at the start, and its drift from then on, as
    # of a RealSense without global time.
    camera_offset_ms: float = 0.0
    camera_drift_ppm: float = 0.0


class SimImages:
    """Draws and publishes in a thread of its own; the newest snapshot counts.

    Args:
        node: its executor publishes.
        first: drawn once, so that later images take no set-up.
        nice: of the thread; physics in the same process comes first.
    """

    def __init__(
        self, node: Node, settings: CameraParameters, first: Callable[[], Snapshot], nice: int
    ):
        self._settings = settings
        self._nice = nice
        self._renderer = choose_renderer(settings.renderer)
        self._first = first
        self._due = self._sent = 0
        self._begun = time.monotonic()
        self._publishers = {}
        for name in CAMERAS:
            prefix = topics.prefix_of(name)
            self._publishers[name] = (
                node.create_publisher(Image, topics.color(prefix), RELIABLE),
                node.create_publisher(Image, topics.depth(prefix), RELIABLE),
                node.create_publisher(CameraInfo, topics.info(prefix), RELIABLE),
            )
        self._worker = LatestWorker(node, self._build, self._publish)

    @property
    def ready(self) -> bool:
        """Whether the cameras are set up."""
        return self._worker.ready

    def put(self, stamp: int, snapshot: Snapshot) -> None:
        """Draw a snapshot of ``stamp`` [ns]."""
        self._due += 1
        p, seconds = self._settings, time.monotonic() - self._begun
        stamp = by_clock(stamp, seconds, p.camera_offset_ms, p.camera_drift_ppm)
        self._worker.put((stamp, snapshot))

    @property
    def report(self) -> dict[str, object]:
        """Values for diagnostics."""
        sent = {
            f"sent {kind(topics.prefix_of(name))}": self._sent
            for name in CAMERAS
            for kind in (topics.color, topics.depth)
        }
        return {
            "renderer": self._renderer,
            "ready": self.ready,
            **sent,
            "frames_due": self._due,
            "frames_drawn": self._sent,
        }

    def close(self) -> None:
        """End the thread."""
        self._worker.close()

    def _build(self):
        os.setpriority(os.PRIO_PROCESS, 0, self._nice)  # this thread only
        p = self._settings
        cameras = SimCameras(p.width, p.height, self._renderer)
        cameras(self._first())

        def render(item):
            stamp, snapshot = item
            yield stamp, cameras, cameras(snapshot)

        return render

    def _publish(self, rendered) -> None:
        stamp, cameras, images = rendered
        for item in images:
            color, depth, info = self._publishers[item.camera]
            color.publish(image_messages.image(stamp, item.camera, item.color))
            depth.publish(image_messages.image(stamp, item.camera, item.depth_mm))
            info.publish(
                image_messages.camera_info(
                    stamp, item.camera, cameras.K, cameras.width, cameras.height
                )
            )
        self._sent += 1


class SentSnapshots:
    """As ``SimImages``, for ``sim_camera_node`` to draw."""

    report: dict[str, object] = {}

    def __init__(self, node: Node):
        self._publisher = node.create_publisher(String, topics.SIM_SNAPSHOT, NEWEST)

    @property
    def ready(self) -> bool:
        """Whether the process that draws is there."""
        return self._publisher.get_subscription_count() > 0

    def put(self, stamp: int, snapshot: Snapshot) -> None:
        """Send a snapshot of ``stamp`` [ns]."""
        layout = snapshot.layout
        request = {
            "stamp": stamp,
            "time": snapshot.time,
            "qpos": snapshot.qpos.tolist(),
            "layout": [layout.task, layout.seed, layout.difficulty],
        }
        self._publisher.publish(String(data=to_json(request)))

    def close(self) -> None:
        """Do nothing."""
