"""Rendered ChArUco boards: what a camera on the hand, or a fixed one with the board on the hand,
would see.
"""

import cv2
import numpy as np
from scipy.spatial.transform import Rotation

from gwm_core.calibration.charuco import Board, project
from gwm_core.calibration.views import CalibrationView
from gwm_core.geometry.camera import intrinsics, look_at
from gwm_core.geometry.kinematics import HOME_Q, fk
from gwm_core.geometry.transforms import small_transform

BOARD = Board()
WIDTH, HEIGHT = 640, 480
K = intrinsics(WIDTH, HEIGHT, 42.5)
FINE, MARGIN, SQUARE = 2, 20, 60  # supersampling; pixels of the flat board


def render(T_camera_board, rng, board=BOARD, blur=0.7, noise=3.0):
    """(HEIGHT, WIDTH, 3): the flat board through the true homography of pixel centres at + 0.5,
    blur, noise.
    """
    flat = cv2.copyMakeBorder(board.draw(SQUARE), *[MARGIN] * 4, cv2.BORDER_CONSTANT, value=255)
    step = board.square / SQUARE
    metres = np.array(
        [[step, 0, (0.5 - MARGIN) * step], [0, step, (0.5 - MARGIN) * step], [0, 0, 1]]
    )
    finer = np.array([[FINE, 0, -0.5], [0, FINE, -0.5], [0, 0, 1]])
    image = np.tile(np.linspace(90, 150, WIDTH * FINE).astype(np.uint8), (HEIGHT * FINE, 1))
    H = finer @ K @ T_camera_board[:3, [0, 1, 3]] @ metres
    cv2.warpPerspective(flat, H, image.shape[::-1], image, cv2.INTER_LINEAR, cv2.BORDER_TRANSPARENT)
    image = cv2.resize(image, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA).astype(float)
    image = (
        0.85 * cv2.GaussianBlur(image, (0, 0), blur)
        + 10
        + noise * rng.standard_normal(image.shape, np.float32)
    )
    return np.repeat(np.clip(np.rint(image), 0, 255).astype(np.uint8)[..., None], 3, axis=2)


def mounts(moving, rng, board=BOARD):
    """True mounts of camera and board (4, 4) each."""
    if moving:
        X, Z = np.eye(4), np.diag([1.0, -1, -1, 1])
        turn = [90 + rng.uniform(-5, 5), rng.uniform(-10, 10), rng.uniform(5, 20)]
        X[:3, :3] = Rotation.from_euler("zyx", turn, degrees=True).as_matrix()
        X[:3, 3] = np.array([0.06, 0.02, -0.07]) + rng.uniform(-0.01, 0.01, 3)
        Z[:3, 3] = [0.55 - board.size[0] / 2, board.size[1] / 2, 0]
        return X, Z @ small_transform(np.r_[rng.uniform(-0.1, 0.1, 3), rng.uniform(-0.02, 0.02, 3)])
    X = look_at((1.15 + rng.uniform(-0.05, 0.05), rng.uniform(-0.2, 0.2), 0.62), (0.47, 0, 0.35))
    T = np.eye(4)
    T[:3, :3] = X[:3, :3] @ Rotation.from_rotvec(rng.uniform(-0.2, 0.2, 3)).as_matrix()
    T[:3, 3] = fk(HOME_Q)[:3, 3] + [0.08, 0, 0.02] - T[:3, :3] @ board.centre
    return X, np.linalg.inv(fk(HOME_Q)) @ T


def where(X, Z, q, moving):
    """T_camera_board (4, 4)."""
    return np.linalg.inv(X) @ (np.linalg.inv(fk(q)) if moving else fk(q)) @ Z


def whole(T, board=BOARD):
    """Whether the whole board is in view, near and not too slanted."""
    w, h = board.size
    pixels = project(np.array([[0, 0, 0], [w, 0, 0], [0, h, 0], [w, h, 0]]), T, K)
    inside = pixels.min() > 5 and np.all(pixels < [WIDTH - 5, HEIGHT - 5])
    return bool(inside and 0.3 < (T[:3, :3] @ board.centre + T[:3, 3])[2] < 1.2 and T[2, 2] > 0.65)


def views(moving, seed, count=18, board=BOARD, around=HOME_Q, turn=np.full(7, 0.45)):
    """True mounts, and views from random joints within ``turn`` [rad] of ``around``."""
    rng, taken = np.random.default_rng(seed), []
    X, Z = mounts(moving, rng, board)
    while len(taken) < count:
        q = around + turn * rng.uniform(-1, 1, 7)
        if whole(T := where(X, Z, q, moving), board):
            taken.append(CalibrationView(f"{len(taken):02d}.png", render(T, rng, board), q))
    return X, Z, taken
