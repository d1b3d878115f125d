"""An episode that was never closed, made whole up to the last chunk that reached the disk."""

from __future__ import annotations

import shutil
import struct
from collections.abc import Iterator
from pathlib import Path

from mcap.exceptions import McapError
from mcap.records import Channel, Message, Schema
from mcap.stream_reader import StreamReader

from gwm_core.data.episode import BROKEN, INFO, PARTIAL, EpisodeWriter, read_info, throw_away
from gwm_core.errors import InputError

_LARGEST = 64 << 20  # [bytes] of a record; a longer one is a damaged length


def unfinished(folder: Path) -> list[Path]:
    """Episodes in and below ``folder`` that were never closed, or not recovered to the end; its trash left out."""
    found = {path.with_suffix("") for path in Path(folder).rglob(f"*{BROKEN}")}
    found |= {path.with_suffix("") for path in Path(folder).rglob(f"*{PARTIAL}") if path.is_dir()}
    return sorted(path for path in found if "trash" not in path.relative_to(folder).parts)


def recover(folder: Path) -> tuple[Path, int, float]:
    """Make the episode ``folder`` from its ``.partial``, which goes to the trash; interrupted, it can be called again.

    Returns:
        the folder, how many messages it has, and the time [s] from the first to the last.

    Raises:
        InputError: there is nothing to recover, or not a single message.
    """
    folder = Path(folder).with_suffix("") if Path(folder).suffix in (PARTIAL, BROKEN) else Path(folder)
    partial, broken = (folder.with_name(folder.name + ending) for ending in (PARTIAL, BROKEN))
    if folder.exists():
        raise InputError(f"{folder} is there already: move {partial} elsewhere if both are wanted")
    if not broken.is_dir():
        if not partial.is_dir():
            raise InputError(f"no {partial} to recover")
        partial.rename(broken)
    shutil.rmtree(partial, ignore_errors=True)  # by a recovery that was interrupted
    info = _begun(broken)
    writer, stamps = EpisodeWriter(folder, info), []
    for topic, kind, content, stamp in salvaged(broken):
        writer.write_cdr(topic, kind, content, stamp)
        stamps.append(stamp)
    if not stamps:
        writer.abort()
        shutil.rmtree(writer.partial)
        raise InputError(f"nothing of {broken} reached the disk: remove it")
    writer.close(info | {"recovered": True})
    throw_away(broken)
    return folder, len(stamps), (max(stamps) - min(stamps)) * 1e-9


def _begun(broken: Path) -> dict:
    """What was known of the episode when it began. Raises InputError where that is lost."""
    try:
        info = read_info(broken)
        return {"unusable": [], "cameras": info["cameras"]} | info
    except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
        raise InputError(
            f"{broken / INFO} cannot be read ({error!r}): copy that of another episode of the day"
        ) from None


def salvaged(bag: Path) -> Iterator[tuple[str, str, bytes, int]]:
    """Topic, type, content and log time [ns] of every message below ``bag`` up to where its file is damaged."""
    for path in sorted(bag.rglob("*.mcap")):
        schemas: dict[int, Schema] = {}
        channels: dict[int, Channel] = {}
        with open(path, "rb") as file:
            records = iter(StreamReader(file, record_size_limit=_LARGEST).records)
            while (record := _next(records)) is not None:
                if isinstance(record, Schema):
                    schemas[record.id] = record
                elif isinstance(record, Channel):
                    channels[record.id] = record
                elif isinstance(record, Message) and record.channel_id in channels:
                    channel = channels[record.channel_id]
                    yield channel.topic.lstrip("/"), schemas[channel.schema_id].name, record.data, record.log_time


def _next(records: Iterator):
    """The next record, or None where the file ends or makes no sense any more."""
    try:
        return next(records, None)
    except (McapError, struct.error, ValueError, EOFError, KeyError, OverflowError, MemoryError):
        return None
