"""Calibration views in which the board was found."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from gwm_core.calibration.charuco import Board, Corners, board_pose
from gwm_core.calibration.views import CalibrationView
from gwm_core.errors import InputError

MINIMUM_VIEWS = 8  # and as many postures
# fraction of the width and height by which K's centre may miss the image's
MAXIMUM_OFF_CENTRE = 0.15
MAXIMUM_PX = 1.0  # RMS residual of a calibration worth having


class BoardView(NamedTuple):
    """A view in which the board was found."""

    view: CalibrationView
    corners: Corners
    T_camera_board: np.ndarray  # (4, 4) from this view alone


def find_board(views: list[CalibrationView], K: np.ndarray, board: Board) -> list[BoardView]:
    """Return the views that show the board.

    Raises:
        InputError: fewer than ``MINIMUM_VIEWS`` show it, or K belongs to other images.
    """
    height, width = views[0].color.shape[:2]
    if np.any(np.abs(K[:2, 2] / (width, height) - 0.5) > MAXIMUM_OFF_CENTRE):
        raise InputError(
            f"K has its centre at {K[0, 2]:.0f}, {K[1, 2]:.0f}, the images have {width}x{height}"
            " pixels: it is of another resolution, or of a cropped image"
        )
    detections = [(view, board.detect(view.color)) for view in views]
    found = [
        BoardView(view, corners, board_pose(corners, K))
        for view, corners in detections
        if corners is not None
    ]
    if len(found) < MINIMUM_VIEWS:
        others = [view.color for view, corners in detections if corners is None]
        remedy = board.why_not_found(others) if len(others) > len(found) else "take more"
        raise InputError(
            f"the board {board} is seen in {len(found)} of {len(views)} views, {MINIMUM_VIEWS} are"
            f" wanted (15-20 are better): {remedy}"
        )
    return found
