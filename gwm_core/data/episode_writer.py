"""Write one episode: a folder with ``bag/`` (rosbag2, MCAP) and ``episode.json``.

The folder ends in ``.partial`` until it is whole and on disk. A crash leaves a ``.partial``, of which
``gwm_core.recording.episode_recovery`` keeps what had been synced.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from pathlib import Path

from rosbags.rosbag2 import StoragePlugin, Writer

from gwm_core.data.episode_info import INFO, TRASH
from gwm_core.data.ros_messages import STORE, serialized
from gwm_core.errors import InputError
from gwm_core.files.atomic_write import PARTIAL, to_disk
from gwm_core.files.checksums import sha256
from gwm_core.files.json_files import to_json

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
        """Finish with ``info`` and the bag's hash as episode.json; returns the folder, on disk from
        here on.
        """
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
        """Leave it unfinished, as a crash would."""
        with contextlib.suppress(OSError):  # a full disk takes the last bytes no better now
            self._bag.abort()

    def discard(self) -> Path:
        """Leave it unfinished in the trash, where nobody reads it; returns where."""
        self.abort()
        return move_to_trash(self.partial)


def move_to_trash(path: Path) -> Path:
    """Move a folder into ``trash`` beside it, under a name of its own; returns where."""
    trash = path.parent / TRASH
    trash.mkdir(exist_ok=True)
    return path.rename(trash / f"{path.name}-{time.time_ns()}")


def _text(info: dict) -> str:
    return to_json(info, indent=1) + "\n"
