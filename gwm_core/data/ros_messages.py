"""The messages of an episode: stock ROS 2 types, serialised by rosbags without ROS."""

from __future__ import annotations

import cv2
import numpy as np
from rosbags.typesys import Stores, get_typestore

from gwm_core.files.png import encode_png
from gwm_core.geometry.camera import to_opencv

STORE = get_typestore(Stores.ROS2_JAZZY)
JPEG_QUALITY = 95
DEPTH_HEADER = bytes(12)  # compressed_depth_image_transport: zero for 16UC1

_Header = STORE.types["std_msgs/msg/Header"]
_Time = STORE.types["builtin_interfaces/msg/Time"]


def _header(stamp: int, frame_id: str):
    return _Header(_Time(*divmod(stamp, 1_000_000_000)), frame_id)


def joint_state(stamp: int, names, position, velocity=(), effort=(), frame_id: str = ""):
    """sensor_msgs/JointState."""
    columns = [np.asarray(column, np.float64) for column in (position, velocity, effort)]
    return STORE.types["sensor_msgs/msg/JointState"](
        _header(stamp, frame_id), list(names), *columns
    )


def compressed_color(stamp: int, camera: str, color: np.ndarray, lossless: bool = False):
    """sensor_msgs/CompressedImage, JPEG or PNG, from (H, W, 3) uint8 RGB."""
    bgr = color[..., ::-1]
    return encoded_color(stamp, camera, encode_png(bgr) if lossless else _jpeg(bgr))


def compressed_depth(stamp: int, camera: str, depth_mm: np.ndarray):
    """sensor_msgs/CompressedImage, lossless, from (H, W) uint16 [mm].

    The layout is that of compressed_depth_image_transport.
    """
    return encoded_depth(stamp, camera, encode_png(depth_mm))


def encoded_color(stamp: int, camera: str, data: bytes):
    """sensor_msgs/CompressedImage of a JPEG or PNG."""
    kind = "png" if data.startswith(b"\x89PNG") else "jpeg"
    return _compressed(stamp, camera, f"rgb8; {kind} compressed bgr8", data)


def encoded_depth(stamp: int, camera: str, data: bytes):
    """sensor_msgs/CompressedImage of a 16-bit PNG in mm."""
    return _compressed(stamp, camera, "16UC1; compressedDepth png", DEPTH_HEADER + data)


def _jpeg(image: np.ndarray) -> bytes:
    return cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1].tobytes()


def _compressed(stamp: int, camera: str, encoding: str, data: bytes):
    content = np.frombuffer(data, np.uint8)
    return STORE.types["sensor_msgs/msg/CompressedImage"](_header(stamp, camera), encoding, content)


def camera_info(stamp: int, camera: str, K: np.ndarray, width: int, height: int):
    """sensor_msgs/CameraInfo of an undistorted camera, ``K`` (3, 3) in our convention."""
    K = to_opencv(K)
    P = np.hstack([K, np.zeros((3, 1))])
    roi = STORE.types["sensor_msgs/msg/RegionOfInterest"](0, 0, 0, 0, False)
    return STORE.types["sensor_msgs/msg/CameraInfo"](
        _header(stamp, camera),
        height,
        width,
        "plumb_bob",
        np.zeros(5),
        K.ravel(),
        np.eye(3).ravel(),
        P.ravel(),
        0,
        0,
        roi,
    )


def serialized(topic: str, message, stamp: int) -> tuple:
    """The arguments of ``EpisodeWriter.write_cdr`` for a message of this module."""
    return topic, message.__msgtype__, STORE.serialize_cdr(message, message.__msgtype__), stamp


def deserialize(content: bytes, kind: str):
    """Decode a message without rosbags' check of its length.

    rclpy appends up to 8 undefined bytes to a message.
    """
    definition = STORE.get_msgdef(kind)
    return definition.deserialize_cdr_le(content[4:], 0, definition.cls, STORE)[0]
