"""Predict the outcome of a chunk beside the policy, and compare earlier predictions with new
observations.

prediction   the scene now, poses of the chunk         -> scenes at 0.4, 0.8 and 1.6 s
divergence   the scene at t - h, poses sent since      -> scene at t, compared with the observed one
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from gwm_core import topics
from gwm_core.geometry.camera import look_at
from gwm_core.geometry.kinematics import fk, from_rows, to_rows
from gwm_core.model.calibration import Probability
from gwm_core.model.inputs import proprioception
from gwm_core.runtime.divergence import ExpectedScene, ObservedScene
from gwm_core.runtime.expected_scenes import ExpectedScenes
from gwm_core.runtime.imagined_world import ImaginedState, ImaginedWorld, compiled_world
from gwm_core.runtime.predicted_success import PredictedSuccess, read_predicted_success
from gwm_core.runtime.views import EYE, TARGET, RenderedCamera
from gwm_core.scene.gaussians import moved
from gwm_core.scene.gripped_width import held_width
from gwm_core.site import Site
from gwm_core.sync import joints_at
from gwm_core.types import ActionChunk, ArmState

IMAGE_SIDE = 128  # [pixels] of images to show

Pause = Callable[[], None]
Gaps = dict[int, dict[str, float]]  # horizon [steps] -> term of the divergence -> value


@dataclass(frozen=True)
class PredictionRequest:
    """A chunk, the scene it was made from, and the states and commands until then."""

    task: str
    chunk: ActionChunk
    scene: np.ndarray  # (N, 14)
    states: tuple[ArmState, ...]
    commands: tuple[ArmState, ...]  # as states
    Ks: dict[str, tuple]  # camera -> (K, width, height)

    @property
    def plan(self) -> int:
        """Id of the chunk: its stamp [ns]."""
        return self.chunk.stamp

    @property
    def state(self) -> ArmState:
        """The measured state at the stamp of the chunk, or the last one."""
        return joints_at(self.states, self.chunk.stamp) or self.states[-1]

    def command_at(self, stamp: int) -> np.ndarray | None:
        """Row (10,) that was commanded at a stamp [ns], or None if unknown."""
        state = joints_at(self.commands, stamp)
        return None if state is None else to_rows(fk(state.q), state.width)

    def cameras(self, site: Site) -> list[RenderedCamera]:
        """The cameras at the stamp of the chunk."""
        return [
            RenderedCamera(name, self.Ks[name][0], camera.pose_at(self.state), *self.Ks[name][1:])
            for name, camera in site.cameras.items()
        ]


@dataclass(frozen=True)
class PredictedFuture:
    """The predicted outcome of a chunk."""

    stamp: int  # [ns] of the chunk
    images: dict[str, list[np.ndarray]]  # view -> an image of every lookahead
    success: Probability | None  # that the task is done at the last lookahead, if calibrated
    scene: np.ndarray  # (N, 14) at the last lookahead


class Imagination:
    """A policy that predicts for a site: each lookahead by one jump. Use it in one thread.

    Args:
        calibrated: what says how likely a task is done, by task.

    Attributes:
        lift_config: of the scenes that it takes. expected: compares observed scenes with earlier
            predictions.
    """

    def __init__(
        self,
        world: ImaginedWorld,
        site: Site,
        pause: Pause,
        calibrated: Mapping[str, PredictedSuccess],
    ):
        self.lift_config = world.lift_config
        self._world, self._site, self._pause = world, site, pause
        self._calibrated = calibrated
        self.expected = ExpectedScenes(self._expect, pause)

    def observe(self, request: PredictionRequest) -> ImaginedState:
        """The state of the scene of a request."""
        scene = request.scene[: self.lift_config.count]
        return self._world.observe(scene, proprioception(request.state))

    def compare(self, request: PredictionRequest, state: ImaginedState) -> Gaps:
        """Compare the scene with earlier predictions."""
        tokens, width = self._world.gripper_tokens(state), float(state.proprio[9])
        now = ObservedScene(request.chunk.stamp, state.scene, tokens, width)
        views = request.cameras(self._site)
        return self.expected.observe(now, state, request.command_at, views)

    def predict(self, request: PredictionRequest, state: ImaginedState) -> PredictedFuture:
        """Predict the outcome of the chunk: predict, decode, render."""
        chunk = request.chunk
        rows = to_rows(fk(chunk.q), chunk.width)
        states = [self._world.after(state, rows[:steps]) for steps in topics.LOOKAHEADS]
        images = render_views(map(self._world.rendered, states), request, self._site, self._pause)
        success = self._success(states[-1], request.task)
        return PredictedFuture(chunk.stamp, images, success, states[-1].scene)

    def _success(self, state: ImaginedState, task: str) -> Probability | None:
        calibrated = self._calibrated.get(task)
        return calibrated(self._world.success(state, task)) if calibrated else None

    def _expect(self, state: ImaginedState, rows: np.ndarray) -> ExpectedScene:
        """The scene of a state once the rows (1 + H, 10) are reached, of which the first is now."""
        later = self._world.moved(state, rows[1:])
        T = from_rows(rows[-1:].astype(np.float32))[0]
        gripper = moved(state.gripper, T @ np.linalg.inv(state.T))
        of_gripper = np.arange(len(gripper) + len(later.objects)) < len(gripper)
        scene = np.concatenate([gripper, later.objects])
        held = held_width(later.objects, T, float(state.proprio[9]), rows[1:, 9])
        return ExpectedScene(scene, of_gripper, self._world.gripper_tokens(later), held)


def render_views(scenes, request: PredictionRequest, site: Site, pause: Pause) -> dict[str, list]:
    """Images of the scenes of all lookaheads, by every camera and from afar.

    A wrist camera moves with the chunk.
    """
    K, width, height = next(iter(request.Ks.values()))
    overview = RenderedCamera(topics.AFAR, K, look_at(EYE, TARGET), width, height)
    images: dict[str, list[np.ndarray]] = {}
    for steps, scene in zip(topics.LOOKAHEADS, scenes):
        state = replace(request.states[-1], q=request.chunk.q[steps - 1])
        views = [overview]
        for name, camera in site.cameras.items():
            K, width, height = request.Ks[name]
            views.append(RenderedCamera(name, K, camera.pose_at(state), width, height))
        for view in views:
            pause()
            image = np.clip(view.resized(IMAGE_SIDE, IMAGE_SIDE).render(scene), 0, 1)
            images.setdefault(view.name, []).append(np.rint(255 * image).astype(np.uint8))
    return images


def open_imagination(
    folder: Path, site: Site, threads: int = 1, backend: str = "auto", pause: Pause = lambda: None
) -> Imagination:
    """The imagination of a policy's folder, on the fastest runtime of this machine.

    Args:
        pause: called between pieces of work of some 10 ms; may wait, to leave the CPU to others.

    Raises:
        InputError: the policy there predicts nothing.
    """
    world = compiled_world(folder, threads, backend, pause)
    return Imagination(world, site, pause, read_predicted_success(folder))
