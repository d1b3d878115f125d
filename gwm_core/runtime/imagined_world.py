"""Scenes and success that a policy predicts, as a policy and a person see them.

A predicted scene consists of the Gaussians that were observed, moved as rigid parts, and of
the gripper as the VAE decodes it. So objects keep their shape over many jumps, also while the
gripper carries them out of the workspace. What the cameras did not see stays unseen, and what
changes its shape keeps the old one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from weakref import WeakKeyDictionary

import numpy as np
from scipy.spatial import cKDTree

from gwm_core.geometry.kinematics import from_rows
from gwm_core.model.config import WorldActionConfig
from gwm_core.model.weights_file import predicting_config, read_weights
from gwm_core.runtime.graphs.backends import Call, Torch, choose, fastest_on_cpu
from gwm_core.runtime.graphs.compile import load
from gwm_core.scene.gaussians import MEANS, moved, rigid_parts
from gwm_core.scene.gripped_width import gripped_width
from gwm_core.scene.lift import as_lifted
from gwm_core.scene.patches import patches
from gwm_core.scene.token_tracking import MOTIONS, WITH_GRIPPER, track_tokens

if TYPE_CHECKING:
    from gwm_core.model.vae import VAE
    from gwm_core.model.world_action_model import WorldActionModel

# [m] mean distance of a part of the gripper from the gripper's tokens. In simulation it is 9 to
# 14 mm, and of a cube that the gripper holds 16 to 22 mm.
_ON_GRIPPER = 0.015
FUTURE_GRAPHS, VAE_GRAPHS = ("scene", "future", "success"), ("latent", "decode")
GRAPHS = (*FUTURE_GRAPHS, *VAE_GRAPHS)


class MovedTokens(NamedTuple):
    """Tokens (K, D), (K, 3) [m] and objects (M, 14) after a jump, as ``ImaginedState`` has them."""

    latent: np.ndarray
    anchors: np.ndarray
    objects: np.ndarray


@dataclass(frozen=True, eq=False)
class ImaginedState:
    """A scene, observed or predicted, and the arm in it."""

    latent: np.ndarray  # (K, D)
    anchors: np.ndarray  # (K, 3) [m]
    objects: np.ndarray  # (M, 14): Gaussians that are not of the gripper
    owners: np.ndarray  # (M,) numbers of their tokens
    parts: np.ndarray  # (M,) numbers of the rigid parts that they belong to
    gripper: np.ndarray  # (G, 14): Gaussians of the gripper
    scene: np.ndarray  # (N, 14), as lifted
    proprio: np.ndarray  # (11,) as of ``proprioception``

    @property
    def T(self) -> np.ndarray:
        """Pose (4, 4) of the gripper in the base frame."""
        return from_rows(self.proprio[None, :10])[0]


class ImaginedWorld:
    """What a policy and its VAE predict, by any runtime. Use it in one thread.

    Args:
        graph: gives the graphs ``vae_graphs`` and ``future_graphs`` of ``onnx_export`` by name.
        config: of the model.
        gripper_tokens: (A, 3) [m] anchors in the gripper's frame.
        pause: called between pieces of work of some 10 ms; may wait, to leave the CPU to others.
    """

    def __init__(
        self,
        graph: Callable[[str], Call],
        config: WorldActionConfig,
        gripper_tokens: np.ndarray,
        pause: Callable[[], None] = lambda: None,
    ):
        self.config, self.lift_config = config, config.vae.lift
        self._gripper_tokens, self._pause = gripper_tokens, pause
        self._count = len(gripper_tokens)
        self._scene, self._future, self._success = map(graph, FUTURE_GRAPHS)
        self._latent, self._decode = map(graph, VAE_GRAPHS)
        self._asked: tuple[ImaginedState, str, dict[str, np.ndarray]] | None = None
        self._tokens: WeakKeyDictionary[ImaginedState, np.ndarray] = WeakKeyDictionary()

    def observe(self, scene: np.ndarray, proprio: np.ndarray) -> ImaginedState:
        """The state of an observed scene (N, 14)."""
        scene, proprio = np.float32(scene), np.float32(proprio)
        T = from_rows(proprio[None, :10])
        anchors = track_tokens(scene[None], T, self._gripper_tokens, self.config.vae.tokens)[0]
        return self.state(scene, proprio, self._encode(scene, anchors), anchors)

    def state(
        self, scene: np.ndarray, proprio: np.ndarray, latent: np.ndarray, anchors: np.ndarray
    ) -> ImaginedState:
        """The state of an observed scene whose latent (K, D) and anchors (K, 3) are known."""
        parts, count = rigid_parts(scene), self._count
        at_gripper = cKDTree(anchors).query(scene[:, MEANS])[1] < count
        away = cKDTree(anchors[:count]).query(scene[:, MEANS])[0]
        # most tokens nearest to what the gripper holds are the gripper's, but not as near
        near = np.bincount(parts, away) < _ON_GRIPPER * np.bincount(parts)
        of_gripper = at_gripper & near[parts]
        objects = scene[~of_gripper]
        owners = count + cKDTree(anchors[count:]).query(objects[:, MEANS])[1]
        parts = np.unique(parts[~of_gripper], return_inverse=True)[1]
        gripper, proprio = scene[of_gripper], np.float32(proprio)
        return ImaginedState(latent, anchors, objects, owners, parts, gripper, scene, proprio)

    def after(self, state: ImaginedState, rows: np.ndarray, encode: bool = True) -> ImaginedState:
        """The state once the pose rows (H, 10) are reached, H one of the model's jumps.

        The gripper stops at what the predicted scene shows between its fingers.

        Args:
            encode: the scene anew; else the latent is as predicted, which answers do not depend on.
        """
        rows = np.float32(rows)
        latent, anchors, objects = self.moved(state, rows)
        self._pause()
        decoded = self._decode({"latent": latent[None]})["gaussians"][0]
        gripper = decoded[: self._count * len(decoded) // self.config.vae.tokens]
        scene = as_lifted(np.concatenate([objects, gripper]), self.lift_config)
        T = from_rows(rows[-1:])[0]
        width = gripped_width(objects, T, float(state.proprio[9]), rows[:, 9])
        proprio = np.float32([*rows[-1, :9], width, rows[-1, 9]])
        if encode:
            latent = self._encode(scene, anchors)
        return replace(
            state,
            latent=latent,
            anchors=anchors,
            objects=objects,
            gripper=gripper,
            scene=scene,
            proprio=proprio,
        )

    def moved(self, state: ImaginedState, rows: np.ndarray) -> MovedTokens:
        """Tokens and objects once the pose rows (H, 10) are reached, H one of the jumps. The latent
        is as predicted, before the scene is encoded anew.
        """
        rows = np.float32(rows)
        padded = np.concatenate([rows, np.repeat(rows[-1:], self.config.rows - len(rows), axis=0)])
        now = {
            "tokens": self.tokens(state)[None],
            "proprio": state.proprio[None],
            "latent": state.latent[None],
            "anchors": state.anchors[None],
            "rows": padded[None],
            "jump": np.array([self.config.jumps.index(len(rows))]),
        }
        self._pause()
        later = self._future(now)
        motions = later["motions"][0]
        motions[: self._count] = WITH_GRIPPER
        T = from_rows(rows[-1:])[0]
        anchors, objects = _moved(state, later["later_anchors"][0], motions, T)
        return MovedTokens(later["later_latent"][0], anchors, objects)

    def gripper_tokens(self, tokens: ImaginedState | MovedTokens) -> np.ndarray:
        """Anchors (A, 3) [m] of the tokens that move with the gripper."""
        return tokens.anchors[: self._count]

    def success(self, state: ImaginedState, task: str) -> float:
        """Probability that the task is done. Raises ValueError for a task it does not know."""
        return float(self._ask(state, task)["probability"][0])

    def value(self, state: ImaginedState, task: str) -> float:
        """Probability that a trial of the task that is in this state ends in success.

        Raises ValueError as ``success``.
        """
        return float(self._ask(state, task)["value"][0])

    def tokens(self, state: ImaginedState) -> np.ndarray:
        """Scene tokens (S, d) of the model's encoder, kept as long as the state is."""
        if (tokens := self._tokens.get(state)) is None:
            c = self.config
            seen = patches(state.scene[: c.lift.count], c.centers, c.neighbors)
            given = {"patches": seen[None], "proprio": state.proprio[None]}
            self._tokens[state] = tokens = self._scene(given)["tokens"][0]
        return tokens

    def rendered(self, state: ImaginedState) -> np.ndarray:
        """The scene (N, 14) to make images of: the VAE decodes it, since it learned to render."""
        self._pause()
        return self._decode({"latent": state.latent[None]})["gaussians"][0]

    def _ask(self, state: ImaginedState, task: str) -> dict[str, np.ndarray]:
        """The graph ``success``. It gives both answers, so the last ones are kept."""
        if self._asked is None or self._asked[0] is not state or self._asked[1] != task:
            number = np.array([self.config.tasks.index(task)])
            answers = self._success({"tokens": self.tokens(state)[None], "task": number})
            self._asked = state, task, answers
        return self._asked[2]

    def _encode(self, scene: np.ndarray, anchors: np.ndarray) -> np.ndarray:
        self._pause()
        return self._latent({"gaussians": scene[None], "anchors": anchors[None]})["latent"][0]


def imagined_world(model: WorldActionModel, vae: VAE) -> ImaginedWorld:
    """The imagined world of networks in memory, by torch on their device."""
    from gwm_core.runtime.graphs.onnx_export import future_graphs, vae_graphs

    graphs = future_graphs(model) | vae_graphs(vae)
    gripper_tokens = vae.gripper_tokens.cpu().numpy()
    return ImaginedWorld(lambda name: Torch(graphs[name]), model.config, gripper_tokens)


def load_imagined_world(folder: Path) -> ImaginedWorld:
    """The imagined world of a folder, by torch. Raises InputError where it holds a policy that does
    not predict.
    """
    from gwm_core.model.checkpoint import load_predicting_policy, load_vae

    return imagined_world(load_predicting_policy(folder), load_vae(folder))


def compiled_world(
    folder: Path,
    threads: int,
    backend: str,
    pause: Callable[[], None] = lambda: None,
    precision: str = "coarse",
) -> ImaginedWorld:
    """The imagined world of a folder on a compiled runtime, by default in its coarsest precision.

    Args:
        backend, precision: as of ``backends.choose``.

    Raises:
        InputError: as ``load_imagined_world``.
    """
    config = predicting_config(folder)
    backend, precision = choose(backend, precision)
    graph = partial(load, Path(folder), threads=threads, backend=backend, precision=precision)
    gripper_tokens = read_weights(folder, "vae").arrays()["gripper_tokens"]
    return ImaginedWorld(graph, config, gripper_tokens, pause)


def cpu_world(folder: Path) -> ImaginedWorld:
    """The imagined world of a folder, as near to ``load_imagined_world`` as 32 bits are, by one
    thread of the CPU's fastest runtime. Raises InputError as that.
    """
    return compiled_world(folder, 1, fastest_on_cpu(), precision="fp32")


def _moved(
    state: ImaginedState, free: np.ndarray, motions: np.ndarray, T: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Anchors (K, 3) and objects (M, 14) once the gripper is at T (4, 4).

    Each rigid part moves as most of its Gaussians' tokens do, and a token with the part that most
    of its Gaussians belong to.

    Args:
        free: anchors (K, 3) as predicted, which count for tokens that move freely.
        motions: (K,) of the tokens.
    """
    motion = T @ np.linalg.inv(state.T)
    rigid = state.anchors @ motion[:3, :3].T + motion[:3, 3]
    with_gripper = (motions == WITH_GRIPPER)[:, None]
    anchors = np.where(with_gripper, rigid, free).astype(np.float32)
    if not len(state.objects):
        return anchors, state.objects
    shares = np.zeros((state.parts.max() + 1, len(anchors)))  # Gaussians of each token
    np.add.at(shares, (state.parts, state.owners), 1)
    kinds = np.stack([shares[:, motions == kind].sum(1) for kind in MOTIONS], axis=1).argmax(1)
    alike = shares * (motions == kinds[:, None])  # tokens that move as the part does
    steps = alike @ (anchors - state.anchors) / alike.sum(1, keepdims=True)
    carried = kinds == WITH_GRIPPER
    objects = state.objects.copy()
    held = carried[state.parts]
    objects[held] = moved(objects[held], motion)
    objects[~held, MEANS] += steps[state.parts[~held]]
    owned = shares.any(0)
    part = shares[:, owned].argmax(0)
    anchors[owned] = np.where(carried[part, None], rigid[owned], state.anchors[owned] + steps[part])
    return anchors, objects
