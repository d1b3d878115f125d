"""Pictures of a real (simulated) trial beside the imagined one from the same start."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from gwm_core.evaluation.policy_eval_in_world_model import WorldModelEnvironment
from gwm_core.evaluation.simulated_trials import AskedImages
from gwm_core.files.atomic_write import PARTIAL
from gwm_core.scene.build import render_scene
from gwm_core.sim.planners import make_planner
from gwm_core.sim.rollout import SimEnvironment, rollout
from gwm_core.sim.tasks import sample_layout
from gwm_core.types import Frame, Observation

COUNT = 6  # pictures of a trial
_GREY = 0.93  # where the scene has no Gaussians
_PERIOD = 0.4  # [s] between two observations of the policy, real and imagined ones


@dataclass(frozen=True)
class PictureJob:
    """Which trial is shown. ``model`` and ``policy`` are folders."""

    model: Path
    policy: Path
    task: str
    difficulty: str
    seed: int
    renderer: str


class _FirstCamera(AskedImages):
    """Keeps the first camera's images, and its first frame."""

    def __init__(self):
        super().__init__()
        self.view: Frame | None = None

    def observation(self, observation: Observation) -> None:
        super().observation(observation)
        if self.view is None and observation.frames:
            self.view = observation.frames[0]


class _SeenScenes:
    """A policy that keeps the scenes it plans from."""

    sees = "scene"

    def __init__(self, policy):
        self._policy = policy
        self.scenes: list[np.ndarray] = []

    def act(self, scene: np.ndarray, observation: Observation) -> np.ndarray:
        """As ``ScenePolicy.act``."""
        self.scenes.append(scene)
        return self._policy.act(scene, observation)


def trial_pictures(job: PictureJob, out: Path) -> dict[str, list[bytes]]:
    """JPEG images of both trials at the same times, kept in ``out``: "real" and "imagined".

    Real ones are of the first camera. Imagined ones show the scene that the policy planned from,
    as that camera would see it. Images are evenly over the longer trial; the other one may end.
    """
    if not out.exists():
        partial_folder = out.with_name(out.name + PARTIAL)
        shutil.rmtree(partial_folder, ignore_errors=True)
        partial_folder.mkdir(parents=True)
        for kind, images in _make(job).items():
            for k, image in enumerate(images):
                _, jpeg = cv2.imencode(".jpg", image[..., ::-1])
                (partial_folder / f"{kind}_{k}.jpg").write_bytes(jpeg.tobytes())
        partial_folder.rename(out)
    return {
        kind: [file.read_bytes() for file in sorted(out.glob(f"{kind}_*.jpg"))]
        for kind in ("real", "imagined")
    }


def _make(job: PictureJob) -> dict[str, list[np.ndarray]]:
    observer, layout = _FirstCamera(), sample_layout(job.task, job.seed, job.difficulty)
    planner = make_planner(str(job.policy))
    rollout(SimEnvironment(renderer=job.renderer), planner, layout, observer=observer)
    world = WorldModelEnvironment(job.model, job.renderer)
    planner = world.planner(str(job.policy))
    planner.policy = seen = _SeenScenes(planner.policy)
    world.trial(planner, job.task, job.seed, job.difficulty)
    longest = max(len(observer.frames), len(seen.scenes))
    chosen = np.unique(np.linspace(0, longest - 1, COUNT).round().astype(int))
    return {
        "real": [_dated(observer.frames[k], k) for k in chosen if k < len(observer.frames)],
        "imagined": [
            _dated(_rendered(seen.scenes[k], observer.view), k)
            for k in chosen
            if k < len(seen.scenes)
        ],
    }


def _rendered(scene: np.ndarray, frame: Frame) -> np.ndarray:
    """Image (H, W, 3) uint8 of a scene (N, 14), as the camera of ``frame`` sees it."""
    height, width = frame.color.shape[:2]
    image, alpha = render_scene(scene, frame.K, frame.T_base_camera, width, height)
    image = image + _GREY * (1 - alpha[..., None])
    return np.uint8(np.clip(image, 0, 1) * 255)


def _dated(image: np.ndarray, number: int) -> np.ndarray:
    """The image with the time of its observation in a corner."""
    image = np.ascontiguousarray(image)
    text = f"{number * _PERIOD:.1f} s"
    for color, thickness in (((0, 0, 0), 3), ((255, 255, 255), 1)):
        cv2.putText(image, text, (6, 18), cv2.FONT_HERSHEY_SIMPLEX, 0.5, color, thickness)
    return image
