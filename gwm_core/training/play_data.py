"""Motion without a purpose, for the world model: it should know what comes of any action, not only
of an expert's.
"""

from __future__ import annotations

import numpy as np

from gwm_core.geometry.kinematics import fk, to_rows
from gwm_core.sim.expert import Expert
from gwm_core.types import CHUNK_DT, CHUNK_ROWS, OPEN_WIDTH, Observation

SECONDS = 12.0  # [s] of an episode
_LOW, _HIGH = (0.36, -0.28, 0.03), (0.66, 0.28, 0.36)  # [m] where the TCP wanders
_SPEED = (0.03, 0.24)  # [m/s]
# [s] before something else is done
_LAST = {"rest": (0.3, 1.5), "wander": (0.5, 2.5), "work": (0.5, 3.0)}
_SHARES = (0.3, 0.4, 0.3)


class PlayPolicy:
    """The policy's interface: rests, wanders to random poses, opens and closes, and works as the
    expert does.
    """

    sees = "objects"

    def __init__(self, rng: np.random.Generator):
        self._rng, self._expert = rng, Expert()
        self._what, self._until = "rest", 0
        self._goal, self._speed, self._width = np.zeros(3), 0.1, OPEN_WIDTH

    def act(self, scene: np.ndarray | None, observation: Observation) -> np.ndarray:
        """Pose rows (H, 10)."""
        T, rng = fk(observation.state.q), self._rng
        if observation.stamp >= self._until:
            self._what = rng.choice(list(_LAST), p=_SHARES)
            self._until = observation.stamp + int(rng.uniform(*_LAST[self._what]) * 1e9)
            self._goal, self._speed = rng.uniform(_LOW, _HIGH), rng.uniform(*_SPEED)
            if rng.random() < 0.4:
                self._goal = observation.objects["red"][:3] + rng.normal(0, 0.02, 3) * [1, 1, 0]
            self._width = rng.choice([0.0, OPEN_WIDTH])
        if self._what == "work":
            return self._expert.act(scene, observation)
        rows = to_rows(np.repeat(T[None], CHUNK_ROWS, axis=0), observation.state.width_command)
        if self._what == "wander":
            away = self._goal - T[:3, 3]
            steps = self._speed * CHUNK_DT * np.arange(1, CHUNK_ROWS + 1)
            rows[:, :3] += np.minimum(1.0, steps / max(1e-6, np.linalg.norm(away)))[:, None] * away
            rows[:, 9] = self._width
        return rows
