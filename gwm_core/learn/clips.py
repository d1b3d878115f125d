"""Episodes -> what a world model learns from: scenes, arm and images on one grid of time, and which pixels count.

Truth for every picture is the camera's colour, averaged over areas to ``SIDE`` x ``SIDE`` pixels.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import cv2
import numpy as np

from gwm_core.control.body import distance_to_arm
from gwm_core.control.kinematics import fk, to_rows
from gwm_core.data.episode import INFO, Episode, list_episodes, read_episode
from gwm_core.errors import InputError
from gwm_core.learn.dataset import Cache, lift_moments
from gwm_core.scene.camera import back_project
from gwm_core.scene.lift import LiftConfig
from gwm_core.types import CHUNK_DT, Frame

SIDE = 128  # pixels
WORKSPACE, ROBOT, CUBE, SEEN = 1, 2, 4, 8  # bits of ``Clips.regions``
_DONE = 0.5  # [s] at the end of a successful episode, in which the task counts as done


@dataclass
class Clips:
    """Arrays of S moments of some episodes, 0.1 s apart, with C cameras."""

    scenes: np.ndarray  # (S, N, 14) float16, farthest points first
    poses: np.ndarray  # (S, 10) float32: measured TCP row and finger width
    actions: np.ndarray  # (S, 10) float32: what was commanded at the moment
    done: np.ndarray  # (S,) bool: the task is done
    images: np.ndarray  # (S, C, SIDE, SIDE, 3) uint8
    regions: np.ndarray  # (S, C, SIDE, SIDE) uint8: bits WORKSPACE, ROBOT, CUBE, SEEN
    viewmats: np.ndarray  # (S, C, 4, 4) float32: T_camera_base
    Ks: np.ndarray  # (S, C, 3, 3) float32, of the small images
    stamps: np.ndarray  # (S,) int64 [ns]
    episode: np.ndarray  # (S,) int64

    def __len__(self) -> int:
        return len(self.scenes)

    def starts(self, length: int) -> np.ndarray:
        """Indices at which ``length`` moments of one episode follow each other 0.1 s apart."""
        last = len(self) - length + 1
        first = np.arange(max(0, last))
        span = self.stamps[first + length - 1] - self.stamps[first]
        whole = np.abs(span - (length - 1) * CHUNK_DT * 1e9) < 0.02e9
        return first[whole & (self.episode[first] == self.episode[first + length - 1])]


def load_clips(
    folders: list[Path], config: LiftConfig, processes: int, progress: Callable[[int, int], None] = lambda *_: None
) -> Clips:
    """Clips of all episodes below ``folders``, failed ones too: the world goes on when a task does not."""
    paths = [path for folder in folders for path in list_episodes(folder)]
    cameras = {tuple(json.loads((path / INFO).read_text())["cameras"]) for path in paths}
    if len(cameras) > 1:
        raise InputError(f"episodes with different cameras do not mix: {' and '.join(map(str, sorted(cameras)))}")
    cache = Cache(Path(folders[0]), "clips", f"2 {config} {SIDE}")
    return Clips(**cache.arrays(paths, partial(_clips, config=config), processes, progress))


def _clips(path: Path, config: LiftConfig) -> dict[str, np.ndarray]:
    return episode_clips(read_episode(path), config)


def episode_clips(episode: Episode, config: LiftConfig) -> dict[str, np.ndarray]:
    """The arrays of ``Clips`` for one episode, without its number."""
    rows = []
    for stamp, frames, scene, state in lift_moments(episode, config):
        sent = episode.commands[max(0, np.searchsorted(episode.command_stamps, stamp, "right") - 1)]
        small = [shrink(frame) for frame in frames]
        regions = [find_regions(frame, state.q, state.width, config) for frame in small]
        rows.append((
            scene, to_rows(fk(state.q), state.width), to_rows(fk(sent[:7]), sent[7]),
            [frame.color for frame in small], regions, [np.linalg.inv(frame.T_base_camera) for frame in small],
            [frame.K for frame in small], stamp,
        ))  # fmt: skip
    names = ("scenes", "poses", "actions", "images", "regions", "viewmats", "Ks", "stamps")
    kinds = (np.float16, np.float32, np.float32, np.uint8, np.uint8, np.float32, np.float32, np.int64)
    arrays = {name: np.array(column, kind) for name, kind, column in zip(names, kinds, zip(*rows))}
    late = arrays["stamps"] > arrays["stamps"][-1] - _DONE * 1e9
    return arrays | {"done": late & bool(episode.info.get("success"))}


def shrink(frame: Frame, side: int = SIDE) -> Frame:
    """The frame at ``side`` x ``side`` pixels: colour averaged over areas, depth of the nearest pixel."""
    height, width = frame.depth.shape
    K = np.diag([side / width, side / height, 1.0]) @ frame.K
    color = cv2.resize(frame.color, (side, side), interpolation=cv2.INTER_AREA)
    depth = cv2.resize(frame.depth, (side, side), interpolation=cv2.INTER_NEAREST)
    return Frame(frame.camera, frame.stamp, color, depth, K, frame.T_base_camera)


def find_regions(frame: Frame, q: np.ndarray, width: float, config: LiftConfig) -> np.ndarray:
    """Bits (H, W) uint8: the pixel's surface lies in the workspace, on the robot, on the red cube; it has a depth."""
    bits = np.where(frame.depth > 0, SEEN, 0).astype(np.uint8)
    points = back_project(frame.depth, frame.K) @ frame.T_base_camera[:3, :3].T + frame.T_base_camera[:3, 3]
    inside = (frame.depth > 0) & np.all((points > config.low) & (points < config.high), axis=-1)
    bits[inside] |= WORKSPACE
    points, color = points[inside], frame.color[inside].astype(int)
    robot = (distance_to_arm(points, q) < 0.01) | _between_fingers(points, fk(q), width)
    red = (color[:, 0] > 90) & (color[:, 0] > 2.5 * color[:, 1:].max(1))
    bits[inside] |= np.where(red, CUBE, np.where(robot, ROBOT, 0)).astype(np.uint8)
    return bits


def _between_fingers(points: np.ndarray, T: np.ndarray, width: float) -> np.ndarray:
    """Which points (M, 3) lie in the box of the two fingers; what they hold has its own colour."""
    local = np.abs((points - T[:3, 3]) @ T[:3, :3] - [0, 0, -0.025])
    return np.all(local < [0.015, width / 2 + 0.025, 0.04], axis=-1)
