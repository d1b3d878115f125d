"""The scripted expert, which is sometimes pushed aside while it carries a cube."""

from __future__ import annotations

import numpy as np

from gwm_core.geometry.kinematics import fk, to_rows
from gwm_core.sim.expert import Expert
from gwm_core.types import CHUNK_ROWS, Observation

_PUSH_TIME = 0.5  # [s]
_LOW, _HIGH = (0.36, -0.3, 0.05), (0.66, 0.3, 0.32)  # [m] where a push may send the TCP


class PerturbedExpert:
    """The expert. In 35 % of the episodes it is pushed while it carries.

    Attributes:
        unusable: intervals [begin, end] [ns] in which the push acts, whose labels are not its own.
    """

    sees = "objects"

    def __init__(self, rng: np.random.Generator):
        self._expert, self._rng = Expert(), rng
        # number of chunks while carrying
        self._push_at = rng.integers(1, 8) if rng.random() < 0.35 else -1
        self._carried, self._until, self._goal = 0, 0, None
        self.unusable: list[list[int]] = []

    def act(self, scene, observation: Observation) -> np.ndarray:
        """Pose rows (H, 10)."""
        T = fk(observation.state.q)
        red = observation.objects["red"]
        if red[2] > red[4] / 2 + 0.01 and observation.state.width_command < 0.04:
            self._carried += 1
            if self._carried == self._push_at:
                self._until = observation.stamp + int(_PUSH_TIME * 1e9)
                shift = self._rng.uniform([-0.06, -0.06, -0.02], [0.06, 0.06, 0.06])
                self._goal = np.clip(T[:3, 3] + shift, _LOW, _HIGH)
                self.unusable = [[observation.stamp, self._until + int(0.35e9)]]
        if observation.stamp >= self._until:
            return self._expert.act(scene, observation)
        rows = to_rows(np.repeat(T[None], CHUNK_ROWS, axis=0), observation.state.width_command)
        fraction = np.minimum(1.0, np.arange(1, CHUNK_ROWS + 1) / 5)[:, None]
        rows[:, :3] += fraction * (self._goal - T[:3, 3])
        return rows
