"""Read untrusted Parquet files in small batches, after a check of the sizes in their footer."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from gwm_core.errors import InputError
from gwm_core.interop.untrusted import (
    MAXIMUM_EPISODE_BYTES,
    MAXIMUM_EPISODES,
    UntrustedFolder,
    damage_as_input_error,
    needed,
)

MAXIMUM_GROUP_BYTES = 512 << 20  # [bytes] uncompressed of a row group
_MAXIMUM_FILE_ROWS = 50_000_000
_MAXIMUM_SMALL_BYTES = 256 << 20  # uncompressed, of a file that is read as a whole
_BATCH = 4096  # rows without images
_IMAGE_BATCH = 8  # rows with images
JITTER = 0.4  # fraction of a period that the time of a row may deviate


def _guarded(path: Path):
    """The errors of pyarrow as InputError."""
    pa = needed("pyarrow")
    kinds = (OSError, ValueError, TypeError, LookupError, MemoryError, OverflowError)
    return damage_as_input_error(path, (pa.ArrowException, *kinds))


def _open(source: UntrustedFolder, name: str, maximum_rows: int, maximum_bytes: int):
    """A ParquetFile whose footer is consistent and within the bounds."""
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
        if about.num_rows > maximum_rows or sum(largest) > maximum_bytes:
            raise InputError(f"{path} says {about.num_rows} rows, {sum(largest)} bytes: too many")
        if max(largest, default=0) > MAXIMUM_GROUP_BYTES:
            raise InputError(
                f"{path}: a row group of {max(largest)} bytes: at most {MAXIMUM_GROUP_BYTES} are"
                " read"
            )
    return path, file


def _items(names: list[str]) -> list[str]:
    """Leaf names of list columns, both spellings; pyarrow ignores missing ones."""
    return [f"{name}.list.{item}" for name in names for item in ("element", "item")]


def read_small(
    source: UntrustedFolder, name: str, numbers: list[str], texts: list[str]
) -> list[dict]:
    """Rows of a table of the ``meta`` folder.

    Args:
        source: the dataset.
        name: of the file.
        numbers: columns of numbers, all required.
        texts: columns of texts or lists of texts, all optional.

    Raises:
        InputError: a column of numbers is missing, or a column has another type.
    """
    pa = needed("pyarrow")
    path, file = _open(source, name, MAXIMUM_EPISODES, _MAXIMUM_SMALL_BYTES)
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
        self._name = ""
        self._batches: Iterator = iter(())
        self._remainder = None  # of a batch

    def take(
        self, where, name: str, episode: int, start: int, length: int, fps: int
    ) -> tuple[dict, dict]:
        """The next ``length`` rows of the file ``name``: columns (T, n), and encoded images.

        Raises InputError unless their indices and times are those of the episode.
        """
        if name != self._name:
            self._name = name
            self._batches = self._read(name)
            self._remainder = None
        parts = {key: [] for key in self._kinds if key not in self._images}
        budget = MAXIMUM_EPISODE_BYTES
        images = {key: [] for key in self._images}
        while length > sum(len(block) for block in parts["index"]):
            batch = self._remainder if self._remainder is not None else next(self._batches, None)
            if batch is None:
                raise InputError(
                    f"{self._source.root / name} ends before {where.rpartition(', ')[2]} does"
                )
            wanted = length - sum(len(block) for block in parts["index"])
            self._remainder = batch.slice(wanted) if len(batch) > wanted else None
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
                raise InputError(f"{where}: more than {MAXIMUM_EPISODE_BYTES} bytes of images")
        columns = {key: np.concatenate(blocks) for key, blocks in parts.items()}
        _require_order(where, columns, episode, start, length, fps)
        return columns, images

    def _read(self, name: str) -> Iterator:
        path, file = _open(self._source, name, _MAXIMUM_FILE_ROWS, 1 << 62)
        with _guarded(path), file:
            for key, kind in self._kinds.items():
                _require_type(path, key, kind, file.schema_arrow)
            yield from file.iter_batches(
                _IMAGE_BATCH if self._images else _BATCH, columns=self._leaves(), use_threads=False
            )

    def _leaves(self) -> list[str]:
        """Leaf names of the columns; the prefix ``action`` would select ``action.joints`` too."""
        leaves = []
        for key, kind in self._kinds.items():
            image, vector = kind["dtype"] == "image", kind["shape"] != [1]
            leaves += [f"{key}.bytes"] if image else _items([key]) if vector else [key]
        return leaves


def _require_type(path: Path, key: str, kind: dict, schema) -> None:
    """Raise InputError unless a column has the type of info.json."""
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


def _require_order(
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
    deviation = np.abs(columns["timestamp"][:, 0] - rows / fps)
    allowed = JITTER / fps
    if not (deviation < allowed).all():
        row = int(np.argmax(~(deviation < allowed)))
        found = (
            f"{columns['timestamp'][row, 0]:.6g} s, {row / fps:.6g} s is wanted, within"
            f" {allowed:.3g} s"
        )
        raise InputError(f"{where}: timestamp of row {row} is {found}, at {fps} Hz from 0 on")
