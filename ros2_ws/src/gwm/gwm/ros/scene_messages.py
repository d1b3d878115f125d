"""Scenes and JPEG images <-> ROS messages. The gate must not load this: it imports OpenCV."""

from __future__ import annotations

import array

import cv2
import numpy as np
from sensor_msgs.msg import CompressedImage, PointCloud2, PointField

from gwm.ros.messages import set_stamp
from gwm_core.scene.gaussians import COLUMNS


def scene(stamp: int, gaussians: np.ndarray, frame: str = "fr3_link0") -> PointCloud2:
    """Return Gaussians (N, 14) as a cloud with the fields ``gaussians.COLUMNS``, x, y, z first."""
    fields = [
        PointField(name=n, offset=4 * i, datatype=PointField.FLOAT32, count=1)
        for i, n in enumerate(COLUMNS)
    ]
    step = 4 * len(COLUMNS)
    cloud = PointCloud2(
        height=1,
        width=len(gaussians),
        fields=fields,
        point_step=step,
        row_step=step * len(gaussians),
        is_dense=True,
    )
    set_stamp(cloud.header, stamp, frame)
    cloud.data = array.array("B", np.ascontiguousarray(gaussians, "<f4").tobytes())
    return cloud


def gaussians_of(message) -> np.ndarray:
    """Read a cloud of ``scene`` as (N, 14). Raises ValueError for any other or non-finite one."""
    if [f.name for f in message.fields] != list(COLUMNS) or message.point_step != 4 * len(COLUMNS):
        raise ValueError(f"a cloud of {', '.join(COLUMNS)} as float32 is wanted")
    values = np.frombuffer(message.data, "<f4")
    if len(values) != message.width * len(COLUMNS) or not np.isfinite(values).all():
        raise ValueError(f"{message.width} finite Gaussians are wanted")
    return values.reshape(-1, len(COLUMNS)).copy()


def jpeg(stamp: int, frame: str, image: np.ndarray) -> CompressedImage:
    """Return an image (H, W, 3) uint8 RGB as JPEG."""
    message = CompressedImage(format="jpeg")
    set_stamp(message.header, stamp, frame)
    message.data = array.array("B", cv2.imencode(".jpg", image[..., ::-1])[1].tobytes())
    return message
