"""Rows of samples that stay on disk until they are asked for."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np


class StoredRows:
    """Rows (S, ...) of memory-mapped arrays, one array after another, or some of these rows.

    An index along the first axis reads rows into memory. ``kept`` reads nothing.

    Args:
        parts: arrays of one shape but for the first axis, and of one dtype.
        index: (S,) numbers of rows over all parts; by default all in order.

    Attributes:
        shape, dtype: as of an array.
    """

    def __init__(self, parts: Sequence[np.ndarray], index: np.ndarray | None = None):
        self._parts = tuple(parts)
        self._begins = np.cumsum([0, *map(len, self._parts)])
        self._index = index
        count = int(self._begins[-1]) if index is None else len(index)
        self.shape = count, *self._parts[0].shape[1:]
        self.dtype = self._parts[0].dtype

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key) -> np.ndarray:
        """The row of a number, or the rows of a slice, a mask or numbers; further indices follow in
        a tuple.
        """
        key, *rest = key if isinstance(key, tuple) else (key,)
        numbers = np.arange(len(self))[key]
        rows = self._read(np.atleast_1d(numbers))
        return rows[(slice(None), *rest)] if np.ndim(numbers) else rows[(0, *rest)]

    def __array__(self, dtype=None, copy=None) -> np.ndarray:
        return np.asarray(self[:], dtype)

    def kept(self, key: np.ndarray) -> StoredRows:
        """The rows of a mask or of numbers, not read yet."""
        index = np.arange(len(self)) if self._index is None else self._index
        return StoredRows(self._parts, index[key])

    def _read(self, numbers: np.ndarray) -> np.ndarray:
        if self._index is not None:
            numbers = self._index[numbers]
        rows = np.empty((len(numbers), *self.shape[1:]), self.dtype)
        part_of = np.searchsorted(self._begins, numbers, side="right") - 1
        for part in np.unique(part_of):
            here = part_of == part
            rows[here] = self._parts[part][numbers[here] - self._begins[part]]
        return rows


def joined(
    parts: Sequence[dict[str, np.ndarray]], stored: Collection[str]
) -> dict[str, np.ndarray | StoredRows]:
    """The rows of several dicts of arrays, one after another.

    Args:
        stored: names of the arrays that stay on disk; the others are read into memory.
    """
    return {
        name: StoredRows([part[name] for part in parts])
        if name in stored
        else np.concatenate([part[name] for part in parts])
        for name in parts[0]
    }
