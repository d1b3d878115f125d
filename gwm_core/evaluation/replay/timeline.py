"""Observations, predictions, decisions and commands of a recorded episode, on one time axis."""

from __future__ import annotations

import json
from bisect import bisect_right
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from rosbags.rosbag2 import Reader, ReaderError
from rosbags.typesys.store import SerdeError

from gwm_core import topics
from gwm_core.data.episode_info import INFO
from gwm_core.data.ros_messages import deserialize
from gwm_core.errors import InputError
from gwm_core.geometry.kinematics import tcp_speed
from gwm_core.joint_states import read_gripper_state, read_joint_state
from gwm_core.site import Camera
from gwm_core.types import CHUNK_DT, CHUNK_ROWS

_JOINT_PERIOD = 50_000_000  # [ns] between joint states that are kept
_WANTED = (
    "sensor_msgs/msg/CompressedImage",
    "sensor_msgs/msg/JointState",
    "std_msgs/msg/Float64MultiArray",
    "std_msgs/msg/String",
    "diagnostic_msgs/msg/DiagnosticArray",
)


@dataclass
class ReplayTimeline:
    """An episode to display. Times in seconds since its first frame.

    Attributes:
        observed: camera -> (time, JPEG or PNG as recorded), in order.
        predicted: for each chunk, time of its observation, and view -> JPEGs of its ``lookaheads``.
        divergence: (time, terms by name), ``status``: (time, the gate's values), ``decisions``:
            (time, command).
        arm: (time, joints (7,) [rad], speed of the TCP [m/s]).
        gripper: (time, opening [m]).
    """

    info: dict
    start: int  # [ns] stamp of the first frame
    cameras: tuple[str, ...]
    observed: dict[str, list[tuple[float, bytes]]]
    predicted: list[tuple[float, dict[str, list[bytes]]]]
    lookaheads: tuple[int, ...] = ()  # steps of 0.1 s; older recordings have others
    divergence: list[tuple[float, dict[str, float]]] = field(default_factory=list)
    status: list[tuple[float, dict[str, str]]] = field(default_factory=list)
    decisions: list[tuple[float, dict]] = field(default_factory=list)
    arm: list[tuple[float, np.ndarray, float]] = field(default_factory=list)
    gripper: list[tuple[float, float]] = field(default_factory=list)

    @property
    def duration(self) -> float:
        """Time of the last observed frame [s]."""
        return max(frames[-1][0] for frames in self.observed.values())

    def frame_at(self, camera: str, at: float) -> bytes:
        """The frame of a camera at a time [s], or its first one."""
        frames = self.observed[camera]
        return frames[max(bisect_right([time for time, _ in frames], at) - 1, 0)][1]


def read_replay(path: Path) -> ReplayTimeline:
    """Read an episode as the recorder writes it. Raises InputError for a damaged one."""
    try:
        info = json.loads((path / INFO).read_text())
        streams = _streams(path / "bag")
        cameras = {name: Camera.from_dict(values) for name, values in info["cameras"].items()}
        color = {
            name: streams[topics.color(camera.prefix) + "/compressed"]
            for name, camera in cameras.items()
        }
        start = min(frames[0][0] for frames in color.values())
        observed = {
            name: [((s - start) * 1e-9, bytes(m.data)) for s, m in frames]
            for name, frames in color.items()
        }
        views = (*cameras, topics.AFAR)
        lookaheads = tuple(
            steps
            for steps in range(1, CHUNK_ROWS + 1)
            if topics.imagined(topics.AFAR, steps) in streams
        )
        predicted = _predicted(streams, views, lookaheads, start)
        replay = ReplayTimeline(info, start, tuple(cameras), observed, predicted, lookaheads)
        for stamp, message in streams.get(topics.DIVERGENCE, []):
            values = topics.named_numbers((dim.label for dim in message.layout.dim), message.data)
            replay.divergence.append(((values.pop("plan", stamp) - start) * 1e-9, values))
        for stamp, message in streams.get(topics.STATUS, []):
            values = {pair.key: pair.value for pair in message.status[0].values}
            replay.status.append(((stamp - start) * 1e-9, values))
        for stamp, message in streams.get(topics.DECISION, []):
            replay.decisions.append(((stamp - start) * 1e-9, json.loads(message.data)))
        _add_arm(replay, streams, start)
    except (
        OSError,
        ReaderError,
        SerdeError,
        LookupError,
        ValueError,
        TypeError,
        AttributeError,
    ) as error:
        raise InputError(f"episode {path} cannot be replayed ({error!r})") from None
    return replay


def _streams(bag: Path) -> dict[str, list]:
    """Topic -> (stamp [ns], message) in order of time."""
    streams: dict[str, list] = {}
    taken: dict[str, int] = {}  # [ns] log time of the last joint state that was read
    with Reader(bag) as reader:
        wanted = [
            connection
            for connection in reader.connections
            if connection.msgtype in _WANTED and not connection.topic.endswith("/compressedDepth")
        ]
        for connection, logged, content in reader.messages(wanted):
            topic = connection.topic.lstrip("/")
            if connection.msgtype == _WANTED[1]:
                if logged - taken.get(topic, -_JOINT_PERIOD) < _JOINT_PERIOD:
                    continue
                taken[topic] = logged
            message = deserialize(content, connection.msgtype)
            header = getattr(message, "header", None)
            stamp = header.stamp.sec * 1_000_000_000 + header.stamp.nanosec if header else logged
            streams.setdefault(topic, []).append((stamp, message))
    return streams


def _predicted(
    streams: dict[str, list], views: tuple[str, ...], lookaheads: tuple[int, ...], start: int
) -> list[tuple[float, dict]]:
    """The predicted futures of which every image was recorded."""
    plans: dict[int, dict[str, dict[int, bytes]]] = {}
    for view in views:
        for step in lookaheads:
            for stamp, message in streams.get(topics.imagined(view, step), []):
                plan = stamp - round(step * CHUNK_DT * 1e9)
                plans.setdefault(plan, {}).setdefault(view, {})[step] = bytes(message.data)
    whole = [
        plan
        for plan, jpegs in plans.items()
        if all(len(jpegs.get(view, ())) == len(lookaheads) for view in views)
    ]
    return [
        (
            (plan - start) * 1e-9,
            {view: [jpegs[step] for step in sorted(jpegs)] for view, jpegs in plans[plan].items()},
        )
        for plan in sorted(whole)
    ]


def _add_arm(replay: ReplayTimeline, streams: dict[str, list], start: int) -> None:
    """Add joints and gripper, without the messages that cannot be used."""
    for stamp, message in streams.get(topics.JOINT_STATES, []):
        state, _ = read_joint_state(message)
        if state is not None:
            speed = float(tcp_speed(state.q, state.dq))
            replay.arm.append(((stamp - start) * 1e-9, state.q, speed))
    for stamp, message in streams.get(topics.GRIPPER_STATES, []):
        gripper, _ = read_gripper_state(message)
        if gripper is not None:
            replay.gripper.append(((stamp - start) * 1e-9, gripper.width))
