"""Rotated and reflected demonstrations.

Joint 1 rotates the whole arm about the vertical, and arm and hand are symmetric. So a demonstration
that is rotated about the vertical, or reflected, is a demonstration of the same task by the same
arm. This holds for tasks that everything in view rotates with. It does not hold for a place that is
fixed in the room and unseen, nor for a word like "left".
"""

from __future__ import annotations

import torch
from torch import Tensor

from gwm_core.training.training_loop import Batch


def draw(count: int, angle: float, reflect: bool, device: torch.device) -> Tensor:
    """Matrices (B, 3, 3): rotations about z by up to ``angle`` [rad], after y -> -y in every second
    one on average where ``reflect``.
    """
    turn = (2 * torch.rand(count, device=device) - 1) * angle
    side = torch.ones(count, device=device)
    if reflect:
        side = torch.where(torch.rand(count, device=device) < 0.5, -side, side)
    cos, sin, zero = turn.cos(), turn.sin(), torch.zeros_like(turn)
    rows = (cos, -sin * side, zero, sin, cos * side, zero, zero, zero, zero + 1)
    return torch.stack(rows, -1).view(count, 3, 3)


def transformed(batch: Batch, matrices: Tensor) -> Batch:
    """The batch with its points, proprioception and rows moved by ``matrices`` of ``draw``."""
    moved = {name: transform_rows(batch[name], matrices) for name in ("proprio", "rows")}
    return batch | moved | {"points": _apply(batch["points"], matrices)}


def transform_rows(rows: Tensor, matrices: Tensor) -> Tensor:
    """Pose rows (B, ..., 9 + any) of ``kinematics.to_rows``, moved by ``matrices`` (B, 3, 3).

    A reflected gripper is a gripper whose y axis is reversed.
    """
    flat = rows.view(len(rows), -1, rows.shape[-1])
    side = torch.linalg.det(matrices).round()[:, None, None]
    position, x, y, rest = flat.split((3, 3, 3, flat.shape[-1] - 9), -1)
    moved = [_apply(part, matrices) for part in (position, x, y)]
    return torch.cat([*moved[:2], moved[2] * side, rest], -1).view(rows.shape)


def _apply(vectors: Tensor, matrices: Tensor) -> Tensor:
    return vectors @ matrices.transpose(1, 2).to(vectors.dtype)
