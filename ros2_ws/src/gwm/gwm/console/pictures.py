"""The newest pictures for the console's page: live, predicted, and a protocol's outlines."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping

import cv2
from rclpy.node import Node
from sensor_msgs.msg import CompressedImage, Image

from gwm.ros import image_messages, messages
from gwm.ros.node import NEWEST, SENSOR
from gwm_core import topics
from gwm_core.site import Camera

PERIOD = 0.2  # [s] between live pictures of a camera
RATE_TIME = 3.0  # [s] over which the rate of a camera is measured
QUALITY = 80  # JPEG


class LatestImages:
    """Subscribes to pictures and keeps the newest of each.

    Args:
        guarded: wraps a topic's callback so that an unreadable message does no harm.

    Attributes:
        newest: name -> stamp [ns], JPEG.
        arrivals: camera -> when its images of the last ``RATE_TIME`` came [s].
    """

    def __init__(
        self,
        node: Node,
        cameras: Mapping[str, Camera],
        guarded: Callable[[str, Callable], Callable],
    ):
        self.newest: dict[str, tuple[int, bytes]] = {}
        self.arrivals: dict[str, deque[float]] = {name: deque() for name in cameras}
        self._node = node
        self._costly = []
        for name, camera in cameras.items():
            topic, overlay = topics.color(camera.prefix), topics.overlay(name)
            live = _thinned(guarded(topic, self._live(name)), self.arrivals[name])
            shown = guarded(overlay, self._shown(f"overlay/{name}"))
            self._costly += [(Image, topic, live, SENSOR)]
            self._costly += [(CompressedImage, overlay, shown, NEWEST)]
        self._subscriptions = []  # to the costly ones, while a page is open
        # These are small. A page that opens later needs them to approve their chunk.
        for name in (*cameras, topics.AFAR):
            for step in topics.LOOKAHEADS:
                topic = topics.imagined(name, step)
                node.create_subscription(
                    CompressedImage, topic, guarded(topic, self._shown(f"h{step}/{name}")), NEWEST
                )

    def watch(self, wanted: bool) -> None:
        """Subscribe to live pictures, or unsubscribe."""
        if wanted and not self._subscriptions:
            self._subscriptions = [
                self._node.create_subscription(kind, topic, take, qos)
                for kind, topic, take, qos in self._costly
            ]
        elif not wanted and self._subscriptions:
            for subscription in self._subscriptions:
                self._node.destroy_subscription(subscription)
            self._subscriptions = []
            for arrivals in self.arrivals.values():
                arrivals.clear()

    def rates(self) -> dict[str, float | None]:
        """Return the rate of every camera [Hz]; None before the first image."""
        now = time.monotonic()
        return {name: _rate(list(arrivals), now) for name, arrivals in self.arrivals.items()}

    def _live(self, camera: str) -> Callable:
        def take(message) -> None:
            picture = image_messages.pixels(message, "color")
            ok, data = cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
            if not ok:
                raise ValueError("no JPEG can be made of it")
            self.newest[f"live/{camera}"] = messages.stamp_ns(message.header.stamp), data.tobytes()

        return take

    def _shown(self, name: str) -> Callable:
        def take(message) -> None:
            self.newest[name] = messages.stamp_ns(message.header.stamp), bytes(message.data)

        return take


def _thinned(take: Callable, arrivals: deque[float]) -> Callable:
    """Return a callback that hands on a message at most every ``PERIOD``.

    It notes the time [s] of every message in ``arrivals``.
    """
    taken = -PERIOD

    def thinned(message) -> None:
        nonlocal taken
        now = time.monotonic()
        arrivals.append(now)
        while now - arrivals[0] > RATE_TIME:
            arrivals.popleft()
        if now - taken >= PERIOD:
            taken = now
            take(message)

    return thinned


def _rate(arrivals: list[float], now: float) -> float | None:
    """Return the rate [Hz] of the arrivals [s] in the last ``RATE_TIME``; None without any."""
    recent = [at for at in arrivals if now - at <= RATE_TIME]
    if not arrivals:
        return None
    return round((len(recent) - 1) / (now - recent[0]), 1) if len(recent) > 1 else 0.0
