"""Play: motion without a task, so that the world model learns the outcome of any action."""

from __future__ import annotations

import numpy as np

from gwm_core.geometry.kinematics import fk, to_rows
from gwm_core.sim.expert import Expert
from gwm_core.types import CHUNK_DT, CHUNK_ROWS, OPEN_WIDTH, Observation

SECONDS = 12.0  # [s] of an episode
_LOW, _HIGH = (0.36, -0.28, 0.03), (0.66, 0.28, 0.36)  # [m] where the TCP wanders
_SPEED = (0.03, 0.24)  # [m/s]
# [s] for which a behaviour lasts
_DURATIONS = {"rest": (0.3, 1.5), "wander": (0.5, 2.5), "work": (0.5, 3.0)}
_PROBABILITIES = (0.3, 0.4, 0.3)


class PlayPolicy:
    """A policy that rests, moves to random poses, opens and closes, or does as the expert."""

    sees = "objects"

    def __init__(self, rng: np.random.Generator):
        self._rng, self._expert = rng, Expert()
        self._behavior, self._until = "rest", 0
        self._goal, self._speed, self._width = np.zeros(3), 0.1, OPEN_WIDTH

    def act(self, scene: np.ndarray | None, observation: Observation) -> np.ndarray:
        """Pose rows (H, 10)."""
        T, rng = fk(observation.state.q), self._rng
        if observation.stamp >= self._until:
            self._behavior = rng.choice(list(_DURATIONS), p=_PROBABILITIES)
            self._until = observation.stamp + int(rng.uniform(*_DURATIONS[self._behavior]) * 1e9)
            self._goal, self._speed = rng.uniform(_LOW, _HIGH), rng.uniform(*_SPEED)
            if rng.random() < 0.4:
                self._goal = observation.objects["red"][:3] + rng.normal(0, 0.02, 3) * [1, 1, 0]
            self._width = rng.choice([0.0, OPEN_WIDTH])
        if self._behavior == "work":
            return self._expert.act(scene, observation)
        rows = to_rows(np.repeat(T[None], CHUNK_ROWS, axis=0), observation.state.width_command)
        if self._behavior == "wander":
            offset = self._goal - T[:3, 3]
            steps = self._speed * CHUNK_DT * np.arange(1, CHUNK_ROWS + 1)
            rows[:, :3] += (
                np.minimum(1.0, steps / max(1e-6, np.linalg.norm(offset)))[:, None] * offset
            )
            rows[:, 9] = self._width
        return rows
