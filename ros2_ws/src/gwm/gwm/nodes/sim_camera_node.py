"""The simulated cameras in a process of their own, where the physics may wait for nothing."""

from __future__ import annotations

import functools
import json
import sys

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.node import Node
from std_msgs.msg import String

from gwm.graph.environment import prioritize
from gwm.nodes.parts.sim_images import CameraParameters, SimImages
from gwm.ros import messages
from gwm.ros.node import NEWEST, RELIABLE, STEADY, declare, now_ns, spin
from gwm_core import topics
from gwm_core.sim.simulator import Simulator, Snapshot
from gwm_core.sim.tasks import sample_layout

PRIORITY = 5  # of SCHED_FIFO: a camera has its own hardware, and waits for no other process


class SimCameraNode(Node):
    """Draws the snapshots that the simulation sends."""

    def __init__(self):
        prioritize(PRIORITY)  # before DDS starts its threads, which inherit it
        super().__init__("sim_cameras")
        self._layout = functools.lru_cache(maxsize=8)(sample_layout)
        self._images = SimImages(self, declare(self, CameraParameters), self._first, nice=0)
        self._diagnostics = self.create_publisher(DiagnosticArray, topics.DIAGNOSTICS, RELIABLE)
        self.create_subscription(String, topics.SIM_SNAPSHOT, self._on_snapshot, NEWEST)
        self.create_timer(0.5, self._report, clock=STEADY)

    def _first(self) -> Snapshot:
        sim = Simulator()
        sim.reset(self._layout("pick_place", 0))
        return sim.snapshot()

    def _on_snapshot(self, message) -> None:
        request = json.loads(message.data)
        snapshot = Snapshot(
            request["time"], np.array(request["qpos"]), self._layout(*request["layout"])
        )
        if self._images.ready:
            self._images.put(request["stamp"], snapshot)

    def _report(self) -> None:
        self._diagnostics.publish(
            messages.diagnostics(now_ns(self), "sim_cameras", "running", self._images.report)
        )

    def close(self) -> None:
        """End the rendering thread."""
        self._images.close()


def main() -> int:
    """Entry point."""
    return spin(SimCameraNode)


if __name__ == "__main__":
    sys.exit(main())
