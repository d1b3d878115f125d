"""Read one episode: a folder with ``bag/`` (rosbag2, MCAP) and ``episode.json``.

The messages are stock ROS 2 ones, written and read by rosbags, so neither side needs ROS.
``bag`` reads messages, ``streams`` sorts them by topic, an ``Episode`` holds what they mean, and
``resampled_episode`` makes rows of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from gwm_core import topics
from gwm_core.data.bag import DAMAGE, ImageStream, StreamImage, files
from gwm_core.data.episode_info import read_info
from gwm_core.data.off_task import OffTaskInterval, off_task_intervals
from gwm_core.data.ros_messages import DEPTH_HEADER
from gwm_core.data.streams import EpisodeStreams, is_camera_matrix
from gwm_core.errors import InputError
from gwm_core.files.checksums import sha256
from gwm_core.geometry.camera import to_opencv
from gwm_core.geometry.camera_info import CameraModel, read_camera_info
from gwm_core.joint_states import recorded_states
from gwm_core.site import Camera
from gwm_core.sync import Sync, SyncedObservation, joints_at
from gwm_core.types import ArmState, Frame

_FOREVER = 2**63 - 1  # [ns]
_GAP_MARGIN = 50_000_000  # [ns] on top of the usual spacing of commands


class SentCommands(NamedTuple):
    """Commands of the gate at T stamps."""

    commands: np.ndarray  # (T, 8) joints [rad] and gripper width [m]
    valid: np.ndarray  # (T,) False where the gate sent nothing then


@dataclass
class Episode:
    """The content of an episode. Images are read from the disk on access."""

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
    # what the reader left out, and why
    notes: list[str] = field(default_factory=list)

    @property
    def intrinsics(self) -> dict[str, np.ndarray]:
        """Camera -> K (3, 3) [pixels]."""
        return {name: model.K for name, model in self.models.items()}

    @property
    def unusable(self) -> list[tuple[int, int]]:
        """Intervals (first and last stamp [ns]) that training excludes from demonstrations.

        They are the marked ones of episode.json, and those in which the gate was off the task.
        """
        marked = [(begin, end) for begin, end in self.info.get("unusable", [])]
        return sorted(marked + [(begin, end) for begin, end, _ in self.off_task])

    @property
    def led_by_policy(self) -> list[tuple[int, int]]:
        """Intervals (first and last stamp [ns]) outside the operator's interventions.

        Empty where the episode says nothing of interventions: it is a demonstration as a whole, or
        older than they are.
        """
        taken = self.info.get("interventions")
        if taken is None:
            return []
        ends = [0, *(end + 1 for _, end in taken)]
        begins = [*(begin - 1 for begin, _ in taken), _FOREVER]
        return list(zip(ends, begins))

    def next_commands(self, stamps: np.ndarray) -> SentCommands:
        """The first command at or after each stamp (T,) [ns]; past the end the last one."""
        sent = self.command_stamps
        index = np.minimum(np.searchsorted(sent, stamps), len(sent) - 1)
        return SentCommands(self.commands[index], sent[index] - stamps <= self._longest_gap())

    def last_commands(self, stamps: np.ndarray) -> SentCommands:
        """The last command at or before each stamp (T,) [ns]."""
        sent = self.command_stamps
        index = np.maximum(np.searchsorted(sent, stamps, "right") - 1, 0)
        valid = np.abs(stamps - sent[index]) <= self._longest_gap()
        return SentCommands(self.commands[index], valid)

    def _longest_gap(self) -> float:
        """[ns] between commands beyond which the gate was silent.

        It depends on the episode's own rate: rows of other libraries have few commands.
        """
        gaps = np.diff(self.command_stamps)
        return 3 * np.quantile(gaps, 0.75) + _GAP_MARGIN if len(gaps) else np.inf

    def frame(self, camera: str, stamp: int, color, depth) -> Frame:
        """The frame of ``color`` and ``depth``, each a ``StreamImage`` or its bytes.

        Raises:
            InputError: they are no images, or no frame can be made of them.
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
        pose = self.cameras[camera].pose_at(joints_at(self.states, stamp))
        rgb = np.ascontiguousarray(rgb[..., ::-1])
        try:
            return self.models[camera].frame(camera, stamp, rgb, mm, pose)
        except ValueError as error:
            raise InputError(f"episode {self.path}: {error}") from None


def read_episode(path: Path) -> Episode:
    """Read a finished episode. Raises InputError when it is damaged, or a stream is missing."""
    try:
        info = read_info(path)
        files(path)
        if missing := [name for name in info["sha256"] if not (path / name).is_file()]:
            raise InputError(f"{', '.join(missing)} is not there: copy it again")
        if not info["sha256"]:
            raise ValueError("episode.json lists no checksums")
        changed = [name for name, known in info["sha256"].items() if sha256(path / name) != known]
        if changed:
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
    for name, camera in cameras.items():
        color = topics.color(camera.prefix) + "/compressed"
        depth = topics.depth(camera.prefix) + "/compressedDepth"
        images[name, "color"] = streams.images(color)
        images[name, "depth"] = streams.images(depth)
        models[name] = _camera_model(camera.prefix, info, streams)
    command_names = (*topics.ARM_JOINTS, topics.WIDTH)
    command_stamps, commands, _ = streams.joints(topics.COMMAND, command_names)
    gripper_stamps, fingers, _ = streams.joints(topics.GRIPPER_STATES, topics.FINGER_JOINTS)
    stamps, q, dq = streams.joints(topics.JOINT_STATES, topics.ARM_JOINTS)
    return Episode(
        path=path,
        info=info,
        cameras=cameras,
        images=images,
        models=models,
        states=recorded_states(
            (stamps, q, dq), (gripper_stamps, fingers.sum(1)), (command_stamps, commands[:, 7])
        ),
        command_stamps=command_stamps,
        commands=commands,
        off_task=off_task_intervals(streams.statuses(), command_stamps, streams.span()),
        notes=streams.notes,
    )


def _camera_model(prefix: str, info: dict, streams: EpisodeStreams) -> CameraModel:
    """The camera model of a topic prefix; K with pixel centres at + 0.5 in every format."""
    message = streams.infos.get(topics.info(prefix))
    if message is None or not is_camera_matrix(message.k):
        raise InputError(
            f"{topics.info(prefix)} gives no camera matrix: its driver is not calibrated"
        )
    model = read_camera_info(message)
    return model if info.get("format", 1) >= 2 else replace(model, K=to_opencv(model.K))


def synced_observations(episode: Episode) -> Iterator[SyncedObservation]:
    """Every complete observation of an episode, by the same ``Sync`` that the policy node uses.

    Colour and depth are each a ``StreamImage`` that is not read yet. As in the policy node, joint
    states count only where the gripper's opening is known.
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
            observation = sync.latest()
            if observation is not None:
                yield observation
