"""Scenes and success that a world action model predicts, as a policy and a person see them.

A predicted scene consists of the Gaussians that were observed, each moved with its token, and of
the gripper as the VAE decodes it. So objects keep their shape over many jumps, also while the
gripper carries them out of the workspace. What the cameras did not see stays unseen, and what
changes its shape keeps the old one.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from scipy.spatial import cKDTree

from gwm_core.errors import InputError
from gwm_core.geometry.kinematics import from_rows
from gwm_core.model.checkpoint import load_policy, load_vae
from gwm_core.model.future_decoder import Tokens
from gwm_core.model.vae import VAE
from gwm_core.model.world_action_model import WorldActionModel
from gwm_core.scene.gaussians import COLORS, MEANS, moved
from gwm_core.scene.gripped_width import gripped_width
from gwm_core.scene.lift import as_lifted
from gwm_core.scene.token_tracking import WITH_GRIPPER, track_tokens


@dataclass(frozen=True)
class ImaginedState:
    """A scene, observed or predicted, and the arm in it."""

    latent: np.ndarray  # (K, D)
    anchors: np.ndarray  # (K, 3) [m]
    objects: np.ndarray  # (M, 14): Gaussians that are not of the gripper
    owners: np.ndarray  # (M,) numbers of the tokens that they move with
    scene: np.ndarray  # (N, 14), as lifted
    proprio: np.ndarray  # (11,) as of ``proprioception``

    @property
    def T(self) -> np.ndarray:
        """Pose (4, 4) of the gripper in the base frame."""
        return from_rows(self.proprio[None, :10])[0]


class ImaginedWorld:
    """A world action model and its VAE by torch. Use it in one thread."""

    def __init__(self, model: WorldActionModel, vae: VAE):
        self.model, self.vae = model, vae
        self.lift_config = vae.config.lift

    @torch.no_grad()
    def observe(self, scene: np.ndarray, proprio: np.ndarray) -> ImaginedState:
        """The state of an observed scene (N, 14)."""
        scene, proprio = np.float32(scene), np.float32(proprio)
        on_gripper = self.vae.gripper_tokens.cpu().numpy()
        T = from_rows(proprio[None, :10])
        anchors = track_tokens(scene[None], T, on_gripper, self.vae.config.tokens)[0]
        return self.state(scene, proprio, self._encode(scene, anchors), anchors)

    def state(
        self, scene: np.ndarray, proprio: np.ndarray, latent: np.ndarray, anchors: np.ndarray
    ) -> ImaginedState:
        """The state of an observed scene whose latent (K, D) and anchors (K, 3) are known."""
        owners = cKDTree(anchors).query(scene[:, MEANS])[1]
        of_objects = owners >= self.vae.config.gripper_tokens
        return ImaginedState(
            latent, anchors, scene[of_objects], owners[of_objects], scene, np.float32(proprio)
        )

    @torch.no_grad()
    def after(self, state: ImaginedState, rows: np.ndarray) -> ImaginedState:
        """The state once the pose rows (H, 10) are reached, H one of the model's jumps.

        The gripper stops at what the predicted scene shows between its fingers.
        """
        config = self.model.config
        padded = np.concatenate([rows, np.repeat(rows[-1:], config.rows - len(rows), axis=0)])
        jump = torch.tensor([config.jumps.index(len(rows))], device=self._device)
        proprio, latent, anchors, commanded = (
            self._tensor(a) for a in (state.proprio, state.latent, state.anchors, padded)
        )
        tokens, motions = self.model.future(
            self.tokens(state), proprio, Tokens(latent, anchors), commanded, jump
        )
        T = from_rows(np.float32(rows[-1:]))[0]
        carried = (motions[0] == WITH_GRIPPER).cpu().numpy()
        carried[: self.vae.config.gripper_tokens] = True
        anchors, objects = _moved(state, tokens.anchors[0].cpu().numpy(), carried, T)
        of_gripper = self.vae.config.gripper_tokens * self.vae.gaussians_per_token
        gripper = self.vae.decode(tokens.latent)[0, :of_gripper].cpu().numpy()
        scene = as_lifted(np.concatenate([objects, gripper]), self.lift_config)
        width = gripped_width(objects, T, float(state.proprio[9]), rows[:, 9])
        proprio = np.float32([*rows[-1, :9], width, rows[-1, 9]])
        latent = self._encode(scene, anchors)
        return ImaginedState(latent, anchors, objects, state.owners, scene, proprio)

    @torch.no_grad()
    def success(self, state: ImaginedState, task: str) -> float:
        """Probability that the task is done. Raises ValueError for a task it does not know."""
        return float(self.model.success(self.tokens(state), self._task(task))[0])

    @torch.no_grad()
    def plan(self, state: ImaginedState, task: str) -> np.ndarray:
        """Pose rows (H, 10) of the model's own policy."""
        rows = self.model.plan_decoder(self.tokens(state), self._task(task))
        return self.model.absolute(rows, self._tensor(state.proprio))[0].cpu().numpy()

    @torch.no_grad()
    def tokens(self, state: ImaginedState) -> torch.Tensor:
        """Scene tokens (1, S, d) of the model's encoder."""
        seen = self._tensor(state.scene[: self.model.config.lift.count])
        patches = self.model.gather(seen[..., MEANS], seen[..., COLORS])
        return self.model.encoder(patches, self._tensor(state.proprio))

    def _encode(self, scene: np.ndarray, anchors: np.ndarray) -> np.ndarray:
        return self.vae.encode(self._tensor(scene), self._tensor(anchors))[0][0].cpu().numpy()

    @property
    def _device(self) -> torch.device:
        return self.model.noise.device

    def _tensor(self, array: np.ndarray) -> torch.Tensor:
        """(1, ...) float32 on the model's device."""
        return torch.from_numpy(np.ascontiguousarray(array, np.float32))[None].to(self._device)

    def _task(self, task: str) -> torch.Tensor:
        return torch.tensor([self.model.config.tasks.index(task)], device=self._device)


def load_imagined_world(folder: Path) -> ImaginedWorld:
    """The imagined world of a folder. Raises InputError where it holds a policy that does not
    predict.
    """
    model = load_policy(folder)
    if not isinstance(model, WorldActionModel) or model.config.vae is None:
        raise InputError(
            f"the policy in {folder} predicts nothing: `gwm train policy --config joint"
            " --futures DIR` makes one that does"
        )
    return ImaginedWorld(model, load_vae(folder))


def _moved(
    state: ImaginedState, free: np.ndarray, carried: np.ndarray, T: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Anchors (K, 3) and objects (M, 14) once the gripper is at T (4, 4).

    Args:
        free: anchors (K, 3) as predicted, which count for the other tokens.
        carried: (K,) which tokens move with the gripper.
    """
    motion = T @ np.linalg.inv(state.T)
    rigid = state.anchors @ motion[:3, :3].T + motion[:3, 3]
    anchors = np.where(carried[:, None], rigid, free).astype(np.float32)
    objects = state.objects.copy()
    objects[:, MEANS] += (anchors - state.anchors)[state.owners]
    with_gripper = carried[state.owners]
    objects[with_gripper] = moved(state.objects[with_gripper], motion)
    return anchors, objects
