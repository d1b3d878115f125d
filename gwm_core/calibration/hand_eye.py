"""Where a camera is, from views of a ChArUco board (hand-eye calibration), and whether it still is
there.

A camera on the hand looks at a fixed board, a fixed camera at a board on the hand. Both are one
equation: in view i ``T_camera_board = X^-1 A_i Z`` with the camera's mount X (T_tcp_camera or
T_base_camera), the board's mount Z (T_base_board or T_tcp_board) and the arm A_i (T_tcp_base or
T_base_tcp). X and Z start from the closed form (Shah 2013, cv2.calibrateRobotWorldHandEye) and are
then fitted together to the pixels of all corners, with a robust loss.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
from scipy.optimize import least_squares
from scipy.spatial.transform import Rotation

from gwm_core.calibration.charuco import Board, Corners, board_pose, draw_axes, project
from gwm_core.calibration.views import CalibrationView
from gwm_core.data.contact_sheet import caption
from gwm_core.errors import InputError
from gwm_core.geometry.kinematics import fk

FEWEST_VIEWS = 8  # and postures
# [rad] views whose joints all lie within this are one posture: their errors are shared
SAME_POSTURE = 0.1
MOST_OFF_CENTRE = 0.15  # share of the width and height by which K's centre may miss the image's
# a lens that moves corners by more, and by which the fit gets so much better
DISTORTED_PX, SHARPER = 1.0, 0.93
# [degrees] RMS about the second axis: with turns about one axis alone the mount is undetermined
LEAST_TURN = 5.0
MOST_PX, MOST_MM, MOST_DEG = 1.0, 5.0, 1.0  # RMS residuals of a calibration worth having
MOST_SPREAD_MM, MOST_SPREAD_DEG = 3.0, 0.3  # standard deviation of the camera's place
MOST_SCALE = 0.005  # share by which the squares may seem larger or smaller than stated
# shares of the focal length and of the width: intrinsics beyond are warned of
MOST_FOCAL, MOST_CENTRE = 0.015, 0.01
OFF_DEG, OFF_MM = 1.0, 8.0  # a camera further from its claimed place is refused
MOST_STEPS = 30  # of a fit: a good one takes 5, one that has no answer would wander on
COLUMNS, TILE = 4, 424  # of the picture, [pixels]
UNSURE_DEG, UNSURE_MM = 0.4, 4.0  # one view that leaves the place this uncertain cannot judge
# a pose is uncertain by so many standard deviations; corners are not better than that [px]
CAUTION, FINEST = 3.0, 0.05
LEAST_SEEN = 0.5  # and one that sees less than this share of what should be there


class BoardView(NamedTuple):
    """A view in which the board was found."""

    view: CalibrationView
    corners: Corners
    T_camera_board: np.ndarray  # (4, 4) from this view alone


@dataclass(frozen=True)
class Calibration:
    """A camera's mount and how well the views agree with it. Residuals are RMS over the views."""

    T: np.ndarray  # (4, 4) T_tcp_camera (moving) or T_base_camera
    T_board: np.ndarray  # (4, 4) T_base_board (moving) or T_tcp_board
    moving: bool
    per_view: np.ndarray  # (V, 3): px, mm and degrees between the board as seen and as expected
    # [mm], [degrees] standard deviation of T, by leaving out one view at a time
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
        """What a site file keeps beside the camera's place."""
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


def find_board(views: list[CalibrationView], K: np.ndarray, board: Board) -> list[BoardView]:
    """The views that show the board. Raises InputError when fewer than ``FEWEST_VIEWS`` do, or K is
    of other images.
    """
    height, width = views[0].color.shape[:2]
    if np.any(np.abs(K[:2, 2] / (width, height) - 0.5) > MOST_OFF_CENTRE):
        raise InputError(
            f"K has its centre at {K[0, 2]:.0f}, {K[1, 2]:.0f}, the images have {width}x{height}"
            " pixels: it is of another resolution, or of a cropped image"
        )
    found = [(view, board.detect(view.color)) for view in views]
    seen = [
        BoardView(view, corners, board_pose(corners, K))
        for view, corners in found
        if corners is not None
    ]
    if len(seen) < FEWEST_VIEWS:
        unseen = [view.color for view, corners in found if corners is None]
        remedy = board.why_unseen(unseen) if len(unseen) > len(seen) else "take more"
        raise InputError(
            f"the board {board} is seen in {len(seen)} of {len(views)} views, {FEWEST_VIEWS} are"
            f" wanted (15-20 are better): {remedy}"
        )
    return seen


def calibrate(seen: list[BoardView], K: np.ndarray, moving: bool) -> Calibration:
    """The mount of a camera on the hand (``moving``) or of a fixed one.

    Raises:
        InputError: too few postures, too little turning, a board of another size, or views that do
            not agree.
    """
    arms = _arm(np.array([s.view.q for s in seen]), moving)
    _refuse_little_turning(arms, seen)
    of = _postures(seen)
    if of.max() + 1 < FEWEST_VIEWS:
        raise InputError(
            f"{len(seen)} views of {of.max() + 1} postures: {FEWEST_VIEWS} different ones are"
            " wanted, a view that is taken again adds nothing: turn the hand between views"
        )
    boards = np.array([s.T_camera_board for s in seen])
    *start, scale = _fit(seen, K, arms, _closed_form(arms, boards), with_scale=True)
    _refuse_another_size(seen, K, arms, start, scale)
    # from near the answer on, a view that is off by pixels hardly counts
    X, Z, _ = _fit(seen, K, arms, start)
    per_view = _per_view(seen, K, arms, X, Z)
    _refuse_disagreement(seen, K, per_view)
    others = [np.flatnonzero(of != k) for k in range(of.max() + 1)]
    without = [_fit([seen[k] for k in use], K, arms[use], (X, Z))[0] for use in others]
    mm, deg = _spread(X, without)
    if mm > MOST_SPREAD_MM or deg > MOST_SPREAD_DEG:
        raise InputError(
            f"the camera's place is uncertain by {mm:.1f} mm and {deg:.2f} degrees (at most "
            f"{MOST_SPREAD_MM} and {MOST_SPREAD_DEG}): take more views, nearer, turning more"
        )
    return Calibration(X, Z, moving, per_view, (mm, deg), scale)


def _postures(seen: list[BoardView]) -> np.ndarray:
    """The number of each view's posture (V,), from 0."""
    firsts, of = [], []
    for s in seen:
        near = [k for k, q in enumerate(firsts) if np.abs(s.view.q - q).max() < SAME_POSTURE]
        if not near:
            firsts.append(s.view.q)
        of.append(near[0] if near else len(firsts) - 1)
    return np.array(of)


def _arm(q: np.ndarray, moving: bool) -> np.ndarray:
    return np.linalg.inv(fk(q)) if moving else fk(q)


def _refuse_little_turning(arms: np.ndarray, seen: list[BoardView]) -> None:
    turns = Rotation.from_matrix(arms[:, :3, :3])
    about = np.rad2deg((turns.mean().inv() * turns).as_rotvec())
    second = np.linalg.svd(about, compute_uv=False)[1] / np.sqrt(len(seen))
    if second < LEAST_TURN:
        raise InputError(
            f"the hand turned by {second:.1f} degrees (RMS) about its second axis, {LEAST_TURN:.0f}"
            " are wanted: take views that roll, pitch and yaw it by 20-40 degrees each way"
        )


def _closed_form(arms: np.ndarray, boards: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """X and Z (4, 4): OpenCV's world is the board, its gripper is A's left frame, its base A's
    right frame.
    """
    turn_z, shift_z, turn_x, shift_x = cv2.calibrateRobotWorldHandEye(
        boards[:, :3, :3],
        boards[:, :3, 3],
        arms[:, :3, :3],
        arms[:, :3, 3],
        method=cv2.CALIB_ROBOT_WORLD_HAND_EYE_SHAH,
    )
    X, Z = np.eye(4), np.eye(4)
    X[:3, :3], X[:3, 3], Z[:3, :3], Z[:3, 3] = turn_x, shift_x[:, 0], turn_z, shift_z[:, 0]
    return np.linalg.inv(X), np.linalg.inv(Z)


def _index(seen: list[BoardView]) -> np.ndarray:
    return np.repeat(np.arange(len(seen)), [len(s.corners.points) for s in seen])


def _errors(
    seen: list[BoardView], K: np.ndarray, arms: np.ndarray, X: np.ndarray, Z: np.ndarray, scale=1.0
) -> np.ndarray:
    poses = (np.linalg.inv(X) @ arms @ Z)[_index(seen)]  # (M, 4, 4)
    points = scale * np.concatenate([s.corners.points for s in seen])
    return (project(points, poses, K) - np.concatenate([s.corners.pixels for s in seen])).ravel()


def _fit(seen, K, arms, start, with_scale: bool = False) -> tuple[np.ndarray, np.ndarray, float]:
    """X, Z and the board's scale that bring all corners closest to their pixels, from ``start``."""

    def parts(x):
        X, Z = (T @ small_transform(twist) for T, twist in zip(start, (x[:6], x[6:12])))
        return X, Z, 1.0 + x[12] if with_scale else 1.0

    best = least_squares(
        lambda x: _errors(seen, K, arms, *parts(x)),
        np.zeros(12 + with_scale),
        x_scale="jac",
        max_nfev=MOST_STEPS,
        loss="soft_l1" if with_scale else "cauchy",
        f_scale=1.0 if with_scale else 0.5,
    )
    return parts(best.x)


def small_transform(twist: np.ndarray) -> np.ndarray:
    """(4, 4) from a rotation vector [rad] and a translation [m], (6,)."""
    T = np.eye(4)
    T[:3, :3], T[:3, 3] = Rotation.from_rotvec(twist[:3]).as_matrix(), twist[3:]
    return T


def difference(T_a: np.ndarray, T_b: np.ndarray) -> tuple[float, float]:
    """How far two poses are apart: [mm], [degrees]."""
    turn = Rotation.from_matrix(T_a[:3, :3].T @ T_b[:3, :3]).magnitude()
    return 1000 * float(np.linalg.norm(T_a[:3, 3] - T_b[:3, 3])), float(np.rad2deg(turn))


def _per_view(
    seen: list[BoardView], K: np.ndarray, arms: np.ndarray, X: np.ndarray, Z: np.ndarray
) -> np.ndarray:
    """(V, 3): RMS of the corners [px]; the board by this view alone against where it is expected
    [mm], [degrees].
    """
    px, of = _errors(seen, K, arms, X, Z).reshape(-1, 2), _index(seen)
    rows = [
        (np.sqrt(np.mean(np.sum(px[of == k] ** 2, axis=1))), *_apart(np.linalg.inv(X) @ arm @ Z, s))
        for k, (arm, s) in enumerate(zip(arms, seen))
    ]
    return np.array(rows)


def _apart(expected: np.ndarray, seen: BoardView) -> tuple[float, float]:
    middle = np.eye(4)
    middle[:3, 3] = seen.corners.points.mean(axis=0)
    return difference(expected @ middle, seen.T_camera_board @ middle)


def _spread(X: np.ndarray, without: list[np.ndarray]) -> tuple[float, float]:
    """Jackknife standard deviation [mm], [degrees] (Efron and Stein 1981)."""
    away = np.linalg.inv(X) @ np.array(without)
    shifts, turns = away[:, :3, 3], Rotation.from_matrix(away[:, :3, :3]).as_rotvec()
    share = (len(without) - 1) / len(without)
    mm, deg = (
        np.sqrt(share * np.sum((v - v.mean(axis=0)) ** 2))
        for v in (1000 * shifts, np.rad2deg(turns))
    )
    return float(mm), float(deg)


def _refuse_another_size(
    seen: list[BoardView], K: np.ndarray, arms: np.ndarray, start, scale: float
) -> None:
    """A board of another size than stated explains all views by one scale; nothing else does."""
    if abs(scale - 1) <= MOST_SCALE:
        return
    # RMS of a normal's median square
    px = np.sqrt(2 * np.median(_errors(seen, K, arms, *start, scale) ** 2) / 0.4549)
    if px > MOST_PX:
        raise InputError(
            f"no place of camera and board explains the views ({px:.1f} px): is --mount right, are"
            " the joints the arm's own, in order and in radians?" + _lens(seen, K)
        )
    raise InputError(
        f"the board's squares seem to be {100 * (scale - 1):+.1f} % off their stated size: measure "
        "one with a ruler and give the real numbers with --board" + _lens(seen, K)
    )


def _refuse_disagreement(seen: list[BoardView], K: np.ndarray, per_view: np.ndarray) -> None:
    px, mm, deg = np.sqrt(np.mean(per_view**2, axis=0))
    if px > MOST_PX or mm > MOST_MM or deg > MOST_DEG:
        worst = seen[int(np.argmax(per_view[:, 0]))].view.name
        asked = _lens(seen, K) or (
            "; is --mount right, are board and camera firm, was the arm at rest in each view?"
        )
        raise InputError(
            f"the views disagree by {px:.2f} px, {mm:.1f} mm, {deg:.2f} degrees (at most {MOST_PX},"
            f" {MOST_MM}, {MOST_DEG}), most in {worst}{asked}"
        )


def _lens(seen: list[BoardView], K: np.ndarray) -> str:
    warning = check_intrinsics(seen, K).warning
    return f"; {warning}" if warning else ""


def picture(seen: list[BoardView], K: np.ndarray, found: Calibration) -> np.ndarray:
    """All views (H, W, 3): corners found (circles) and expected (crosses), each view's residuals
    above it.
    """
    tiles = []
    for s, (px, mm, deg) in zip(seen, found.per_view):
        image = draw_axes(s.view.color, s.corners, found.expected(s.view.q), K)
        image = cv2.resize(
            image,
            (TILE, round(image.shape[0] * TILE / image.shape[1])),
            interpolation=cv2.INTER_AREA,
        )
        text = f"{s.view.name}: {px:.2f} px, {mm:.1f} mm, {deg:.2f} deg"
        tiles.append(np.concatenate([caption(text, TILE, px <= MOST_PX), image]))
    tiles += [np.full_like(tiles[0], 255)] * (-len(tiles) % COLUMNS)
    rows = [np.concatenate(tiles[k : k + COLUMNS], axis=1) for k in range(0, len(tiles), COLUMNS)]
    return np.concatenate(rows)


class Intrinsics(NamedTuple):
    """The driver's camera matrix against one fitted to the same views."""

    K: np.ndarray  # (3, 3) fitted
    given_px: float  # RMS with the given K, every view placed freely
    fitted_px: float  # the same with the fitted one
    warning: str  # empty: they agree


def check_intrinsics(seen: list[BoardView], K: np.ndarray) -> Intrinsics:
    """Fit K to the views and compare. Nothing is replaced: the driver's K is what the rest of the
    stack uses.
    """
    height, width = seen[0].view.color.shape[:2]
    points, pixels = (
        [part.astype(np.float32) for part in parts] for parts in zip(*(s.corners for s in seen))
    )
    flags = cv2.CALIB_USE_INTRINSIC_GUESS | cv2.CALIB_ZERO_TANGENT_DIST | cv2.CALIB_FIX_K3
    fitted_px, fitted, _, _, _, deviation, _, _ = cv2.calibrateCameraExtended(
        points,
        pixels,
        (width, height),
        K.copy(),
        None,
        flags=flags | cv2.CALIB_FIX_K1 | cv2.CALIB_FIX_K2,
    )
    lens_px, bent, lens, _, _ = cv2.calibrateCamera(
        points, pixels, (width, height), K.copy(), None, flags=flags
    )
    straight = cv2.undistortPoints(np.concatenate(pixels)[:, None], bent, lens, P=bent)[:, 0]
    moved = float(np.linalg.norm(straight - np.concatenate(pixels), axis=1).max())
    each = [project(s.corners.points, s.T_camera_board, K) - s.corners.pixels for s in seen]
    given_px = float(np.sqrt(np.mean(np.sum(np.concatenate(each) ** 2, axis=1))))
    off = np.abs(fitted - K)[[0, 1, 0, 1], [0, 1, 2, 2]]  # fx, fy, cx, cy
    allowed = np.maximum(
        [MOST_FOCAL * K[0, 0], MOST_FOCAL * K[1, 1], *[MOST_CENTRE * width] * 2],
        3 * deviation[:4, 0],
    )
    warning = ""
    if moved > DISTORTED_PX and lens_px < SHARPER * fitted_px:
        warning = (
            f"the images are distorted, by up to {moved:.1f} px where the board was (k1"
            f" {lens[0, 0]:+.3f}): have the driver publish rectified images"
        )
    elif np.any(off > allowed) or given_px > MOST_PX:
        warning = (
            f"the driver's intrinsics differ from these views by {off[0]:.1f}, {off[1]:.1f} px in"
            f" focal length and {off[2]:.1f}, {off[3]:.1f} px in centre ({given_px:.2f} px RMS,"
            f" fitted {fitted_px:.2f}): is K that of this resolution?"
        )
    return Intrinsics(fitted, given_px, float(fitted_px), warning)


class PoseCheck(NamedTuple):
    """How far a camera is from its claimed place."""

    mm: float
    deg: float
    seen: float = 1.0  # share of what was expected in view that is there

    @property
    def accepted(self) -> bool:
        """Whether the claimed place may be used."""
        return self.mm <= OFF_MM and self.deg <= OFF_DEG and self.seen >= LEAST_SEEN


def judge(
    view: CalibrationView, verdict: PoseCheck, unsure: tuple[float, float], remedy: str
) -> PoseCheck:
    """The verdict, unless it is too uncertain [mm], [degrees] to be one: then an InputError with
    the remedy.
    """
    mm, deg = unsure
    if verdict.seen >= LEAST_SEEN and (mm > UNSURE_MM or deg > UNSURE_DEG):
        raise InputError(
            f"{view.name} cannot judge: it leaves {mm:.1f} mm and {deg:.2f} degrees uncertain (at"
            f" most {UNSURE_MM:g} and {UNSURE_DEG:g}): {remedy}"
        )
    return verdict


def deviation(jacobian: np.ndarray, sigma: float) -> tuple[float, float]:
    """Standard deviation [mm], [degrees] of a small transform from a Jacobian (N, 6) and that of
    the readings.
    """
    variance = sigma**2 * np.diag(np.linalg.pinv(jacobian.T @ jacobian))
    return float(1000 * np.sqrt(variance[3:].sum())), float(np.rad2deg(np.sqrt(variance[:3].sum())))


def check_board(
    view: CalibrationView,
    K: np.ndarray,
    board: Board,
    T_base_board: np.ndarray,
    claimed: np.ndarray,
) -> PoseCheck:
    """Judge a claimed T_base_camera by one view of a board whose place is known. Raises InputError
    if it cannot.
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
    sigma = max(FINEST, float(np.sqrt(np.mean((pixels - corners.pixels) ** 2))))
    verdict = PoseCheck(*difference(claimed, T_base_board @ np.linalg.inv(T)))
    remedy = "bring the board nearer and slant it by 20-40 degrees, the whole of it in view"
    return judge(view, verdict, deviation(jacobian, CAUTION * sigma), remedy)
