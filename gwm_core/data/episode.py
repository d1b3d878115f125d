"""One episode = one folder: ``bag/`` (rosbag2, MCAP) and ``episode.json``; ``.partial`` until it is whole and on disk.

The messages are stock ROS 2 ones, written and read by rosbags, so neither side needs ROS. A crash leaves a
``.partial`` of which ``recover`` keeps what had been synced.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from rosbags.rosbag2 import Reader, ReaderError, StoragePlugin, Writer
from rosbags.typesys.store import SerdeError

from gwm_core import topics
from gwm_core.data.cdr import DEPTH_HEADER, STORE, deserialize, serialized
from gwm_core.errors import InputError
from gwm_core.joints import GRIPPER_TIMEOUT
from gwm_core.scene.camera import to_opencv
from gwm_core.scene.camera_info import CameraModel, read_camera_info
from gwm_core.site import Camera
from gwm_core.sync import Sync, joints_at
from gwm_core.types import OPEN_WIDTH, ArmState, Frame

INFO, _INFO_MOST = "episode.json", 4 << 20  # [bytes]
_DAMAGE = (OSError, ReaderError, SerdeError, LookupError, ValueError, TypeError, AttributeError,
           RecursionError, MemoryError, OverflowError)  # what a damaged or forged file may lead to  # fmt: skip
PARTIAL, BROKEN, TRASH = ".partial", ".broken", "trash"  # being written; being recovered; discarded
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
                f"{self.partial} was never finished: `gwm data recover {self.partial}`, or remove it"
            ) from None
        except OSError as error:
            raise InputError(f"cannot write {self.folder}: {error.strerror}; choose another folder") from None
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
        """Finish with ``info`` and the bag's hash as episode.json; returns the folder, on disk from here on."""
        self._bag.close()
        hashes = {str(p.relative_to(self.partial)): sha256(p) for p in sorted(self.partial.rglob("*.mcap"))}
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
    return json.dumps(info, indent=1) + "\n"


def sha256(path: Path) -> str:
    """Hex digest of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def to_disk(path: Path) -> None:
    """Have a file or folder on disk when this returns."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@dataclass
class Episode:
    """What an episode holds. Images stay compressed until ``frame`` is asked for one."""

    path: Path
    info: dict  # episode.json
    cameras: dict[str, Camera]
    images: dict[tuple[str, str], list[tuple[int, np.ndarray]]]  # (camera, "color" | "depth") -> (stamp [ns], bytes)
    models: dict[str, CameraModel]
    states: list[ArmState]
    command_stamps: np.ndarray  # (C,) int64 [ns]
    commands: np.ndarray  # (C, 8): joints [rad] and gripper width [m] the gate sent

    @property
    def intrinsics(self) -> dict[str, np.ndarray]:
        """Camera -> K (3, 3) [pixels]."""
        return {name: model.K for name, model in self.models.items()}

    def frame(self, camera: str, stamp: int, color: np.ndarray, depth: np.ndarray) -> Frame:
        """The frame of compressed ``color`` and ``depth``."""
        rgb = cv2.imdecode(color, cv2.IMREAD_COLOR)[..., ::-1]
        mm = cv2.imdecode(depth[len(DEPTH_HEADER) :], cv2.IMREAD_UNCHANGED)
        place = self.cameras[camera].place(joints_at(self.states, stamp))
        return self.models[camera].frame(camera, stamp, np.ascontiguousarray(rgb), mm, place)


def read_info(folder: Path) -> dict:
    """episode.json. Raises OSError, ValueError or RecursionError for a file that is none."""
    file = Path(folder) / INFO
    if file.stat().st_size > _INFO_MOST:
        raise ValueError(f"{file.stat().st_size} bytes of {INFO}")
    return json.loads(file.read_text())


def list_episodes(folder: Path) -> list[Path]:
    """Finished episodes in and below ``folder``, sorted, but for its trash. Raises InputError when there are none."""
    paths = [path.parent for path in Path(folder).rglob(INFO) if path.parent.suffix not in (PARTIAL, BROKEN)]
    found = sorted(path for path in paths if TRASH not in path.relative_to(folder).parts)
    if not found:
        raise InputError(f"no episodes in {folder}; 'gwm collect --out {folder}' makes some")
    return found


def read_episode(path: Path) -> Episode:
    """Read a finished episode. Raises InputError when it is damaged."""
    try:
        info = read_info(path)
        changed = [name for name, known in info["sha256"].items() if sha256(path / name) != known]
        if changed or not info["sha256"]:
            raise ValueError(f"not the file that was recorded: {changed}")
        return _assemble(path, info, _streams(path / "bag"))
    except _DAMAGE as error:
        raise InputError(f"episode {path} is damaged ({error!r}); collect or copy it again") from None


def _streams(bag: Path) -> dict[str, list]:
    """Topic -> (stamp, message) in order of time, of the topics whose types the reader needs."""
    kinds = {"sensor_msgs/msg/JointState", "sensor_msgs/msg/CompressedImage", "sensor_msgs/msg/CameraInfo"}
    streams: dict[str, list] = {}
    with Reader(bag) as reader:
        wanted = [c for c in reader.connections if c.msgtype in kinds and "/imagination/" not in c.topic]
        for connection, _, content in reader.messages(wanted):
            message = deserialize(content, connection.msgtype)
            stamp = message.header.stamp.sec * 1_000_000_000 + message.header.stamp.nanosec
            streams.setdefault(connection.topic.lstrip("/"), []).append((stamp, message))
    return streams


def _assemble(path: Path, info: dict, streams: dict[str, list]) -> Episode:
    cameras = {name: Camera.from_dict(values) for name, values in info["cameras"].items()}
    images, models = {}, {}
    for name, prefix in ((name, camera.prefix) for name, camera in cameras.items()):
        color, depth = topics.color(prefix) + "/compressed", topics.depth(prefix) + "/compressedDepth"
        images[name, "color"] = [(stamp, message.data) for stamp, message in streams[color]]
        images[name, "depth"] = [(stamp, message.data) for stamp, message in streams[depth]]
        model = read_camera_info(streams[topics.info(prefix)][0][1])
        models[name] = model if info.get("format", 1) >= 2 else replace(model, K=to_opencv(model.K))
    command_stamps, commands, _ = _joints(streams[topics.COMMAND], (*topics.ARM_JOINTS, topics.WIDTH))
    grip_stamps, fingers, _ = _joints(streams[topics.GRIPPER_STATES], topics.FINGER_JOINTS)
    stamps, q, dq = _joints(streams[topics.JOINT_STATES], topics.ARM_JOINTS)
    newest = np.maximum(np.searchsorted(grip_stamps, stamps, "right") - 1, 0)
    known = np.abs(stamps - grip_stamps[newest]) <= GRIPPER_TIMEOUT
    widths = np.where(known, fingers.sum(1)[newest], np.nan)
    last = np.searchsorted(command_stamps, stamps) - 1  # strictly before: what was commanded when it was measured
    wished = np.where(last < 0, OPEN_WIDTH, commands[np.maximum(last, 0), 7])
    states = [ArmState(int(s), *row) for s, *row in zip(stamps, q, dq, widths.tolist(), wished.tolist())]
    return Episode(path, info, cameras, images, models, states, command_stamps, commands)


def _joints(stream: list, names: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Stamps (S,), positions and velocities (S, len(names)) in the order of ``names``; velocity 0 where not given."""
    stamps = np.array([stamp for stamp, _ in stream], np.int64)
    position, velocity = np.zeros((2, len(stream), len(names)))
    for k, (_, message) in enumerate(stream):
        order = [message.name.index(name) for name in names]
        position[k] = message.position[order]
        if len(message.velocity):
            velocity[k] = message.velocity[order]
    return stamps, position, velocity


def moments(episode: Episode) -> Iterator[tuple[int, dict[str, tuple], ArmState]]:
    """Stamp, pairs and state of every moment: the images go through the same ``Sync`` the policy node uses.

    As there, joints count only where the gripper's opening is known.
    """
    cameras = tuple(episode.info["cameras"])
    sync = Sync(cameras)
    arrivals = sorted(
        (stamp, camera, kind, data) for (camera, kind), stream in episode.images.items() for stamp, data in stream
    )
    states = (state for state in episode.states if np.isfinite(state.width))
    state = next(states, None)
    for i, (stamp, camera, kind, data) in enumerate(arrivals):
        sync.image(camera, kind, stamp, data)
        while state is not None and state.stamp <= stamp:
            sync.joints(state)
            state = next(states, None)
        if i + 1 == len(arrivals) or arrivals[i + 1][0] > stamp:
            moment = sync.latest()
            if moment is not None:
                yield moment
