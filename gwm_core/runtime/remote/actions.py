"""From the rows of an answer to joints and openings."""

from __future__ import annotations

import numpy as np
from scipy.spatial.transform import Rotation

from gwm_core.geometry.kinematics import solve
from gwm_core.geometry.limits import ArmLimits
from gwm_core.runtime.remote.contract import ActionSpec
from gwm_core.types import OPEN_WIDTH

_SLACK = 0.1  # fraction of the whole way that a gripper's value may be beyond its ends


class Unusable(Exception):
    """The answer is not what the contract says. The text says why."""


def rows_of(spec: ActionSpec, answer: dict) -> np.ndarray:
    """The rows (H, D) of an answer, float64. Raises Unusable."""
    rows = answer.get(spec.key)
    if not isinstance(rows, np.ndarray) or rows.dtype.kind not in "iuf":
        have = ", ".join(str(key)[:30] for key in list(answer)[:8])
        raise Unusable(f"no array '{spec.key}' in the answer, which has {have or 'nothing'}")
    if rows.ndim != 2 or rows.shape[1] != spec.width:
        raise Unusable(f"{spec.key} is {rows.shape}, and ({spec.rows}, {spec.width}) is wanted")
    if len(rows) < spec.rows:
        raise Unusable(f"{len(rows)} rows in the answer, and {spec.rows} are wanted")
    rows = rows[: spec.rows].astype(np.float64)
    if not np.isfinite(rows).all():
        raise Unusable(f"row {int(np.argmin(np.isfinite(rows).all(1)))} is not finite")
    return rows


def joints_of(spec: ActionSpec, rows: np.ndarray, q: np.ndarray, arm: ArmLimits) -> np.ndarray:
    """Joints (H, 7) [rad] of rows (H, D), for an arm at q (7,).

    Raises Unreachable as ``kinematics.solve``.
    """
    moves = rows[:, :-1]
    match spec.space:
        case "joint_positions":
            return moves
        case "joint_deltas":
            return q + moves.cumsum(0)
        case "joint_velocities":
            return q + moves.cumsum(0) / spec.rate
        case "poses":
            matrices = Rotation.from_rotvec(moves[:, 3:]).as_matrix()
            moves = np.concatenate([moves[:, :3], matrices[:, :, 0], matrices[:, :, 1]], axis=1)
    return solve(np.concatenate([moves, rows[:, -1:]], axis=1), q, arm=arm)


def widths_of(spec: ActionSpec, rows: np.ndarray) -> np.ndarray:
    """Openings (H,) [m] of rows (H, D). Raises Unusable far beyond the gripper's ends."""
    values = rows[:, -1]
    fraction = values / OPEN_WIDTH if spec.gripper == "width" else values
    if fraction.min() < -_SLACK or fraction.max() > 1 + _SLACK:
        raise Unusable(
            f"the gripper's {spec.gripper} goes from {values.min():.3g} to {values.max():.3g}:"
            " other units?"
        )
    fraction = fraction.clip(0, 1)
    return OPEN_WIDTH * (1 - fraction if spec.gripper == "closing" else fraction)
