"""``gwm calibrate`` against running topics: a node that plays the arm and a camera which sees a
board on the hand.
"""

import os
import random
import select
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

rclpy = pytest.importorskip("rclpy")
sys.path.insert(0, str(Path(__file__).parents[1]))

from boards import HEIGHT, WIDTH, K, views
from gwm.graph.environment import process_environment
from gwm.ros import image_messages, messages
from gwm.ros.node import RELIABLE, now_ns
from sensor_msgs.msg import CameraInfo, Image, JointState

from gwm_core import topics
from gwm_core.geometry.transforms import pose_difference
from gwm_core.site import load_site

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]
PREFIX = topics.prefix_of("front")


class ArmAndCamera:
    """Publishes joints at 100 Hz and images at 10 Hz while it is waited on."""

    def __init__(self, node):
        self.node, self.view, self.drift, self._ticks = node, None, 0.0, 0
        self._joints = node.create_publisher(JointState, topics.JOINT_STATES, RELIABLE)
        self._color = node.create_publisher(Image, topics.color(PREFIX), RELIABLE)
        self._depth = node.create_publisher(Image, topics.depth(PREFIX), RELIABLE)
        self._info = node.create_publisher(CameraInfo, topics.info(PREFIX), RELIABLE)

    def tick(self):
        stamp, self._ticks = now_ns(self.node), self._ticks + 1
        q = self.view.q + self.drift * self._ticks
        self._joints.publish(messages.joint_state(stamp, topics.ARM_JOINTS, q, np.zeros(7)))
        if self._ticks % 10 == 0:
            self._color.publish(image_messages.image(stamp, "front", self.view.color))
            self._depth.publish(
                image_messages.image(stamp, "front", np.full((HEIGHT, WIDTH), 700, np.uint16))
            )
            self._info.publish(image_messages.camera_info(stamp, "front", K, WIDTH, HEIGHT))
        time.sleep(0.01)

    def line(self, stream) -> str:
        """The next line of ``stream``, the topics going on meanwhile."""
        deadline = time.monotonic() + 60
        while not select.select([stream], [], [], 0)[0]:
            assert time.monotonic() < deadline
            self.tick()
        return stream.readline().decode()


def test_views_are_taken_at_rest_and_calibrate_the_camera(monkeypatch, tmp_path):
    monkeypatch.setenv("ROS_DOMAIN_ID", str(random.SystemRandom().randint(1, 100)))
    for name, value in process_environment().items():
        monkeypatch.setenv(name, value)
    X, _, taken = views(False, 1, count=12)
    rclpy.init(signal_handler_options=rclpy.signals.SignalHandlerOptions.NO)
    node = rclpy.create_node("arm_and_camera")
    words = ["calibrate", "--camera", "front", "--mount", "base", "--site", "site.yaml"]
    command = subprocess.Popen(
        [sys.executable, "-u", "-m", "gwm", *words],
        cwd=tmp_path,
        env=os.environ.copy(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        bufsize=0,
    )
    try:
        arm = ArmAndCamera(node)
        arm.view, arm.drift = taken[0], 1e-4  # [rad] a tick: it creeps
        assert "press Enter" in arm.line(command.stdout)
        command.stdin.write(b"\n")
        assert "the arm moves" in arm.line(command.stdout)
        arm.drift = 0.0
        for arm.view in taken:
            command.stdin.write(b"\n")
            answer = arm.line(command.stdout)
            assert "corners" in answer or "not seen" in answer
        command.stdin.write(b"q\n")
        report, _ = command.communicate(timeout=60)
    finally:
        command.kill()
        command.wait()
        node.destroy_node()
        rclpy.try_shutdown()
    assert command.returncode == 0, report
    mm, deg = pose_difference(X, load_site(tmp_path / "site.yaml").cameras["front"].T)
    assert mm < 1.0 and deg < 0.1
    assert len(list(tmp_path.glob("runs/calibrate-front-*/calibration.png"))) == 1
