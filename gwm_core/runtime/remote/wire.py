"""Messages of openpi's policy servers: msgpack, with arrays as its ``msgpack_numpy`` writes them.

An array is a map of the keys ``__ndarray__``, ``data``, ``dtype`` and ``shape``, a single number
one of ``__npgeneric__``, ``data`` and ``dtype``, all as bytes. Nothing else than numbers and texts
is read.
"""

from __future__ import annotations

import math
import re

import msgpack
import numpy as np

# [bytes] of a message that comes in: 256 rows have less than 25 kB, and the reader of nested lists
# holds up every thread of the process
MAX_BYTES = 128 << 10
MAX_ENTRIES = 1000  # of a list or a map
_KINDS = "biuf"  # of numbers: bool, whole ones, floating point
_DTYPE = re.compile(r"[<>|=]?[biuf?][1248]?")
_MAX_DIMENSIONS = 8


def pack(values: dict) -> bytes:
    """A message. Values are texts, numbers, arrays of numbers, and lists and dicts of these."""
    return msgpack.packb(values, default=_encoded)


def unpack(data: bytes, longest: int = MAX_BYTES) -> dict:
    """Read a message. Raises ValueError where it is no map of such values, or has more than
    ``longest`` bytes.
    """
    if len(data) > longest:
        raise ValueError(f"a message of {len(data)} bytes, {longest} are the most")
    try:
        values = msgpack.unpackb(
            data,
            object_hook=_decoded,
            max_array_len=MAX_ENTRIES,
            max_map_len=MAX_ENTRIES,
            max_ext_len=0,
        )
    except (ValueError, TypeError, LookupError, ArithmeticError, RecursionError) as error:
        raise ValueError(f"no msgpack of numbers and texts: {str(error)[:100]}") from None
    if not isinstance(values, dict):
        raise ValueError(f"a map is wanted, not {type(values).__name__}")
    return values


def _encoded(value):
    if not isinstance(value, np.ndarray | np.generic) or value.dtype.kind not in _KINDS:
        raise TypeError(f"{type(value).__name__} cannot be sent")
    if isinstance(value, np.generic):
        return {b"__npgeneric__": True, b"data": value.item(), b"dtype": value.dtype.str}
    return {
        b"__ndarray__": True,
        b"data": value.tobytes(),
        b"dtype": value.dtype.str,
        b"shape": value.shape,
    }


def _decoded(value: dict):
    if b"__ndarray__" in value:
        return _array(value)
    if b"__npgeneric__" in value:
        if type(number := value.get(b"data")) not in (int, float, bool):
            raise ValueError(f"no number: {str(number)[:20]}")
        return _dtype(value).type(number)
    return value


def _array(value: dict) -> np.ndarray:
    """A copy. Raises ValueError where the parts do not fit each other."""
    dtype, shape, data = _dtype(value), value.get(b"shape"), value.get(b"data")
    if (
        not isinstance(shape, list)
        or len(shape) > _MAX_DIMENSIONS
        or not all(type(n) is int and n >= 0 for n in shape)
        or not isinstance(data, bytes)
        or math.prod(shape) * dtype.itemsize != len(data)
    ):
        raise ValueError(f"an array of shape {str(shape)[:60]} does not have these bytes")
    return np.frombuffer(data, dtype).reshape(shape).copy()


def _dtype(value: dict) -> np.dtype:
    name = value.get(b"dtype")
    if not isinstance(name, str) or not _DTYPE.fullmatch(name):
        raise ValueError(f"numbers of type {str(name)[:20]!r}")
    try:
        return np.dtype(name)
    except TypeError:
        raise ValueError(f"numbers of type {name!r}") from None
