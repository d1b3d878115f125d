"""An episode as rows at a constant rate, the form of learning libraries, and back.

Rows are the observations that ``Sync`` makes of the streams, online and here. So a policy that
another library trains on a table gets the same observations on the robot. The rows lie on the grid
of ``time_grid``; where it is interrupted, another table begins.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from gwm_core import topics
from gwm_core.data.bag import StreamImage
from gwm_core.data.episode import Episode, synced_observations
from gwm_core.data.episode_writer import EpisodeWriter
from gwm_core.data.ros_messages import (
    DEPTH_HEADER,
    camera_info,
    encoded_color,
    encoded_depth,
    joint_state,
)
from gwm_core.data.time_grid import on_grid, stream_rate, stretches
from gwm_core.errors import InputError
from gwm_core.geometry.kinematics import fk, to_rows
from gwm_core.types import CHUNK_DT

# rot6d: first two columns of the rotation
_POSE = ("x", "y", "z", "r11", "r21", "r31", "r12", "r22", "r32", "width")
BEGUN = 1_000_000_000  # [ns] stamp of the first row of an episode made from rows
COLUMNS = {  # name -> names of its numbers: [m], [rad], [rad/s]
    "observation.state": (*topics.ARM_JOINTS, "width", "width_command"),
    "observation.velocity": topics.ARM_JOINTS,
    "observation.pose": _POSE,
    "action": _POSE,  # of the TCP, from the joints the gate sent one row later
    "action.joints": (*topics.ARM_JOINTS, "width"),
}


@dataclass(frozen=True)
class ResampledEpisode:
    """T rows of one episode."""

    fps: int
    # episode.json, with the poses of the cameras, and ``interventions`` as of ``row_windows``
    info: dict
    intrinsics: dict[str, np.ndarray]  # camera -> (3, 3) [pixels], centres at + 0.5
    columns: dict[str, np.ndarray]  # by the names of ``COLUMNS``, (T, n) float32
    usable: np.ndarray  # (T,) False where the action is no demonstration
    color: dict[str, Sequence[bytes]]  # camera -> T images, JPEG or PNG as recorded
    depth: dict[str, Sequence[bytes]]  # camera -> T images, 16-bit PNG in mm

    def __len__(self) -> int:
        return len(self.usable)

    @property
    def intervened(self) -> np.ndarray:
        """(T,) True where an operator led in a policy's place."""
        stamps = BEGUN + np.arange(len(self)) * round(1e9 / self.fps)
        return _within(stamps, self.info.get("interventions") or ())


def row_windows(mask: np.ndarray, fps: int) -> list[list[int]]:
    """Intervals [first, last] of the rows (T,) that are True, by the stamps [ns] that
    ``write_resampled`` gives them.
    """
    edges = np.flatnonzero(np.diff(np.concatenate([[False], mask, [False]]).astype(np.int8)))
    stamps = BEGUN + (edges.reshape(-1, 2) - [0, 1]) * round(1e9 / fps)
    return stamps.tolist()


def _within(stamps: np.ndarray, windows) -> np.ndarray:
    """Which stamps (T,) lie in one of the windows [first, last]."""
    inside = np.zeros(len(stamps), bool)
    for begin, end in windows:
        inside |= (begin <= stamps) & (stamps <= end)
    return inside


class ImageColumn(Sequence):
    """Encoded images that are read from the disk on access, without a header of some bytes."""

    def __init__(self, images: list[StreamImage], header: int = 0):
        self._images = images
        self._header = header  # [bytes]

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, k: int | slice) -> bytes | list[bytes]:
        if isinstance(k, slice):
            return [self[i] for i in range(len(self))[k]]
        return self._images[k].data[self._header :].tobytes()

    def __eq__(self, other) -> bool:
        return len(self) == len(other) and all(a == b for a, b in zip(self, other))

    __hash__ = None


def resample_longest(episode: Episode, fps: int = round(1 / CHUNK_DT)) -> ResampledEpisode:
    """The longest table of an episode. Raises as ``resample``."""
    return max(resample(episode, fps), key=len)


def resample(episode: Episode, fps: int = round(1 / CHUNK_DT)) -> list[ResampledEpisode]:
    """The rows of an episode at ``fps``: one table per uninterrupted stretch.

    Stretches of a single row are left out where there are longer ones.

    Raises:
        InputError: no observation or no command, or the cameras were slower than ``fps``.
    """
    found = list(synced_observations(episode))
    if not found or not len(episode.commands):
        raise InputError(f"episode {episode.path} holds no moment that is whole, or no command")
    stamps, step = np.array([stamp for stamp, _, _ in found]), round(1e9 / fps)
    chosen = on_grid(stamps, step)
    parts = stretches(stamps[chosen], step)
    if len(found) > 1 and max(part.stop - part.start for part in parts) < 2:
        raise InputError(
            f"episode {episode.path}: no two rows are 1/{fps} s apart, {stream_rate(stamps)}:"
            " a lower --fps"
        )
    parts = [part for part in parts if part.stop - part.start > 1] or parts
    # the rows get other stamps than those of ``reached``
    info = {name: value for name, value in episode.info.items() if name != "reached"}
    infos = (
        [info] if len(parts) == 1 else [_of_stretch(info, k, len(parts)) for k in range(len(parts))]
    )
    return [
        _table(episode, fps, info, [found[k] for k in chosen[part]])
        for info, part in zip(infos, parts)
    ]


def _of_stretch(info: dict, k: int, count: int) -> dict:
    """episode.json of stretch ``k`` of ``count``; only the last one has the outcome of the task."""
    outcome = {"success": None} if "success" in info and k < count - 1 else {}
    return info | {"stretch": [k + 1, count], **outcome}


def _table(episode: Episode, fps: int, info: dict, rows: list[tuple]) -> ResampledEpisode:
    at = np.array([stamp for stamp, _, _ in rows])
    sent = episode.next_commands(at + round(1e9 / fps))
    states = [state for _, _, state in rows]
    width = np.array([[state.width, state.width_command] for state in states])
    q = np.array([state.q for state in states])
    columns = {
        "observation.state": np.hstack([q, width]),
        "observation.velocity": np.array([state.dq for state in states]),
        "observation.pose": to_rows(fk(q), width[:, 0]),
        "action": to_rows(fk(sent.commands[:, :7]), sent.commands[:, 7]),
        "action.joints": sent.commands,
    }
    usable = sent.valid & ~_within(at, episode.unusable)
    if (taken := info.get("interventions")) is not None:
        info = info | {"interventions": row_windows(_within(at, taken), fps)}
    pairs = {camera: [pairs[camera] for _, pairs, _ in rows] for camera in episode.cameras}
    return ResampledEpisode(
        fps,
        info,
        episode.intrinsics,
        {name: np.float32(values) for name, values in columns.items()},
        usable,
        {camera: ImageColumn([color for _, color, _ in found]) for camera, found in pairs.items()},
        {
            camera: ImageColumn([depth for _, _, depth in found], len(DEPTH_HEADER))
            for camera, found in pairs.items()
        },
    )


def write_resampled(table: ResampledEpisode, folder: Path) -> Path:
    """Write rows as an episode. ``resample_longest`` at the same rate returns the same rows."""
    writer, step = EpisodeWriter(folder, table.info), round(1e9 / table.fps)
    prefixes = {name: camera["prefix"] for name, camera in table.info["cameras"].items()}
    for name, prefix in prefixes.items():
        height, width = cv2.imdecode(
            np.frombuffer(table.depth[name][0], np.uint8), cv2.IMREAD_UNCHANGED
        ).shape
        writer.write(
            topics.info(prefix), camera_info(1, name, table.intrinsics[name], width, height), 1
        )
    command_names = (*topics.ARM_JOINTS, topics.WIDTH)
    sent = None
    for k in range(len(table)):
        stamp = BEGUN + k * step
        row = {name: values[k].astype(np.float64) for name, values in table.columns.items()}
        q, (opened, command) = row["observation.state"][:7], row["observation.state"][7:]
        writer.write(
            topics.COMMAND, joint_state(stamp - 1, command_names, [*q, command]), stamp - 1
        )
        if sent is not None:
            writer.write(topics.COMMAND, joint_state(stamp, command_names, sent), stamp)
        sent = row["action.joints"]
        joints = joint_state(stamp, topics.ARM_JOINTS, q, row["observation.velocity"])
        writer.write(topics.JOINT_STATES, joints, stamp)
        writer.write(
            topics.GRIPPER_STATES, joint_state(stamp, topics.FINGER_JOINTS, [opened / 2] * 2), stamp
        )
        for name, prefix in prefixes.items():
            color, depth = (
                encoded_color(stamp, name, table.color[name][k]),
                encoded_depth(stamp, name, table.depth[name][k]),
            )
            writer.write(topics.color(prefix) + "/compressed", color, stamp)
            writer.write(topics.depth(prefix) + "/compressedDepth", depth, stamp)
    writer.write(topics.COMMAND, joint_state(stamp + step, command_names, sent), stamp + step)
    return writer.close(table.info | {"unusable": row_windows(~table.usable, table.fps)})
