"""The recorder without ROS: it buffers the last seconds, writes episodes and watches the disk."""

from __future__ import annotations

import contextlib
import math
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from zstandard import FRAME_HEADER, ZstdCompressor, ZstdDecompressor

from gwm_core.data.episode_info import INFO, read_info, replace_info
from gwm_core.data.episode_writer import EpisodeWriter
from gwm_core.errors import InputError
from gwm_core.recording.interventions import Interventions
from gwm_core.recording.marks import OF_VERDICT
from gwm_core.recording.ring_buffer import RingBuffer

_LARGE = 1 << 16  # [bytes] of a message that the buffer holds compressed, as stored depth
SYNC = 0.5  # [s] between syncs: a crash loses at most this, and messages not yet received


@dataclass(frozen=True)
class DiskConfig:
    """Space that must be free. An episode begins only with space for two of ``episode_mb``."""

    episode_mb: int = 500
    # fraction of the disk: with less free, the recorder saves the episode and stops
    free: float = 0.05


@dataclass
class Recorder:
    """Records episodes into ``parent``, and buffers the last seconds of every topic.

    It is for one thread, which keeps all calls in order.
    """

    parent: Path
    about: dict  # fields of every episode.json
    ring: RingBuffer
    disk: DiskConfig = DiskConfig()
    saved: str = ""  # the last episode that is on disk
    verdict: bool | None = None  # of the last saved episode
    episodes: int = 0  # finished ones in the folder
    cut: str = ""  # why the last episode ended early
    free: float = math.nan  # fraction of the disk; NaN where unknown
    buffered: float = 0.0  # [s] in the ring buffer
    # messages that are not in the episode: reason -> topic -> count
    counts: dict[str, dict[str, int]] = field(default_factory=dict)
    interventions: Interventions = field(default_factory=Interventions)  # of the episode
    _result: dict = field(default_factory=dict)
    _marks: dict = field(default_factory=dict)
    _writer: EpisodeWriter | None = None
    _begun: float = -math.inf
    _last_stamp: int = 0  # [ns] of the newest message of the episode
    _synced: float = -math.inf

    def __post_init__(self):
        found = self.parent.glob("episode_[0-9]*")
        self.episodes = sum("." not in path.name for path in found)

    @property
    def is_recording(self) -> bool:
        """Whether an episode is being recorded."""
        return self._writer is not None

    def take(self, now: float, topic: str, kind: str, content: bytes, stamp: int) -> None:
        """Take a serialised message that arrived at ``now`` [s], with log time ``stamp`` [ns]."""
        kept = _packed(content)
        self.ring.add(now, (topic, kind, kept, stamp), len(kept))
        if self._writer is not None and now >= self._begun:
            self._last_stamp = stamp
            self._guarded(lambda: self._writer.write_cdr(topic, kind, content, stamp))

    def count_missing(self, reason: str, topic: str, count: int = 1) -> None:
        """Count messages that are not in the episode: "dropped" here, or "lost" in transport."""
        if self._writer is not None:
            counts = self.counts.get(reason, {})
            # a new object, as other threads may read the old one
            self.counts = {**self.counts, reason: {**counts, topic: counts.get(topic, 0) + count}}

    def result(self, info: dict) -> bool:
        """Take the simulation's result of the episode; False where none is recorded."""
        if self._writer is not None:
            self._result = info
        return self._writer is not None

    def mark(self, info: dict) -> bool:
        """Take the operator's fields, which override those of ``result``."""
        if self._writer is not None:
            self._marks = self._marks | info
        return self._writer is not None

    def tick(self, now: float) -> None:
        """Sync and check the disk, every ``SYNC`` seconds; save when the disk is nearly full."""
        if now - self._synced < SYNC:
            return
        self._synced = now
        self.free = self._free_fraction()
        self.buffered = self.ring.seconds
        if self._writer is not None:
            self._guarded(self._writer.sync)
        if self._writer is not None and self.free < self.disk.free:
            try:
                self.save({"cut": "disk nearly full"})
                self.cut = f"less than {self.disk.free:.0%} of the disk is free: saved and stopped"
            except InputError as error:
                self.cut = str(error)

    def _free_fraction(self) -> float:
        """Free fraction of the disk of the episodes."""
        try:
            usage = shutil.disk_usage(self._disk())
        except OSError:  # writing an episode gives the reason
            return math.nan
        return usage.free / usage.total

    def _disk(self) -> Path:
        return next(
            path for path in (self.parent, *self.parent.absolute().parents) if path.exists()
        )

    def start(self, now: float = -math.inf) -> Path:
        """Begin an episode with the messages that arrive from ``now`` [s] on.

        Raises InputError while one is recorded, or without space on the disk.
        """
        if self._writer is not None:
            raise InputError("already recording: save or discard first")
        usage = shutil.disk_usage(self._disk())
        wanted = 2 * self.disk.episode_mb << 20  # [bytes]
        if usage.free < max(wanted, self.disk.free * usage.total):
            raise InputError(
                f"{usage.free >> 20} MB of {usage.total >> 20} are free where episodes go:"
                f" {wanted >> 20} MB and {self.disk.free:.0%} are wanted; make room, or name"
                " another folder with record:="
            )
        self._writer = EpisodeWriter(self._new_folder("episode"), self.about)
        self.cut = ""
        self._begun = now
        self.counts = {}
        self.interventions = Interventions()
        self._result = {}
        self._marks = {}
        return self._writer.folder

    def save(self, info: Mapping = MappingProxyType({})) -> Path:
        """Close the episode and return its folder, which is on disk then.

        Later fields of episode.json override earlier ones: ``about``, the simulation's result, the
        operator's fields, ``info``, and the counts.

        Raises InputError when none is recorded, or it cannot be saved.
        """
        writer = self._take_writer()
        fields = {**self.about, **self._result, **self._marks, **info, **self.counts}
        if (intervals := self.interventions.intervals(self._last_stamp)) is not None:
            fields["interventions"] = intervals
        try:
            self.saved = str(writer.close(fields))
        except OSError as error:
            writer.abort()
            raise InputError(
                f"{error.strerror}: not saved; make room, then `gwm data recover {writer.partial}`"
            ) from None
        self.verdict = fields.get("success")
        self.episodes += 1
        return Path(self.saved)

    def correct(self, episode: str, success: bool) -> Path:
        """Replace the verdict on the last saved episode, of this name; return its folder.

        Raises InputError when another one was saved last, or episode.json cannot be changed.
        """
        file = Path(self.saved) / INFO
        if not self.saved or not file.exists():
            raise InputError("no saved episode to correct")
        if file.parent.name != episode:
            raise InputError(f"{file.parent.name} was saved last, not {episode}: look at it again")
        try:
            info = read_info(file.parent)
            kept = {key: value for key, value in info.items() if key not in OF_VERDICT}
            replace_info(file.parent, kept | {"success": success, "corrected": True})
        except (OSError, ValueError) as error:
            raise InputError(f"{file} was not corrected: {error}") from None
        self.verdict = success
        return file.parent

    def seconds(self, now: float) -> float:
        """For how long [s] the present episode has been recorded; 0 without one."""
        passed = now - self._begun
        return passed if self._writer is not None and math.isfinite(passed) else 0.0

    def discard(self) -> Path:
        """Move the episode to the trash; returns its path. Raises InputError if there is none."""
        return self._take_writer().discard()

    def keep(self) -> Path:
        """Save the buffered seconds as an episode. Raises InputError when the buffer is empty."""
        if not len(self.ring):
            raise InputError("nothing came in the last seconds")
        writer = EpisodeWriter(self._new_folder("kept"), self.about)
        try:
            for topic, kind, content, stamp in self.ring:
                writer.write_cdr(topic, kind, _unpacked(content), stamp)
            return writer.close(self.about | {"kept": round(self.ring.seconds, 1)})
        except OSError as error:
            writer.abort()
            shutil.rmtree(
                writer.partial, ignore_errors=True
            )  # its messages are still in the buffer
            raise InputError(f"{error.strerror}: not kept; make room and try again") from None

    def abandon(self) -> Path | None:
        """Leave the episode unfinished, for ``gwm data recover``; returns its path."""
        writer, self._writer = self._writer, None
        if writer is None:
            return None
        with contextlib.suppress(OSError):  # a full disk; earlier syncs are on it
            writer.sync()
        writer.abort()
        return writer.partial

    def _take_writer(self) -> EpisodeWriter:
        if self._writer is None:
            raise InputError(f"not recording: {self.cut or 'start first'}")
        writer, self._writer = self._writer, None
        return writer

    def _guarded(self, write) -> None:
        """Write; an error of the disk ends the recording and leaves the episode for a recovery."""
        try:
            write()
        except OSError as error:
            self._writer.abort()
            partial, self._writer = self._writer.partial, None
            self.cut = f"{error.strerror}: not saved; make room, then `gwm data recover {partial}`"

    def _new_folder(self, kind: str) -> Path:
        """The folder with the next number that no finished or unfinished episode has."""
        taken = [
            path.name.removeprefix(f"{kind}_").partition(".")[0]
            for path in self.parent.glob(f"{kind}_[0-9]*")
        ]
        number = max((int(name) for name in taken if name.isdigit()), default=-1) + 1
        return self.parent / f"{kind}_{number:06d}"


def _packed(content: bytes) -> bytes:
    """A serialised message, compressed where it is large."""
    return ZstdCompressor(1).compress(content) if len(content) > _LARGE else content


def _unpacked(content: bytes) -> bytes:
    """The message of ``_packed``. None begins as zstd does: CDR's first byte is 0."""
    return ZstdDecompressor().decompress(content) if content[:4] == FRAME_HEADER else content
