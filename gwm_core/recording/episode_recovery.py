"""Recover an episode that was never closed from the chunks that reached the disk."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from mcap.records import Channel, Chunk, McapRecord, Message, Schema
from mcap.stream_reader import StreamReader

from gwm_core import topics
from gwm_core.data.bag import DAMAGE, files, records_of
from gwm_core.data.episode_info import BROKEN, INFO, read_info
from gwm_core.data.episode_writer import EpisodeWriter, move_to_trash
from gwm_core.data.ros_messages import deserialize
from gwm_core.errors import InputError
from gwm_core.files.atomic_write import PARTIAL
from gwm_core.recording.interventions import Interventions

_MAXIMUM_RECORD = 64 << 20  # [bytes]; a longer one is a damaged length


def recover(folder: Path, note: Callable[[str], None] = warnings.warn) -> tuple[Path, int, float]:
    """Recover the episode ``folder`` from its ``.partial``, which then goes to the trash.

    After an interruption it can be called again.

    Args:
        folder: of the episode, with or without its ending.
        note: called with one line about lost data.

    Returns:
        the folder, the number of its messages, and the time [s] from the first to the last.

    Raises:
        InputError: there is nothing to recover, or no message can be read.
    """
    folder = (
        Path(folder).with_suffix("") if Path(folder).suffix in (PARTIAL, BROKEN) else Path(folder)
    )
    partial, broken = (folder.with_name(folder.name + ending) for ending in (PARTIAL, BROKEN))
    if folder.exists():
        raise InputError(f"{folder} is there already: move {partial} elsewhere if both are wanted")
    if not broken.is_dir():
        if not partial.is_dir():
            raise InputError(f"no {partial} to recover")
        partial.rename(broken)
    shutil.rmtree(partial, ignore_errors=True)  # by a recovery that was interrupted
    info = _initial_info(broken)
    files(broken)  # raises before anything is written
    writer, stamps, interventions = EpisodeWriter(folder, info), [], Interventions()
    for topic, kind, content, stamp in salvage_messages(broken, note):
        writer.write_cdr(topic, kind, content, stamp)
        stamps.append(stamp)
        if topic == topics.CHUNK:
            interventions.chunk(deserialize(content, kind).header.frame_id, stamp)
    if not stamps:
        writer.abort()
        shutil.rmtree(writer.partial)
        size = sum(path.stat().st_size for path in broken.rglob("*.mcap"))
        raise InputError(
            f"nothing of {broken} can be read ({size} bytes of .mcap): remove it if it is not"
            " wanted"
        )
    taken = interventions.intervals(max(stamps))
    known = {} if taken is None else {"interventions": taken}
    writer.close(info | known | {"recovered": True})
    move_to_trash(broken)
    return folder, len(stamps), (max(stamps) - min(stamps)) * 1e-9


def _initial_info(broken: Path) -> dict:
    """episode.json as it was at the begin. Raises InputError where it cannot be read."""
    try:
        info = read_info(broken)
        return {"unusable": [], "cameras": info["cameras"]} | info
    except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
        raise InputError(
            f"{broken / INFO} cannot be read ({error!r}): copy that of another episode of the day"
        ) from None


def salvage_messages(
    bag: Path, note: Callable[[str], None] = warnings.warn
) -> Iterator[tuple[str, str, bytes, int]]:
    """Topic, type, content and log time [ns] of every readable message below ``bag``.

    Damaged chunks are left out. A file ends at the first record with a damaged length, as nothing
    behind it can be found.

    Args:
        bag: folder.
        note: called with one line per file with lost data.
    """
    for path in files(bag):
        yield from _messages(path, note)


def _messages(path: Path, note: Callable[[str], None]) -> Iterator[tuple[str, str, bytes, int]]:
    schemas: dict[int, Schema] = {}
    channels: dict[int, Channel] = {}
    chunks = damaged = unknown = 0
    with open(path, "rb") as file:
        for record in _records(file):
            chunks += isinstance(record, Chunk)
            try:
                parts = records_of(record) if isinstance(record, Chunk) else [record]
            except DAMAGE:
                damaged += 1
                continue
            for part in parts:
                if isinstance(part, Schema):
                    schemas[part.id] = part
                elif isinstance(part, Channel) and part.schema_id in schemas:
                    channels[part.id] = part
                elif isinstance(part, Message) and part.channel_id in channels:
                    channel = channels[part.channel_id]
                    yield (
                        channel.topic.lstrip("/"),
                        schemas[channel.schema_id].name,
                        part.data,
                        part.log_time,
                    )
                elif isinstance(part, Message):
                    unknown += 1
        rest = path.stat().st_size - file.tell()
    lost = [f"{damaged} of {chunks} chunks are damaged"] * bool(damaged)
    lost += [f"{unknown} messages are of topics that were described in them"] * bool(unknown)
    lost += [f"its last {rest} bytes cannot be read"] * bool(rest)
    if lost:
        note(f"{path}: {', '.join(lost)}: left out")


def _records(file: BinaryIO) -> Iterator[McapRecord]:
    """Records up to the end of the file or the first damaged one, where the file then stands."""
    records, at = (
        iter(StreamReader(file, emit_chunks=True, record_size_limit=_MAXIMUM_RECORD).records),
        0,
    )
    while True:
        try:
            record = next(records, None)
        except DAMAGE:
            file.seek(at)
            return
        if record is None:
            return
        at = file.tell()
        yield record
