"""How far a policy's plans are from those of an earlier one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import load_file

from gwm_core.improvement.practice import STARTS
from gwm_core.model.checkpoint import load_predicting_policy

_MOST = 100  # starts, evenly over those of the practice
_BATCH = 20


@torch.inference_mode()
def plan_distance(before: Path, after: Path, practice: Path, task: str) -> float:
    """Mean distance [mm] of the planned gripper positions, over starts and waypoints.

    Both plan as they do on the arm: from the noise that is stored with them.

    Args:
        before, after: folders of policies that predict. practice: folder whose starts are used.
    """
    arrays = load_file(practice / STARTS)
    count = len(arrays["proprio"])
    chosen = np.unique(np.linspace(0, count - 1, min(count, _MOST)).round().astype(int))
    positions = [
        _positions(folder, {name: array[chosen] for name, array in arrays.items()}, task)
        for folder in (before, after)
    ]
    return float(1e3 * np.linalg.norm(positions[1] - positions[0], axis=-1).mean())


def _positions(folder: Path, arrays: dict[str, np.ndarray], task: str) -> np.ndarray:
    """Planned positions (S, H, 3) [m]."""
    model = load_predicting_policy(folder)
    number, parts = model.config.tasks.index(task), []
    for first in range(0, len(arrays["proprio"]), _BATCH):
        points, colors, proprio = (
            torch.from_numpy(arrays[name][first : first + _BATCH]).float()
            for name in ("points", "colors", "proprio")
        )
        tasks = torch.full((len(proprio),), number)
        parts.append(model(points, colors / 255, proprio, tasks)[..., :3].numpy())
    return np.concatenate(parts)
