"""A policy that plans from a noise of one's choice, and the networks that practice runs."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import NamedTuple

import numpy as np

from gwm_core.model.inputs import proprioception
from gwm_core.runtime.best_of_plans import denoised
from gwm_core.runtime.graphs.backends import Call, fastest_on_cpu
from gwm_core.runtime.graphs.compile import load
from gwm_core.runtime.imagined_world import ImaginedWorld, cpu_world
from gwm_core.runtime.policy_runner import plan_inputs
from gwm_core.scene.gaussians import COLORS, MEANS
from gwm_core.types import Observation


class Networks(NamedTuple):
    """What practice runs, by one thread."""

    world: ImaginedWorld
    encode: Call
    denoise: Call


class NoisyPolicy:
    """A policy that plans from a given noise (H, 10), as a ``ScenePolicy``.

    Attributes:
        plans: of each plan, the points (N, 3) float16 and colors (N, 3) uint8 seen, the proprio
            (11,) and the rows (H, 10), float32.
    """

    sees = "scene"

    def __init__(self, networks: Networks, noise: np.ndarray):
        self._networks = networks
        self._noise = noise
        self.plans: list[dict[str, np.ndarray]] = []

    def act(self, scene: np.ndarray, observation: Observation) -> np.ndarray:
        """As ``ScenePolicy.act``."""
        config = self._networks.world.config
        proprio, task = proprioception(observation.state), config.tasks.index(observation.task)
        encoded = self._networks.encode(plan_inputs(config, scene, proprio, task))
        del encoded["x"]  # the stored noise
        modulations = encoded.pop("modulation")
        given = encoded | {"proprio": proprio[None]}
        rows = denoised(self._networks.denoise, given, modulations, self._noise[None])[0]
        seen = scene[: config.lift.count]
        self.plans.append(
            {
                "points": np.float16(seen[:, MEANS]),
                "colors": np.uint8(np.rint(255 * seen[:, COLORS].clip(0, 1))),
                "proprio": proprio,
                "rows": rows,
            }
        )
        return rows.astype(np.float64)


@functools.lru_cache(maxsize=1)
def load_networks(folder: Path) -> Networks:
    """The networks of a policy that predicts, with its VAE."""
    backend = fastest_on_cpu()
    graphs = (load(folder, name, backend, "fp32", threads=1) for name in ("encode", "denoise"))
    return Networks(cpu_world(folder), *graphs)
