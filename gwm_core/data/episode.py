"""One episode = one folder: ``bag/`` (rosbag2, MCAP) and ``episode.json``; ``.partial`` until it is
whole and on disk.

The messages are stock ROS 2 ones, written and read by rosbags, so neither side needs ROS. A crash
leaves a ``.partial`` of which ``recover`` keeps what had been synced.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from rosbags.rosbag2 import StoragePlugin, Writer

from gwm_core import topics
from gwm_core.data.bag import DAMAGE, ImageStream, StreamImage, files
from gwm_core.data.episode_info import checked
from gwm_core.data.off_task import OffTaskInterval, off_task_intervals
from gwm_core.data.ros_messages import DEPTH_HEADER, STORE, serialized
from gwm_core.data.streams import EpisodeStreams, is_camera
from gwm_core.errors import InputError
from gwm_core.files.atomic_write import PARTIAL, to_disk
from gwm_core.files.checksums import sha256
from gwm_core.files.json_files import to_json
from gwm_core.geometry.camera import to_opencv
from gwm_core.geometry.camera_info import CameraModel, read_camera_info
from gwm_core.joint_states import GRIPPER_TIMEOUT
from gwm_core.site import Camera
from gwm_core.sync import Sync, joints_at
from gwm_core.types import OPEN_WIDTH, ArmState, Frame

INFO, _INFO_MOST = "episode.json", 4 << 20  # [bytes]
BROKEN, TRASH = ".broken", "trash"  # being recovered; discarded
_SILENT = 50_000_000  # [ns]
FORMAT = 2  # 1, without the key: the camera infos of `gwm collect` had pixel centres at + 0.5


class EpisodeWriter:
    """Writes ``<folder>.partial`` and renames it when closed.

    Args:
        info: what is known of the episode when it begins, for one who has to recover it.

    Raises:
        InputError: the folder exists, finished or not, or cannot be made.
    """

    def __init__(self, folder: Path, info: dict):
        self.folder = Path(folder)
        self.partial = self.folder.with_name(self.folder.name + PARTIAL)
        if self.folder.exists():
            raise InputError(f"{self.folder} exists; choose another folder")
        try:
            self.partial.mkdir(parents=True)
            (self.partial / INFO).write_text(_text(info))
            self._bag = Writer(self.partial / "bag", version=9, storage_plugin=StoragePlugin.MCAP)
            self._bag.open()
        except FileExistsError:
            raise InputError(
                f"{self.partial} was never finished: `gwm data recover {self.partial}`, or"
                " remove it"
            ) from None
        except OSError as error:
            shutil.rmtree(self.partial, ignore_errors=True)  # nothing is in it yet
            raise InputError(
                f"cannot write {self.folder}: {error.strerror}; choose another folder"
            ) from None
        self._connections: dict[str, object] = {}

    def write(self, topic: str, message, stamp: int) -> None:
        """Write a message made by the functions above. ``stamp`` [ns] is the log time."""
        self.write_cdr(*serialized(topic, message, stamp))

    def write_cdr(self, topic: str, kind: str, content, stamp: int) -> None:
        """Write a message of type ``kind`` that is already serialised."""
        if topic not in self._connections:
            self._connections[topic] = self._bag.add_connection("/" + topic, kind, typestore=STORE)
        self._bag.write(self._connections[topic], stamp, content)

    def sync(self) -> None:
        """Put on disk what was written so far: whatever happens now, this much can be recovered."""
        storage = self._bag.storage
        if storage.chunk.msgs:
            storage.close_chunk()
        storage.bio.flush()
        os.fsync(storage.bio.fileno())

    def close(self, info: dict) -> Path:
        """Finish with ``info`` and the bag's hash as episode.json; returns the folder, on disk from
        here on.
        """
        self._bag.close()
        hashes = {
            str(p.relative_to(self.partial)): sha256(p)
            for p in sorted(self.partial.rglob("*.mcap"))
        }
        (self.partial / INFO).write_text(_text(info | {"format": FORMAT, "sha256": hashes}))
        for path in (*self.partial.rglob("*"), self.partial):
            to_disk(path)
        self.partial.rename(self.folder)
        to_disk(self.folder.parent)
        return self.folder

    def abort(self) -> None:
        """Leave it unfinished, as a crash would."""
        with contextlib.suppress(OSError):  # a full disk takes the last bytes no better now
            self._bag.abort()

    def discard(self) -> Path:
        """Leave it unfinished in the trash, where nobody reads it; returns where."""
        self.abort()
        return throw_away(self.partial)


def throw_away(path: Path) -> Path:
    """Move a folder into ``trash`` beside it, under a name of its own; returns where."""
    trash = path.parent / TRASH
    trash.mkdir(exist_ok=True)
    return path.rename(trash / f"{path.name}-{time.time_ns()}")


def _text(info: dict) -> str:
    return to_json(info, indent=1) + "\n"


class SentCommands(NamedTuple):
    """Commands (T, 8) of some moments, and which are ``known`` (T,): the gate was not silent
    then.
    """

    commands: np.ndarray
    known: np.ndarray


@dataclass
class Episode:
    """What an episode holds. Images are read from the disk when they are asked for."""

    path: Path
    info: dict  # episode.json
    cameras: dict[str, Camera]
    images: dict[tuple[str, str], ImageStream]  # (camera, "color" | "depth") -> (stamp [ns], bytes)
    models: dict[str, CameraModel]
    states: list[ArmState]
    command_stamps: np.ndarray  # (C,) int64 [ns]
    commands: np.ndarray  # (C, 8): joints [rad] and gripper width [m] the gate sent
    # when the gate did not follow the task, by its statuses
    off_task: list[OffTaskInterval] = field(default_factory=list)
    # what was left out of it when it was read, and why
    notes: list[str] = field(default_factory=list)

    @property
    def intrinsics(self) -> dict[str, np.ndarray]:
        """Camera -> K (3, 3) [pixels]."""
        return {name: model.K for name, model in self.models.items()}

    @property
    def unusable(self) -> list[tuple[int, int]]:
        """First and last stamp [ns] of what no demonstration may be learnt from: as marked, and off
        the task.
        """
        marked = [(begin, end) for begin, end in self.info.get("unusable", [])]
        return sorted(marked + [(begin, end) for begin, end, _ in self.off_task])

    def sent(self, due: np.ndarray) -> SentCommands:
        """What the gate sent at moments ``due`` (T,) [ns] or next; past the end the last, which the
        arm holds.
        """
        stamps = self.command_stamps
        index = np.minimum(np.searchsorted(stamps, due), len(stamps) - 1)
        return SentCommands(self.commands[index], stamps[index] - due <= self._silence())

    def standing(self, at: np.ndarray) -> SentCommands:
        """What the gate sent last at moments ``at`` (T,) [ns]: what the arm was told to do then."""
        stamps = self.command_stamps
        index = np.maximum(np.searchsorted(stamps, at, "right") - 1, 0)
        return SentCommands(self.commands[index], np.abs(at - stamps[index]) <= self._silence())

    def _silence(self) -> float:
        """[ns] without a command after which the gate sends none. Rows of other libraries have few
        commands.
        """
        apart = np.diff(self.command_stamps)
        return 3 * np.quantile(apart, 0.75) + _SILENT if len(apart) else np.inf

    def frame(self, camera: str, stamp: int, color, depth) -> Frame:
        """The frame of ``color`` and ``depth``, each a ``StreamImage`` or its bytes. Raises
        InputError for no images.
        """
        color, depth = (
            image.data if isinstance(image, StreamImage) else image for image in (color, depth)
        )
        try:
            rgb = cv2.imdecode(color, cv2.IMREAD_COLOR)
            mm = cv2.imdecode(depth[len(DEPTH_HEADER) :], cv2.IMREAD_UNCHANGED)
        except cv2.error:
            rgb = mm = None
        if rgb is None or mm is None:
            raise InputError(
                f"episode {self.path}: the images of {camera} at {stamp} cannot be read"
            )
        place = self.cameras[camera].place(joints_at(self.states, stamp))
        rgb = np.ascontiguousarray(rgb[..., ::-1])
        try:
            return self.models[camera].frame(camera, stamp, rgb, mm, place)
        except ValueError as error:
            raise InputError(f"episode {self.path}: {error}") from None


def read_info(folder: Path) -> dict:
    """episode.json. Raises OSError, ValueError or RecursionError for a file that is none."""
    file = Path(folder) / INFO
    if file.stat().st_size > _INFO_MOST:
        raise ValueError(f"{file.stat().st_size} bytes of {INFO}")
    return checked(json.loads(file.read_text()))


def broken(folder: Path) -> str:
    """Why episode.json cannot be read, or ""."""
    try:
        missing = {"task", "cameras", "sha256"} - set(read_info(folder))
    except (OSError, ValueError, RecursionError) as error:
        return str(error)
    return f"{', '.join(sorted(missing))} not in {INFO}" if missing else ""


def read_infos(paths: Iterable[Path]) -> dict[Path, dict]:
    """episode.json of every episode. Raises InputError that names those it cannot be read of."""
    paths = list(paths)
    if wrong := [f"{path} ({why})" for path in paths if (why := broken(path))]:
        more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise InputError(
            f"broken {INFO}: {', '.join(wrong[:3])}{more}: copy the folder again, or move it"
            " elsewhere to go on without"
        )
    return {path: read_info(path) for path in paths}


def list_episodes(folder: Path) -> list[Path]:
    """Finished episodes in and below ``folder``, sorted, but for its trash. Raises InputError when
    there are none.
    """
    paths = [
        path.parent
        for path in Path(folder).rglob(INFO)
        if path.parent.suffix not in (PARTIAL, BROKEN)
    ]
    found = sorted(path for path in paths if TRASH not in path.relative_to(folder).parts)
    if not found:
        raise InputError(f"no episodes in {folder}; 'gwm collect --out {folder}' makes some")
    return found


def read_episode(path: Path) -> Episode:
    """Read a finished episode. Raises InputError when it is damaged, or lacks what it is to be read
    for.
    """
    try:
        info = read_info(path)
        files(path)
        if missing := [name for name in info["sha256"] if not (path / name).is_file()]:
            raise InputError(f"{', '.join(missing)} is not there: copy it again")
        changed = [name for name, known in info["sha256"].items() if sha256(path / name) != known]
        if changed or not info["sha256"]:
            raise ValueError(f"not the file that was recorded: {changed}")
        return _assemble(path, info, EpisodeStreams(path / "bag"))
    except InputError as error:
        raise InputError(f"episode {path} cannot be used: {error}") from None
    except DAMAGE as error:
        raise InputError(
            f"episode {path} is damaged ({error!r}); collect or copy it again"
        ) from None


def _assemble(path: Path, info: dict, streams: EpisodeStreams) -> Episode:
    cameras = {name: Camera.from_dict(values) for name, values in info["cameras"].items()}
    images, models = {}, {}
    for name, prefix in ((name, camera.prefix) for name, camera in cameras.items()):
        images[name, "color"] = streams.pictures(topics.color(prefix) + "/compressed")
        images[name, "depth"] = streams.pictures(topics.depth(prefix) + "/compressedDepth")
        told = streams.infos.get(topics.info(prefix))
        if told is None or not is_camera(told.k):
            raise InputError(
                f"{topics.info(prefix)} gives no camera matrix: its driver is not calibrated"
            )
        model = read_camera_info(told)
        models[name] = model if info.get("format", 1) >= 2 else replace(model, K=to_opencv(model.K))
    command_stamps, commands, _ = streams.joints(topics.COMMAND, (*topics.ARM_JOINTS, topics.WIDTH))
    grip_stamps, fingers, _ = streams.joints(topics.GRIPPER_STATES, topics.FINGER_JOINTS)
    stamps, q, dq = streams.joints(topics.JOINT_STATES, topics.ARM_JOINTS)
    newest = np.maximum(np.searchsorted(grip_stamps, stamps, "right") - 1, 0)
    known = np.abs(stamps - grip_stamps[newest]) <= GRIPPER_TIMEOUT
    widths = np.where(known, fingers.sum(1)[newest], np.nan)
    # strictly before: what was commanded when it was measured
    last = np.searchsorted(command_stamps, stamps) - 1
    wished = np.where(last < 0, OPEN_WIDTH, commands[np.maximum(last, 0), 7])
    states = [
        ArmState(int(s), *row) for s, *row in zip(stamps, q, dq, widths.tolist(), wished.tolist())
    ]
    off_task = off_task_intervals(streams.statuses(), command_stamps, streams.span())
    return Episode(
        path,
        info,
        cameras,
        images,
        models,
        states,
        command_stamps,
        commands,
        off_task,
        streams.notes,
    )


def moments(episode: Episode) -> Iterator[tuple[int, dict[str, tuple], ArmState]]:
    """Stamp, pairs and state of every moment: the images go through the same ``Sync`` the policy
    node uses.

    A pair is (stamp, colour, depth), both a ``StreamImage`` that is not yet read. As in the policy
    node, joints count only where the gripper's opening is known.
    """
    cameras = tuple(episode.info["cameras"])
    sync = Sync(cameras)
    arrivals = sorted(
        (stamp, camera, kind, k)
        for (camera, kind), stream in episode.images.items()
        for k, stamp in enumerate(stream.stamps.tolist())
    )
    states = (state for state in episode.states if np.isfinite(state.width))
    state = next(states, None)
    for i, (stamp, camera, kind, k) in enumerate(arrivals):
        sync.image(camera, kind, stamp, StreamImage(episode.images[camera, kind], k))
        while state is not None and state.stamp <= stamp:
            sync.joints(state)
            state = next(states, None)
        if i + 1 == len(arrivals) or arrivals[i + 1][0] > stamp:
            moment = sync.latest()
            if moment is not None:
                yield moment
