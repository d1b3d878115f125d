"""The node that watches a protocol's trial: how the table lies, what a person says of it, and what
it took.
"""

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
PERIOD = 0.25  # [s] between two looks at the table
BY_HAND = ("stops held by operator", "stops stopped by operator")  # in the gate's status


class TrialMonitor(OperatorClient):
    """Tells of a trial on ``protocol/...``, and takes what cameras, gate and operator say of it."""

    def __init__(self, site: Site, simulated: bool):
        super().__init__()
        self._site = site
        if not simulated:
            self.waits_for = ("policy",)
        self.told: dict = {}  # what everybody is told of the trial
        # pictures of the same start, of the policy that had it first
        self.first: dict[str, np.ndarray] = {}
        self.alike: float | None = None  # how much the table is as it was then; None: not looked at
        self.mark: dict = {}
        self.discards = 0
        self.pictures: dict[str, np.ndarray] = {}
        self._since = 0  # [ns] of what was seen before there is none
        self._trial = self.create_publisher(String, topics.TRIAL, RELIABLE)
        self._overlays = {}
        self.create_subscription(String, topics.MARK, self._on_mark, RELIABLE)
        self.create_subscription(String, topics.DECISION, self._on_decision, RELIABLE)
        for name, camera in site.cameras.items():
            self.create_subscription(
                Image, topics.color(camera.prefix), self._picture(name), SENSOR
            )
            self._overlays[name] = self.create_publisher(
                CompressedImage, topics.overlay(name), RELIABLE
            )
        self.create_timer(PERIOD, self._tell, clock=STEADY)

    def _on_mark(self, message) -> None:
        try:
            self.mark |= messages.mark_of(message)
        except ValueError as error:
            self.get_logger().error(f"mark refused: {error}")

    def _on_decision(self, message) -> None:
        self.discards += json.loads(message.data).get("do") in ("discard", "redo")

    def _picture(self, name: str):
        def take(message) -> None:
            if messages.stamp_ns(message.header.stamp) < self._since:
                return
            try:
                self.pictures[name] = image_messages.pixels(message, "color")
            except ValueError as error:
                self.get_logger().error(
                    f"image of {name} refused: {error}", throttle_duration_sec=10.0
                )

        return take

    def look(self) -> None:
        """Forget what was seen before now."""
        self._since = now_ns(self)
        self.pictures.clear()

    def _tell(self) -> None:
        if not self.told:
            return
        scores = []
        for name in self.first.keys() & self.pictures.keys():
            score, overlay = alignment(self.first[name], self.pictures[name])
            self._overlays[name].publish(scene_messages.jpeg(now_ns(self), name, overlay))
            scores.append(score)
        alike = {"alike": min(scores)} if scores else {}
        if scores:
            self.alike = min(scores)
        self._trial.publish(String(data=to_json(self.told | alike)))

    @property
    def recording(self) -> bool:
        """Whether an episode is."""
        return self.reports["recorder"]["recording"] == "True"

    @property
    def saved(self) -> str:
        """The last episode that is on disk; "" before the first of this recorder."""
        return self.reports["recorder"]["saved"]

    def stopped(self) -> int:
        """How often a person had the arm hold or stop, since the gate began."""
        return sum(int(self.status.get(key, 0)) for key in BY_HAND)

    def complete(self, outcome: TrialOutcome, profile: Profile) -> TrialOutcome:
        """With what was seen on the way."""
        site, latencies = self._site, sorted(self.latencies.values())
        # without commands in shadow mode, or where the trial was broken off before the arm was
        # armed
        broken = self.verdict(
            tcp_speed=profile.tcp_speed, workspace=site.workspace, arm=site.limits
        ).total
        anew = f" (recorded anew {self.discards} times)" if self.discards else ""
        return replace(
            outcome,
            note=(outcome.note + anew).strip(),
            violations=broken,
            latency_ms=latencies[len(latencies) // 2] if latencies else None,
        )
