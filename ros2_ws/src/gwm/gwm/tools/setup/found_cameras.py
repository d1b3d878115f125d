"""The cameras that are there: RealSense devices, and colour images that somebody publishes."""

from __future__ import annotations

import importlib.util
import os
import time
from dataclasses import dataclass

import numpy as np

from gwm_core import topics
from gwm_core.errors import InputError

ANSWER_TIME = 5.0  # [s] for the first image of every camera
SIZE, RATE = (640, 480), 15.0  # of the images of a RealSense: every model has them [pixels], [Hz]
_SUFFIX = topics.color("")  # of a camera's colour images


@dataclass(frozen=True)
class FoundCamera:
    """A camera with one of its images."""

    prefix: str  # of its topics
    serial: str  # of a RealSense that nobody drives yet
    image: np.ndarray  # (H, W, 3)
    K: np.ndarray  # (3, 3) [pixels]


def find_cameras(note=lambda text: None) -> list[FoundCamera]:
    """Return all cameras. ``note`` gets a line for each one that gives no image."""
    published = _published(note)
    return published or _devices(note)  # a driver has its devices for itself


def current_joints() -> list[float]:
    """Return the joints (7,) [rad] that are published. Raises InputError without any."""
    from sensor_msgs.msg import JointState

    from gwm_core.joint_states import read_joint_state

    taken: dict[str, object] = {}
    _listen({topics.JOINT_STATES: JointState}, taken)
    if topics.JOINT_STATES not in taken:
        raise InputError(f"nothing came on {topics.JOINT_STATES}: start the arm's driver")
    state, reason = read_joint_state(taken[topics.JOINT_STATES], velocity=False)
    if state is None:
        raise InputError(f"{topics.JOINT_STATES}: {reason}")
    return state.q.round(4).tolist()


def _published(note) -> list[FoundCamera]:
    """Return the cameras whose images are published, where ROS is there."""
    if importlib.util.find_spec("rclpy") is None:
        return []
    from sensor_msgs.msg import CameraInfo, Image

    from gwm.ros import image_messages
    from gwm_core.geometry.camera_info import read_camera_info

    taken: dict[str, object] = {}

    def wanted(names: list[str]) -> dict[str, type]:
        prefixes = [name.removesuffix(_SUFFIX) for name in names if name.endswith(_SUFFIX)]
        colors = {topics.color(prefix): Image for prefix in prefixes}
        return colors | {topics.info(prefix): CameraInfo for prefix in prefixes}

    kinds = _listen(wanted, taken)
    found = []
    for topic in sorted(name for name in kinds if name.endswith(_SUFFIX)):
        prefix = topic.removesuffix(_SUFFIX)
        if topic not in taken or topics.info(prefix) not in taken:
            note(f"{topic}: no image and camera_info within {ANSWER_TIME:g} s")
            continue
        try:
            image = image_messages.pixels(taken[topic], "color")
            K = read_camera_info(taken[topics.info(prefix)]).K
        except ValueError as error:
            note(f"{topic}: {error}")
            continue
        found.append(FoundCamera(prefix, "", image, K))
    return found


def _listen(wanted, taken: dict[str, object]) -> dict[str, type]:
    """Take one message of every wanted topic. Returns topic -> type.

    Args:
        wanted: topic -> type, or a function that makes it of all published topics.
        taken: topic -> message, filled here.
    """
    import rclpy
    from rclpy.executors import SingleThreadedExecutor

    from gwm.graph.environment import process_environment, refuse_mixed_ros
    from gwm.ros.node import DISCOVERY_TIME, SENSOR

    refuse_mixed_ros()
    os.environ.update(process_environment())
    context = rclpy.Context()
    rclpy.init(args=[], context=context)
    node = rclpy.create_node("gwm_setup", context=context)
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(node)
    try:
        if callable(wanted):
            time.sleep(DISCOVERY_TIME)
            names = [name.lstrip("/") for name, _ in node.get_topic_names_and_types()]
            wanted = wanted([name for name in names if node.count_publishers(name)])
        for topic, kind in wanted.items():
            node.create_subscription(
                kind, topic, lambda message, topic=topic: taken.setdefault(topic, message), SENSOR
            )
        deadline = time.monotonic() + ANSWER_TIME
        while len(taken) < len(wanted) and time.monotonic() < deadline:
            executor.spin_once(timeout_sec=0.1)
    finally:
        executor.shutdown()
        node.destroy_node()
        rclpy.try_shutdown(context=context)
    return wanted


def _devices(note) -> list[FoundCamera]:
    """Return the RealSense devices on this machine's USB."""
    from gwm.hardware import realsense
    from gwm_core.scene.stream_monitor import StreamConfig

    try:
        devices = realsense.devices()
    except InputError as error:
        note(str(error))
        return []
    found = []
    for number, device in enumerate(devices):
        camera = realsense.RealSense(lambda device=device: device, StreamConfig(*SIZE, RATE))
        try:
            camera.open()
            pair = camera.wait()
        except realsense.DeviceGone as error:
            note(f"{realsense.describe(device)}: {error}")
            continue
        finally:
            camera.close()
        if pair is None:
            note(f"{realsense.describe(device)}: no image")
            continue
        serial = realsense.describe(device).partition(" ")[0]
        prefix = topics.prefix_of(f"camera{number + 1}")
        found.append(FoundCamera(prefix, serial, pair.color.content, pair.K))
    return found
