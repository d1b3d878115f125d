"""Read the messages of a bag (MCAP) in the order in which they were written.

A bag may be larger than the memory. One pass reads the small messages and notes the positions of
the images, which are read on access.
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
_MAXIMUM_CHUNK = 256 << 20  # [bytes] of a chunk; the recorder's have 1 MiB and one message
_CACHED = 8  # chunks: the streams of images lie side by side
# seconds and nanoseconds of a header, behind the four bytes of the encapsulation
_STAMP = struct.Struct("<iI")


class MessagePosition(NamedTuple):
    """Number of the chunk of a message, and of the message in it."""

    chunk: int
    message: int


class LoggedMessage(NamedTuple):
    """A serialised message."""

    topic: str
    kind: str
    logged: int  # [ns] log time
    content: bytes
    position: MessagePosition

    @property
    def stamp(self) -> int:
        """The stamp of its header [ns]."""
        seconds, nanoseconds = _STAMP.unpack_from(self.content, 4)
        return seconds * 1_000_000_000 + nanoseconds


def files(folder: Path) -> list[Path]:
    """The MCAP files in and below a folder, the parts of a split bag in their order.

    Raises InputError for one that `ros2 bag record --compression-mode file` compressed.
    """
    for packed in sorted(Path(folder).rglob("*.mcap.zstd")):
        if not packed.with_suffix("").exists():
            raise InputError(f"{packed} is compressed as a whole: unpack it with zstd -d")
    return sorted(
        Path(folder).rglob("*.mcap"), key=lambda path: (path.parent, _natural_order(path.name))
    )


def _natural_order(name: str) -> list:
    """A key that sorts part 10 behind part 9."""
    return [int(word) if word.isdecimal() else word for word in re.split(r"(\d+)", name)]


def records_of(chunk: Chunk) -> list[McapRecord]:
    """The records of a chunk. Raises what ``DAMAGE`` lists for a damaged one."""
    if chunk.uncompressed_size > _MAXIMUM_CHUNK:
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
        self.chunk_messages = functools.lru_cache(_CACHED)(self._read)

    def _read(self, number: int) -> list[Message]:
        """The messages of a chunk."""
        path, offset, length = self._chunks[number]
        if not 9 < length <= _MAXIMUM_CHUNK:
            raise ValueError(f"a chunk of {length} bytes")
        with open(path, "rb") as file:
            file.seek(offset)
            data = file.read(length)
        chunk = Chunk.read(ReadDataStream(io.BytesIO(data[9:])))
        return [record for record in records_of(chunk) if isinstance(record, Message)]

    def messages(self, wanted: Callable[[str, str], bool]) -> Iterator[LoggedMessage]:
        """The messages whose topic and type are ``wanted``, in the order they were written."""
        for number, (path, _, _) in enumerate(self._chunks):
            for k, message in enumerate(self._read(number)):
                topic, kind = self._channels[path, message.channel_id]
                if wanted(topic, kind):
                    yield LoggedMessage(
                        topic, kind, message.log_time, message.data, MessagePosition(number, k)
                    )


class ImageStream(Sequence):
    """Compressed images of one stream in order of time: stamp [ns] and bytes, read on access."""

    def __init__(
        self, bag: Bag, name: str, kind: str, stamps: list[int], positions: list[MessagePosition]
    ):
        self.stamps = np.array(stamps, np.int64)
        self._positions = positions
        self._bag = bag
        self._name = name
        self._kind = kind

    def __len__(self) -> int:
        return len(self._positions)

    def __getitem__(self, k: int) -> tuple[int, np.ndarray]:
        """Stamp [ns] and bytes. Raises InputError for an image that cannot be read."""
        position, stamp = self._positions[k], int(self.stamps[k])
        try:
            content = self._bag.chunk_messages(position.chunk)[position.message].data
            return stamp, deserialize(content, self._kind).data
        except DAMAGE as error:
            raise InputError(f"{self._name}: image of {stamp} cannot be read ({error!r})") from None


class StreamImage(NamedTuple):
    """An image of an ``ImageStream`` that is not read yet."""

    stream: ImageStream
    k: int  # its number

    @property
    def data(self) -> np.ndarray:
        """Its bytes."""
        return self.stream[self.k][1]
