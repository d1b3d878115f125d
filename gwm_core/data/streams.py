"""The streams of a bag that an episode is read from.

Each stream is in the order of its stamps. Where the clock was set during the recording, only the
longest stretch between two settings is kept, so that all stamps are of one clock.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from gwm_core import topics
from gwm_core.data.bag import Bag, ImageStream, LoggedMessage
from gwm_core.data.ros_messages import deserialize
from gwm_core.errors import InputError
from gwm_core.gate_status import FOLLOWING_KEYS
from gwm_core.joint_states import RecordedJoints, joint_columns

_JOINTS, _IMAGE = "sensor_msgs/msg/JointState", "sensor_msgs/msg/CompressedImage"
_INFO = "sensor_msgs/msg/CameraInfo"
_CLOCK_SET = 100_000_000  # [ns] the stamps of a stream step back by this where the clock was set
# [ns] from its neighbour beyond which the first or last stamp of a stream is an error of the device
_STRAY = 60_000_000_000
_AHEAD = 1_000_000_000  # [ns] the stamps step ahead of the log times by this where it was set ahead


@dataclass
class TopicStream:
    """The messages of a topic, in columns."""

    kind: str
    stamps: list[int] = field(default_factory=list)  # [ns]
    logged: list[int] = field(default_factory=list)  # [ns] log times
    order: list[int] = field(default_factory=list)  # numbers in the bag
    # ``RecordedJoints``, the ``MessagePosition`` of an image, or the values of a status
    rows: list = field(default_factory=list)

    def select(self, keep: np.ndarray) -> None:
        """Keep the messages at ``keep``: indices, or a mask (S,)."""
        for name in ("stamps", "logged", "order", "rows"):
            values = getattr(self, name)
            setattr(self, name, [values[k] for k in np.arange(len(values))[keep]])


class EpisodeStreams:
    """The streams of a bag.

    Attributes:
        by_topic: topic -> ``TopicStream``.
        infos: topic -> CameraInfo, the first that is calibrated, or the last.
        notes: what was left out, and why.
    """

    def __init__(self, folder: Path):
        """Raises ``bag.DAMAGE``; InputError for stamps that do not agree."""
        self._bag = Bag(folder)
        self.by_topic: dict[str, TopicStream] = {}
        self.infos: dict = {}
        self.notes: list[str] = []
        self._names: dict[tuple[str, ...], tuple[str, ...]] = {}
        self._info_stamps: list[int] = []
        for number, message in enumerate(self._bag.messages(_wanted)):
            self._add(number, message)
        self._clean()

    def _add(self, number: int, message: LoggedMessage) -> None:
        content = None if message.kind == _IMAGE else deserialize(message.content, message.kind)
        if message.kind == _INFO:
            self._info_stamps.append(message.stamp)
            earlier = self.infos.get(message.topic)
            if earlier is None or not is_camera_matrix(earlier.k):
                self.infos[message.topic] = content
            return
        if message.kind == _IMAGE:
            row = message.position
        elif message.kind == _JOINTS:
            names = tuple(content.name)
            names = self._names.setdefault(names, names)  # one tuple for all messages
            row = RecordedJoints(names, content.position, content.velocity)
        else:
            row = {
                pair.key: pair.value
                for pair in content.status[0].values
                if pair.key in FOLLOWING_KEYS
            }
        stream = self.by_topic.setdefault(message.topic, TopicStream(message.kind))
        stream.stamps.append(message.stamp)
        stream.logged.append(message.logged)
        stream.order.append(number)
        stream.rows.append(row)

    def _clean(self) -> None:
        """Leave out stray stamps, stretches of another clock and repeated stamps; sort the rest."""
        for topic, stream in self.by_topic.items():
            if (stray := _strays(np.array(stream.stamps))).any():
                self.notes.append(
                    f"{topic}: {stray.sum()} stamps far from those before and after, left out"
                )
                stream.select(~stray)
        if topics.JOINT_STATES in self.by_topic:
            self._keep_longest_stretch(self.by_topic[topics.JOINT_STATES])
        for topic, stream in self.by_topic.items():
            stamps, first = np.unique(np.array(stream.stamps, np.int64), return_index=True)
            if more := len(stream.stamps) - len(stamps):
                self.notes.append(
                    f"{topic}: {more} of {len(stream.stamps)} have the stamp of another, left out"
                )
            stream.select(first)

    def _keep_longest_stretch(self, joints: TopicStream) -> None:
        """Keep the longest stretch between two settings of the clock, in all streams."""
        stamps = np.array(joints.stamps)
        if ahead := _set_ahead(stamps, np.array(joints.logged)):
            steps = ", ".join(f"{seconds:.1f} s" for seconds in ahead)
            self.notes.append(
                f"the clock was set ahead by {steps} while it was recorded: there is nothing in"
                " between"
            )
        stretch = _clock_steps(stamps)
        jumps = np.flatnonzero(np.diff(stretch)) + 1
        stretches = {
            topic: self._stretch_numbers(topic, stream, jumps, joints.order)
            for topic, stream in self.by_topic.items()
        }
        if not len(jumps):
            return
        seconds = [np.ptp(stamps[stretch == number]) * 1e-9 for number in range(len(jumps) + 1)]
        longest = int(np.argmax(seconds))
        for topic, stream in self.by_topic.items():
            stream.select(stretches[topic] == longest)
        back = ", ".join(f"{(stamps[k - 1] - stamps[k]) * 1e-9:.1f} s" for k in jumps)
        self.notes.append(
            f"the clock was set back by {back} while it was recorded:"
            f" {sum(seconds) - seconds[longest]:.1f} s of {sum(seconds):.1f} s left out"
        )

    def _stretch_numbers(
        self, topic: str, stream: TopicStream, jumps: np.ndarray, order: list[int]
    ) -> np.ndarray:
        """How often the clock was set back before each message of a stream.

        Raises InputError for images whose own stamps disagree with the joints'.
        """
        own = _clock_steps(np.array(stream.stamps))
        if len(own) and own[-1] == len(jumps):
            return own
        if stream.kind == _IMAGE:
            raise InputError(
                f"stamps of {topic} run back {own[-1] if len(own) else 0} times by more than"
                f" {_CLOCK_SET * 1e-9:.1f} s, those of the joints {len(jumps)} times: which image"
                " is of when is not known"
            )
        return np.searchsorted([order[k] for k in jumps], stream.order, "right")

    def joints(
        self, topic: str, names: tuple[str, ...]
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Stamps (S,) [ns], positions and velocities (S, len(names)) in the order of ``names``."""
        stream = self._stream(topic)
        return np.array(stream.stamps, np.int64), *joint_columns(stream.rows, names)

    def images(self, topic: str) -> ImageStream:
        """The images of a topic."""
        stream = self._stream(topic)
        return ImageStream(self._bag, topic, stream.kind, stream.stamps, stream.rows)

    def statuses(self) -> list[tuple[int, dict[str, str]]]:
        """Stamp [ns] and values of every gate/status."""
        stream = self.by_topic.get(topics.STATUS, TopicStream(""))
        return list(zip(stream.stamps, stream.rows))

    def span(self) -> tuple[int, int]:
        """First and last stamp [ns] of all streams."""
        ends = [
            stream.stamps[k] for stream in self.by_topic.values() for k in (0, -1) if stream.stamps
        ]
        return min([*ends, *self._info_stamps]), max(ends)

    def _stream(self, topic: str) -> TopicStream:
        if topic not in self.by_topic or not self.by_topic[topic].stamps:
            raise InputError(f"nothing was recorded on {topic}")
        return self.by_topic[topic]


def is_camera_matrix(k: np.ndarray) -> bool:
    """Whether nine numbers are a camera's matrix: finite, with focal lengths."""
    return bool(np.isfinite(k).all() and k[0] > 0 and k[4] > 0)


def _wanted(topic: str, kind: str) -> bool:
    if topic == topics.STATUS:
        return True
    return kind in (_JOINTS, _IMAGE, _INFO) and "imagination/" not in topic


def _strays(stamps: np.ndarray) -> np.ndarray:
    """Which stamps (S,) of a stream, in order of arrival, are far from both neighbours.

    Such are errors of a device. At the ends they are 0, of a driver without a time yet, and the
    last value of a counter that rolls over.
    """
    stray = np.zeros(len(stamps), bool)
    if len(stamps) > 2:
        stray[[0, -1]] = np.abs(stamps[[1, -2]] - stamps[[0, -1]]) > _STRAY
    before, it, after = stamps[:-2], stamps[1:-1], stamps[2:]
    stray[1:-1] = (before <= after) & ((it < before - _CLOCK_SET) | (it > after + _CLOCK_SET))
    return stray


def _clock_steps(stamps: np.ndarray) -> np.ndarray:
    """How often the clock was set back before each message (S,), in order of arrival."""
    return np.concatenate([[0], np.cumsum(np.diff(stamps) < -_CLOCK_SET)]).astype(np.int64)[
        : len(stamps)
    ]


def _set_ahead(stamps: np.ndarray, logged: np.ndarray) -> list[float]:
    """The steps [s] by which stamps (S,) ran ahead of the log times (S,).

    A recorder that logs the stamps themselves shows none.
    """
    ahead = np.diff(stamps) - np.diff(logged)
    return (ahead[ahead > _AHEAD] * 1e-9).tolist()
