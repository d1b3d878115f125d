"""A scripted expert on ground truth of the simulation, for demonstrations and tests of the stack.

It has no clock: its next action follows from the poses of gripper and objects, so its
demonstrations are nearly a function of the state. A chunk comes from rolling the rule forward on a
simple model of gripper and cube.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from gwm_core.geometry.kinematics import fk, to_rows
from gwm_core.sim.scene import PLATE_HEIGHT
from gwm_core.types import CHUNK_DT, CHUNK_ROWS, OPEN_WIDTH, Observation

SPEED = 0.21  # [m/s] below the desk profile's 0.25
YAW_SPEED = 1.2  # [rad/s]
HOVER = 0.09  # [m] above what is approached
CLOSING = 0.1  # [m/s] the real gripper's


@dataclass(frozen=True)
class _HandState:
    """Gripper and objects, as inputs of the expert's rule."""

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
    """A policy on ground truth."""

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
        state = _HandState(
            T[:3, 3],
            float(np.arctan2(T[1, 0], T[0, 0])),
            observation.state.width,
            observation.state.width_command,
            red,
            goal,
        )
        poses, yaws, widths = [], [], []
        for _ in range(CHUNK_ROWS):
            state = _simulate(state, *_next(state))
            poses.append(state.tcp)
            yaws.append(state.yaw)
            widths.append(state.command)
        return to_rows(_down(np.array(poses), np.array(yaws)), np.array(widths))


def _down(xyz: np.ndarray, yaw: np.ndarray) -> np.ndarray:
    """TCP poses (H, 4, 4) pointing straight down."""
    T = np.zeros((len(xyz), 4, 4))
    c, s = np.cos(yaw), np.sin(yaw)
    T[:, 0, 0], T[:, 0, 1], T[:, 1, 0], T[:, 1, 1] = c, s, s, -c
    T[:, 2, 2], T[:, 3, 3], T[:, :3, 3] = -1, 1, xyz
    return T


def _next(w: _HandState) -> tuple[np.ndarray, float, float]:
    """The goal of this step: TCP position, yaw and gripper command."""
    if w.held:
        return _carry(w)
    placed = w.goal is not None and _on_goal(w)
    distance = np.linalg.norm(w.tcp[:2] - w.red[:2])
    if placed:
        rise = np.array([w.tcp[0], w.tcp[1], max(w.tcp[2], w.red[2] + 0.14)])
        return (rise if w.width > w.red[4] + 0.012 else w.tcp), w.yaw, OPEN_WIDTH
    yaw = nearest_symmetry(w.red[3], w.yaw)
    grasp = np.array([w.red[0], w.red[1], max(w.red[2] - 0.002, 0.016)])
    above = grasp + np.array([0, 0, HOVER])
    at_grasp = distance < 0.012 and w.tcp[2] < grasp[2] + 0.015
    if (w.command < 0.04 and not at_grasp) or (w.command > 0.04 and w.width < 0.07):
        # closed on nothing: try again
        return np.array([w.tcp[0], w.tcp[1], max(w.tcp[2], above[2])]), w.yaw, OPEN_WIDTH
    aligned = distance < 0.006 and abs(yaw - w.yaw) < 0.06
    if not aligned and w.tcp[2] < grasp[2] + 0.05 and distance > 0.012:
        # rise clear of the cubes first
        return np.array([w.tcp[0], w.tcp[1], above[2]]), w.yaw, OPEN_WIDTH
    if not aligned and not (distance < 0.012 and w.tcp[2] < grasp[2] + 0.05):
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
    distance = np.linalg.norm(w.red[:2] - w.goal[:2])
    high = rest + hang + 0.07
    if distance > 0.05 and w.tcp[2] < high - 0.025:
        return np.array([w.tcp[0], w.tcp[1], high]), w.yaw, 0.0
    if distance > 0.006:
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
    """The yaw nearest to ``hand_yaw`` that grips a cube at ``cube_yaw``, within 50 degrees of 0."""
    quarter = np.pi / 2
    yaw = cube_yaw + quarter * np.round((hand_yaw - cube_yaw) / quarter)
    if abs(yaw) > np.deg2rad(50):
        yaw = cube_yaw - quarter * np.round(cube_yaw / quarter)
    return float(yaw)


def _simulate(w: _HandState, goal: np.ndarray, yaw: float, command: float) -> _HandState:
    """One waypoint later: the gripper moves at limited speed and closes on the cube, a held cube
    moves with it.
    """
    offset = goal - w.tcp
    distance = np.linalg.norm(offset)
    step = min(distance, float(np.clip(2.5 * distance + 0.02, 0.02, SPEED)) * CHUNK_DT)
    if w.held and w.red[2] < w.red[4]:
        step = min(step, 0.010)  # a soft lift-off keeps the cube between the fingers
    tcp = w.tcp + offset / max(distance, 1e-9) * step
    yaw_step = float(np.clip(yaw - w.yaw, -YAW_SPEED * CHUNK_DT, YAW_SPEED * CHUNK_DT))
    closed_on = w.red[4] if w.held or np.abs(w.tcp - w.red[:3]).max() < 0.02 else 0.0
    width = w.width + float(np.clip(command - w.width, -CLOSING * CHUNK_DT, CLOSING * CHUNK_DT))
    width = max(width, closed_on) if command < 0.04 else width
    red = w.red.copy()
    if w.held and command < 0.04:
        red[:3] += tcp - w.tcp
    return replace(w, tcp=tcp, yaw=w.yaw + yaw_step, width=width, command=command, red=red)
