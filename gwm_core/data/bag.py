"""The messages of a bag in the order in which they came, and its pictures when they are asked for.

A bag may be larger than the memory: one pass reads what is small and notes where the pictures are.
"""

from __future__ import annotations

import functools
import io
import re
import struct
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from mcap.data_stream import ReadDataStream
from mcap.exceptions import McapError
from mcap.reader import make_reader
from mcap.records import Chunk, McapRecord, Message
from mcap.stream_reader import breakup_chunk
from rosbags.typesys.store import SerdeError
from zstandard import ZstdError

from gwm_core.data.ros_messages import deserialize
from gwm_core.errors import InputError

DAMAGE = (
    OSError,
    McapError,
    ZstdError,
    SerdeError,
    struct.error,
    EOFError,
    LookupError,
    ValueError,
    TypeError,
    AttributeError,
    RecursionError,
    RuntimeError,
    MemoryError,
    OverflowError,
)
_LARGEST = 256 << 20  # [bytes] of a chunk; the recorder's have 1 MiB and one message
_KEPT = 8  # chunks at hand: streams of pictures lie side by side
# seconds and nanoseconds of a header, behind the four bytes of the encapsulation
_STAMP = struct.Struct("<iI")


class MessagePlace(NamedTuple):
    """Of a message: number of the chunk, and of the message in it."""

    chunk: int
    message: int


class LoggedMessage(NamedTuple):
    """A message: ``logged`` [ns] is the log time."""

    topic: str
    kind: str
    logged: int
    content: bytes
    place: MessagePlace

    @property
    def stamp(self) -> int:
        """Of its header [ns]."""
        seconds, nanoseconds = _STAMP.unpack_from(self.content, 4)
        return seconds * 1_000_000_000 + nanoseconds


def files(folder: Path) -> list[Path]:
    """The MCAP files in and below a folder; the parts of a bag that was split in the order they
    were written in.

    Raises InputError for one that `ros2 bag record --compression-mode file` compressed.
    """
    for packed in sorted(Path(folder).rglob("*.mcap.zstd")):
        if not packed.with_suffix("").exists():
            raise InputError(f"{packed} is compressed as a whole: unpack it with zstd -d")
    return sorted(
        Path(folder).rglob("*.mcap"), key=lambda path: (path.parent, _numbers_apart(path.name))
    )


def _numbers_apart(name: str) -> list:
    """Sorts part 10 behind part 9."""
    return [int(word) if word.isdecimal() else word for word in re.split(r"(\d+)", name)]


def records_of(chunk: Chunk) -> list[McapRecord]:
    """What a chunk holds. Raises what ``DAMAGE`` lists for one that is damaged."""
    if chunk.uncompressed_size > _LARGEST:
        raise ValueError(f"a chunk of {chunk.uncompressed_size} bytes")
    return breakup_chunk(chunk, validate_crc=True)


class Bag:
    """A folder of MCAP files with an index. Raises what ``DAMAGE`` lists for a damaged one."""

    def __init__(self, folder: Path):
        self._chunks: list[tuple[Path, int, int]] = []  # file, offset and length [bytes]
        self._channels: dict[tuple[Path, int], tuple[str, str]] = {}  # topic and type
        for path in files(folder):
            with open(path, "rb") as file:
                summary = make_reader(file).get_summary()
            if summary is None or not summary.chunk_indexes:
                raise ValueError(f"{path.name} has no index")
            for index in sorted(summary.chunk_indexes, key=lambda index: index.chunk_start_offset):
                self._chunks.append((path, index.chunk_start_offset, index.chunk_length))
            for number, channel in summary.channels.items():
                kind = summary.schemas[channel.schema_id].name
                self._channels[path, number] = channel.topic.lstrip("/"), kind
        if not self._chunks:
            raise ValueError("no bag")
        self.messages_of = functools.lru_cache(_KEPT)(self._read)

    def _read(self, number: int) -> list[Message]:
        """The messages of a chunk."""
        path, offset, length = self._chunks[number]
        if not 9 < length <= _LARGEST:
            raise ValueError(f"a chunk of {length} bytes")
        with open(path, "rb") as file:
            file.seek(offset)
            data = file.read(length)
        chunk = Chunk.read(ReadDataStream(io.BytesIO(data[9:])))
        return [record for record in records_of(chunk) if isinstance(record, Message)]

    def received(self, wanted: Callable[[str, str], bool]) -> Iterator[LoggedMessage]:
        """The messages whose topic and type are ``wanted``, in the order they were written in."""
        for number, (path, _, _) in enumerate(self._chunks):
            for k, message in enumerate(self._read(number)):
                topic, kind = self._channels[path, message.channel_id]
                if wanted(topic, kind):
                    yield LoggedMessage(
                        topic, kind, message.log_time, message.data, MessagePlace(number, k)
                    )


class ImageStream(Sequence):
    """Compressed images of one stream in order of time: stamp [ns] and bytes, read from the bag
    when asked for.
    """

    def __init__(
        self, bag: Bag, name: str, kind: str, stamps: list[int], places: list[MessagePlace]
    ):
        self.stamps, self._places = np.array(stamps, np.int64), places
        self._bag, self._name, self._kind = bag, name, kind

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, k: int) -> tuple[int, np.ndarray]:
        """Stamp and bytes. Raises InputError where it cannot be read."""
        place, stamp = self._places[k], int(self.stamps[k])
        try:
            content = self._bag.messages_of(place.chunk)[place.message].data
            return stamp, deserialize(content, self._kind).data
        except DAMAGE as error:
            raise InputError(f"{self._name}: image of {stamp} cannot be read ({error!r})") from None


class StreamImage(NamedTuple):
    """One of ``ImageStream``, not yet read."""

    stream: ImageStream
    k: int

    @property
    def data(self) -> np.ndarray:
        """Its bytes."""
        return self.stream[self.k][1]
