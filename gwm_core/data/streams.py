"""The streams of a bag that an episode is read from, in order of time and of one time: no clock was
set in them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from gwm_core import topics
from gwm_core.data.bag import Bag, ImageStream, LoggedMessage
from gwm_core.data.ros_messages import deserialize
from gwm_core.errors import InputError

_JOINTS, _IMAGE = "sensor_msgs/msg/JointState", "sensor_msgs/msg/CompressedImage"
_INFO = "sensor_msgs/msg/CameraInfo"
_CLOCK_SET = 100_000_000  # [ns] that stamps of one stream run back by where the clock was set
# [ns] from the next by which the first or last stamp of a stream is nobody's
_ALONE = 60_000_000_000
_AHEAD = 1_000_000_000  # [ns] that stamps run ahead of the log time by


@dataclass
class TopicStream:
    """The messages of a topic: stamps and log times [ns], numbers in the bag, and what is kept of
    each.
    """

    kind: str
    stamps: list[int] = field(default_factory=list)
    logged: list[int] = field(default_factory=list)
    order: list[int] = field(default_factory=list)
    # for joints (names, position, velocity), for images the place
    rows: list = field(default_factory=list)

    def take(self, keep: np.ndarray) -> None:
        """Keep the messages ``keep`` (S,) says, by index or True."""
        for name in ("stamps", "logged", "order", "rows"):
            values = getattr(self, name)
            setattr(self, name, [values[k] for k in np.arange(len(values))[keep]])


class EpisodeStreams:
    """What a bag holds for an episode.

    Attributes:
        of: topic -> ``TopicStream``. infos: topic -> CameraInfo, the first that is calibrated, or
            the last.
        notes: what was left out of the streams, and why.
    """

    def __init__(self, folder: Path):
        """Raises ``bag.DAMAGE``; InputError for stamps that do not agree."""
        self._bag = Bag(folder)
        self.of: dict[str, TopicStream] = {}
        self.infos: dict = {}
        self.notes: list[str] = []
        self._names: dict[tuple[str, ...], tuple[str, ...]] = {}
        self._info_stamps: list[int] = []
        for number, message in enumerate(self._bag.received(_wanted)):
            self._add(number, message)
        self._unite()

    def _add(self, number: int, message: LoggedMessage) -> None:
        content = None if message.kind == _IMAGE else deserialize(message.content, message.kind)
        if message.kind == _INFO:
            self._info_stamps.append(message.stamp)
            known = self.infos.get(message.topic)
            if known is None or not is_camera(known.k):
                self.infos[message.topic] = content
            return
        if message.kind == _IMAGE:
            row = message.place
        elif message.kind == _JOINTS:
            names = tuple(content.name)
            row = self._names.setdefault(names, names), content.position, content.velocity
        else:
            row = {
                pair.key: pair.value
                for pair in content.status[0].values
                if pair.key in ("state", "cause", "plan")
            }
        stream = self.of.setdefault(message.topic, TopicStream(message.kind))
        stream.stamps.append(message.stamp)
        stream.logged.append(message.logged)
        stream.order.append(number)
        stream.rows.append(row)

    def _unite(self) -> None:
        """Leave out what is of another time, stamps that came twice, and stamps that are nobody's;
        sort the rest.
        """
        for topic, stream in self.of.items():
            if (stray := _strays(np.array(stream.stamps))).any():
                self.notes.append(
                    f"{topic}: {stray.sum()} stamps far from those before and after, left out"
                )
                stream.take(~stray)
        if topics.JOINT_STATES in self.of:
            self._cut(self.of[topics.JOINT_STATES])
        for topic, stream in self.of.items():
            stamps, first = np.unique(np.array(stream.stamps, np.int64), return_index=True)
            if more := len(stream.stamps) - len(stamps):
                self.notes.append(
                    f"{topic}: {more} of {len(stream.stamps)} have the stamp of another, left out"
                )
            stream.take(first)

    def _cut(self, joints: TopicStream) -> None:
        """Keep the longest stretch between two settings of the clock, in all streams."""
        stamps = np.array(joints.stamps)
        if ahead := _set_ahead(stamps, np.array(joints.logged)):
            told = ", ".join(f"{seconds:.1f} s" for seconds in ahead)
            self.notes.append(
                f"the clock was set ahead by {told} while it was recorded: there is nothing in"
                " between"
            )
        piece = _times_set_back(stamps)
        jumps = np.flatnonzero(np.diff(piece)) + 1
        pieces = {
            topic: self._pieces(topic, stream, jumps, joints.order)
            for topic, stream in self.of.items()
        }
        if not len(jumps):
            return
        seconds = [np.ptp(stamps[piece == number]) * 1e-9 for number in range(len(jumps) + 1)]
        longest = int(np.argmax(seconds))
        for topic, stream in self.of.items():
            stream.take(pieces[topic] == longest)
        back = ", ".join(f"{(stamps[k - 1] - stamps[k]) * 1e-9:.1f} s" for k in jumps)
        self.notes.append(
            f"the clock was set back by {back} while it was recorded:"
            f" {sum(seconds) - seconds[longest]:.1f} s of {sum(seconds):.1f} s left out"
        )

    def _pieces(
        self, topic: str, stream: TopicStream, jumps: np.ndarray, order: list[int]
    ) -> np.ndarray:
        """How often the clock was set back before each message."""
        own = _times_set_back(np.array(stream.stamps))
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
        """Stamps (S,), positions and velocities (S, len(names)) in the order of ``names``; velocity
        0 if not given.
        """
        stream = self._found(topic)
        position, velocity = np.zeros((2, len(stream.rows), len(names)))
        orders: dict[tuple[str, ...], list[int]] = {}
        for k, (given, positions, velocities) in enumerate(stream.rows):
            if given not in orders:
                orders[given] = [given.index(name) for name in names]
            position[k] = positions[orders[given]]
            if len(velocities):
                velocity[k] = velocities[orders[given]]
        return np.array(stream.stamps, np.int64), position, velocity

    def pictures(self, topic: str) -> ImageStream:
        """The images of a topic."""
        stream = self._found(topic)
        return ImageStream(self._bag, topic, stream.kind, stream.stamps, stream.rows)

    def statuses(self) -> list[tuple[int, dict[str, str]]]:
        """Stamp [ns] and values of what the gate said of itself."""
        stream = self.of.get(topics.STATUS, TopicStream(""))
        return list(zip(stream.stamps, stream.rows))

    def span(self) -> tuple[int, int]:
        """First and last stamp [ns] of all."""
        ends = [stream.stamps[k] for stream in self.of.values() for k in (0, -1) if stream.stamps]
        return min([*ends, *self._info_stamps]), max(ends)

    def _found(self, topic: str) -> TopicStream:
        if topic not in self.of or not self.of[topic].stamps:
            raise InputError(f"nothing was recorded on {topic}")
        return self.of[topic]


def is_camera(k: np.ndarray) -> bool:
    """Whether nine numbers are a camera's matrix: finite, with focal lengths."""
    return bool(np.isfinite(k).all() and k[0] > 0 and k[4] > 0)


def _wanted(topic: str, kind: str) -> bool:
    if topic == topics.STATUS:
        return True
    return kind in (_JOINTS, _IMAGE, _INFO) and "imagination/" not in topic


def _strays(stamps: np.ndarray) -> np.ndarray:
    """Which stamps (S,) of a stream, in the order they came in, are alone in their time: a device's
    slip.

    At the ends such are 0, of a driver that knows no time yet, and what a counter holds when it
    rolls over.
    """
    stray = np.zeros(len(stamps), bool)
    if len(stamps) > 2:
        stray[[0, -1]] = np.abs(stamps[[1, -2]] - stamps[[0, -1]]) > _ALONE
    before, it, after = stamps[:-2], stamps[1:-1], stamps[2:]
    stray[1:-1] = (before <= after) & ((it < before - _CLOCK_SET) | (it > after + _CLOCK_SET))
    return stray


def _times_set_back(stamps: np.ndarray) -> np.ndarray:
    """How often the clock was set back before each message (S,) of a stream, in the order they came
    in.
    """
    return np.concatenate([[0], np.cumsum(np.diff(stamps) < -_CLOCK_SET)]).astype(np.int64)[
        : len(stamps)
    ]


def _set_ahead(stamps: np.ndarray, logged: np.ndarray) -> list[float]:
    """By how much [s] stamps (S,) ran ahead of the log times (S,); a recorder that logs stamps
    cannot tell.
    """
    ahead = np.diff(stamps) - np.diff(logged)
    return (ahead[ahead > _AHEAD] * 1e-9).tolist()
