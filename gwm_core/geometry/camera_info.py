"""Read a CameraInfo: the intrinsics after ROI and binning, the size, and the distortion.

A message is anything with the fields of sensor_msgs/CameraInfo: rclpy's or rosbags'.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from gwm_core.geometry.camera import from_opencv, to_opencv
from gwm_core.types import Frame

MILLIMETRE = np.float32(1e-3)  # [m]
NEGLIGIBLE = 0.5  # [pixels] of distortion


@dataclass(frozen=True)
class CameraModel:
    """A camera as its CameraInfo describes it."""

    K: np.ndarray  # (3, 3) [pixels] of the published image, pixel centres at + 0.5
    width: int  # of the published image [pixels]; 0 = unknown
    height: int
    kind: str = "plumb_bob"  # distortion_model
    distortion: tuple[float, ...] = ()  # coefficients, d

    def frame(
        self,
        camera: str,
        stamp: int,
        color: np.ndarray,
        depth_mm: np.ndarray,
        T_base_camera: np.ndarray,
    ) -> Frame:
        """Frame of colour (H, W, 3) and depth (H, W) [mm]. Raises ValueError for other sizes."""
        height, width = color.shape[:2]
        if self.width and (width, height) != (self.width, self.height):
            raise ValueError(
                f"camera_info: {camera}'s is of {self.width}x{self.height} pixels, its images are"
                f" {width}x{height}; publish the info of the stream that is published"
            )
        return Frame(camera, stamp, color, depth_mm * MILLIMETRE, self.K, T_base_camera)

    @property
    def remark(self) -> str:
        """How far the distortion displaces the image, or "" where it is negligible.

        The distortion is ignored, not corrected. The coefficients of a D455 and a D405 are
        published as plumb_bob, while the SDK calls the same numbers inverse Brown-Conrady
        (realsense-ros #2458, librealsense #9551). So either direction may be wrong.
        """
        if not any(self.distortion):
            return ""
        if self.kind not in ("plumb_bob", "rational_polynomial"):
            return (
                f"distortion: {self.kind} is ignored, edges are misplaced; publish a rectified"
                " image (image_proc)"
            )
        across, down = np.meshgrid(
            np.linspace(0, self.width - 1, 9), np.linspace(0, self.height - 1, 9)
        )
        grid = np.c_[across.ravel(), down.ravel()]
        K = to_opencv(self.K)
        rays = np.c_[(grid - K[:2, 2]) / K[[0, 1], [0, 1]], np.ones(len(grid))]
        no_motion = np.zeros(3)
        distorted, _ = cv2.projectPoints(rays, no_motion, no_motion, K, np.array(self.distortion))
        pixels = float(np.linalg.norm(distorted[:, 0] - grid, axis=1).max())
        if pixels < NEGLIGIBLE:
            return ""
        return (
            f"distortion: it is ignored, which displaces up to {pixels:.1f} pixels,"
            f" {1000 * pixels / K[0, 0]:.0f} mm at 1 m; publish a rectified image (image_proc)"
            " where that matters"
        )


def read_camera_info(message) -> CameraModel:
    """The camera model of a CameraInfo, whose K is that of the whole sensor.

    ROI and binning are applied as in REP 104. Raises ValueError for a camera that is not calibrated
    or not a pinhole.
    """
    K = from_opencv(np.reshape(message.k, (3, 3)))
    if not (np.isfinite(K).all() and K[0, 0] > 0 and K[1, 1] > 0):
        raise ValueError(
            f"camera_info: K {np.round(to_opencv(K), 3).tolist()} has no focal length; the camera"
            " is not calibrated"
        )
    if abs(K[0, 1]) > 1e-6 * K[0, 0] or not np.array_equal(
        K[[1, 2, 2, 2], [0, 0, 1, 2]], [0, 0, 0, 1]
    ):
        raise ValueError(
            f"camera_info: K {np.round(to_opencv(K), 3).tolist()} is not fx 0 cx, 0 fy cy, 0 0 1"
        )
    roi = message.roi
    left, top = roi.x_offset, roi.y_offset
    width, height = roi.width or message.width, roi.height or message.height
    across, down = max(1, message.binning_x), max(1, message.binning_y)
    K[:2, 2] -= left, top
    K[0] /= across
    K[1] /= down
    width, height = width // across, height // down
    return CameraModel(
        K, width, height, message.distortion_model, tuple(float(x) for x in message.d)
    )
