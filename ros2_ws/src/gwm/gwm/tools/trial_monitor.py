"""The node that watches a protocol's trial: table, operator's marks, latencies and limits."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import String

from gwm.ros import image_messages, messages, scene_messages
from gwm.ros.node import RELIABLE, SENSOR, STEADY, now_ns
from gwm.ros.operator_client import OperatorClient
from gwm_core import topics
from gwm_core.evaluation.protocol.alignment import alignment
from gwm_core.evaluation.protocol.journal import TrialOutcome
from gwm_core.files.json_files import to_json
from gwm_core.geometry.limits import Profile
from gwm_core.site import Site

LAY, WATCH = "lay the table", "watch"  # phases of a trial
PERIOD = 0.25  # [s] between two comparisons of the table
BY_HAND = ("held by operator", "stopped by operator")  # causes of the gate's stops


class TrialMonitor(OperatorClient):
    """Announces a trial on ``protocol/...``, and collects what cameras, gate and operator report.

    Attributes:
        announcement: what is published of the trial; empty: nothing.
        reference_images: of the same start, from the first policy's trial, by camera.
        similarity: of the table to those images, 0 to 1; None: not compared yet.
        mark: what the operator said of the episode.
        discards: how often the operator discarded a recording.
        images: newest image by camera.
    """

    def __init__(self, site: Site, simulated: bool):
        super().__init__()
        self._site = site
        if not simulated:
            self.required_nodes = ("policy",)
        self.announcement: dict = {}
        self.reference_images: dict[str, np.ndarray] = {}
        self.similarity: float | None = None
        self.mark: dict = {}
        self.discards = 0
        self.images: dict[str, np.ndarray] = {}
        self._since = 0  # [ns] older images are ignored
        self._trial = self.create_publisher(String, topics.TRIAL, RELIABLE)
        self._overlays = {}
        self.create_subscription(String, topics.MARK, self._on_mark, RELIABLE)
        self.create_subscription(String, topics.DECISION, self._on_decision, RELIABLE)
        for name, camera in site.cameras.items():
            self.create_subscription(
                Image, topics.color(camera.prefix), self._on_image(name), SENSOR
            )
            self._overlays[name] = self.create_publisher(
                CompressedImage, topics.overlay(name), RELIABLE
            )
        self.create_timer(PERIOD, self._announce, clock=STEADY)

    def _on_mark(self, message) -> None:
        try:
            mark = messages.mark_of(message)
        except ValueError as error:
            self.get_logger().error(f"mark refused: {error}")
            return
        if "correct" not in mark:  # it is of an episode before this trial
            self.mark |= mark

    def _on_decision(self, message) -> None:
        self.discards += json.loads(message.data).get("do") in ("discard", "redo")

    def _on_image(self, name: str):
        def take(message) -> None:
            if messages.stamp_ns(message.header.stamp) < self._since:
                return
            try:
                self.images[name] = image_messages.pixels(message, "color")
            except ValueError as error:
                self.get_logger().error(
                    f"image of {name} refused: {error}", throttle_duration_sec=10.0
                )

        return take

    def forget_images(self) -> None:
        """Ignore images from before now."""
        self._since = now_ns(self)
        self.images.clear()

    def _announce(self) -> None:
        if not self.announcement:
            return
        scores = []
        for name in self.reference_images.keys() & self.images.keys():
            score, overlay = alignment(self.reference_images[name], self.images[name])
            self._overlays[name].publish(scene_messages.jpeg(now_ns(self), name, overlay))
            scores.append(score)
        similarity = {}
        if scores:
            self.similarity = min(scores)
            similarity = {"alike": self.similarity}
        self._trial.publish(String(data=to_json(self.announcement | similarity)))

    @property
    def recording(self) -> bool:
        """Whether an episode is being recorded."""
        return self.reports["recorder"]["recording"] == "True"

    @property
    def saved(self) -> str:
        """The last episode on disk; "" before this recorder's first."""
        return self.reports["recorder"]["saved"]

    def operator_stops(self) -> int:
        """Return how often a person held or stopped the arm since the gate began."""
        return sum(self.status.stops.get(cause, 0) for cause in BY_HAND) if self.status else 0

    def complete(self, outcome: TrialOutcome, profile: Profile) -> TrialOutcome:
        """Return the outcome with violations, latency and repeated recordings added."""
        site = self._site
        latencies = sorted(self.latencies.values())
        # There are no commands in shadow mode, or where a trial ended before the arm was armed.
        broken = self.command_check(
            tcp_speed=profile.tcp_speed, workspace=site.workspace, arm=site.limits
        ).total
        anew = f" (recorded anew {self.discards} times)" if self.discards else ""
        return replace(
            outcome,
            note=(outcome.note + anew).strip(),
            violations=broken,
            latency_ms=latencies[len(latencies) // 2] if latencies else None,
        )
