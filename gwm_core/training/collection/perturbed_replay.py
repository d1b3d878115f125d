"""Replay a demonstration in its own layout with one perturbation, and see what comes of it.

It gives the world model outcomes near a demonstration: slips, missed grasps, drops, and recoveries.
It needs no further action of an expert. The task's rule says how each replay ended.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gwm_core.data.episode import Episode
from gwm_core.geometry.kinematics import fk, to_rows
from gwm_core.types import CHUNK_DT, CHUNK_ROWS, OPEN_WIDTH, Observation

# [s] of the chunks that the expert's loop sends between two observations; a label reaches so far
_HORIZON = CHUNK_ROWS * CHUNK_DT
_SHIFT = (0.005, 0.05)  # [m] how far the path is moved aside
_DURATION = (0.6, 2.0)  # [s] of a shift, out and back
_LATE = (0.3, 1.2)  # [s] by which a change of the gripper comes too early or too late
_LOWEST = 0.016  # [m] of the TCP above the table; the expert grasps there


@dataclass(frozen=True)
class Perturbation:
    """One change of a path. Times are of the demonstration.

    Attributes:
        kind: "shift", "gripper" (its changes come early or late) or "drop" (it opens once).
        begin, seconds: when, and how long [s].
        shift: (3,) [m] at the middle of the time. delay: [s] of the gripper's changes.
    """

    kind: str
    begin: float
    seconds: float
    shift: np.ndarray
    delay: float = 0.0


def sample_perturbation(rng: np.random.Generator, seconds: float) -> Perturbation:
    """A random perturbation of a demonstration of a length [s]; six of ten are shifts."""
    kind = str(rng.choice(["shift", "gripper", "drop"], p=[0.6, 0.2, 0.2]))
    direction = rng.normal(size=3)
    shift = direction / np.linalg.norm(direction) * rng.uniform(*_SHIFT)
    lasting = rng.uniform(*_DURATION)
    begin = rng.uniform(0.0, max(0.1, seconds - lasting))
    delay = rng.uniform(*_LATE) * rng.choice([-1.0, 1.0])
    return Perturbation(kind, begin, lasting, shift, float(delay))


class PerturbedReplay:
    """Sends the commands of a demonstration again, changed by a perturbation.

    Attributes:
        unusable: intervals [begin, end] [ns] whose commands lead away from the demonstration, and
            those of the demonstration itself. The way back is usable.
    """

    sees = "objects"

    def __init__(self, demonstration: Episode, perturbation: Perturbation):
        self._episode, self._perturbation = demonstration, perturbation
        sent = demonstration.command_stamps
        self._begin = int(sent[0])
        p, seconds = perturbation, 1e-9 * float(sent[-1] - sent[0])
        # A shift leads back from its middle on. A gripper's changes are wrong throughout.
        begin, end = {
            "shift": (p.begin, p.begin + p.seconds / 2),
            "gripper": (0.0, seconds + _HORIZON),
            "drop": (p.begin, p.begin + p.seconds),
        }[p.kind]
        earlier = [
            [1 + first - self._begin, 1 + last - self._begin]
            for first, last in demonstration.info.get("unusable", [])
            if last >= self._begin
        ]
        self.unusable = sorted(
            [[max(0, first), last] for first, last in earlier]
            + [[1 + int(begin * 1e9), 1 + int(end * 1e9)]]
        )

    def act(self, scene, observation: Observation) -> np.ndarray:
        """Pose rows (H, 10)."""
        p = self._perturbation
        after = 1e-9 * (observation.stamp - 1) + CHUNK_DT * np.arange(1, CHUNK_ROWS + 1)
        rows = self._rows(after)
        within = (after - p.begin) / p.seconds
        during = (within > 0) & (within < 1)
        if p.kind == "shift":
            bump = np.where(during, np.sin(np.pi * within) ** 2, 0.0)
            rows[:, :3] += bump[:, None] * p.shift
            rows[:, 2] = np.maximum(rows[:, 2], _LOWEST)
        elif p.kind == "gripper":
            rows[:, 9] = self._rows(after - p.delay)[:, 9]
        else:
            rows[during, 9] = OPEN_WIDTH
        return rows

    def _rows(self, after: np.ndarray) -> np.ndarray:
        """Rows (H, 10) that were commanded at times (H,) [s] of the demonstration."""
        stamps = self._begin + np.maximum(0, np.round(1e9 * after)).astype(np.int64)
        sent = self._episode.next_commands(stamps).commands
        return to_rows(fk(sent[:, :7]), sent[:, 7])
