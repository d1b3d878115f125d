"""Run a trained policy on the fastest runtime of this machine."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np

from gwm_core.errors import InputError, one_of
from gwm_core.model.config import WorldActionConfig
from gwm_core.model.inputs import proprioception
from gwm_core.model.weights_file import read_weights
from gwm_core.runtime.bundle import is_bundle, open_bundle
from gwm_core.runtime.graphs.backends import choose
from gwm_core.runtime.graphs.compile import load
from gwm_core.scene.patches import patches
from gwm_core.types import Observation


class PolicyRunner:
    """A trained policy behind the interface ``planner.ScenePolicy``. Use it in one thread.

    A bundle is verified. Unless ``trusted``, its golden inputs are run, and their outputs must be
    those of the trained network. A checkpoint, as training leaves it, runs by torch.

    Args:
        threads: CPU threads; one is fastest beside a simulation on two cores.
        backend, precision: as of ``backends.choose``.

    Attributes:
        graph: gives another graph of the policy by its name, on the same runtime.
    """

    sees = "scene"

    def __init__(
        self,
        folder: Path,
        threads: int = 1,
        backend: str = "auto",
        precision: str = "auto",
        trusted: bool = False,
    ):
        self.bundle = bundle = open_bundle(folder) if is_bundle(folder) else None
        if bundle is None:
            if backend not in ("auto", "torch"):
                raise InputError(
                    f"{folder} is a checkpoint, which runs by torch: `gwm compile` makes a bundle"
                    " of it"
                )
            backend = "torch"
        self.backend, self.precision = choose(backend, precision)
        self._config = read_weights(folder, "policy").config
        self.lift_config = self._config.lift
        self.tasks = self._config.tasks
        self.graph = partial(
            load, Path(folder), backend=self.backend, precision=self.precision, threads=threads
        )
        self._chunk = self.graph("chunk")
        if bundle and not trusted:
            self.drift = bundle.check(
                self.rows, self.precision, f"{folder} by {self.backend} in {self.precision}"
            )

    def act(self, scene: np.ndarray, observation: Observation) -> np.ndarray:
        """Pose rows (H, 10) for a scene (N, 14). Raises InputError for an unknown task."""
        task = self.tasks.index(one_of("task", observation.task, self.tasks))
        return self.rows(scene, proprioception(observation.state), task).astype(np.float64)

    def rows(self, scene: np.ndarray, proprio: np.ndarray, task: int) -> np.ndarray:
        """Pose rows (H, 10) float32.

        Args:
            scene: (N, 14). proprio: (11,). task: number.
        """
        return self._chunk(self.inputs(scene, proprio, task))["rows"][0]

    def inputs(self, scene: np.ndarray, proprio: np.ndarray, task: int) -> dict[str, np.ndarray]:
        """Inputs of ``chunk`` and ``encode``, a batch of one. Arguments as of ``rows``."""
        return plan_inputs(self._config, scene, proprio, task)


def plan_inputs(
    config: WorldActionConfig, scene: np.ndarray, proprio: np.ndarray, task: int
) -> dict[str, np.ndarray]:
    """Inputs of the graphs ``chunk`` and ``encode``, as of ``PolicyRunner.inputs``."""
    scene = scene[: config.lift.count]  # farthest points first: the start of a larger scene
    return {
        "patches": patches(scene, config.centers, config.neighbors)[None],
        "proprio": proprio[None],
        "task": np.array([task], np.int64),
    }
