"""Evaluate predictions on held-out episodes: predict, render for every camera, and compare with
the images.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch

from gwm_core.errors import InputError
from gwm_core.evaluation.future_predictor import FuturePredictor, PredictedScenes, commanded
from gwm_core.evaluation.image_metrics import ImageScores, masks
from gwm_core.model.image_model import CONTEXT, ImageModel
from gwm_core.training.datasets.clips import SceneClips
from gwm_core.training.train_image_model import images_of
from gwm_core.training.vae_reconstruction import background, chamfer, image_over

WORLD = "world"
_SOME = 16  # windows predicted at once


def windows(clips: SceneClips, context: int, horizon: int, stride: int) -> np.ndarray:
    """Starts (S,) of windows of ``context`` and ``horizon`` moments.

    Raises InputError where there are none.
    """
    starts = clips.starts(context + horizon)[::stride]
    if not len(starts):
        raise clips.refuse(context + horizon)
    return starts


@torch.no_grad()
def baseline_images(
    model: ImageModel, clips: SceneClips, now: np.ndarray, horizon: int, camera: int
) -> np.ndarray:
    """Images (B, H, S, S, 3) that the baseline predicts for one camera."""
    cameras = np.full(len(now), camera)
    past = images_of(clips, now[:, None] + np.arange(1 - CONTEXT, 1), cameras[:, None])
    actions = torch.from_numpy(commanded(clips, now, horizon))
    return model.rollout(past, actions, torch.from_numpy(cameras)).movedim(2, -1).numpy()


def rendered_futures(
    futures: PredictedScenes,
    steps: tuple[int, ...],
    clips: SceneClips,
    b: int,
    camera: int,
    baseline: np.ndarray | None = None,
) -> Iterator[tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]]:
    """For every step of window ``b``: images by method, the truth (S, S, 3), ``masks`` (2, S, S).

    Args:
        steps: of the futures.
        baseline: images (steps[-1], S, S, 3) of the baseline without Gaussians, if there is one.
    """
    now = futures.now[b]
    last, regions = clips.images[now, camera] / np.float32(255), clips.regions[now, camera]
    behind = background(last, regions)  # that of the future is unknown
    view = torch.from_numpy(clips.viewmats[now, camera]), torch.from_numpy(clips.Ks[now, camera])
    unmoved = image_over(futures.unmoved[b], behind, *view)
    for step, scene in zip(steps, futures.scenes[b]):
        then = now + step
        truth = clips.images[then, camera] / np.float32(255)
        view = (
            torch.from_numpy(clips.viewmats[then, camera]),
            torch.from_numpy(clips.Ks[then, camera]),
        )
        images = {
            WORLD: image_over(scene, behind, *view),
            "repeat_last": last,
            "round_trip": unmoved,
        }
        if baseline is not None:
            images["image_model"] = baseline[step - 1]
        yield images, truth, masks(last, regions, truth, clips.regions[then, camera])


def check_image_model(model: ImageModel, clips: SceneClips) -> None:
    """Raise InputError where the baseline was trained with other cameras."""
    if model.config.cameras != clips.images.shape[1]:
        raise InputError(
            f"the image model was trained with {model.config.cameras} cameras, the episodes have "
            f"{clips.images.shape[1]}: train it on episodes of the same cameras"
        )


def evaluate(
    world: FuturePredictor,
    clips: SceneClips,
    stride: int = 1,
    image_model: ImageModel | None = None,
    progress: Callable[[int, int], None] = lambda *_: None,
) -> dict:
    """Figures of every ``stride``-th window of the clips, named as in `gwm eval world --json`."""
    if image_model is not None:
        check_image_model(image_model, clips)
    steps, horizon = world.steps, world.steps[-1]
    moments = windows(clips, CONTEXT, horizon, stride) + CONTEXT - 1
    methods = (
        WORLD,
        "repeat_last",
        "round_trip",
        *(["image_model"] if image_model is not None else []),
    )
    episodes = np.unique(clips.episode[moments]).tolist()
    scores, chamfer_m = ImageScores(len(episodes), len(steps), methods), []
    for now in np.array_split(moments, -(-len(moments) // _SOME)):
        futures = world.predict(clips, now)
        for camera in range(clips.images.shape[1]):
            baselines = [None] * len(now)
            if image_model is not None:
                baselines = baseline_images(image_model, clips, now, horizon, camera)
            for b, baseline in enumerate(baselines):
                for h, (images, truth, mask) in enumerate(
                    rendered_futures(futures, steps, clips, b, camera, baseline)
                ):
                    scores.add(episodes.index(clips.episode[now[b]]), h, images, truth, mask)
        observed = torch.from_numpy(clips.scenes[now[:, None] + np.array(steps)].astype(np.float32))
        chamfer_m += [
            [chamfer(*pair) for pair in zip(*pairs)] for pairs in zip(futures.scenes, observed)
        ]
        progress(len(chamfer_m), len(moments))
    figures = {
        "horizon": horizon,
        "steps": list(steps),
        "episodes": len(episodes),
        "windows": len(moments),
    }
    figures |= scores.figures(WORLD) | {"chamfer_mm": (1e3 * np.mean(chamfer_m, 0)).tolist()}
    for method in ("repeat_last", "image_model"):
        if method in methods:
            figures[f"gain_{method}_ci95"] = scores.gain_ci95(WORLD, method)
    return figures
