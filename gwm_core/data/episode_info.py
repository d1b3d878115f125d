"""What episode.json may say: whoever reads it has to be able to rely on the types."""

from __future__ import annotations

import math


def _number(value) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _windows(value) -> bool:
    return isinstance(value, list) and all(
        isinstance(window, list)
        and len(window) == 2
        and all(type(end) is int and 0 <= end < 2**63 for end in window)
        for window in value
    )


_KNOWN = {  # name: what it is, and whether a value is that
    "task": ("a text", lambda value: isinstance(value, str)),
    "seed": ("a whole number", lambda value: value is None or type(value) is int),
    "success": ("true or false", lambda value: value is None or isinstance(value, bool)),
    "seconds": ("a number", _number),
    "cameras": ("an object of cameras", lambda value: isinstance(value, dict)),
    "sha256": ("an object of hashes", lambda value: isinstance(value, dict)),
    "unusable": ("a list of [begin, end] in ns", _windows),
}


def checked(info) -> dict:
    """``info`` if all that is known by name is of its type. Raises ValueError."""
    if not isinstance(info, dict):
        raise ValueError("it is no JSON object")
    for name, (what, right) in _KNOWN.items():
        if name in info and not right(info[name]):
            raise ValueError(f"'{name}' is {str(info[name])[:40]!r}, {what} is wanted")
    return info
