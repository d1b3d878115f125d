"""Check a claimed camera pose by one view."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from gwm_core.calibration.charuco import Board, board_pose, project
from gwm_core.calibration.views import CalibrationView
from gwm_core.errors import InputError
from gwm_core.geometry.transforms import pose_difference, small_transform

# a camera further from its claimed pose is refused
MAXIMUM_OFFSET_DEG = 1.0
MAXIMUM_OFFSET_MM = 8.0
# a view that leaves the pose less certain than this gives no answer
MAXIMUM_UNCERTAINTY_DEG = 0.4
MAXIMUM_UNCERTAINTY_MM = 4.0
CAUTION = 3.0  # a pose is uncertain by so many standard deviations
MINIMUM_SIGMA_PX = 0.05  # corners are not better than that
MINIMUM_VISIBLE = 0.5  # fraction of what should be in view


class PoseCheck(NamedTuple):
    """How far a camera is from its claimed pose."""

    mm: float
    deg: float
    visible: float = 1.0  # fraction of what should be in view that is there

    @property
    def accepted(self) -> bool:
        """Whether the claimed pose may be used."""
        return (
            self.mm <= MAXIMUM_OFFSET_MM
            and self.deg <= MAXIMUM_OFFSET_DEG
            and self.visible >= MINIMUM_VISIBLE
        )


def require_certain(
    view: CalibrationView, check: PoseCheck, uncertainty: tuple[float, float], remedy: str
) -> PoseCheck:
    """Return the check. Raises InputError with the remedy where it is too uncertain [mm], [deg]."""
    mm, deg = uncertainty
    uncertain = mm > MAXIMUM_UNCERTAINTY_MM or deg > MAXIMUM_UNCERTAINTY_DEG
    if check.visible >= MINIMUM_VISIBLE and uncertain:
        raise InputError(
            f"{view.name} cannot judge: it leaves {mm:.1f} mm and {deg:.2f} degrees uncertain (at"
            f" most {MAXIMUM_UNCERTAINTY_MM:g} and {MAXIMUM_UNCERTAINTY_DEG:g}): {remedy}"
        )
    return check


def deviation(jacobian: np.ndarray, sigma: float) -> tuple[float, float]:
    """Standard deviation [mm], [degrees] of a small transform.

    Args:
        jacobian: (N, 6), of N readings by rotation vector [rad] and translation [m].
        sigma: standard deviation of a reading.
    """
    variance = sigma**2 * np.diag(np.linalg.pinv(jacobian.T @ jacobian))
    return float(1000 * np.sqrt(variance[3:].sum())), float(np.rad2deg(np.sqrt(variance[:3].sum())))


def check_board(
    view: CalibrationView,
    K: np.ndarray,
    board: Board,
    T_base_board: np.ndarray,
    T_claimed: np.ndarray,
) -> PoseCheck:
    """Check a claimed T_base_camera by one view of a board whose pose is known.

    Raises:
        InputError: the view does not show the board, or leaves the pose too uncertain.
    """
    corners = board.detect(view.color)
    if corners is None:
        raise InputError(
            f"{view.name} does not show the board {board}: bring it into view, or give its --board"
        )
    T, step = board_pose(corners, K), 1e-5
    pixels = project(corners.points, T, K)
    moved = [
        project(corners.points, small_transform(twist) @ T, K) - pixels
        for twist in step * np.eye(6)
    ]
    jacobian = np.stack([m.ravel() / step for m in moved], axis=1)  # (2 M, 6)
    rms = float(np.sqrt(np.mean((pixels - corners.pixels) ** 2)))
    sigma = max(MINIMUM_SIGMA_PX, rms)
    check = PoseCheck(*pose_difference(T_claimed, T_base_board @ np.linalg.inv(T)))
    remedy = "bring the board nearer and slant it by 20-40 degrees, the whole of it in view"
    return require_certain(view, check, deviation(jacobian, CAUTION * sigma), remedy)
