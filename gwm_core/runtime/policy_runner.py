"""A trained policy behind the ``act`` interface of ``planner.Policy``, on the runtime that is
fastest here.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np

from gwm_core.errors import InputError, one_of
from gwm_core.geometry.kinematics import fk
from gwm_core.model.inputs import proprioception
from gwm_core.model.weights_file import digest, read_weights
from gwm_core.runtime.backends import choose
from gwm_core.runtime.bundle import is_bundle, open_bundle
from gwm_core.runtime.compile import load
from gwm_core.runtime.world_features import WorldFeatures
from gwm_core.scene.patches import patches
from gwm_core.types import Observation


class PolicyRunner:
    """Loads a policy and acts. Use it in one thread.

    A bundle is verified and, unless ``trusted``, has to make of its golden inputs what the trained
    network made. A checkpoint, as training leaves it, runs by torch.

    Args:
        threads: CPU threads; one is fastest beside a simulation on two cores.
        backend, precision: as of ``runtimes.choose``.
    """

    sees = "scene"

    def __init__(
        self,
        folder: Path,
        threads: int = 1,
        backend: str = "auto",
        precision: str = "auto",
        trusted=False,
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
        self._config, manifest = read_weights(folder, "policy")[1:]
        graph = partial(
            load, Path(folder), backend=self.backend, precision=self.precision, threads=threads
        )
        self._chunk, self._foresight = graph("chunk"), None
        if self._config.foresight:
            if manifest.get("world_sha256") != digest(Path(folder) / "world.safetensors"):
                raise InputError(
                    f"the policy in {folder} was trained on the features of another world model"
                )
            self._foresight = WorldFeatures(folder, graph)
        self.lift_config, self.tasks = self._config.lift, self._config.tasks
        if bundle and not trusted:
            self.drift = bundle.check(
                self.rows, self.precision, f"{folder} by {self.backend} in {self.precision}"
            )

    def act(self, scene: np.ndarray, observation: Observation) -> np.ndarray:
        """Pose rows (H, 10) for a scene (N, 14). Raises InputError for a task the policy was not
        trained on.
        """
        task = self.tasks.index(one_of("task", observation.task, self.tasks))
        state = observation.state
        return self.rows(scene, proprioception(state), fk(state.q), task).astype(np.float64)

    def rows(self, scene: np.ndarray, proprio: np.ndarray, T: np.ndarray, task: int) -> np.ndarray:
        """Pose rows (H, 10) float32 for a scene (N, 14), proprio (11,), gripper pose T (4, 4) and
        number of a task.
        """
        c = self._config
        scene = scene[: c.lift.count]  # farthest points: the first of more are the same
        inputs = {
            "patches": patches(scene, c.centers, c.neighbors)[None],
            "proprio": proprio[None],
            "task": np.array([task], np.int64),
        }
        if self._foresight:
            known = self._foresight(scene, T)
            inputs |= {name: part[None] for name, part in zip(("features", "places"), known)}
        return self._chunk(inputs)["rows"][0]
