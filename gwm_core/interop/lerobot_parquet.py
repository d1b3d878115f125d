"""Parquet of strangers: measured by its footer before anything is read, then read in small
batches.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from gwm_core.errors import InputError
from gwm_core.interop.untrusted import LARGEST_EPISODE, MOST_EPISODES, UntrustedFolder, needed

LARGEST_GROUP = 512 << 20  # [bytes] uncompressed of a row group
_MOST_ROWS = 50_000_000  # of a file
_SMALL = 256 << 20  # [bytes] uncompressed of a file that is read whole
_BATCH = 4096  # rows, where there are no images
_FEW = 8  # rows, where there are
JITTER = 0.4  # of a period that a row may be off its time: farther, it is that of the next


@contextmanager
def _guarded(path: Path) -> Iterator[None]:
    """Errors of pyarrow as InputError: it has many, and all mean that the file is damaged."""
    pa = needed("pyarrow")
    try:
        yield
    except InputError:
        raise
    except (
        pa.ArrowException,
        OSError,
        ValueError,
        TypeError,
        LookupError,
        MemoryError,
        OverflowError,
    ) as error:
        reason = (str(error).splitlines() or [""])[0][:80]
        raise InputError(f"{path} cannot be read ({type(error).__name__}: {reason})") from None


def _open(source: UntrustedFolder, name: str, most_rows: int, most_bytes: int):
    """A ParquetFile whose footer promises no more than it may."""
    path, pq = source.file(name), needed("pyarrow.parquet")
    with _guarded(path):
        file = pq.ParquetFile(
            path,
            buffer_size=1 << 20,
            pre_buffer=False,
            memory_map=False,
            thrift_string_size_limit=64 << 20,
            thrift_container_size_limit=1_000_000,
        )
        about = file.metadata
        groups = [about.row_group(k) for k in range(about.num_row_groups)]
        rows, largest = (
            [group.num_rows for group in groups],
            [group.total_byte_size for group in groups],
        )
        if about.num_rows != sum(rows) or min(rows, default=0) < 0 or min(largest, default=0) < 0:
            raise InputError(f"{path}: the footer contradicts itself about its rows")
        if about.num_rows > most_rows or sum(largest) > most_bytes:
            raise InputError(f"{path} says {about.num_rows} rows, {sum(largest)} bytes: too many")
        if max(largest, default=0) > LARGEST_GROUP:
            raise InputError(
                f"{path}: a row group of {max(largest)} bytes: at most {LARGEST_GROUP} are read"
            )
    return path, file


def _items(names: list[str]) -> list[str]:
    """Lists as Parquet names what is in them; those there are not do no harm."""
    return [f"{name}.list.{item}" for name in names for item in ("element", "item")]


def read_small(
    source: UntrustedFolder, name: str, numbers: list[str], texts: list[str]
) -> list[dict]:
    """Rows of a table of the ``meta`` folder: columns of ``numbers``, and of ``texts`` or lists of
    them, where there.

    Raises InputError when a column of numbers is missing, or any is of another type.
    """
    pa = needed("pyarrow")
    path, file = _open(source, name, MOST_EPISODES, _SMALL)
    with _guarded(path), file:
        kinds = dict(zip(file.schema_arrow.names, file.schema_arrow.types))
        keys = [*numbers, *(key for key in texts if key in kinds)]
        leaves = []
        for key in keys:
            if key not in kinds:
                raise InputError(f"{path}: column {key} is missing")
            kind, listed = kinds[key], _is_list(kinds[key])
            good = (
                _is_text(kind.value_type if listed else kind)
                if key in texts
                else (pa.types.is_floating(kind) or pa.types.is_integer(kind))
            )
            if not good:
                raise InputError(f"{path}: column {key} is {str(kind)[:40]}")
            leaves += _items([key]) if listed else [key]
        found = []
        for batch in file.iter_batches(_BATCH, columns=leaves):
            found += batch.to_pylist()
    for row in found:
        if missing := [key for key in keys if row.get(key) is None]:
            raise InputError(f"{path}: a row has no {missing[0]}")
    return found


def _is_list(kind) -> bool:
    types = needed("pyarrow").types
    return types.is_list(kind) or types.is_large_list(kind)


def _is_text(kind) -> bool:
    types = needed("pyarrow").types
    return types.is_string(kind) or types.is_large_string(kind)


class ParquetRows:
    """The rows of a dataset's data files, in the order of its episodes."""

    def __init__(self, source: UntrustedFolder, kinds: dict[str, dict]):
        self._source = source
        self._kinds = {name: kind for name, kind in kinds.items() if kind["dtype"] != "video"}
        self._images = [name for name, kind in self._kinds.items() if kind["dtype"] == "image"]
        self._name, self._batches, self._left = "", iter(()), None

    def take(
        self, where, name: str, episode: int, start: int, length: int, fps: int
    ) -> tuple[dict, dict]:
        """The next ``length`` rows, of the file ``name``: columns (T, n), and images as they are
        stored.

        Raises InputError unless their indices and times are those of the episode.
        """
        if name != self._name:
            self._name, self._batches, self._left = name, self._read(name), None
        parts, budget = {key: [] for key in self._kinds if key not in self._images}, LARGEST_EPISODE
        images = {key: [] for key in self._images}
        while length > sum(len(block) for block in parts["index"]):
            batch = self._left if self._left is not None else next(self._batches, None)
            if batch is None:
                raise InputError(
                    f"{self._source.root / name} ends before {where.rpartition(', ')[2]} does"
                )
            wanted = length - sum(len(block) for block in parts["index"])
            self._left = batch.slice(wanted) if len(batch) > wanted else None
            part = batch.slice(0, wanted)
            with _guarded(self._source.root / name):
                for key, blocks in parts.items():
                    blocks.append(
                        _numbers(where, key, part.column(key), self._kinds[key]["shape"][0])
                    )
                for key in self._images:
                    found = _bytes(where, key, part.column(key))
                    budget -= sum(map(len, found))
                    images[key] += found
            if budget < 0:
                raise InputError(f"{where}: more than {LARGEST_EPISODE} bytes of images")
        columns = {key: np.concatenate(blocks) for key, blocks in parts.items()}
        _in_order(where, columns, episode, start, length, fps)
        return columns, images

    def _read(self, name: str) -> Iterator:
        path, file = _open(self._source, name, _MOST_ROWS, 1 << 62)
        with _guarded(path), file:
            for key, kind in self._kinds.items():
                _suits(path, key, kind, file.schema_arrow)
            yield from file.iter_batches(
                _FEW if self._images else _BATCH, columns=self._leaves(), use_threads=False
            )

    def _leaves(self) -> list[str]:
        """Columns as Parquet names them; a prefix would select ``action.joints`` along with
        ``action``.
        """
        leaves = []
        for key, kind in self._kinds.items():
            image, vector = kind["dtype"] == "image", kind["shape"] != [1]
            leaves += [f"{key}.bytes"] if image else _items([key]) if vector else [key]
        return leaves


def _suits(path: Path, key: str, kind: dict, schema) -> None:
    """InputError unless the column has the type that info.json says."""
    pa = needed("pyarrow")
    if key not in schema.names:
        raise InputError(f"{path}: column {key} is missing")
    found = schema.field(key).type
    if kind["dtype"] == "image":
        good = pa.types.is_struct(found) and found.get_field_index("bytes") >= 0
        good = good and pa.types.is_binary(found.field("bytes").type)
    elif kind["shape"] == [1]:
        good = str(found) in ({"float32": "float"}.get(kind["dtype"], kind["dtype"]), "double")
    else:
        fixed = pa.types.is_fixed_size_list(found) and found.list_size == kind["shape"][0]
        good = (fixed or _is_list(found)) and pa.types.is_floating(found.value_type)
    if not good:
        raise InputError(
            f"{path}: column {key} is {str(found)[:60]}, not {kind['dtype']} {kind['shape']}"
        )


def _numbers(where, key: str, column, width: int) -> np.ndarray:
    """A column as (T, width)."""
    if column.null_count:
        raise InputError(f"{where}: {key} has gaps")
    values = column if width == 1 and not hasattr(column, "flatten") else column.flatten()
    if values.null_count or len(values) != len(column) * width:
        raise InputError(f"{where}: {key} has not {width} numbers in every row")
    return values.to_numpy(zero_copy_only=False).reshape(len(column), width)


def _bytes(where, key: str, column) -> list[bytes]:
    found = column.field("bytes").to_pylist()
    if any(not data for data in found):
        raise InputError(f"{where}: {key} has images that are not in the file")
    return found


def _in_order(
    where, columns: dict[str, np.ndarray], episode: int, start: int, length: int, fps: int
) -> None:
    rows = np.arange(length)
    for key, wanted in (
        ("episode_index", np.full(length, episode)),
        ("frame_index", rows),
        ("index", start + rows),
    ):
        if not np.array_equal(columns[key][:, 0], wanted):
            wrong = int(np.argmax(columns[key][:, 0] != wanted))
            raise InputError(
                f"{where}: {key} of row {wrong} is {columns[key][wrong, 0]}, not {wanted[wrong]}"
            )
    late, most = np.abs(columns["timestamp"][:, 0] - rows / fps), JITTER / fps
    if not (late < most).all():
        row = int(np.argmax(~(late < most)))
        found = (
            f"{columns['timestamp'][row, 0]:.6g} s, {row / fps:.6g} s is wanted, within"
            f" {most:.3g} s"
        )
        raise InputError(f"{where}: timestamp of row {row} is {found}, at {fps} Hz from 0 on")
