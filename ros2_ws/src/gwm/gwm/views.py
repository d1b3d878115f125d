"""Views of one running camera with the arm at rest, for ``gwm calibrate``."""

from __future__ import annotations

import os
import time

import numpy as np
import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions
from sensor_msgs.msg import CameraInfo, Image, JointState

from gwm import messages
from gwm.graph import environment, refuse_mixed_ros
from gwm.node import SENSOR, now_ns
from gwm_core import topics
from gwm_core.errors import InputError
from gwm_core.scene.views import View, at_rest
from gwm_core.sync import Sync
from gwm_core.types import OPEN_WIDTH, ArmState

PATIENCE = 5.0  # [s]


class ViewTaker(Node):
    """Pairs images and joints by stamp. Use it in a ``with``; ``take`` and ``spin`` read the topics."""

    def __init__(self, camera: str, prefix: str):
        refuse_mixed_ros()
        os.environ.update(environment())
        rclpy.init(args=[], signal_handler_options=SignalHandlerOptions.NO)
        super().__init__("calibrate")
        self._camera, self._sync, self._K, self._width = camera, Sync((camera,)), None, OPEN_WIDTH
        self._last: dict[str, str] = {}  # topic -> what is wrong with it
        wanted = [
            (Image, topics.color(prefix), self._image("color")), (Image, topics.depth(prefix), self._image("depth")),
            (CameraInfo, topics.info(prefix), self._on_info), (JointState, topics.JOINT_STATES, self._on_joints),
        ]  # fmt: skip
        for kind, topic, callback in wanted:
            self._last[topic] = "no message"
            self.create_subscription(kind, topic, self._noting(topic, callback), SENSOR)
        self.create_subscription(JointState, topics.GRIPPER_STATES, self._on_gripper, SENSOR)
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self)

    def __enter__(self) -> ViewTaker:
        return self

    def __exit__(self, *_) -> None:
        self._executor.shutdown()
        self.destroy_node()
        rclpy.try_shutdown()

    def _noting(self, topic: str, callback):
        def take(message):
            try:
                callback(message)
                self._last.pop(topic, None)
            except ValueError as error:
                self._last[topic] = str(error)

        return take

    def _image(self, kind: str):
        def take(message):
            stamp = messages.stamp_ns(message.header.stamp)
            self._sync.image(self._camera, kind, stamp, messages.pixels(message, kind))

        return take

    def _on_info(self, message) -> None:
        self._K = messages.camera_matrix(message)

    def _on_joints(self, message) -> None:
        q = messages.by_name(message.name, message.position, topics.ARM_JOINTS)
        if q is None or not np.isfinite(q).all():
            raise ValueError(f"no finite {topics.ARM_JOINTS[0]} to 7")
        self._sync.joints(ArmState(messages.stamp_ns(message.header.stamp), q, np.zeros(7), self._width))

    def _on_gripper(self, message) -> None:
        fingers = messages.by_name(message.name, message.position, topics.FINGER_JOINTS)
        if fingers is not None and np.isfinite(fingers).all():
            self._width = float(np.clip(fingers.sum(), 0.0, OPEN_WIDTH))

    def spin(self, seconds: float) -> None:
        """Read the topics for so long."""
        self._executor.spin_once(timeout_sec=seconds)

    def take(self, name: str) -> tuple[np.ndarray, View]:
        """K (3, 3) and a view from after this call. Raises InputError when the arm moves or topics are missing."""
        begun, deadline = now_ns(self), time.monotonic() + PATIENCE
        rest = None
        while time.monotonic() < deadline:
            self.spin(0.05)
            moment = self._sync.latest()
            if moment is None or moment[0] < begun or self._K is None:
                continue
            stamp, pairs, state = moment
            rest = at_rest(self._sync, stamp)
            if rest:
                _, color, depth = pairs[self._camera]
                return self._K, View(name, color, state.q, depth * np.float32(1e-3), state.width)
        if rest is False:
            raise InputError("the arm moves: let it rest")
        what = "; ".join(f"{topic}: {why}" for topic, why in self._last.items()) or "stamps do not fit together"
        raise InputError(f"no view within {PATIENCE:g} s ({what}): are the robot and the camera running?")
