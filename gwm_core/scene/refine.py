"""Photometric refinement of a scene on the frames it was built from: Adam through the renderer."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from gwm_core.render.api import rasterize
from gwm_core.scene.gaussians import COLORS, MEANS, OPACITY, QUATS, SCALES
from gwm_core.types import Frame

# Per step. Kerbl et al. 2023 use 1.6e-4 (times the scene's size), 5e-3, 1e-3, 2.5e-3 and 5e-2 in
# the same order. Here positions move less, because they are measured, and opacities less, because
# there are few steps.
RATES = {"means": 2e-5, "scales": 5e-3, "quats": 1e-3, "colors": 2.5e-3, "opacities": 2e-2}


def refine(
    scene: np.ndarray,
    frames: tuple[Frame, ...],
    steps: int,
    progress: Callable[[int, float], None] = lambda *_: None,
) -> np.ndarray:
    """Refine a scene (N, 14) over ``steps`` steps, one frame each in turn; returns a new scene.

    The loss is the mean absolute colour difference over the pixels that the scene covers at first.

    Args:
        scene: (N, 14).
        frames: the targets.
        steps: of the optimiser.
        progress: called with the step and its loss.

    Raises:
        FloatingPointError: the loss is not finite.
    """
    parts = torch.from_numpy(np.ascontiguousarray(scene, np.float32))
    opacity = parts[:, OPACITY].clamp(1e-4, 1 - 1e-4)
    leaves = {
        "means": parts[:, MEANS].clone(),
        "scales": parts[:, SCALES].log(),
        "quats": parts[:, QUATS].clone(),
        "colors": parts[:, COLORS].clone(),
        "opacities": torch.logit(opacity),
    }
    groups = [
        {"params": [leaf.requires_grad_()], "lr": RATES[name]} for name, leaf in leaves.items()
    ]
    adam = torch.optim.Adam(groups, eps=1e-15)
    views = [_view(frame) for frame in frames]
    with torch.no_grad():
        covered = [_render(leaves, view)[1] > 0.5 for view in views]
    for step in range(steps):
        view, mask = views[step % len(views)], covered[step % len(views)]
        image, alpha = _render(leaves, view)
        loss = ((image / alpha.clamp(min=1e-3) - view["truth"]).abs() * mask).sum() / (
            3 * mask.sum()
        ).clamp(min=1)
        if not torch.isfinite(loss):
            raise FloatingPointError(
                f"refinement diverged at step {step}: the loss is {loss.item()}"
            )
        adam.zero_grad(set_to_none=True)
        loss.backward()
        adam.step()
        progress(step + 1, loss.item())
    with torch.no_grad():
        quats = torch.nn.functional.normalize(leaves["quats"], dim=-1)
        columns = [
            leaves["means"],
            leaves["scales"].exp(),
            quats,
            leaves["colors"].clamp(0, 1),
            leaves["opacities"].sigmoid()[:, None],
        ]
        return torch.cat(columns, dim=1).numpy()


def _view(frame: Frame) -> dict:
    height, width = frame.depth.shape
    return {
        "truth": torch.from_numpy(frame.color / np.float32(255)),
        "viewmats": torch.from_numpy(np.linalg.inv(frame.T_base_camera)).float()[None],
        "Ks": torch.from_numpy(frame.K).float()[None],
        "width": width,
        "height": height,
    }


def _render(leaves: dict[str, torch.Tensor], view: dict) -> tuple[torch.Tensor, torch.Tensor]:
    camera = {name: value for name, value in view.items() if name != "truth"}
    image, alpha, _ = rasterize(
        leaves["means"],
        leaves["quats"],
        leaves["scales"].exp(),
        leaves["opacities"].sigmoid(),
        leaves["colors"],
        **camera,
    )
    return image[0], alpha[0]
