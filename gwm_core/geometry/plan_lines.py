"""A chunk as an operator sees it: lines in a camera's image, and a few words."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gwm_core.geometry.kinematics import rotation_vector

# The Franka hand in the frame of the TCP: the fingers open along y, and z points out of the hand
# (franka_description, hand.xacro: finger length 0.045 m, hand 0.204 m wide).
_PALM = -0.045  # [m] height of the palm
_HALF_PALM = 0.05  # [m] of it that is drawn: closed fingers would be a line
_WRIST = -0.103  # [m] height of the flange
_NEAREST = 0.05  # [m] in front of the camera: nearer points have no place in the image
_SMALLEST_MOVE = 0.01  # [m] of a direction that is named
_SMALLEST_TURN = np.deg2rad(15.0)
_SMALLEST_OPENING = 0.01  # [m] change of the fingers that is named
# names of the base axes' directions, for an operator behind the arm, who looks along +x
_DIRECTIONS = (("forward", "back"), ("left", "right"), ("up", "down"))


def project(
    points: np.ndarray, K: np.ndarray, T_base_camera: np.ndarray, size: tuple[int, int]
) -> np.ndarray:
    """Points of the base frame (N, 3) as fractions (N, 2) of an image's width and height.

    Args:
        K: (3, 3) [pixels], pixel centres at + 0.5.
        size: width and height [pixels].

    Returns:
        NaN for a point behind the camera. Points beside the image lie outside 0 to 1.
    """
    in_camera = (np.asarray(points, float) - T_base_camera[:3, 3]) @ T_base_camera[:3, :3]
    z = np.where(in_camera[:, 2:] < _NEAREST, np.nan, in_camera[:, 2:])
    return (in_camera / z @ K.T)[:, :2] / size


def gripper_outline(T: np.ndarray, width: float) -> np.ndarray:
    """The hand at a TCP pose (4, 4), with open fingers of ``width`` [m]: a line (9, 3).

    It leads from one finger tip over palm, flange and palm to the other.
    """
    left, right = 0.5 * width, -0.5 * width
    y = [left, left, _HALF_PALM, 0.0, 0.0, 0.0, -_HALF_PALM, right, right]
    z = [0.0, _PALM, _PALM, _PALM, _WRIST, _PALM, _PALM, _PALM, 0.0]
    local = np.stack([np.zeros(len(y)), y, z, np.ones(len(y))], axis=-1)
    return (local @ T.T)[:, :3]


def in_words(T: np.ndarray, width: Sequence[float]) -> str:
    """What a chunk does, such as "12 cm left, 3 cm down, then close".

    Args:
        T: poses of the TCP (K, 4, 4): the present one, then those of the chunk.
        width: finger openings (K,) [m], the present one first.
    """
    move = T[-1, :3, 3] - T[0, :3, 3]
    found = [
        f"{100 * abs(distance):.0f} cm {names[0] if distance > 0 else names[1]}"
        for distance, names in sorted(zip(move, _DIRECTIONS), key=lambda axis: -abs(axis[0]))
        if abs(distance) >= _SMALLEST_MOVE
    ]
    turn = float(np.linalg.norm(rotation_vector(T[0, :3, :3].T @ T[-1, :3, :3])))
    if turn >= _SMALLEST_TURN:
        found.append(f"turn by {np.rad2deg(turn):.0f} degrees")
    return _with_gripper(", ".join(found), T, np.asarray(width, float))


def _with_gripper(motion: str, T: np.ndarray, width: np.ndarray) -> str:
    """Add what the fingers do, before, during or after the motion."""
    change = width[-1] - width[0]
    if abs(change) < _SMALLEST_OPENING:
        return motion or "stay"
    action = "open" if change > 0 else "close"
    if not motion:
        return action
    half = int(np.argmax(np.abs(width - width[0]) >= 0.5 * abs(change)))
    path = np.linalg.norm(np.diff(T[:, :3, 3], axis=0), axis=1)
    done = path[:half].sum() / max(path.sum(), 1e-9)
    if done < 0.25:
        return f"{action}, then {motion}"
    return f"{motion}, then {action}" if done > 0.75 else f"{motion}, and {action}"
