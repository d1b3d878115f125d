"""Forward kinematics, Jacobian and inverse kinematics of FR3 and Panda, in numpy."""

from __future__ import annotations

import numpy as np

from gwm_core.geometry.limits import FR3, ArmLimits

# Modified (Craig) Denavit-Hartenberg rows, frankarobotics/docs "Denavit-Hartenberg parameters": a,
# d, alpha.
A = np.array([0.0, 0.0, 0.0, 0.0825, -0.0825, 0.0, 0.088])  # [m]
D = np.array([0.333, 0.0, 0.316, 0.0, 0.384, 0.0, 0.0])  # [m]
_ALPHA = np.array([0.0, -1.0, 1.0, 1.0, -1.0, 1.0, 1.0]) * np.pi / 2
_COS_ALPHA = np.round(np.cos(_ALPHA))
_SIN_ALPHA = np.round(np.sin(_ALPHA))
_STEPS = np.zeros((7, 4, 4))  # the entries that do not depend on the joints
_STEPS[:, 0, 3], _STEPS[:, 3, 3] = A, 1.0
_STEPS[:, 1, 2], _STEPS[:, 1, 3] = -_SIN_ALPHA, -_SIN_ALPHA * D
_STEPS[:, 2, 2], _STEPS[:, 2, 3] = _COS_ALPHA, _COS_ALPHA * D

_MINIMUM_LENGTH = 1e-3  # of a column of rot6d, whose length should be 1
_SMALL_SINE = 1e-6  # below it the skew part of a rotation matrix gives no axis
_SQRT_HALF = np.sqrt(0.5)
# [m] joint 7 to flange, flange (turned by -45 degrees) to finger tips
FLANGE_TO_TCP = 0.107 + 0.1034
_T_7_TCP = np.array(
    [
        [_SQRT_HALF, _SQRT_HALF, 0, 0],
        [-_SQRT_HALF, _SQRT_HALF, 0, 0],
        [0, 0, 1, FLANGE_TO_TCP],
        [0, 0, 0, 1.0],
    ]
)
# [rad] hand down, TCP at about (0.43, 0, 0.41)
HOME_Q = np.array([0.0, -0.3, 0.0, -2.3, 0.0, 2.0, np.pi / 4])


def _joint_frames(q: np.ndarray) -> np.ndarray:
    """Frames of joints 1-7 and the TCP in the base frame: (..., 7) -> (8, ..., 4, 4)."""
    cos, sin = np.cos(q), np.sin(q)
    steps = np.empty((*q.shape, 4, 4))
    steps[:] = _STEPS
    steps[..., 0, 0], steps[..., 0, 1] = cos, -sin
    steps[..., 1, 0], steps[..., 1, 1] = sin * _COS_ALPHA, cos * _COS_ALPHA
    steps[..., 2, 0], steps[..., 2, 1] = sin * _SIN_ALPHA, cos * _SIN_ALPHA
    frames = np.empty((8, *q.shape[:-1], 4, 4))
    frames[0] = steps[..., 0, :, :]
    for i in range(1, 7):
        np.matmul(frames[i - 1], steps[..., i, :, :], out=frames[i])
    np.matmul(frames[6], _T_7_TCP, out=frames[7])
    return frames


def _cross(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Cross product over the last axis; np.cross takes three times as long on arrays this small."""
    result = np.empty(a.shape)
    for i, j, k in ((0, 1, 2), (1, 2, 0), (2, 0, 1)):
        result[..., i] = a[..., j] * b[..., k] - a[..., k] * b[..., j]
    return result


def link_frames(q: np.ndarray) -> np.ndarray:
    """Frames of the base and of links 1-7 in the base frame: (..., 7) [rad] -> (8, ..., 4, 4)."""
    frames = _joint_frames(np.asarray(q, float))
    return np.concatenate([np.broadcast_to(np.eye(4), (1, *frames.shape[1:])), frames[:7]])


def fk(q: np.ndarray) -> np.ndarray:
    """TCP pose T_base_tcp: (..., 7) [rad] -> (..., 4, 4)."""
    return _joint_frames(np.asarray(q, float))[7]


def fk_jacobian(q: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """TCP pose (..., 4, 4) and geometric Jacobian (..., 6, 7) for joints (..., 7) [rad].

    The Jacobian has linear [m/rad] over angular rows, in the base frame.
    """
    frames = _joint_frames(np.asarray(q, float))
    axes = frames[:7, ..., :3, 2]  # (7, ..., 3)
    levers = frames[7, ..., :3, 3] - frames[:7, ..., :3, 3]  # (7, ..., 3)
    jacobian = np.concatenate([_cross(axes, levers), axes], axis=-1)  # (7, ..., 6)
    return frames[7], np.moveaxis(jacobian, 0, -1)


def condition(jacobian: np.ndarray) -> np.ndarray:
    """Condition number (...) of Jacobians (..., 6, 7) in metres and radians, as in MoveIt Servo."""
    eigenvalues = np.linalg.eigvalsh(jacobian @ np.swapaxes(jacobian, -1, -2))
    return np.sqrt(eigenvalues[..., -1] / np.maximum(eigenvalues[..., 0], 1e-12))


def tcp_speed(q: np.ndarray, dq: np.ndarray) -> np.ndarray:
    """Speed of the TCP [m/s] for joint states (..., 7)."""
    _, jacobian = fk_jacobian(q)
    return np.linalg.norm((jacobian[..., :3, :] @ np.asarray(dq)[..., None])[..., 0], axis=-1)


def to_rows(T: np.ndarray, width: np.ndarray | float) -> np.ndarray:
    """Pose rows (..., 10) from TCP poses (..., 4, 4) and gripper widths (...) [m]."""
    width = np.broadcast_to(np.asarray(width, float), T.shape[:-2])[..., None]
    return np.concatenate([T[..., :3, 3], T[..., :3, 0], T[..., :3, 1], width], axis=-1)


def from_rows(rows: np.ndarray) -> np.ndarray:
    """TCP poses (..., 4, 4) from pose rows (..., 10); rot6d is made orthonormal (Gram-Schmidt).

    Raises:
        ValueError: the two columns of a row are zero or parallel.
    """
    first, second = rows[..., 3:6], rows[..., 6:9]
    length = np.linalg.norm(first, axis=-1, keepdims=True)
    x = first / np.maximum(length, _MINIMUM_LENGTH)
    y = second - np.sum(second * x, axis=-1, keepdims=True) * x
    width = np.linalg.norm(y, axis=-1, keepdims=True)
    if (np.minimum(length, width) < _MINIMUM_LENGTH).any():
        row = int(np.argmax(np.minimum(length, width) < _MINIMUM_LENGTH))
        raise ValueError(f"row {row + 1} has no rotation: its two columns are zero or parallel")
    y = y / width
    T = np.zeros((*rows.shape[:-1], 4, 4))
    T[..., :3, 0] = x
    T[..., :3, 1] = y
    T[..., :3, 2] = np.cross(x, y)
    T[..., :3, 3] = rows[..., :3]
    T[..., 3, 3] = 1.0
    return T


def rotation_vector(rotation: np.ndarray) -> np.ndarray:
    """Axis times angle (..., 3) [rad] of rotation matrices (..., 3, 3), also at 180 degrees.

    scipy's function takes twice as long on arrays this small.
    """
    skew = 0.5 * np.stack(
        [
            rotation[..., 2, 1] - rotation[..., 1, 2],
            rotation[..., 0, 2] - rotation[..., 2, 0],
            rotation[..., 1, 0] - rotation[..., 0, 1],
        ],
        axis=-1,
    )  # the axis times the sine
    sine = np.linalg.norm(skew, axis=-1, keepdims=True)
    cosine = 0.5 * (np.trace(rotation, axis1=-2, axis2=-1)[..., None] - 1.0)
    angle = np.arctan2(sine, cosine)
    vector = skew * np.where(sine > _SMALL_SINE, angle / np.maximum(sine, _SMALL_SINE), 1.0)
    straight = (sine[..., 0] <= _SMALL_SINE) & (cosine[..., 0] < 0.0)
    if straight.any():  # the skew part vanishes; the symmetric one is 2 a a^T - 1
        outer = 0.5 * (rotation[straight] + np.eye(3))
        k = np.argmax(np.diagonal(outer, axis1=-2, axis2=-1), axis=-1)
        axis = outer[np.arange(len(k)), k]
        axis = axis / np.linalg.norm(axis, axis=-1, keepdims=True)
        sign = np.where(np.sum(axis * skew[straight], axis=-1, keepdims=True) < 0, -1.0, 1.0)
        vector[straight] = sign * axis * angle[straight]
    return vector


def pose_error(T: np.ndarray, T_goal: np.ndarray) -> np.ndarray:
    """Error (..., 6) from ``T`` to ``T_goal``: [m] and a rotation vector [rad], base frame."""
    rotation = T_goal[..., :3, :3] @ np.swapaxes(T[..., :3, :3], -1, -2)
    return np.concatenate([T_goal[..., :3, 3] - T[..., :3, 3], rotation_vector(rotation)], axis=-1)


class Unreachable(ValueError):
    """A pose row has no joint solution inside the limits. The message names the first such row."""


def solve(
    rows: np.ndarray,
    q_seed: np.ndarray,
    *,
    arm: ArmLimits = FR3,
    iterations: int = 60,
    tolerance: float = 2e-4,
) -> np.ndarray:
    """Solve for the joint positions (H, 7) [rad] of pose rows (H, 10), by damped least squares.

    All rows are solved at once. A posture term in the null space pulls every row towards HOME_Q, so
    neighbouring rows get neighbouring solutions.

    Raises:
        Unreachable: a row misses its pose by more than ``tolerance`` [m, rad], is not finite or has
            no rotation.
    """
    if not np.all(np.isfinite(rows)):
        row = int(np.argmin(np.isfinite(rows).all(axis=-1)))
        raise Unreachable(f"row {row + 1} has a non-finite number")
    try:
        T_goal = from_rows(rows)
    except ValueError as error:
        raise Unreachable(str(error)) from None
    q = np.repeat(np.asarray(q_seed, float)[None], len(rows), axis=0)  # (H, 7)
    for i in range(iterations):
        T, J = fk_jacobian(q)
        error = pose_error(T, T_goal)  # (H, 6)
        miss = np.abs(error).max(axis=-1)
        posture = 0.05 * (HOME_Q - q) if i < iterations // 2 else np.zeros_like(q)
        if i >= 8 and miss.max() < tolerance:
            break
        JT = np.swapaxes(J, -1, -2)
        gram = J @ JT + 1e-4 * np.eye(6)
        step = JT @ np.linalg.solve(gram, (error - (J @ posture[..., None])[..., 0])[..., None])
        q = np.clip(q + np.clip(posture + step[..., 0], -0.35, 0.35), arm.q_low, arm.q_high)
    if miss.max() >= tolerance:
        row = int(np.argmax(miss >= tolerance))
        x, y, z = rows[row, :3]
        raise Unreachable(
            f"row {row + 1} at ({x:.3f}, {y:.3f}, {z:.3f}) m is out of reach by {miss[row]:.4f}"
        )
    return q
