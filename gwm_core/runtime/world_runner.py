"""Run a world model of steps of 0.1 s: an older kind than the world action model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from scipy.spatial import cKDTree

from gwm_core import topics
from gwm_core.geometry.kinematics import fk, to_rows
from gwm_core.model.weights_file import read_weights
from gwm_core.runtime.divergence import ExpectedScene, ObservedScene
from gwm_core.runtime.expected_scenes import ExpectedScenes
from gwm_core.runtime.graphs.backends import choose
from gwm_core.runtime.graphs.compile import load
from gwm_core.runtime.imagination import (
    Gaps,
    PredictedFuture,
    PredictionRequest,
    compare_scene,
    render_views,
)
from gwm_core.scene.gaussians import MEANS
from gwm_core.scene.token_tracking import track_tokens
from gwm_core.site import Site
from gwm_core.sync import joints_at
from gwm_core.types import CHUNK_DT

GRAPHS = ("latent", "step", "decode")


@dataclass(frozen=True)
class ObservedLatents:
    """An observed scene, encoded by the world model."""

    scene: np.ndarray  # (N, 14)
    history: np.ndarray  # (context, K, D) latents, the last one of the scene


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
        self.gripper_count = len(self.gripper_tokens)
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


class StepImagination:
    """A world model of steps of 0.1 s, whose head knows no task."""

    def __init__(self, world: WorldRunner, site: Site):
        self.lift_config = world.lift_config
        self._world, self._site = world, site
        self.expected = ExpectedScenes(self.expect, world.pause)

    def observe(self, request: PredictionRequest) -> ObservedLatents:
        """As ``Imagination.observe``."""
        stamp, dt = request.chunk.stamp, round(CHUNK_DT * 1e9)
        states = [
            joints_at(request.states, stamp - k * dt) or request.state
            for k in range(self._world.context)
        ]
        poses = np.stack([fk(state.q) for state in states[::-1]])
        return ObservedLatents(request.scene, self._world.encode(request.scene, poses))

    def compare(self, request: PredictionRequest, state: ObservedLatents) -> Gaps:
        """As ``Imagination.compare``."""
        now = ObservedScene(request.chunk.stamp, state.scene, self._gripper(state.history[-1]))
        return compare_scene(self.expected, request, now, state, self._site)

    def predict(self, request: PredictionRequest, state: ObservedLatents) -> PredictedFuture:
        """As ``Imagination.predict``."""
        chunk, now = request.chunk, request.state
        first = request.command_at(chunk.stamp)
        rows = [to_rows(fk(now.q), now.width) if first is None else first]
        rows += [to_rows(fk(q), w) for q, w in zip(chunk.q, chunk.width)]
        rows = np.stack(rows)[: 1 + topics.LOOKAHEADS[-1]]
        latents, done = self._world.predict(state.history, rows)
        scenes = [self._world.decode(latents[steps - 1]) for steps in topics.LOOKAHEADS]
        images = render_views(scenes, request, self._site, self._world.pause)
        return PredictedFuture(chunk.stamp, images, float(done[-1]), scenes[-1])

    def expect(self, state: ObservedLatents, rows: np.ndarray) -> ExpectedScene:
        """The scene whose Gaussians moved with their nearest tokens, by rows (1 + H, 10)."""
        latent = self._world.predict(state.history, rows)[0][-1]
        before, after = (self._world.anchors(z) for z in (state.history[-1], latent))
        token = cKDTree(before).query(state.scene[:, MEANS])[1]
        scene = state.scene.copy()
        scene[:, MEANS] += (after - before)[token]
        return ExpectedScene(scene, token < self._world.gripper_count, self._gripper(latent))

    def _gripper(self, latent: np.ndarray) -> np.ndarray:
        return self._world.anchors(latent)[: self._world.gripper_count]
