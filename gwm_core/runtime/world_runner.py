"""Run the world model beside the policy: predict the outcome of a chunk, and compare earlier
predictions with new observations.

prediction   latent of the scene now, poses of the chunk        -> scenes at 0.1, 0.2, ... s
divergence   latent of the scene at t - h, poses sent since     -> scene at t, compared with the
             observed one
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from gwm_core import topics
from gwm_core.geometry.camera import look_at
from gwm_core.geometry.kinematics import fk, to_rows
from gwm_core.model.weights_file import read_weights
from gwm_core.runtime.backends import choose
from gwm_core.runtime.compile import load
from gwm_core.runtime.divergence import ObservedLatent, compare
from gwm_core.scene.build import render_scene
from gwm_core.scene.token_tracking import track_tokens
from gwm_core.site import Site
from gwm_core.sync import joints_at
from gwm_core.types import CHUNK_DT, ActionChunk, ArmState

GRAPHS = ("latent", "step", "decode")
HORIZONS = (4, 8)  # steps of ``CHUNK_DT`` over which predictions are compared with observations
IMAGE_SIDE = 128  # [pixels] of images to show
EYE, TARGET = (1.1, 0.5, 0.6), (0.52, 0.0, 0.1)  # [m] of the overview, which no camera has
COMPARED_SIDE = 96  # [pixels] of images to compare


@dataclass(frozen=True)
class RenderedCamera:
    """A camera to render for."""

    name: str
    K: np.ndarray  # (3, 3) [pixels]
    T_base_camera: np.ndarray  # (4, 4)
    width: int
    height: int

    def render(self, scene: np.ndarray) -> np.ndarray:
        """Image (H, W, 3) in [0, 1] of a scene (N, 14) on black."""
        return render_scene(scene, self.K, self.T_base_camera, self.width, self.height)[0]

    def resized(self, width: int, height: int) -> RenderedCamera:
        """The same field of view in other pixels, which need not be square."""
        scale = np.array([width / self.width, height / self.height, 1.0])
        return RenderedCamera(self.name, scale[:, None] * self.K, self.T_base_camera, width, height)


class WorldRunner:
    """A world model and its VAE on the fastest runtime of this machine. Use it in one thread.

    Args:
        pause: called between pieces of work of some 10 ms; may wait, to leave the CPU to others.

    Attributes:
        lift_config: how scenes are to be lifted. gripper_tokens: (A, 3) [m] anchors in the frame of
            the gripper. context: past latents of a history.
    """

    def __init__(
        self,
        folder: Path,
        threads: int = 1,
        backend: str = "auto",
        precision: str = "coarse",
        pause: Callable[[], None] = lambda: None,
    ):
        self.pause = pause
        backend, precision = choose(backend, precision)
        graph = partial(load, Path(folder), threads=threads, backend=backend, precision=precision)
        vae = read_weights(folder, "vae")
        arrays = vae.arrays()
        self.lift_config = vae.config.lift
        self.context = read_weights(folder, "world").config.context
        self.gripper_tokens = arrays["gripper_tokens"]
        self._tokens = vae.config.tokens
        self._middle = arrays["middle"]
        self._extent = arrays["extent"]
        self._latent, self._step, self._decode = (graph(name) for name in GRAPHS)

    def encode(self, scene: np.ndarray, poses: np.ndarray) -> np.ndarray:
        """History (context, K, D) that ends at a scene (N, 14).

        Only the present scene is observed. In the earlier latents the gripper tokens are where the
        gripper was, and all other tokens as they are now.

        Args:
            poses: (context, 4, 4) of the gripper, 0.1 s apart, the present one last.
        """
        scene = np.ascontiguousarray(scene[None, : self.lift_config.count], np.float32)
        anchors = track_tokens(scene, poses[-1:], self.gripper_tokens, self._tokens)
        latent = self._latent({"gaussians": scene, "anchors": anchors})["latent"]
        history = np.repeat(latent, len(poses), axis=0)
        moved = self.gripper_tokens @ poses[:, :3, :3].transpose(0, 2, 1) + poses[:, None, :3, 3]
        history[:, : len(self.gripper_tokens), :3] = (moved - self._middle) / self._extent
        return history

    def anchors(self, latent: np.ndarray) -> np.ndarray:
        """Anchors (..., K, 3) [m] of the tokens of a latent (..., K, D), gripper tokens first."""
        return latent[..., :3] * self._extent + self._middle

    def predict(self, history: np.ndarray, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Predict latents (H, K, D) and probabilities (H,) that the task is done.

        Args:
            history: (context, K, D).
            actions: (H + 1, 10), commanded at the end of the history, 0.1 s later, ....
        """
        history, futures, done = history[None], [], []
        for k in range(len(actions) - 1):
            self.pause()
            out = self._step({"history": history, "actions": np.float32(actions[None, k : k + 2])})
            history = np.concatenate([history[:, 1:], out["latent"][:, None]], axis=1)
            futures.append(out["latent"][0])
            done.append(out["done"][0])
        return np.stack(futures), np.stack(done)

    def decode(self, latent: np.ndarray) -> np.ndarray:
        """Scene (N, 14) of a latent (K, D)."""
        self.pause()
        return self._decode({"latent": latent[None]})["gaussians"][0]


class ExpectedScenes:
    """Compares every observed scene with predictions made 0.4 and 0.8 s before."""

    def __init__(self, world: WorldRunner):
        self._world = world
        self._observed: deque[ObservedLatent] = deque(maxlen=10)

    def observe(
        self,
        now: ObservedLatent,
        command_at: Callable[[int], np.ndarray | None],
        views: Sequence[RenderedCamera],
        horizons: Sequence[int] = HORIZONS,
    ) -> dict[int, dict[str, float]]:
        """Terms of the divergence by horizon [steps].

        A horizon is left out if nothing was observed that long ago, or commands are missing.

        Args:
            command_at: row (10,) that was commanded at a stamp [ns], or None if unknown.
            views: of the cameras at the stamp of ``now``.
        """
        views = [view.resized(COMPARED_SIDE, COMPARED_SIDE) for view in views]
        gaps = {}
        for horizon in horizons:
            start = self._before(now.stamp, horizon)
            rows = _commanded_rows(start, horizon, command_at)
            if rows is None:
                continue
            latents, _ = self._world.predict(start.history, rows)
            predicted = self._world.anchors(latents[-1])
            past = [p for p in self._observed if p.stamp <= start.stamp]
            self._world.pause()
            gripper_tokens = len(self._world.gripper_tokens)
            gaps[horizon] = compare(start, predicted, now, past, gripper_tokens, views)
        self._observed.append(now)
        return gaps

    def _before(self, stamp: int, horizon: int) -> ObservedLatent | None:
        """The observation nearest to ``horizon`` steps ago, within half a step."""
        ages = [abs((stamp - p.stamp) * 1e-9 - horizon * CHUNK_DT) for p in self._observed]
        nearest = int(np.argmin(ages)) if ages else -1
        return self._observed[nearest] if ages and ages[nearest] <= CHUNK_DT / 2 else None


def _commanded_rows(
    start: ObservedLatent | None, horizon: int, command_at: Callable[[int], np.ndarray | None]
) -> np.ndarray | None:
    """Rows (horizon + 1, 10) that were commanded from ``start`` on, or None if one is unknown."""
    if start is None:
        return None
    stamps = [start.stamp + round(k * CHUNK_DT * 1e9) for k in range(horizon + 1)]
    rows = [command_at(stamp) for stamp in stamps]
    return None if any(row is None for row in rows) else np.stack(rows)


@dataclass(frozen=True)
class PredictionRequest:
    """A chunk, the scene it was made from, and the states and commands until then."""

    chunk: ActionChunk
    scene: np.ndarray  # (N, 14)
    states: tuple[ArmState, ...]
    commands: tuple[ArmState, ...]  # as states
    Ks: dict[str, tuple]  # camera -> (K, width, height)
    with_images: bool  # whether images of the prediction are wanted


@dataclass(frozen=True)
class PredictedFuture:
    """The predicted outcome of a chunk."""

    stamp: int  # [ns] of the chunk
    images: dict[str, list[np.ndarray]]  # view -> an image of every step
    success: float  # predicted probability at the end
    scene: np.ndarray  # (N, 14) at the end


def compare_with_predictions(
    world: WorldRunner, expected: ExpectedScenes, request: PredictionRequest, site: Site
) -> tuple[np.ndarray, dict]:
    """Encode the scene of a request, and compare it with earlier predictions.

    Returns:
        history (context, K, D) that ends at the scene, and terms of the divergence by horizon.
    """
    stamp, dt = request.chunk.stamp, round(CHUNK_DT * 1e9)
    now = _state_now(request)
    poses = [fk((joints_at(request.states, stamp - k * dt) or now).q) for k in range(world.context)]
    history = world.encode(request.scene, np.stack(poses[::-1]))
    views = [
        RenderedCamera(name, request.Ks[name][0], c.pose_at(now), *request.Ks[name][1:])
        for name, c in site.cameras.items()
    ]
    observed = ObservedLatent(stamp, history, world.anchors(history[-1]), request.scene)
    horizons = HORIZONS[:1] if request.with_images else HORIZONS
    gaps = expected.observe(observed, lambda at: _command_row(request, at), views, horizons)
    return history, gaps


def predict_future(
    world: WorldRunner, request: PredictionRequest, site: Site, history: np.ndarray
) -> PredictedFuture:
    """Predict the outcome of a chunk from a history (context, K, D): predict, decode, render."""
    chunk, now = request.chunk, _state_now(request)
    first = _command_row(request, chunk.stamp)
    rows = [to_rows(fk(now.q), now.width) if first is None else first]
    rows += [to_rows(fk(q), w) for q, w in zip(chunk.q[: topics.STEPS], chunk.width)]
    latents, done = world.predict(history, np.stack(rows))
    views = _views(site, request)
    images: dict[str, list[np.ndarray]] = {name: [] for name in views}
    for k, latent in enumerate(latents):
        scene = world.decode(latent)
        for name, steps in views.items():
            world.pause()
            image = np.clip(steps[k].render(scene), 0, 1)
            images[name].append(np.rint(255 * image).astype(np.uint8))
    return PredictedFuture(chunk.stamp, images, float(done[-1]), scene)


def _state_now(request: PredictionRequest) -> ArmState:
    """The measured state at the stamp of the chunk, or the last one."""
    return joints_at(request.states, request.chunk.stamp) or request.states[-1]


def _command_row(request: PredictionRequest, stamp: int) -> np.ndarray | None:
    """Row (10,) that was commanded at a stamp [ns], or None if unknown."""
    state = joints_at(request.commands, stamp)
    return None if state is None else to_rows(fk(state.q), state.width)


def _views(site: Site, request: PredictionRequest) -> dict[str, list[RenderedCamera]]:
    """A view for each step, of every camera and of the overview. A wrist camera moves with the
    chunk.
    """
    K, width, height = next(iter(request.Ks.values()))
    overview = RenderedCamera(topics.AFAR, K, look_at(EYE, TARGET), width, height)
    views = {topics.AFAR: [overview] * topics.STEPS}
    states = [replace(request.states[-1], q=q) for q in request.chunk.q[: topics.STEPS]]
    for name, camera in site.cameras.items():
        K, width, height = request.Ks[name]
        views[name] = [RenderedCamera(name, K, camera.pose_at(s), width, height) for s in states]
    return {
        name: [view.resized(IMAGE_SIDE, IMAGE_SIDE) for view in steps]
        for name, steps in views.items()
    }
