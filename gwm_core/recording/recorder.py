"""What a recorder does with what comes: keeps the last seconds, writes an episode, minds the
disk.
"""

from __future__ import annotations

import contextlib
import math
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from gwm_core.data.episode_writer import EpisodeWriter
from gwm_core.errors import InputError
from gwm_core.recording.ring_buffer import RingBuffer

SYNC = 0.5  # [s] between syncs: what a crash may take, at most, with what is on its way here


@dataclass(frozen=True)
class DiskConfig:
    """What must be left. An episode begins only where there is room for two of ``episode_mb``."""

    episode_mb: int = 500
    # share of the disk below which recording stops and what was recorded is saved
    free: float = 0.05


@dataclass
class Recorder:
    """Episodes in ``parent``, and the last seconds of everything. For one thread alone, so that all
    comes in one order.

    Attributes:
        about: what every episode.json says. saved: the last episode that is on disk. cut: why the
            last one ended early.
        free: share of the disk, NaN where it cannot be told. kept: [s] at hand. counts: messages
            that are not in the
        episode, by what became of them and topic.
    """

    parent: Path
    about: dict
    ring: RingBuffer
    disk: DiskConfig = DiskConfig()
    saved: str = ""
    cut: str = ""
    free: float = math.nan
    kept: float = 0.0
    counts: dict[str, dict[str, int]] = field(default_factory=dict)
    _result: dict = field(default_factory=dict)
    _marks: dict = field(default_factory=dict)
    _writer: EpisodeWriter | None = None
    _begun: float = -math.inf
    _synced: float = -math.inf

    @property
    def on(self) -> bool:
        """Whether an episode is being recorded."""
        return self._writer is not None

    def take(self, now: float, topic: str, kind: str, content: bytes, stamp: int) -> None:
        """A serialised message that came at ``now`` [s], with log time ``stamp`` [ns]."""
        self.ring.add(now, (topic, kind, content, stamp), len(content))
        if self._writer is not None and now >= self._begun:
            self._guarded(lambda: self._writer.write_cdr(topic, kind, content, stamp))

    def miss(self, what: str, topic: str, count: int = 1) -> None:
        """Messages that are not in the episode: "dropped" here, or "lost" on the way."""
        if self._writer is not None:
            counts = self.counts.get(what, {})
            # others may read it
            self.counts = {**self.counts, what: {**counts, topic: counts.get(topic, 0) + count}}

    def result(self, info: dict) -> bool:
        """What the simulation says of the episode; False where none is recorded."""
        if self._writer is not None:
            self._result = info
        return self._writer is not None

    def mark(self, info: dict) -> bool:
        """What the operator says of the episode, which counts more; False where none is
        recorded.
        """
        if self._writer is not None:
            self._marks = self._marks | info
        return self._writer is not None

    def tick(self, now: float) -> None:
        """Call often: looks at the disk and syncs when it is time, and saves when the disk is
        nearly full.
        """
        if now - self._synced < SYNC:
            return
        self._synced = now
        self.free = self._share_free()
        self.kept = self.ring.seconds
        if self._writer is not None:
            self._guarded(self._writer.sync)
        if self._writer is not None and self.free < self.disk.free:
            try:
                self.save({"cut": "disk nearly full"})
                self.cut = f"less than {self.disk.free:.0%} of the disk is free: saved and stopped"
            except InputError as error:
                self.cut = str(error)

    def _share_free(self) -> float:
        """Of the disk that episodes go to."""
        try:
            usage = shutil.disk_usage(self._disk())
        except OSError:  # writing will say what is wrong with it
            return math.nan
        return usage.free / usage.total

    def _disk(self) -> Path:
        return next(
            path for path in (self.parent, *self.parent.absolute().parents) if path.exists()
        )

    def start(self, now: float = -math.inf) -> Path:
        """Begin an episode of what came from ``now`` [s] on.

        Raises InputError while one is recorded, or without room on the disk.
        """
        if self._writer is not None:
            raise InputError("already recording: save or discard first")
        usage, wanted = shutil.disk_usage(self._disk()), 2 * self.disk.episode_mb << 20
        if usage.free < max(wanted, self.disk.free * usage.total):
            raise InputError(
                f"{usage.free >> 20} MB of {usage.total >> 20} are free where episodes go:"
                f" {wanted >> 20} MB and {self.disk.free:.0%} are wanted; make room, or name"
                " another folder with record:="
            )
        self._writer, self.cut = EpisodeWriter(self._new("episode"), self.about), ""
        self._begun = now
        self.counts = {}
        self._result = {}
        self._marks = {}
        return self._writer.folder

    def save(self, info: Mapping = MappingProxyType({})) -> Path:
        """Close the episode; on disk when this returns. Raises InputError when none is recorded, or
        it cannot be.

        episode.json says what every one does, then what the simulation and the operator said,
        ``info``, and the counts.
        """
        writer = self._take_writer()
        try:
            self.saved = str(
                writer.close({**self.about, **self._result, **self._marks, **info, **self.counts})
            )
        except OSError as error:
            writer.abort()
            raise InputError(
                f"{error.strerror}: not saved; make room, then `gwm data recover {writer.partial}`"
            ) from None
        return Path(self.saved)

    def discard(self) -> Path:
        """Put the episode into the trash; returns where. Raises InputError when none is
        recorded.
        """
        return self._take_writer().discard()

    def keep(self) -> Path:
        """Save the last seconds of everything. Raises InputError where nothing came."""
        if not len(self.ring):
            raise InputError("nothing came in the last seconds")
        writer = EpisodeWriter(self._new("kept"), self.about)
        try:
            for item in self.ring:
                writer.write_cdr(*item)
            return writer.close(self.about | {"kept": round(self.ring.seconds, 1)})
        except OSError as error:
            writer.abort()
            shutil.rmtree(writer.partial, ignore_errors=True)  # what it held is still at hand
            raise InputError(f"{error.strerror}: not kept; make room and try again") from None

    def abandon(self) -> Path | None:
        """Leave what is unfinished as it is, for ``gwm data recover``; returns where."""
        writer, self._writer = self._writer, None
        if writer is None:
            return None
        with contextlib.suppress(OSError):  # a full disk; what had been synced is there
            writer.sync()
        writer.abort()
        return writer.partial

    def _take_writer(self) -> EpisodeWriter:
        if self._writer is None:
            raise InputError(f"not recording: {self.cut or 'start first'}")
        writer, self._writer = self._writer, None
        return writer

    def _guarded(self, write) -> None:
        """Write; a disk that will not take it ends the recording, with what is there left to be
        recovered.
        """
        try:
            write()
        except OSError as error:
            self._writer.abort()
            partial, self._writer = self._writer.partial, None
            self.cut = f"{error.strerror}: not saved; make room, then `gwm data recover {partial}`"

    def _new(self, kind: str) -> Path:
        """A folder that is not there, whole or not."""
        taken = [
            path.name.removeprefix(f"{kind}_").partition(".")[0]
            for path in self.parent.glob(f"{kind}_[0-9]*")
        ]
        number = max((int(name) for name in taken if name.isdigit()), default=-1) + 1
        return self.parent / f"{kind}_{number:06d}"
