"""A scripted expert that looks at simulator ground truth. It exists to make demonstrations and to
try the stack.

It has no clock: what it does next follows from where the hand and the objects are, so its
demonstrations are nearly a function of the state. A chunk is made by playing the rule forward on a
simple model of hand and cube.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from gwm_core.geometry.kinematics import fk, to_rows
from gwm_core.sim.scene import PLATE_HEIGHT
from gwm_core.types import CHUNK_DT, CHUNK_ROWS, OPEN_WIDTH, Observation

SPEED = 0.21  # [m/s] below the desk profile's 0.25
TURN_SPEED = 1.2  # [rad/s]
HOVER = 0.09  # [m] above what is approached
CLOSING = 0.1  # [m/s] the real gripper's


@dataclass(frozen=True)
class _HandState:
    """Hand and objects as the expert's rule sees them."""

    tcp: np.ndarray  # (3,) [m]
    yaw: float  # [rad]
    width: float  # [m]
    command: float  # [m] last gripper command
    red: np.ndarray  # (x, y, z, yaw, size)
    goal: np.ndarray | None  # (x, y, z of the surface to place on); None = just lift

    @property
    def held(self) -> bool:
        near = np.abs(self.tcp - self.red[:3])
        return bool(
            self.command < 0.04
            and near[:2].max() < 0.022
            and near[2] < 0.022
            and self.width < self.red[4] + 0.006
        )


class Expert:
    """The policy's interface over ground truth: ``act`` gives pose rows."""

    sees = "objects"

    def act(self, scene: np.ndarray | None, observation: Observation) -> np.ndarray:
        """Pose rows (H, 10) for the observation's task; needs ``observation.objects``."""
        if observation.objects is None:
            raise ValueError(
                "the scripted expert needs ground truth (sim/objects), which only the"
                " simulation has"
            )
        T = fk(observation.state.q)
        objects, red = observation.objects, observation.objects["red"]
        goal = None
        if observation.task == "pick_place":
            goal = np.array([*objects["plate"][:2], PLATE_HEIGHT])
        elif observation.task == "stack":
            blue = objects["blue"]
            goal = np.array([*blue[:2], blue[2] + blue[4] / 2])
        world = _HandState(
            T[:3, 3],
            float(np.arctan2(T[1, 0], T[0, 0])),
            observation.state.width,
            observation.state.width_command,
            red,
            goal,
        )
        poses, yaws, widths = [], [], []
        for _ in range(CHUNK_ROWS):
            world = _imagine(world, *_next(world))
            poses.append(world.tcp)
            yaws.append(world.yaw)
            widths.append(world.command)
        return to_rows(_down(np.array(poses), np.array(yaws)), np.array(widths))


def _down(xyz: np.ndarray, yaw: np.ndarray) -> np.ndarray:
    """TCP poses (H, 4, 4) pointing straight down."""
    T = np.zeros((len(xyz), 4, 4))
    c, s = np.cos(yaw), np.sin(yaw)
    T[:, 0, 0], T[:, 0, 1], T[:, 1, 0], T[:, 1, 1] = c, s, s, -c
    T[:, 2, 2], T[:, 3, 3], T[:, :3, 3] = -1, 1, xyz
    return T


def _next(w: _HandState) -> tuple[np.ndarray, float, float]:
    """Where the hand should go in this step, with which yaw and gripper command."""
    if w.held:
        return _carry(w)
    placed = w.goal is not None and _on_goal(w)
    away = np.linalg.norm(w.tcp[:2] - w.red[:2])
    if placed:
        rise = np.array([w.tcp[0], w.tcp[1], max(w.tcp[2], w.red[2] + 0.14)])
        return (rise if w.width > w.red[4] + 0.012 else w.tcp), w.yaw, OPEN_WIDTH
    yaw = nearest_symmetry(w.red[3], w.yaw)
    grasp = np.array([w.red[0], w.red[1], max(w.red[2] - 0.002, 0.016)])
    above = grasp + np.array([0, 0, HOVER])
    at_grasp = away < 0.012 and w.tcp[2] < grasp[2] + 0.015
    if (w.command < 0.04 and not at_grasp) or (w.command > 0.04 and w.width < 0.07):
        # closed on nothing: again
        return np.array([w.tcp[0], w.tcp[1], max(w.tcp[2], above[2])]), w.yaw, OPEN_WIDTH
    aligned = away < 0.006 and abs(yaw - w.yaw) < 0.06
    if not aligned and w.tcp[2] < grasp[2] + 0.05 and away > 0.012:
        # rise clear of the cubes first
        return np.array([w.tcp[0], w.tcp[1], above[2]]), w.yaw, OPEN_WIDTH
    if not aligned and not (away < 0.012 and w.tcp[2] < grasp[2] + 0.05):
        return above, yaw, OPEN_WIDTH
    if w.tcp[2] > grasp[2] + 0.004 and w.command > 0.04:
        return grasp, yaw, OPEN_WIDTH
    return grasp, yaw, 0.0


def _carry(w: _HandState) -> tuple[np.ndarray, float, float]:
    hang = w.tcp[2] - w.red[2]  # the hand above the cube's centre
    if w.goal is None:
        return np.array([w.tcp[0], w.tcp[1], 0.16]), w.yaw, 0.0
    rest = w.goal[2] + w.red[4] / 2
    offset = w.tcp[:2] - w.red[:2]
    target = np.array([*(w.goal[:2] + offset), rest + hang])
    away = np.linalg.norm(w.red[:2] - w.goal[:2])
    high = rest + hang + 0.07
    if away > 0.05 and w.tcp[2] < high - 0.025:
        return np.array([w.tcp[0], w.tcp[1], high]), w.yaw, 0.0
    if away > 0.006:
        return np.array([target[0], target[1], max(high, target[2])]), w.yaw, 0.0
    if w.red[2] > rest + 0.004:
        return target, w.yaw, 0.0
    return w.tcp, w.yaw, OPEN_WIDTH


def _on_goal(w: _HandState) -> bool:
    reach = 0.05 if w.goal[2] < 0.03 else 0.018
    return bool(
        np.linalg.norm(w.red[:2] - w.goal[:2]) < reach
        and abs(w.red[2] - w.goal[2] - w.red[4] / 2) < 0.007
    )


def nearest_symmetry(cube_yaw: float, hand_yaw: float) -> float:
    """The hand yaw nearest to ``hand_yaw`` that grips a cube turned by ``cube_yaw``, kept within 50
    degrees of 0.
    """
    quarter = np.pi / 2
    yaw = cube_yaw + quarter * np.round((hand_yaw - cube_yaw) / quarter)
    if abs(yaw) > np.deg2rad(50):
        yaw = cube_yaw - quarter * np.round(cube_yaw / quarter)
    return float(yaw)


def _imagine(w: _HandState, goal: np.ndarray, yaw: float, command: float) -> _HandState:
    """One row later: the hand moves at limited speed, the gripper closes on the cube, a held cube
    comes along.
    """
    way = goal - w.tcp
    distance = np.linalg.norm(way)
    step = min(distance, float(np.clip(2.5 * distance + 0.02, 0.02, SPEED)) * CHUNK_DT)
    if w.held and w.red[2] < w.red[4]:
        step = min(step, 0.010)  # a soft lift-off keeps the cube between the fingers
    tcp = w.tcp + way / max(distance, 1e-9) * step
    turn = float(np.clip(yaw - w.yaw, -TURN_SPEED * CHUNK_DT, TURN_SPEED * CHUNK_DT))
    closed_on = w.red[4] if w.held or np.abs(w.tcp - w.red[:3]).max() < 0.02 else 0.0
    width = w.width + float(np.clip(command - w.width, -CLOSING * CHUNK_DT, CLOSING * CHUNK_DT))
    width = max(width, closed_on) if command < 0.04 else width
    red = w.red.copy()
    if w.held and command < 0.04:
        red[:3] += tcp - w.tcp
    return replace(w, tcp=tcp, yaw=w.yaw + turn, width=width, command=command, red=red)
