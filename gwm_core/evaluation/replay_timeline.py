"""Observations, predictions, decisions and commands of a recorded episode, on one time axis."""

from __future__ import annotations

import base64
import json
from bisect import bisect_right
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
from rosbags.rosbag2 import Reader, ReaderError
from rosbags.typesys.store import SerdeError

from gwm_core import topics
from gwm_core.data.episode_info import INFO
from gwm_core.data.ros_messages import deserialize
from gwm_core.errors import InputError
from gwm_core.files.json_files import to_json
from gwm_core.site import Camera
from gwm_core.types import CHUNK_DT, CHUNK_ROWS

WIDTH, QUALITY, PERIOD = 320, 80, 0.1  # [pixels], JPEG, [s] between observed frames that are kept
_WANTED = (
    "sensor_msgs/msg/CompressedImage",
    "std_msgs/msg/Float64MultiArray",
    "std_msgs/msg/String",
    "diagnostic_msgs/msg/DiagnosticArray",
)


@dataclass
class ReplayTimeline:
    """An episode to display. Times in seconds since its first frame.

    Attributes:
        observed: camera -> (time, JPEG), in order.
        predicted: for each chunk, time of its observation, and view -> JPEGs of its ``lookaheads``.
        divergence: (time, terms by name), ``status``: (time, the gate's values), ``decisions``:
            (time, command).
    """

    info: dict
    cameras: tuple[str, ...]
    observed: dict[str, list[tuple[float, bytes]]]
    predicted: list[tuple[float, dict[str, list[bytes]]]]
    lookaheads: tuple[int, ...] = ()  # steps of 0.1 s; older recordings have others
    divergence: list[tuple[float, dict[str, float]]] = field(default_factory=list)
    status: list[tuple[float, dict[str, str]]] = field(default_factory=list)
    decisions: list[tuple[float, dict]] = field(default_factory=list)

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
            name: _thinned([(s - start) * 1e-9, m.data] for s, m in frames)
            for name, frames in color.items()
        }
        views = (*cameras, topics.AFAR)
        lookaheads = tuple(
            steps
            for steps in range(1, CHUNK_ROWS + 1)
            if topics.imagined(topics.AFAR, steps) in streams
        )
        predicted = _predicted(streams, views, lookaheads, start)
        replay = ReplayTimeline(info, tuple(cameras), observed, predicted, lookaheads)
        for stamp, message in streams.get(topics.DIVERGENCE, []):
            values = topics.named_numbers((dim.label for dim in message.layout.dim), message.data)
            replay.divergence.append(((values.pop("plan", stamp) - start) * 1e-9, values))
        for stamp, message in streams.get(topics.STATUS, []):
            values = {pair.key: pair.value for pair in message.status[0].values}
            replay.status.append(((stamp - start) * 1e-9, values))
        for stamp, message in streams.get(topics.DECISION, []):
            replay.decisions.append(((stamp - start) * 1e-9, json.loads(message.data)))
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
    with Reader(bag) as reader:
        wanted = [connection for connection in reader.connections if connection.msgtype in _WANTED]
        for connection, logged, content in reader.messages(wanted):
            message = deserialize(content, connection.msgtype)
            header = getattr(message, "header", None)
            stamp = header.stamp.sec * 1_000_000_000 + header.stamp.nanosec if header else logged
            streams.setdefault(connection.topic.lstrip("/"), []).append((stamp, message))
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


def _thinned(frames) -> list[tuple[float, bytes]]:
    """Small frames, at most one every ``PERIOD``."""
    kept: list[tuple[float, bytes]] = []
    for time, data in frames:
        if kept and time - kept[-1][0] < PERIOD - 0.01:
            continue
        image = cv2.imdecode(np.asarray(data), cv2.IMREAD_COLOR)
        small = cv2.resize(
            image,
            (WIDTH, round(WIDTH * image.shape[0] / image.shape[1])),
            interpolation=cv2.INTER_AREA,
        )
        kept.append(
            (time, cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1].tobytes())
        )
    return kept


def page_data(replays: dict[str, ReplayTimeline]) -> str:
    """JSON of episodes by name, for the page: images as base64, times rounded to milliseconds."""

    def jpeg(data: bytes) -> str:
        return base64.b64encode(data).decode()

    def timed(rows) -> list:
        return [[round(time, 3), value] for time, value in rows]

    def strips(views: dict[str, list[bytes]]) -> dict[str, list[str]]:
        return {view: [jpeg(data) for data in steps] for view, steps in views.items()}

    return to_json(
        [
            {
                "name": name,
                "info": {k: v for k, v in r.info.items() if k not in ("cameras", "sha256")},
                "cameras": r.cameras,
                "divergence": timed(r.divergence),
                "status": timed(r.status),
                "observed": {
                    c: timed((t, jpeg(data)) for t, data in frames)
                    for c, frames in r.observed.items()
                },
                "lookaheads": r.lookaheads,
                "imagined": timed((t, strips(views)) for t, views in r.predicted),
                "decisions": timed(r.decisions),
            }
            for name, r in replays.items()
        ]
    ).replace("</", "<\\/")
