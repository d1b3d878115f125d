"""Run a trained policy on the fastest runtime of this machine."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np

from gwm_core.errors import InputError, one_of
from gwm_core.geometry.kinematics import fk
from gwm_core.model.config import PolicyConfig
from gwm_core.model.inputs import proprioception
from gwm_core.model.weights_file import digest, read_weights
from gwm_core.runtime.bundle import is_bundle, open_bundle
from gwm_core.runtime.graphs.backends import choose
from gwm_core.runtime.graphs.compile import load
from gwm_core.runtime.world_features import WorldFeatures
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
        weights = read_weights(folder, "policy")
        self._config = weights.config
        self.lift_config = self._config.lift
        self.tasks = self._config.tasks
        self.graph = graph = partial(
            load, Path(folder), backend=self.backend, precision=self.precision, threads=threads
        )
        self._chunk = graph("chunk")
        self._world_features = None
        if isinstance(self._config, PolicyConfig) and self._config.world_features:
            world_sha256 = digest(Path(folder) / "world.safetensors")
            if weights.manifest.get("world_sha256") != world_sha256:
                raise InputError(
                    f"the policy in {folder} was trained on the features of another world model"
                )
            self._world_features = WorldFeatures(folder, graph)
        if bundle and not trusted:
            self.drift = bundle.check(
                self.rows, self.precision, f"{folder} by {self.backend} in {self.precision}"
            )

    def act(self, scene: np.ndarray, observation: Observation) -> np.ndarray:
        """Pose rows (H, 10) for a scene (N, 14). Raises InputError for an unknown task."""
        task = self.tasks.index(one_of("task", observation.task, self.tasks))
        state = observation.state
        return self.rows(scene, proprioception(state), fk(state.q), task).astype(np.float64)

    def rows(self, scene: np.ndarray, proprio: np.ndarray, T: np.ndarray, task: int) -> np.ndarray:
        """Pose rows (H, 10) float32.

        Args:
            scene: (N, 14). proprio: (11,). T: (4, 4) pose of the gripper. task: number.
        """
        return self._chunk(self.inputs(scene, proprio, T, task))["rows"][0]

    def inputs(
        self, scene: np.ndarray, proprio: np.ndarray, T: np.ndarray, task: int
    ) -> dict[str, np.ndarray]:
        """Inputs of ``chunk`` and ``encode``, a batch of one. Arguments as of ``rows``."""
        c = self._config
        scene = scene[: c.lift.count]  # farthest points first: the start of a larger scene
        inputs = {
            "patches": patches(scene, c.centers, c.neighbors)[None],
            "proprio": proprio[None],
            "task": np.array([task], np.int64),
        }
        if self._world_features:
            features, anchors = self._world_features(scene, T)
            inputs |= {"features": features[None], "anchors": anchors[None]}
        return inputs
