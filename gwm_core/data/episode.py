"""One episode = one folder: ``bag/`` (rosbag2, MCAP) and ``episode.json``; ``.partial`` until it is whole and on disk.

The messages are stock ROS 2 ones, written and read by rosbags, so neither side needs ROS.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from rosbags.rosbag2 import Reader, ReaderError, StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore
from rosbags.typesys.store import SerdeError

from gwm_core import topics
from gwm_core.errors import InputError
from gwm_core.scene.camera import from_opencv, to_opencv
from gwm_core.site import Camera
from gwm_core.sync import joints_at
from gwm_core.types import OPEN_WIDTH, ArmState, Frame

STORE = get_typestore(Stores.ROS2_JAZZY)
JPEG_QUALITY = 95
DEPTH_HEADER = bytes(12)  # compressed_depth_image_transport: zero for 16UC1
INFO = "episode.json"
FORMAT = 2  # 1, without the key: the camera infos of `gwm collect` had pixel centres at + 0.5

_Header = STORE.types["std_msgs/msg/Header"]
_Time = STORE.types["builtin_interfaces/msg/Time"]


def _header(stamp: int, frame_id: str):
    return _Header(_Time(*divmod(stamp, 1_000_000_000)), frame_id)


def joint_state(stamp: int, names, position, velocity=(), effort=(), frame_id: str = ""):
    """sensor_msgs/JointState."""
    columns = [np.asarray(column, np.float64) for column in (position, velocity, effort)]
    return STORE.types["sensor_msgs/msg/JointState"](_header(stamp, frame_id), list(names), *columns)


def compressed_color(stamp: int, camera: str, color: np.ndarray):
    """sensor_msgs/CompressedImage, JPEG, from (H, W, 3) uint8 RGB."""
    ok, data = cv2.imencode(".jpg", color[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    return _compressed(stamp, camera, "rgb8; jpeg compressed bgr8", ok, data)


def compressed_depth(stamp: int, camera: str, depth_mm: np.ndarray):
    """sensor_msgs/CompressedImage as compressed_depth_image_transport writes it, lossless, from (H, W) uint16 mm."""
    ok, data = cv2.imencode(".png", depth_mm, [cv2.IMWRITE_PNG_COMPRESSION, 1])
    content = np.concatenate([np.frombuffer(DEPTH_HEADER, np.uint8), data.ravel()])
    return _compressed(stamp, camera, "16UC1; compressedDepth png", ok, content)


def _compressed(stamp: int, camera: str, encoding: str, ok: bool, data: np.ndarray):
    if not ok:
        raise ValueError(f"OpenCV could not encode an image of {camera}")
    return STORE.types["sensor_msgs/msg/CompressedImage"](_header(stamp, camera), encoding, data.ravel())


def camera_info(stamp: int, camera: str, K: np.ndarray, width: int, height: int):
    """sensor_msgs/CameraInfo of an undistorted camera, ``K`` (3, 3) in our convention."""
    K = to_opencv(K)
    P = np.hstack([K, np.zeros((3, 1))])
    roi = STORE.types["sensor_msgs/msg/RegionOfInterest"](0, 0, 0, 0, False)
    return STORE.types["sensor_msgs/msg/CameraInfo"](
        _header(stamp, camera), height, width, "plumb_bob",
        np.zeros(5), K.ravel(), np.eye(3).ravel(), P.ravel(), 0, 0, roi,
    )  # fmt: skip


def serialized(topic: str, message, stamp: int) -> tuple:
    """The arguments of ``EpisodeWriter.write_cdr`` for a message made by the functions above."""
    return topic, message.__msgtype__, STORE.serialize_cdr(message, message.__msgtype__), stamp


class EpisodeWriter:
    """Writes ``<folder>.partial`` and renames it when closed.

    Raises:
        InputError: the folder exists or cannot be made.
    """

    def __init__(self, folder: Path):
        self.folder = Path(folder)
        self.partial = self.folder.with_name(self.folder.name + ".partial")
        if self.folder.exists():
            raise InputError(f"{self.folder} exists; choose another folder")
        shutil.rmtree(self.partial, ignore_errors=True)  # left by a run that was killed
        try:
            self.partial.mkdir(parents=True)
        except OSError as error:
            raise InputError(f"cannot write {self.folder}: {error.strerror}; choose another folder") from None
        self._bag = Writer(self.partial / "bag", version=9, storage_plugin=StoragePlugin.MCAP)
        self._bag.open()
        self._connections: dict[str, object] = {}

    def write(self, topic: str, message, stamp: int) -> None:
        """Write a message made by the functions above. ``stamp`` [ns] is the log time."""
        self.write_cdr(*serialized(topic, message, stamp))

    def write_cdr(self, topic: str, kind: str, content, stamp: int) -> None:
        """Write a message of type ``kind`` that is already serialised."""
        if topic not in self._connections:
            self._connections[topic] = self._bag.add_connection("/" + topic, kind, typestore=STORE)
        self._bag.write(self._connections[topic], stamp, content)

    def close(self, info: dict) -> Path:
        """Finish with ``info`` and the bag's hash as episode.json; returns the folder, on disk from here on."""
        self._bag.close()
        hashes = {str(p.relative_to(self.partial)): _sha256(p) for p in self.partial.rglob("*.mcap")}
        info = info | {"format": FORMAT, "sha256": hashes}
        (self.partial / INFO).write_text(json.dumps(info, indent=1) + "\n")
        for path in (*self.partial.rglob("*"), self.partial):
            _flush(path)
        self.partial.rename(self.folder)
        _flush(self.folder.parent)
        return self.folder

    def discard(self) -> None:
        """Remove everything written."""
        self._bag.abort()
        shutil.rmtree(self.partial)


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _flush(path: Path) -> None:
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
    intrinsics: dict[str, np.ndarray]  # camera -> (3, 3) pixels
    states: list[ArmState]
    command_stamps: np.ndarray  # (C,) int64 [ns]
    commands: np.ndarray  # (C, 8): joints [rad] and gripper width [m] the gate sent

    def frame(self, camera: str, stamp: int, color: np.ndarray, depth: np.ndarray) -> Frame:
        """The frame of compressed ``color`` and ``depth``."""
        rgb = cv2.imdecode(color, cv2.IMREAD_COLOR)[..., ::-1]
        mm = cv2.imdecode(depth[len(DEPTH_HEADER) :], cv2.IMREAD_UNCHANGED)
        place = self.cameras[camera].place(joints_at(self.states, stamp))
        return Frame(camera, stamp, np.ascontiguousarray(rgb), mm * np.float32(1e-3), self.intrinsics[camera], place)


def list_episodes(folder: Path) -> list[Path]:
    """Finished episodes in and below ``folder``, sorted. Raises InputError when there are none."""
    found = sorted(path.parent for path in Path(folder).rglob(INFO) if path.parent.suffix != ".partial")
    if not found:
        raise InputError(f"no episodes in {folder}; 'gwm collect --out {folder}' makes some")
    return found


def read_episode(path: Path) -> Episode:
    """Read a finished episode. Raises InputError when it is damaged."""
    try:
        info = json.loads((path / INFO).read_text())
        changed = [name for name, known in info["sha256"].items() if _sha256(path / name) != known]
        if changed or not info["sha256"]:
            raise ValueError(f"not the file that was recorded: {changed}")
        return _assemble(path, info, _streams(path / "bag"))
    except (OSError, ReaderError, SerdeError, LookupError, ValueError, TypeError, AttributeError) as error:
        raise InputError(f"episode {path} is damaged ({error!r}); collect or copy it again") from None


def deserialize(content: bytes, kind: str):
    """Decode without rosbags' check of the length: rclpy leaves up to 8 undefined bytes behind a message."""
    definition = STORE.get_msgdef(kind)
    return definition.deserialize_cdr_le(content[4:], 0, definition.cls, STORE)[0]


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
    images, intrinsics = {}, {}
    for name, prefix in ((name, camera.prefix) for name, camera in cameras.items()):
        color, depth = topics.color(prefix) + "/compressed", topics.depth(prefix) + "/compressedDepth"
        images[name, "color"] = [(stamp, message.data) for stamp, message in streams[color]]
        images[name, "depth"] = [(stamp, message.data) for stamp, message in streams[depth]]
        K = streams[topics.info(prefix)][0][1].k.reshape(3, 3)
        intrinsics[name] = from_opencv(K) if info.get("format", 1) >= 2 else K
    command_stamps, commands, _ = _joints(streams[topics.COMMAND], (*topics.ARM_JOINTS, topics.WIDTH))
    grip_stamps, fingers, _ = _joints(streams[topics.GRIPPER_STATES], topics.FINGER_JOINTS)
    stamps, q, dq = _joints(streams[topics.JOINT_STATES], topics.ARM_JOINTS)
    widths = fingers.sum(1)[np.maximum(np.searchsorted(grip_stamps, stamps, "right") - 1, 0)]
    last = np.searchsorted(command_stamps, stamps) - 1  # strictly before: what was commanded when it was measured
    wished = np.where(last < 0, OPEN_WIDTH, commands[np.maximum(last, 0), 7])
    states = [ArmState(int(s), *row) for s, *row in zip(stamps, q, dq, widths.tolist(), wished.tolist())]
    return Episode(path, info, cameras, images, intrinsics, states, command_stamps, commands)


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
