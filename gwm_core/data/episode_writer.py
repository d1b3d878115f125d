"""Write one episode: a folder with ``bag/`` (rosbag2, MCAP in zstd) and ``episode.json``.

The name of the folder ends in ``.partial`` until it is complete and on disk. A crash leaves a
``.partial``, of which ``gwm_core.recording.episode_recovery`` keeps all that was synced.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from pathlib import Path

from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer
from zstandard import ZstdCompressor

from gwm_core.data.episode_info import INFO, TRASH
from gwm_core.data.ros_messages import STORE, serialized
from gwm_core.errors import InputError
from gwm_core.files.atomic_write import PARTIAL, to_disk
from gwm_core.files.checksums import sha256
from gwm_core.files.json_files import to_json

_LEVEL = 1  # of zstd: the library's 3 takes a third longer for 5 % less
FORMAT = 2  # 1, without the key: the camera infos of `gwm collect` had pixel centres at + 0.5


class EpisodeWriter:
    """Writes ``<folder>.partial`` and renames it when closed.

    Args:
        folder: of the finished episode.
        info: episode.json as far as it is known at the begin, for a recovery.

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
            self._bag.set_compression(CompressionMode.STORAGE, CompressionFormat.ZSTD)
            self._bag.open()
            self._bag.storage.compressor = ZstdCompressor(_LEVEL, write_checksum=True).compress
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
        """Write a message of ``ros_messages``. ``stamp`` [ns] is the log time."""
        self.write_cdr(*serialized(topic, message, stamp))

    def write_cdr(self, topic: str, kind: str, content, stamp: int) -> None:
        """Write a message of type ``kind`` that is already serialised."""
        if topic not in self._connections:
            self._connections[topic] = self._bag.add_connection("/" + topic, kind, typestore=STORE)
        self._bag.write(self._connections[topic], stamp, content)

    def sync(self) -> None:
        """Put all messages so far on disk, where a recovery finds them."""
        storage = self._bag.storage
        if storage.chunk.msgs:
            storage.close_chunk()
        storage.bio.flush()
        os.fsync(storage.bio.fileno())

    def close(self, info: dict) -> Path:
        """Write episode.json with ``info`` and the bag's hash; returns the finished folder."""
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
        """Leave the episode unfinished, as a crash would."""
        with contextlib.suppress(OSError):  # a full disk takes the last bytes no better now
            self._bag.abort()

    def discard(self) -> Path:
        """Move the unfinished episode to the trash; returns its new path."""
        self.abort()
        return move_to_trash(self.partial)


def move_to_trash(path: Path) -> Path:
    """Move a folder into ``trash`` beside it, under a unique name; returns its new path."""
    trash = path.parent / TRASH
    trash.mkdir(exist_ok=True)
    return path.rename(trash / f"{path.name}-{time.time_ns()}")


def _text(info: dict) -> str:
    return to_json(info, indent=1) + "\n"
