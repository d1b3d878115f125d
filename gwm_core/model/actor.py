"""A trained policy behind the ``act`` interface of ``brain.Policy``."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from gwm_core.control.kinematics import fk
from gwm_core.errors import one_of
from gwm_core.learn.dataset import proprioception
from gwm_core.model.checkpoint import load_policy
from gwm_core.model.foresight import Foresight
from gwm_core.scene.gaussians import COLORS, MEANS
from gwm_core.types import Observation


class Actor:
    """Loads a policy folder and acts. Use it in one thread.

    Args:
        threads: CPU threads for torch; one is fastest beside a simulation on two cores.
    """

    sees = "scene"

    def __init__(self, folder: Path, threads: int = 1):
        torch.set_num_threads(threads)
        self._policy = load_policy(folder)
        self._foresight = Foresight(folder) if self._policy.config.foresight else None
        self.lift_config = self._policy.config.lift
        self.tasks = self._policy.config.tasks

    @torch.inference_mode()
    def act(self, scene: np.ndarray, observation: Observation) -> np.ndarray:
        """Pose rows (H, 10) for a scene (N, 14). Raises InputError for a task the policy was not trained on."""
        task = self.tasks.index(one_of("task", observation.task, self.tasks))
        rows = self._policy(
            torch.from_numpy(np.ascontiguousarray(scene[None, :, MEANS])),
            torch.from_numpy(np.ascontiguousarray(scene[None, :, COLORS])),
            torch.from_numpy(proprioception(observation.state)[None]),
            torch.tensor([task]),
            *self._foresee(scene, observation),
        )
        return rows[0].double().numpy()

    def _foresee(self, scene: np.ndarray, observation: Observation) -> list[torch.Tensor]:
        if self._foresight is None:
            return []
        return [torch.from_numpy(part[None]) for part in self._foresight(scene, fk(observation.state.q))]
