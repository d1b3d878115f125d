"""Read LeRobot datasets as tables. The source is not trusted: see ``untrusted``.

The mapping of features follows. A missing one is an InputError that names it.

- ``observation.state``: 7 joints [rad] and the gripper's opening [m], or our 9 with the commanded
  width. Other units are arguments of ``import_lerobot``, as datasets do not state theirs.
- ``action.joints``, or an ``action`` of 8: joint targets [rad] and opening [m].
- ``action.usable``: default all. ``complementary_info.is_intervention``: default unknown.
- ``observation.velocity``: default differences of the joints. Poses are computed from the joints.
- ``observation.images.<camera>``, and depth of every camera, aligned, in mm:
  ``observation.depth.<camera>``, or ``observation.images.<camera>_depth`` with one channel. Depth
  images are 16-bit TIFF or PNG.
- The task of an episode: its own entry, or that of its first row.
- ``meta/gwm.json`` is required: ``{"all": {"info": {"cameras": {"<camera>": {"prefix":
  "camera/<camera>", "T_base_camera": [4x4]}}}, "intrinsics": {"<camera>": [3x3, centres at integers
  + 0.5]}}}``.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from gwm_core.data.resampled_episode import COLUMNS, ResampledEpisode, row_windows
from gwm_core.errors import InputError, one_of
from gwm_core.files.png import encode_png
from gwm_core.geometry.kinematics import fk, to_rows
from gwm_core.interop import lerobot_meta as meta
from gwm_core.interop.lerobot_index import LeRobotDataset, LeRobotEpisode, read_index
from gwm_core.interop.lerobot_parquet import ParquetRows
from gwm_core.interop.lerobot_video import FAR, NEAR, SHIFT, frames, from_codes, from_tiff
from gwm_core.interop.units import GRIPPER_UNITS, JOINT_UNITS, in_metres, in_radians
from gwm_core.interop.untrusted import (
    MAXIMUM_EPISODE_BYTES,
    UntrustedFolder,
    check_table,
    decode_image,
)


def import_lerobot(
    src: Path, joint_unit: str = "rad", gripper_unit: str = "m"
) -> Iterator[ResampledEpisode]:
    """Read the episodes of a LeRobot dataset, v3.0 or v2.1, one in memory at a time.

    Images are exact. Frames of videos become PNG as they are decoded.

    Args:
        src: folder of the dataset.
        joint_unit: of joints and their velocities, one of ``units.JOINT_UNITS``.
        gripper_unit: one of ``units.GRIPPER_UNITS``.

    Raises:
        InputError: anything is damaged, inconsistent, unsafe, cannot be mapped, or is impossible in
            these units; at the latest before its episode is returned.
    """
    one_of("joint unit", joint_unit, JOINT_UNITS)
    one_of("gripper unit", gripper_unit, GRIPPER_UNITS)
    source = UntrustedFolder(src)
    dataset = read_index(source)
    rows = ParquetRows(source, dataset.features)
    videos = {name: _VideoReader(source, dataset, name) for name in dataset.video_features}
    for episode in dataset.episodes:
        yield _table(source, dataset, episode, rows, videos, (joint_unit, gripper_unit))


class _VideoReader:
    """Frames of one stream in the order of the episodes; each file is decoded once."""

    def __init__(self, source: UntrustedFolder, dataset: LeRobotDataset, name: str):
        self._source = source
        self._fps = dataset.fps
        self._feature = dataset.features[name]
        self._depth = name in dataset.depth_features
        self._name = ""
        self._at = 0  # number of the next frame
        self._frames: Iterator = iter(())
        self._scale = _scale(name, self._feature) if self._depth else ()

    def take(self, name: str, first: int, count: int) -> Iterator[bytes]:
        """``count`` frames of the file ``name`` from ``first`` on, as PNG."""
        path = self._source.file(name) if name != self._name else self._source.root / name
        if name != self._name or first != self._at:
            self._name, self._at = name, 0
            self._frames = frames(path, tuple(self._feature["shape"][:2]), self._fps, self._depth)
        while self._at < first + count:
            image = next(self._frames, None)
            if image is None:
                raise InputError(f"{path} ends after {self._at} frames, {first + count} are wanted")
            self._at += 1
            if self._at > first:
                yield encode_png(from_codes(image, *self._scale) if self._depth else image)


def _scale(name: str, kind: dict) -> tuple:
    """The arguments of ``from_codes`` by the description of a feature."""
    about = kind["info"]
    scale = [
        about.get(f"video.{key}", default)
        for key, default in (("depth_min", NEAR), ("depth_max", FAR), ("shift", SHIFT))
    ]
    if (
        not all(isinstance(value, (int, float)) and 0 <= value <= 1000 for value in scale)
        or not scale[0] < scale[1]
    ):
        raise InputError(f"{name}: depth_min, depth_max and shift are {scale}")
    return (*map(float, scale), about.get("video.use_log", True) is True)


def _table(
    source: UntrustedFolder,
    dataset: LeRobotDataset,
    episode: LeRobotEpisode,
    rows: ParquetRows,
    videos: dict[str, _VideoReader],
    units: tuple[str, str],
) -> ResampledEpisode:
    where = f"{source.root}, episode {episode.index}"
    if set(dataset.cameras) != set(episode.info["cameras"]):
        raise InputError(f"{where}: {meta.SIDECAR} does not describe the cameras of info.json")
    columns, stored = rows.take(
        where, episode.data, episode.index, episode.start, episode.length, dataset.fps
    )
    color: dict[str, list[bytes]] = {}
    depth: dict[str, list[bytes]] = {}
    budget = MAXIMUM_EPISODE_BYTES
    for camera in episode.info["cameras"]:
        for name, images in zip(dataset.cameras[camera], (color, depth)):
            kept = []
            for data in _images(where, name, dataset.features[name], episode, stored, videos):
                budget -= len(data)
                if budget < 0:
                    raise InputError(f"{where}: more than {MAXIMUM_EPISODE_BYTES} bytes of images")
                kept.append(data)
            images[camera] = kept
    info = {"task": _task(where, dataset, episode, columns)} | episode.info
    if meta.SUCCESS in columns and "success" not in info:
        info["success"] = bool(columns[meta.SUCCESS].any())
    if meta.INTERVENTION in columns and "interventions" not in info:
        intervened = columns[meta.INTERVENTION][:, 0] != 0
        # without any, an episode is a demonstration as a whole, for all that is known
        if intervened.any():
            info["interventions"] = row_windows(intervened, dataset.fps)
    usable = columns.get(meta.USABLE, np.ones((episode.length, 1), bool))[:, 0]
    mapped = _mapped(where, columns, dataset.fps, *units)
    made = ResampledEpisode(dataset.fps, info, episode.intrinsics, mapped, usable, color, depth)
    return check_table(where, made)


def _task(
    where, dataset: LeRobotDataset, episode: LeRobotEpisode, columns: dict[str, np.ndarray]
) -> str:
    if episode.task is not None:
        return episode.task
    index = int(columns["task_index"][0, 0])
    if index not in dataset.tasks:
        raise InputError(f"{where}: task_index {index} is not in the dataset's list of tasks")
    return dataset.tasks[index]


def _images(
    where, name: str, kind: dict, episode: LeRobotEpisode, stored: dict, videos: dict
) -> Iterator[bytes]:
    if kind["dtype"] == "video":
        yield from videos[name].take(*episode.videos[name], episode.length)
        return
    size = tuple(kind["shape"][:2])
    for data in stored[name]:
        depth = kind["shape"][2] == 1
        if depth and data[:4] in (b"II*\0", b"MM\0*"):
            yield encode_png(from_tiff(where, data, size))
        elif (decode_image(where, data, size).ndim == 2) == depth:
            yield data
        else:
            raise InputError(
                f"{where}: an image of {name} is {'8-bit colour' if depth else 'grey'}"
            )


def _mapped(
    where, columns: dict[str, np.ndarray], fps: int, joint_unit: str, gripper_unit: str
) -> dict[str, np.ndarray]:
    """The columns of a table from those of a dataset."""
    # else its poses are in unknown units, and made anew
    own = (joint_unit, gripper_unit) == ("rad", "m")
    state, joints = (
        np.hstack(
            [
                in_radians(where, rows[:, :7], joint_unit),
                in_metres(where, rows[:, 7:], gripper_unit),
            ]
        )
        for rows in (
            columns["observation.state"],
            columns.get("action.joints", columns.get("action")),
        )
    )
    if state.shape[1] == 8:  # the command before is the action of the row before
        state = np.hstack([state, np.vstack([state[:1, 7:], joints[:-1, 7:]])])
    if "observation.velocity" in columns:
        velocity = columns["observation.velocity"] * JOINT_UNITS[joint_unit]
    else:
        velocity = (
            np.gradient(state[:, :7], axis=0) * fps if len(state) > 1 else np.zeros((len(state), 7))
        )
    made = {
        "observation.state": state,
        "observation.velocity": velocity,
        "observation.pose": columns.get("observation.pose") if own else None,
        "action": columns.get("action") if own else None,
        "action.joints": joints,
    }
    for name, q, width in (
        ("observation.pose", state[:, :7], state[:, 7]),
        ("action", joints[:, :7], joints[:, 7]),
    ):
        if made[name] is None or made[name].shape[1] != len(COLUMNS[name]):
            made[name] = to_rows(fk(q.astype(np.float64)), width)
    return {name: np.float32(values) for name, values in made.items()}
