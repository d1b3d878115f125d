"""Scenes and success that a world action model predicts, as a policy and a person see them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from gwm_core.errors import InputError
from gwm_core.geometry.kinematics import from_rows
from gwm_core.model.checkpoint import load_policy, load_vae
from gwm_core.model.world_action_model import WorldActionModel
from gwm_core.scene.gaussians import COLORS, MEANS
from gwm_core.scene.lift import as_lifted
from gwm_core.training.fit_success import predicted_proprio


@dataclass(frozen=True)
class ImaginedState:
    """A scene, observed or predicted, and the arm in it."""

    latent: np.ndarray  # (K, D)
    scene: np.ndarray  # (N, 14), as lifted
    proprio: np.ndarray  # (11,) as of ``proprioception``


class ImaginedWorld:
    """A world action model and its VAE by torch. Use it in one thread.

    Raises InputError where ``folder`` holds a policy that does not predict.

    Attributes:
        model, vae: the networks. lift_config: how scenes are to be lifted.
    """

    def __init__(self, folder: Path):
        self.model = load_policy(folder)
        if not isinstance(self.model, WorldActionModel) or self.model.config.vae is None:
            raise InputError(
                f"the policy in {folder} predicts nothing: `gwm train policy --config joint"
                " --futures DIR` makes one that does"
            )
        self.vae = load_vae(folder)
        self.lift_config = self.vae.config.lift

    @torch.no_grad()
    def observe(self, scene: np.ndarray, proprio: np.ndarray) -> ImaginedState:
        """The state of an observed scene (N, 14)."""
        scene = np.float32(scene)
        latent = self.vae.observe(scene[None], from_rows(proprio[None, :10]))[0]
        return ImaginedState(latent.numpy(), scene, np.float32(proprio))

    @torch.no_grad()
    def after(self, state: ImaginedState, rows: np.ndarray) -> ImaginedState:
        """The state once the pose rows (H, 10) are reached, H one of the model's jumps.

        The gripper stops at what the predicted scene shows between its fingers.
        """
        config = self.model.config
        padded = np.concatenate([rows, np.repeat(rows[-1:], config.rows - len(rows), axis=0)])
        jump = torch.tensor([config.jumps.index(len(rows))])
        _, rows_, latent, proprio = (
            torch.from_numpy(np.float32(a))[None]
            for a in (state.scene, padded, state.latent, state.proprio)
        )
        latent = self.model.future(self._tokens(state), proprio, latent, rows_, jump)[0]
        decoded = self.vae.decode(latent[None])[0].numpy()
        proprio = predicted_proprio(decoded, rows[-1])
        return ImaginedState(latent.numpy(), as_lifted(decoded, self.lift_config), proprio)

    @torch.no_grad()
    def success(self, state: ImaginedState, task: str) -> float:
        """Probability that the task is done. Raises ValueError for a task it does not know."""
        number = torch.tensor([self.model.config.tasks.index(task)])
        return float(self.model.success(self._tokens(state), number)[0])

    @torch.no_grad()
    def plan(self, state: ImaginedState, task: str) -> np.ndarray:
        """Pose rows (H, 10) of the model's own policy."""
        number = torch.tensor([self.model.config.tasks.index(task)])
        tokens, proprio = self._tokens(state), torch.from_numpy(state.proprio)[None]
        return self.model.absolute(self.model.plan_decoder(tokens, number), proprio)[0].numpy()

    def _tokens(self, state: ImaginedState) -> torch.Tensor:
        seen = torch.from_numpy(state.scene[None, : self.model.config.lift.count])
        patches = self.model.gather(seen[..., MEANS], seen[..., COLORS])
        return self.model.encoder(patches, torch.from_numpy(state.proprio)[None])
