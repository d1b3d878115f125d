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

from gwm.graph.environment import process_environment, refuse_mixed_ros
from gwm.ros import image_messages, messages
from gwm.ros.node import SENSOR, interrupt_held, now_ns
from gwm_core import topics
from gwm_core.calibration.views import CalibrationView, at_rest
from gwm_core.errors import InputError
from gwm_core.geometry.camera_info import CameraModel, read_camera_info
from gwm_core.joint_states import ArmReader
from gwm_core.sync import Sync
from gwm_core.types import OPEN_WIDTH

TIMEOUT = 5.0  # [s]


class ViewTaker(Node):
    """Pairs images and joint states by stamp. Use it in a ``with``; ``take`` and ``spin`` read."""

    def __init__(self, camera: str, prefix: str):
        refuse_mixed_ros()
        os.environ.update(process_environment())
        rclpy.init(args=[], signal_handler_options=SignalHandlerOptions.NO)
        super().__init__("calibrate")
        self._camera, self._sync, self._arm = camera, Sync((camera,)), ArmReader()
        self._model: CameraModel | None = None
        self._problems: dict[str, str] = {}  # by topic
        wanted = [
            (Image, topics.color(prefix), self._image("color")),
            (Image, topics.depth(prefix), self._image("depth")),
            (CameraInfo, topics.info(prefix), self._on_info),
            (JointState, topics.JOINT_STATES, self._on_joints),
        ]
        for kind, topic, callback in wanted:
            self._problems[topic] = "no message"
            self.create_subscription(kind, topic, self._noting(topic, callback), SENSOR)
        # No message of it is required: an arm may have no gripper.
        gripper = self._noting(topics.GRIPPER_STATES, self._on_gripper)
        self.create_subscription(JointState, topics.GRIPPER_STATES, gripper, SENSOR)
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
                self._problems.pop(topic, None)
            except ValueError as error:
                self._problems[topic] = str(error)

        return take

    def _image(self, kind: str):
        def take(message):
            stamp = messages.stamp_ns(message.header.stamp)
            self._sync.image(self._camera, kind, stamp, image_messages.pixels(message, kind))

        return take

    def _on_info(self, message) -> None:
        self._model = read_camera_info(message)

    def _on_joints(self, message) -> None:
        state, reason = self._arm.joints(message, velocity=False)
        if state is None:
            raise ValueError(reason)
        self._sync.joints(state)

    def _on_gripper(self, message) -> None:
        if reason := self._arm.gripper(message):
            raise ValueError(reason)

    def spin(self, seconds: float) -> None:
        """Read the topics for ``seconds``."""
        with interrupt_held():
            self._executor.spin_once(timeout_sec=seconds)

    def take(self, name: str) -> tuple[np.ndarray, CalibrationView]:
        """Return K (3, 3) and a view from after this call.

        Raises:
            InputError: the arm moves, or topics are missing.
        """
        begun, deadline = now_ns(self), time.monotonic() + TIMEOUT
        rest = None
        while time.monotonic() < deadline:
            self.spin(0.05)
            matched = self._sync.latest()
            if matched is None or matched[0] < begun or self._model is None:
                continue
            stamp, pairs, state = matched
            rest = at_rest(self._sync, stamp)
            if rest:
                _, color, depth = pairs[self._camera]
                try:
                    frame = self._model.frame(self._camera, stamp, color, depth, np.eye(4))
                except ValueError as error:
                    raise InputError(str(error)) from None
                width = (
                    float(np.clip(state.width, 0.0, OPEN_WIDTH))
                    if np.isfinite(state.width)
                    else OPEN_WIDTH
                )
                return frame.K, CalibrationView(name, color, state.q, frame.depth, width)
        if rest is False:
            raise InputError("the arm moves: let it rest")
        what = (
            "; ".join(f"{topic}: {why}" for topic, why in self._problems.items())
            or self._sync.reason()
            or "no new images"
        )
        raise InputError(
            f"no view within {TIMEOUT:g} s ({what}): are the robot and the camera running?"
        )
