"""Hand-eye calibration: the pose of a camera from views of a ChArUco board.

A camera on the hand looks at a fixed board, a fixed camera at a board on the hand. Both are one
equation: in view i ``T_camera_board = X^-1 A_i Z`` with the camera's mount X (T_tcp_camera or
T_base_camera), the board's mount Z (T_base_board or T_tcp_board) and the arm A_i (T_tcp_base or
T_base_tcp). X and Z start from the closed form (Shah 2013, cv2.calibrateRobotWorldHandEye). Then
both are fitted together to the pixels of all corners, with a robust loss.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from scipy.optimize import least_squares
from scipy.spatial.transform import Rotation

from gwm_core.calibration.board_views import MAXIMUM_PX, MINIMUM_VIEWS, BoardView
from gwm_core.calibration.charuco import Board, draw_axes, project
from gwm_core.calibration.intrinsics import check_intrinsics
from gwm_core.data.contact_sheet import caption
from gwm_core.errors import InputError
from gwm_core.geometry.kinematics import fk
from gwm_core.geometry.transforms import pose_difference, small_transform

# [rad] views whose joints all lie within this are one posture: they have the same errors
SAME_POSTURE = 0.1
# [degrees] RMS about the second axis: rotations about one axis alone do not determine the mount
MINIMUM_ROTATION = 5.0
# RMS residuals of a calibration worth having, beside MAXIMUM_PX
MAXIMUM_MM = 5.0
MAXIMUM_DEG = 1.0
# standard deviation of the camera's pose
MAXIMUM_SPREAD_MM = 3.0
MAXIMUM_SPREAD_DEG = 0.3
MAXIMUM_SCALE_ERROR = 0.005  # fraction by which the squares may seem larger or smaller than stated
MAXIMUM_STEPS = 30  # of a fit: a good one takes 5, one estimates an answer would go on
COLUMNS = 4  # of the residual picture
TILE_WIDTH = 424  # [pixels]


@dataclass(frozen=True)
class Calibration:
    """A camera's mount and how well the views agree with it. Residuals are RMS over the views."""

    T: np.ndarray  # (4, 4) T_tcp_camera (moving) or T_base_camera
    T_board: np.ndarray  # (4, 4) T_base_board (moving) or T_tcp_board
    moving: bool
    per_view: np.ndarray  # (V, 3): px, mm and degrees between the measured and the expected board
    # [mm], [degrees] standard deviation of T, by leaving out one posture at a time
    spread: tuple[float, float]
    scale: float  # apparent size of the board's squares over the stated one

    @property
    def residuals(self) -> np.ndarray:
        """RMS over the views (3,): px, mm, degrees."""
        return np.sqrt(np.mean(self.per_view**2, axis=0))

    def expected(self, q: np.ndarray) -> np.ndarray:
        """T_camera_board (4, 4) with the arm at ``q``."""
        return np.linalg.inv(self.T) @ _arm(q, self.moving) @ self.T_board

    def record(self, board: Board, date: str) -> dict:
        """The entry ``calibrated`` of a site file."""
        px, mm, deg = self.residuals.tolist()
        return {
            "date": date,
            "views": len(self.per_view),
            "residual_px": round(px, 3),
            "residual_mm": round(mm, 3),
            "residual_deg": round(deg, 4),
            "spread_mm": round(self.spread[0], 3),
            "spread_deg": round(self.spread[1], 4),
            "board": str(board),
            "T_base_board" if self.moving else "T_tcp_board": self.T_board.tolist(),
        }


def calibrate(views: list[BoardView], K: np.ndarray, moving: bool) -> Calibration:
    """Find the mount of a camera on the hand (``moving``) or of a fixed one.

    Raises:
        InputError: too few postures, too little rotation, a board of another size, or views that
            do not agree.
    """
    arms = _arm(np.array([s.view.q for s in views]), moving)
    _refuse_little_rotation(arms, views)
    postures = _postures(views)
    count = postures.max() + 1
    if count < MINIMUM_VIEWS:
        raise InputError(
            f"{len(views)} views of {count} postures: {MINIMUM_VIEWS} different ones are"
            " wanted, a view that is taken again adds nothing: turn the hand between views"
        )
    boards = np.array([s.T_camera_board for s in views])
    *start, scale = _fit(views, K, arms, _closed_form(arms, boards), with_scale=True)
    _refuse_another_size(views, K, arms, start, scale)
    # from here on, a view that is wrong by pixels has little weight
    X, Z, _ = _fit(views, K, arms, start)
    per_view = _per_view(views, K, arms, X, Z)
    _refuse_disagreement(views, K, per_view)
    others = [np.flatnonzero(postures != k) for k in range(count)]
    estimates = [_fit([views[k] for k in use], K, arms[use], (X, Z))[0] for use in others]
    mm, deg = _spread(X, estimates)
    if mm > MAXIMUM_SPREAD_MM or deg > MAXIMUM_SPREAD_DEG:
        raise InputError(
            f"the camera's pose is uncertain by {mm:.1f} mm and {deg:.2f} degrees (at most "
            f"{MAXIMUM_SPREAD_MM} and {MAXIMUM_SPREAD_DEG}): take more views, nearer, turning more"
        )
    return Calibration(X, Z, moving, per_view, (mm, deg), scale)


def _postures(views: list[BoardView]) -> np.ndarray:
    """The number of each view's posture (V,), from 0."""
    representatives: list[np.ndarray] = []
    numbers = []
    for s in views:
        distances = [np.abs(s.view.q - q).max() for q in representatives]
        near = [k for k, distance in enumerate(distances) if distance < SAME_POSTURE]
        if not near:
            representatives.append(s.view.q)
        numbers.append(near[0] if near else len(representatives) - 1)
    return np.array(numbers)


def _arm(q: np.ndarray, moving: bool) -> np.ndarray:
    """A (..., 4, 4) at joints (..., 7): T_tcp_base (moving) or T_base_tcp."""
    return np.linalg.inv(fk(q)) if moving else fk(q)


def _refuse_little_rotation(arms: np.ndarray, views: list[BoardView]) -> None:
    rotations = Rotation.from_matrix(arms[:, :3, :3])
    vectors = np.rad2deg((rotations.mean().inv() * rotations).as_rotvec())
    second = np.linalg.svd(vectors, compute_uv=False)[1] / np.sqrt(len(views))
    if second < MINIMUM_ROTATION:
        raise InputError(
            f"the hand turned by {second:.1f} degrees (RMS) about its second axis,"
            f" {MINIMUM_ROTATION:.0f} are wanted: take views that roll, pitch and yaw it by 20-40"
            " degrees each way"
        )


def _closed_form(arms: np.ndarray, boards: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """X and Z (4, 4).

    OpenCV's world is the board, its gripper is A's left frame, its base is A's right frame.
    """
    rotation_z, translation_z, rotation_x, translation_x = cv2.calibrateRobotWorldHandEye(
        boards[:, :3, :3],
        boards[:, :3, 3],
        arms[:, :3, :3],
        arms[:, :3, 3],
        method=cv2.CALIB_ROBOT_WORLD_HAND_EYE_SHAH,
    )
    X, Z = np.eye(4), np.eye(4)
    X[:3, :3] = rotation_x
    X[:3, 3] = translation_x[:, 0]
    Z[:3, :3] = rotation_z
    Z[:3, 3] = translation_z[:, 0]
    return np.linalg.inv(X), np.linalg.inv(Z)


def _view_of_corner(views: list[BoardView]) -> np.ndarray:
    """The number of the view (M,) of every corner."""
    return np.repeat(np.arange(len(views)), [len(s.corners.points) for s in views])


def _errors(
    views: list[BoardView], K: np.ndarray, arms: np.ndarray, X: np.ndarray, Z: np.ndarray, scale=1.0
) -> np.ndarray:
    """Expected minus measured pixels (2 M,) of all corners."""
    poses = (np.linalg.inv(X) @ arms @ Z)[_view_of_corner(views)]  # (M, 4, 4)
    points = scale * np.concatenate([s.corners.points for s in views])
    return (project(points, poses, K) - np.concatenate([s.corners.pixels for s in views])).ravel()


def _fit(views, K, arms, start, with_scale: bool = False) -> tuple[np.ndarray, np.ndarray, float]:
    """Fit X, Z and the board's scale to the pixels of all corners, from ``start``."""

    def parts(x):
        X, Z = (T @ small_transform(twist) for T, twist in zip(start, (x[:6], x[6:12])))
        return X, Z, 1.0 + x[12] if with_scale else 1.0

    best = least_squares(
        lambda x: _errors(views, K, arms, *parts(x)),
        np.zeros(12 + with_scale),
        x_scale="jac",
        max_nfev=MAXIMUM_STEPS,
        loss="soft_l1" if with_scale else "cauchy",
        f_scale=1.0 if with_scale else 0.5,
    )
    return parts(best.x)


def _per_view(
    views: list[BoardView], K: np.ndarray, arms: np.ndarray, X: np.ndarray, Z: np.ndarray
) -> np.ndarray:
    """Residuals of each view (V, 3).

    RMS of the corners [px]; the board's pose by this view alone against the expected one [mm],
    [degrees].
    """
    errors = _errors(views, K, arms, X, Z).reshape(-1, 2)
    number = _view_of_corner(views)
    rows = []
    for k, (arm, view) in enumerate(zip(arms, views)):
        px = np.sqrt(np.mean(np.sum(errors[number == k] ** 2, axis=1)))
        rows.append((px, *_board_difference(np.linalg.inv(X) @ arm @ Z, view)))
    return np.array(rows)


def _board_difference(T_expected: np.ndarray, view: BoardView) -> tuple[float, float]:
    """[mm] at the middle of the corners, [degrees]."""
    middle = np.eye(4)
    middle[:3, 3] = view.corners.points.mean(axis=0)
    return pose_difference(T_expected @ middle, view.T_camera_board @ middle)


def _spread(X: np.ndarray, estimates: list[np.ndarray]) -> tuple[float, float]:
    """Jackknife standard deviation [mm], [degrees] (Efron and Stein 1981)."""
    differences = np.linalg.inv(X) @ np.array(estimates)
    translations = 1000 * differences[:, :3, 3]
    rotations = np.rad2deg(Rotation.from_matrix(differences[:, :3, :3]).as_rotvec())
    factor = (len(estimates) - 1) / len(estimates)
    mm, deg = (
        np.sqrt(factor * np.sum((v - v.mean(axis=0)) ** 2)) for v in (translations, rotations)
    )
    return float(mm), float(deg)


def _refuse_another_size(
    views: list[BoardView], K: np.ndarray, arms: np.ndarray, start, scale: float
) -> None:
    """A board of another size than stated explains all views by one scale; nothing else does."""
    if abs(scale - 1) <= MAXIMUM_SCALE_ERROR:
        return
    # RMS of a normal's median square
    px = np.sqrt(2 * np.median(_errors(views, K, arms, *start, scale) ** 2) / 0.4549)
    if px > MAXIMUM_PX:
        raise InputError(
            f"no pose of camera and board explains the views ({px:.1f} px): is --mount right, are"
            " the joints the arm's own, in order and in radians?" + _lens_hint(views, K)
        )
    raise InputError(
        f"the board's squares seem to be {100 * (scale - 1):+.1f} % off their stated size: measure "
        "one with a ruler and give the real numbers with --board" + _lens_hint(views, K)
    )


def _refuse_disagreement(views: list[BoardView], K: np.ndarray, per_view: np.ndarray) -> None:
    px, mm, deg = np.sqrt(np.mean(per_view**2, axis=0))
    if px > MAXIMUM_PX or mm > MAXIMUM_MM or deg > MAXIMUM_DEG:
        worst = views[int(np.argmax(per_view[:, 0]))].view.name
        hint = _lens_hint(views, K) or (
            "; is --mount right, are board and camera firm, was the arm at rest in each view?"
        )
        raise InputError(
            f"the views disagree by {px:.2f} px, {mm:.1f} mm, {deg:.2f} degrees (at most"
            f" {MAXIMUM_PX}, {MAXIMUM_MM}, {MAXIMUM_DEG}), most in {worst}{hint}"
        )


def _lens_hint(views: list[BoardView], K: np.ndarray) -> str:
    warning = check_intrinsics(views, K).warning
    return f"; {warning}" if warning else ""


def residual_picture(views: list[BoardView], K: np.ndarray, found: Calibration) -> np.ndarray:
    """All views (H, W, 3), each with its residuals above it.

    Measured corners are circles, expected ones crosses.
    """
    tiles = []
    for s, (px, mm, deg) in zip(views, found.per_view):
        image = draw_axes(s.view.color, s.corners, found.expected(s.view.q), K)
        image = cv2.resize(
            image,
            (TILE_WIDTH, round(image.shape[0] * TILE_WIDTH / image.shape[1])),
            interpolation=cv2.INTER_AREA,
        )
        text = f"{s.view.name}: {px:.2f} px, {mm:.1f} mm, {deg:.2f} deg"
        tiles.append(np.concatenate([caption(text, TILE_WIDTH, px <= MAXIMUM_PX), image]))
    tiles += [np.full_like(tiles[0], 255)] * (-len(tiles) % COLUMNS)
    rows = [np.concatenate(tiles[k : k + COLUMNS], axis=1) for k in range(0, len(tiles), COLUMNS)]
    return np.concatenate(rows)
