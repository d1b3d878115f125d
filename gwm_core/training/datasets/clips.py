"""Episodes -> training data of the VAE and baseline: scenes, arm and images on one grid of time.

Images are the camera's colour, averaged over areas to ``SIDE`` x ``SIDE`` pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import cv2
import numpy as np

from gwm_core.data.episode import Episode, read_episode, synced_observations
from gwm_core.data.episode_info import list_all_episodes, read_infos, same_starts
from gwm_core.data.time_grid import StreamRate, on_grid, short_stretch_error, steps, stream_rate
from gwm_core.errors import InputError
from gwm_core.geometry.camera import back_project
from gwm_core.geometry.capsules import distance_to_arm
from gwm_core.geometry.kinematics import fk, to_rows
from gwm_core.scene.lift import LiftConfig
from gwm_core.training.datasets.array_cache import ArrayCache, numbered, stacked
from gwm_core.training.datasets.policy_samples import lift_moments, refuse_mixed
from gwm_core.types import Frame

SIDE = 128  # pixels
WORKSPACE, ROBOT, CUBE, SEEN = 1, 2, 4, 8  # bits of ``SceneClips.regions``
_DONE = 0.5  # [s] at the end of a successful episode, in which the task counts as done


@dataclass
class SceneClips:
    """Arrays of S moments of episodes with C cameras, on a grid of 0.1 s that may have gaps."""

    scenes: np.ndarray  # (S, N, 14) float16, farthest points first
    poses: np.ndarray  # (S, 10) float32: measured TCP row and finger width
    actions: np.ndarray  # (S, 10) float32: the command at the moment
    images: np.ndarray  # (S, C, SIDE, SIDE, 3) uint8
    regions: np.ndarray  # (S, C, SIDE, SIDE) uint8: bits WORKSPACE, ROBOT, CUBE, SEEN
    viewmats: np.ndarray  # (S, C, 4, 4) float32: T_camera_base
    Ks: np.ndarray  # (S, C, 3, 3) float32, of the small images
    stamps: np.ndarray  # (S,) int64 [ns]
    episode: np.ndarray  # (S,) int64, one number for episodes that began alike
    # (S, 3) float32: of the episode's cameras, as ``grid.StreamRate``
    rate: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.scenes)

    def starts(self, length: int) -> np.ndarray:
        """Indices from which ``length`` moments of one episode follow each other every 0.1 s."""
        if len(self) < length:
            return np.zeros(0, np.int64)
        broken = np.concatenate([[0], np.cumsum(~self._follows())])
        first = np.arange(len(self) - length + 1)
        return first[broken[first] == broken[first + length - 1]]

    def _follows(self) -> np.ndarray:
        """Whether each moment is followed by the next one of its episode, 0.1 s later (S - 1,)."""
        return steps(self.stamps) & (np.diff(self.episode) == 0)

    def refuse(self, length: int) -> InputError:
        """The error to raise where no episode has ``length`` consecutive moments."""
        ends = (
            np.flatnonzero(np.concatenate([~self._follows(), [True]]))
            if len(self)
            else np.zeros(0, int)
        )
        longest = int(np.diff(ends, prepend=-1).max(initial=0))
        slowest = None
        if self.rate is not None and len(self):
            slowest = StreamRate(*self.rate[np.argmin(self.rate[:, 0])].tolist())
        return short_stretch_error("no episode", length, longest, slowest)


def load_clips(
    folders: list[Path],
    config: LiftConfig,
    processes: int,
    progress: Callable[[int, int], None] = lambda *_: None,
) -> SceneClips:
    """Clips of all episodes below ``folders``, failed ones too: their dynamics are the same."""
    paths = [path for some in list_all_episodes(folders).values() for path in some]
    refuse_mixed(paths)
    cache = ArrayCache(Path(folders[0]), "clips", f"3 {config} {SIDE}")
    arrays = cache.arrays(paths, partial(_clips, config=config), processes, progress)
    starts = np.array(same_starts(read_infos(paths)))[arrays["episode"]]
    return SceneClips(**arrays | {"episode": numbered(starts)})


def _clips(path: Path, config: LiftConfig) -> Iterator[dict[str, np.ndarray]]:
    return clip_rows(read_episode(path), config)


def episode_clips(episode: Episode, config: LiftConfig) -> dict[str, np.ndarray]:
    """The arrays of ``SceneClips`` for one episode, without ``episode``.

    Raises InputError where it has no usable moment.
    """
    arrays = stacked(clip_rows(episode, config))
    if not arrays:
        raise InputError(
            f"episode {episode.path} holds no moment that is whole and at which the gate sent"
            " commands"
        )
    return arrays


def clip_rows(episode: Episode, config: LiftConfig) -> Iterator[dict[str, np.ndarray]]:
    """The moments of one episode, one by one.

    Moments without a command of the gate are left out, since their action is unknown. Homing, stops
    and ramps are kept: their commands were recorded.
    """
    found = list(synced_observations(episode))
    stamps = np.array([stamp for stamp, _, _ in found], np.int64)
    standing = episode.last_commands(stamps)
    measured = np.array(stream_rate(stamps), np.float32)
    for k, frames, scene in lift_moments(
        episode, found, [k for k in on_grid(stamps) if standing.valid[k]], config
    ):
        stamp, _, state = found[k]
        small = [shrink(frame) for frame in frames]
        sent = standing.commands[k]
        yield {
            "scenes": np.asarray(scene, np.float16),
            "poses": np.asarray(to_rows(fk(state.q), state.width), np.float32),
            "actions": np.asarray(to_rows(fk(sent[:7]), sent[7]), np.float32),
            "images": np.array([frame.color for frame in small], np.uint8),
            "regions": np.array(
                [find_regions(frame, state.q, state.width, config) for frame in small], np.uint8
            ),
            "viewmats": np.array(
                [np.linalg.inv(frame.T_base_camera) for frame in small], np.float32
            ),
            "Ks": np.array([frame.K for frame in small], np.float32),
            "stamps": np.int64(stamp),
            "rate": measured,
        }


def done_at(info: dict, stamps: np.ndarray) -> np.ndarray:
    """Whether the episode's task is done at stamps (T,) [ns] in order: (T,) bool.

    By the task's rule where episode.json says when it held, as in simulation; else at the end of a
    success.
    """
    done = np.zeros(len(stamps), bool)
    if (intervals := info.get("reached", {}).get(info["task"])) is not None:
        for begin, end in intervals:
            done |= (stamps >= begin) & (stamps <= end)
    elif len(stamps) and info.get("success"):
        done = stamps > stamps[-1] - _DONE * 1e9
    return done


def shrink(frame: Frame, side: int = SIDE) -> Frame:
    """The frame at ``side`` x ``side`` pixels: mean colour of areas, depth of the nearest pixel."""
    height, width = frame.depth.shape
    K = np.diag([side / width, side / height, 1.0]) @ frame.K
    color = cv2.resize(frame.color, (side, side), interpolation=cv2.INTER_AREA)
    depth = cv2.resize(frame.depth, (side, side), interpolation=cv2.INTER_NEAREST)
    return Frame(frame.camera, frame.stamp, color, depth, K, frame.T_base_camera)


def find_regions(frame: Frame, q: np.ndarray, width: float, config: LiftConfig) -> np.ndarray:
    """Bits (H, W) uint8: the surface lies in the workspace, on the robot, on the red cube; the
    pixel has a depth.
    """
    bits = np.where(frame.depth > 0, SEEN, 0).astype(np.uint8)
    points = (
        back_project(frame.depth, frame.K) @ frame.T_base_camera[:3, :3].T
        + frame.T_base_camera[:3, 3]
    )
    inside = (frame.depth > 0) & np.all((points > config.low) & (points < config.high), axis=-1)
    bits[inside] |= WORKSPACE
    points, color = points[inside], frame.color[inside].astype(int)
    robot = (distance_to_arm(points, q) < 0.01) | _between_fingers(points, fk(q), width)
    red = (color[:, 0] > 90) & (color[:, 0] > 2.5 * color[:, 1:].max(1))
    bits[inside] |= np.where(red, CUBE, np.where(robot, ROBOT, 0)).astype(np.uint8)
    return bits


def _between_fingers(points: np.ndarray, T: np.ndarray, width: float) -> np.ndarray:
    """Mask of the points (M, 3) in the box of the two fingers; a held cube has its own colour."""
    local = np.abs((points - T[:3, 3]) @ T[:3, :3] - [0, 0, -0.025])
    return np.all(local < [0.015, width / 2 + 0.025, 0.04], axis=-1)
