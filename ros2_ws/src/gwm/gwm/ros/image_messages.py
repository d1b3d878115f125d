"""Images and camera parameters <-> ROS messages."""

from __future__ import annotations

import array

import numpy as np
from sensor_msgs.msg import CameraInfo, Image

from gwm.ros.messages import set_stamp
from gwm_core.geometry.camera import to_opencv


def image(stamp: int, camera: str, content: np.ndarray) -> Image:
    """Return (H, W, 3) uint8 as rgb8, (H, W) uint16 [mm] as 16UC1."""
    message = Image(height=content.shape[0], width=content.shape[1], is_bigendian=0)
    set_stamp(message.header, stamp, f"{camera}_color_optical_frame")
    message.encoding = "rgb8" if content.ndim == 3 else "16UC1"
    message.step = content.strides[0]
    data = array.array("B")
    data.frombytes(memoryview(np.ascontiguousarray(content)).cast("B"))
    message.data = data
    return message


# Stream -> encoding -> type and channels. REP 118: 16-bit depth is in mm, 32FC1 in m.
ENCODINGS = {
    "color": {"rgb8": ("u1", 3), "bgr8": ("u1", 3), "rgba8": ("u1", 4), "bgra8": ("u1", 4)},
    "depth": {"16UC1": ("u2", 1), "mono16": ("u2", 1), "32FC1": ("f4", 1)},
}


def pixels(message, stream: str) -> np.ndarray:
    """Read an image of a "color" stream as (H, W, 3) uint8 RGB, of "depth" as (H, W) uint16 [mm].

    A depth of 0 means no reading.

    Raises:
        ValueError: another encoding, a wrong size or an empty image.
    """
    valid = ENCODINGS[stream]
    if message.encoding not in valid:
        *others, last = valid
        raise ValueError(
            f"encoding: {message.encoding} was published; {', '.join(others)} or {last} is wanted"
        )
    kind, channels = valid[message.encoding]
    kind = np.dtype(kind).newbyteorder(">" if message.is_bigendian else "<")
    width = message.width * channels * kind.itemsize
    data = np.frombuffer(message.data, np.uint8)
    if (
        width == 0
        or message.height == 0
        or message.step < width
        or data.size != message.step * message.height
    ):
        raise ValueError(
            f"size: {data.size} bytes do not make {message.height} rows of {message.step}"
        )
    rows = data.reshape(message.height, message.step)[:, :width]
    content = np.ascontiguousarray(rows).view(kind)
    if message.encoding == "32FC1":
        return _millimetres(content)
    if channels == 1:
        return content.astype(np.uint16, copy=False)
    content = content.reshape(message.height, message.width, channels)[..., :3]
    return np.ascontiguousarray(
        content[..., ::-1] if message.encoding.startswith("bgr") else content
    )


def _millimetres(metres: np.ndarray) -> np.ndarray:
    """Return depth (H, W) [m] as uint16 [mm].

    Values that are not finite, negative or beyond 65 m become 0, no reading.
    """
    mm = np.rint(np.nan_to_num(metres, nan=0.0, posinf=0.0, neginf=0.0) * 1000.0)
    return np.where((mm > 0) & (mm < 65536), mm, 0).astype(np.uint16)


def camera_info(
    stamp: int, camera: str, K: np.ndarray, width: int, height: int, distortion=(0.0,) * 5
) -> CameraInfo:
    """Return CameraInfo of a pinhole camera.

    ``K`` (3, 3) is in our convention; the message has OpenCV's, as drivers send it.
    """
    message = CameraInfo(
        height=height, width=width, distortion_model="plumb_bob", d=[float(x) for x in distortion]
    )
    set_stamp(message.header, stamp, f"{camera}_color_optical_frame")
    K = to_opencv(K)
    message.k, message.r = K.flatten().tolist(), np.eye(3).flatten().tolist()
    message.p = np.hstack([K, np.zeros((3, 1))]).flatten().tolist()
    return message
