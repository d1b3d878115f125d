"""What a plan will lead to, and whether what came is what was to be expected.

futures     latent of the scene now, poses the plan will go through -> scenes at 0.1, 0.2, ... s
divergence  latent of the scene at t - h, poses really sent since -> scene at t, held against the one observed there
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from safetensors.numpy import load as load_tensors

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
HORIZONS = (4, 8)  # steps of ``CHUNK_DT`` over which what came is held against what was expected
PIXELS = 128  # side of the pictures that are shown
EYE, TARGET = (1.1, 0.5, 0.6), (0.52, 0.0, 0.1)  # [m] of the view that no camera has
SIDE = 96  # [pixels] of the pictures that are compared


@dataclass(frozen=True)
class RenderedCamera:
    """A camera to draw for."""

    name: str
    K: np.ndarray  # (3, 3) [pixels]
    T_base_camera: np.ndarray  # (4, 4)
    width: int
    height: int

    def render_scene(self, scene: np.ndarray) -> np.ndarray:
        """Picture (H, W, 3) in [0, 1] of a scene (N, 14) on black."""
        return render_scene(scene, self.K, self.T_base_camera, self.width, self.height)[0]

    def resized(self, width: int, height: int) -> RenderedCamera:
        """The same field of view in other pixels, which need not be square."""
        scale = np.array([width / self.width, height / self.height, 1.0])
        return RenderedCamera(self.name, scale[:, None] * self.K, self.T_base_camera, width, height)


class WorldRunner:
    """A world model and its VAE, on the runtime that is fastest here. Use it in one thread.

    Args:
        rest: called between pieces of work of some 10 ms; may wait, to leave the machine to others.

    Attributes:
        lift_config: how scenes are to be lifted.
    """

    def __init__(
        self,
        folder: Path,
        threads: int = 1,
        backend: str = "auto",
        precision: str = "coarse",
        rest: Callable[[], None] = lambda: None,
    ):
        self.rest = rest
        backend, precision = choose(backend, precision)
        graph = partial(load, Path(folder), threads=threads, backend=backend, precision=precision)
        vae, world = read_weights(folder, "vae"), read_weights(folder, "world").config
        self.lift_config, self._tokens, self.context = (
            vae.config.lift,
            vae.config.tokens,
            world.context,
        )
        known = load_tensors(vae.data)
        self.riders = known["riders"]  # (A, 3) [m] in the gripper's frame
        self._middle, self._extent = known["middle"], known["extent"]
        self._latent, self._step, self._decode = (graph(name) for name in GRAPHS)

    def encode(self, scene: np.ndarray, poses: np.ndarray) -> np.ndarray:
        """History (context, K, D) up to a scene (N, 14), the gripper at poses (context, 4, 4) 0.1 s
        apart, now last.

        Only the scene of now is seen. Before, what rides the gripper was where the gripper was, and
        the rest as it is.
        """
        scene = np.ascontiguousarray(scene[None, : self.lift_config.count], np.float32)
        centers = track_tokens(scene, poses[-1:], self.riders, self._tokens)
        latent = self._latent({"gaussians": scene, "centers": centers})["latent"]
        history = np.repeat(latent, len(poses), axis=0)
        ridden = self.riders @ poses[:, :3, :3].transpose(0, 2, 1) + poses[:, None, :3, 3]
        history[:, : len(self.riders), :3] = (ridden - self._middle) / self._extent
        return history

    def places(self, latent: np.ndarray) -> np.ndarray:
        """Where the tokens (..., K, 3) [m] of a latent (..., K, D) are, those that ride the gripper
        first.
        """
        return latent[..., :3] * self._extent + self._middle

    def roll(self, history: np.ndarray, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Latents (H, K, D) and heads (H, 2) of what follows a history (context, K, D).

        Args:
            actions: (H + 1, 10), commanded at the last of the history, 0.1 s later, ....
        """
        history, futures, heads = history[None], [], []
        for k in range(len(actions) - 1):
            self.rest()
            out = self._step({"history": history, "actions": np.float32(actions[None, k : k + 2])})
            history = np.concatenate([history[:, 1:], out["latent"][:, None]], axis=1)
            futures.append(out["latent"][0])
            heads.append(out["heads"][0])
        return np.stack(futures), np.stack(heads)

    def decode(self, latent: np.ndarray) -> np.ndarray:
        """Scene (N, 14) of a latent (K, D)."""
        self.rest()
        return self._decode({"latent": latent[None]})["gaussians"][0]


class ExpectedScenes:
    """Holds every observed scene against what was to be expected 0.4 and 0.8 s before."""

    def __init__(self, imagination: WorldRunner):
        self._imagination = imagination
        self._known: deque[ObservedLatent] = deque(maxlen=10)

    def observe(
        self,
        moment: ObservedLatent,
        sent: Callable[[int], np.ndarray | None],
        views: Sequence[RenderedCamera],
        horizons: Sequence[int] = HORIZONS,
    ) -> dict[int, dict[str, float]]:
        """The terms by horizon [steps]; empty where nothing was observed that long ago, or commands
        are missing.

        Args:
            sent: row (10,) that was commanded at a stamp [ns], or None where that is not known.
            views: of the cameras at that moment.
        """
        views = [view.resized(SIDE, SIDE) for view in views]
        gaps = {}
        for horizon in horizons:
            begun = self._before(moment.stamp, horizon)
            stamps = (
                []
                if begun is None
                else [begun.stamp + round(k * CHUNK_DT * 1e9) for k in range(horizon + 1)]
            )
            rows = [sent(stamp) for stamp in stamps]
            if not rows or any(row is None for row in rows):
                continue
            after = self._imagination.places(
                self._imagination.roll(begun.history, np.stack(rows))[0][-1]
            )
            past = [m for m in self._known if m.stamp <= begun.stamp]
            self._imagination.rest()
            gaps[horizon] = compare(
                begun, after, moment, past, len(self._imagination.riders), views
            )
        self._known.append(moment)
        return gaps

    def _before(self, stamp: int, horizon: int) -> ObservedLatent | None:
        """The observed moment nearest to ``horizon`` steps ago, within half a step."""
        ages = [abs((stamp - m.stamp) * 1e-9 - horizon * CHUNK_DT) for m in self._known]
        nearest = int(np.argmin(ages)) if ages else -1
        return self._known[nearest] if ages and ages[nearest] <= CHUNK_DT / 2 else None


@dataclass(frozen=True)
class PredictionRequest:
    """A plan, what it was made from, and what is known of the arm by then."""

    chunk: ActionChunk
    scene: np.ndarray  # (N, 14)
    states: tuple[ArmState, ...]
    sent: tuple[ArmState, ...]  # commands, as states
    Ks: dict[str, tuple]  # camera -> (K, width, height)
    shown: bool  # whether its future is wanted


@dataclass(frozen=True)
class PredictedFuture:
    """Where a plan leads."""

    plan: int
    pictures: dict[str, list[np.ndarray]]  # view -> a picture for every step
    success: float  # imagined, at the end
    scene: np.ndarray  # (N, 14) at the end


def look(
    imagination: WorldRunner, watch: ExpectedScenes, task: PredictionRequest, site: Site
) -> tuple[np.ndarray, dict]:
    """History up to the task's scene, and how far that is from what was imagined before: terms by
    horizon [steps].
    """
    stamp, dt = task.chunk.stamp, round(CHUNK_DT * 1e9)
    now = _now(task)
    poses = [
        fk((joints_at(task.states, stamp - k * dt) or now).q) for k in range(imagination.context)
    ]
    history = imagination.encode(task.scene, np.stack(poses[::-1]))
    views = [
        RenderedCamera(name, task.Ks[name][0], c.pose_at(now), *task.Ks[name][1:])
        for name, c in site.cameras.items()
    ]
    moment = ObservedLatent(stamp, history, imagination.places(history[-1]), task.scene)
    horizons = HORIZONS[:1] if task.shown else HORIZONS
    return history, watch.observe(moment, lambda at: _sent(task, at), views, horizons)


def imagine(
    imagination: WorldRunner, task: PredictionRequest, site: Site, history: np.ndarray
) -> PredictedFuture:
    """Where a plan leads from a history (context, K, D)."""
    views, now, first = _views(site, task), _now(task), _sent(task, task.chunk.stamp)
    rows = [to_rows(fk(now.q), now.width) if first is None else first]
    rows += [
        to_rows(fk(q), width) for q, width in zip(task.chunk.q[: topics.STEPS], task.chunk.width)
    ]
    latents, heads = imagination.roll(history, np.stack(rows))
    pictures: dict[str, list[np.ndarray]] = {name: [] for name in views}
    for k, latent in enumerate(latents):
        scene = imagination.decode(latent)
        for name, steps in views.items():
            imagination.rest()
            pictures[name].append(
                np.rint(255 * np.clip(steps[k].draw(scene), 0, 1)).astype(np.uint8)
            )
    return PredictedFuture(task.chunk.stamp, pictures, float(heads[-1, 1]), scene)


def _now(task: PredictionRequest) -> ArmState:
    return joints_at(task.states, task.chunk.stamp) or task.states[-1]


def _sent(task: PredictionRequest, at: int) -> np.ndarray | None:
    """Row (10,) that was commanded at a stamp [ns], or None where that is not known."""
    state = joints_at(task.sent, at)
    return None if state is None else to_rows(fk(state.q), state.width)


def _views(site: Site, task: PredictionRequest) -> dict[str, list[RenderedCamera]]:
    """For every camera, and from afar, a view for each step: one on the hand goes where the plan
    takes it.
    """
    K, width, height = next(iter(task.Ks.values()))
    views = {
        topics.AFAR: (
            [RenderedCamera(topics.AFAR, K, look_at(EYE, TARGET), width, height)] * topics.STEPS
        )
    }
    for name, camera in site.cameras.items():
        states = [replace(task.states[-1], q=q) for q in task.chunk.q[: topics.STEPS]]
        views[name] = [
            RenderedCamera(name, task.Ks[name][0], camera.pose_at(s), *task.Ks[name][1:])
            for s in states
        ]
    return {name: [view.resized(PIXELS, PIXELS) for view in steps] for name, steps in views.items()}
