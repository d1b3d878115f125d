"""The simulated tasks: the layout of an episode from its seed, and the geometric rule of success.

lift        the red cube's centre is at least 50 mm above its rest height
pick_place  the red cube rests on the plate (centres within 60 mm, height within 8 mm), the gripper
            is open and at least 50 mm away from the cube
stack       the red cube rests on the blue one (centres within 20 mm sideways, height within 8 mm),
            the gripper as above

The rule must hold for 0.5 s without a break. Centres of cubes are at least 95 mm apart.
"""

from __future__ import annotations

import zlib

import numpy as np

from gwm_core.errors import InputError, one_of
from gwm_core.sim.scene import CAMERAS, CUBE_COLORS, CUBE_SIZE, PLATE_HEIGHT, Layout

TASKS = ("lift", "pick_place", "stack")
DIFFICULTIES = ("nominal", "hard")
HOLD_TIME = 0.5  # [s] a success must last
TIME_LIMIT = 25.0  # [s] for an episode
_LOW, _HIGH = np.array([0.40, -0.24]), np.array([0.62, 0.24])  # [m] where objects lie
_EXTRINSIC_ERROR = np.deg2rad(0.5), 0.010  # hard: [rad], [m] per camera


def sample_layout(task: str, seed: int, difficulty: str = "nominal") -> Layout:
    """The layout of an episode; equal for equal task, seed and difficulty on every machine."""
    one_of("task", task, TASKS)
    one_of("difficulty", difficulty, DIFFICULTIES)
    if seed < 0:
        raise InputError(f"a seed is 0 or more, got {seed}")
    hard = difficulty == "hard"
    rng = np.random.default_rng([seed, zlib.crc32(f"{task}/{difficulty}".encode())])
    distractors = int(rng.integers(3, 5)) if hard else 2
    others = [str(n) for n in rng.permutation([n for n in CUBE_COLORS if n not in ("red", "blue")])]
    names = [
        "red",
        *(["blue", *others] if task == "stack" else ["blue", *others][int(rng.integers(2)) :]),
    ]
    names = names[: 1 + distractors]
    plate, spots = _positions(rng, len(names))
    size = rng.uniform(0.034, 0.046, len(names)) if hard else np.full(len(names), CUBE_SIZE)
    if task == "stack":
        size[1] = max(size[1], size[0] - 0.004)
    yaw = rng.uniform(-np.pi / 4, np.pi / 4, len(names))
    base = {**CUBE_COLORS, "plate": (0.93, 0.93, 0.95), "table": (0.62, 0.56, 0.48)}
    shade = 0.10 if hard else 0.0
    colors = {
        n: np.clip(
            np.array(c) * rng.uniform(1 - shade, 1 + shade) + rng.uniform(-shade, shade, 3) * 0.6,
            0,
            1,
        )
        for n, c in base.items()
    }
    light = np.array([-0.3, 0.4, -1.0, 0.6, 0.3])
    if hard:
        light = np.array(
            [*rng.uniform(-0.8, 0.8, 2), -1.0, rng.uniform(0.35, 0.9), rng.uniform(0.2, 0.4)]
        )
    return Layout(
        task=task,
        seed=seed,
        difficulty=difficulty,
        cubes={n: np.array([*spots[i], yaw[i], size[i]]) for i, n in enumerate(names)},
        plate=plate,
        colors=colors,
        light=light,
        camera_error={n: _extrinsic_error(rng) if hard else np.zeros(6) for n in CAMERAS},
        noise=float(rng.uniform(1.5, 3.0)) if hard else 1.0,
    )


def _positions(rng: np.random.Generator, cubes: int) -> tuple[np.ndarray, np.ndarray]:
    """Positions (2,) of the plate and (cubes, 2) of the cubes, far enough from each other."""
    while True:
        plate, spots = rng.uniform(_LOW, _HIGH), rng.uniform(_LOW, _HIGH, (cubes, 2))
        gaps = np.linalg.norm(spots[:, None] - spots[None], axis=-1) + np.eye(cubes)
        if gaps.min() > 0.095 and np.linalg.norm(spots - plate, axis=-1).min() > 0.140:
            return plate, spots


def _extrinsic_error(rng: np.random.Generator) -> np.ndarray:
    rotation, shift = rng.normal(size=3), rng.normal(size=3)
    angle, length = _EXTRINSIC_ERROR
    return np.concatenate(
        [rotation / np.linalg.norm(rotation) * angle, shift / np.linalg.norm(shift) * length]
    )


def reached(task: str, objects: dict[str, np.ndarray], tcp: np.ndarray, width: float) -> bool:
    """Whether the task's rule holds now.

    Args:
        objects: name -> (x, y, z, yaw, size) in metres and radians.
        tcp: (3,) [m]; width: gripper opening [m].
    """
    red = objects["red"]
    if task == "lift":
        return bool(red[2] > red[4] / 2 + 0.05)
    released = width > red[4] + 0.01 and np.linalg.norm(tcp - red[:3]) > 0.05
    if task == "pick_place":
        rest, sideways, reach = PLATE_HEIGHT + red[4] / 2, red[:2] - objects["plate"][:2], 0.060
    else:
        blue = objects["blue"]
        rest, sideways, reach = blue[2] + blue[4] / 2 + red[4] / 2, red[:2] - blue[:2], 0.020
    return bool(released and np.linalg.norm(sideways) < reach and abs(red[2] - rest) < 0.008)


class Success:
    """Whether ``reached`` has held for HOLD_TIME."""

    def __init__(self, task: str):
        self._task, self._since = task, None

    def update(self, now: float, objects, tcp, width) -> bool:
        """Take the state at ``now`` [s]; True once the rule has held long enough."""
        if not reached(self._task, objects, tcp, width):
            self._since = None
            return False
        self._since = now if self._since is None else self._since
        return now - self._since >= HOLD_TIME
