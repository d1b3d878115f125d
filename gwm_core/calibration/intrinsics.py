"""Check the driver's camera matrix against one that is fitted to the views of a calibration."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np

from gwm_core.calibration.board_views import MAXIMUM_PX, BoardView
from gwm_core.calibration.charuco import project

# Lens distortion is reported where it moves corners by more than this many pixels,
# and where a fit with distortion has a residual smaller by this factor.
DISTORTED_PX = 1.0
BETTER_FIT = 0.93
# fractions of the focal length and of the width: a larger difference is warned of
MAXIMUM_FOCAL_ERROR = 0.015
MAXIMUM_CENTRE_ERROR = 0.01


class IntrinsicsCheck(NamedTuple):
    """The driver's camera matrix against one fitted to the same views."""

    K: np.ndarray  # (3, 3) fitted
    given_px: float  # RMS with the given K, every view with a pose of its own
    fitted_px: float  # the same with the fitted one
    warning: str  # empty where they agree


def check_intrinsics(views: list[BoardView], K: np.ndarray) -> IntrinsicsCheck:
    """Fit K to the views and compare. The driver's K stays in use in any case."""
    height, width = views[0].view.color.shape[:2]
    points = [v.corners.points.astype(np.float32) for v in views]
    pixels = [v.corners.pixels.astype(np.float32) for v in views]
    flags = cv2.CALIB_USE_INTRINSIC_GUESS | cv2.CALIB_ZERO_TANGENT_DIST | cv2.CALIB_FIX_K3
    fitted_px, fitted, _, _, _, deviations, _, _ = cv2.calibrateCameraExtended(
        points,
        pixels,
        (width, height),
        K.copy(),
        None,
        flags=flags | cv2.CALIB_FIX_K1 | cv2.CALIB_FIX_K2,
    )
    given_px = _residual_px(views, K)
    warning = _distortion_warning(points, pixels, (width, height), K, fitted_px, flags)
    difference = np.abs(fitted - K)[[0, 1, 0, 1], [0, 1, 2, 2]]  # fx, fy, cx, cy
    allowed = np.maximum(
        [
            MAXIMUM_FOCAL_ERROR * K[0, 0],
            MAXIMUM_FOCAL_ERROR * K[1, 1],
            *[MAXIMUM_CENTRE_ERROR * width] * 2,
        ],
        3 * deviations[:4, 0],
    )
    if not warning and (np.any(difference > allowed) or given_px > MAXIMUM_PX):
        fx, fy, cx, cy = difference
        warning = (
            f"the driver's intrinsics differ from these views by {fx:.1f}, {fy:.1f} px in"
            f" focal length and {cx:.1f}, {cy:.1f} px in centre ({given_px:.2f} px RMS,"
            f" fitted {fitted_px:.2f}): is K that of this resolution?"
        )
    return IntrinsicsCheck(fitted, given_px, float(fitted_px), warning)


def _residual_px(views: list[BoardView], K: np.ndarray) -> float:
    """RMS of the corners [px], every view with a pose of its own."""
    errors = [project(v.corners.points, v.T_camera_board, K) - v.corners.pixels for v in views]
    return float(np.sqrt(np.mean(np.sum(np.concatenate(errors) ** 2, axis=1))))


def _distortion_warning(
    points: list[np.ndarray],
    pixels: list[np.ndarray],
    size: tuple[int, int],
    K: np.ndarray,
    fitted_px: float,
    flags: int,
) -> str:
    """A warning where the lens distorts the images, or ""."""
    lens_px, K_lens, lens, _, _ = cv2.calibrateCamera(
        points, pixels, size, K.copy(), None, flags=flags
    )
    measured = np.concatenate(pixels)
    straight = cv2.undistortPoints(measured[:, None], K_lens, lens, P=K_lens)[:, 0]
    moved = float(np.linalg.norm(straight - measured, axis=1).max())
    if moved <= DISTORTED_PX or lens_px >= BETTER_FIT * fitted_px:
        return ""
    return (
        f"the images are distorted, by up to {moved:.1f} px where the board was (k1"
        f" {lens[0, 0]:+.3f}): have the driver publish rectified images"
    )
