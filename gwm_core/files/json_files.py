"""Standard JSON: NaN and infinity are written as null."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path


def to_json(value, **style) -> str:
    """JSON text of ``value``; ``style`` are the layout arguments of ``json.dumps``."""
    return json.dumps(_without_nan(value), allow_nan=False, **style)


def script_json(value, **style) -> str:
    """As ``to_json``, for a script element of an HTML page, which nothing in it can end."""
    return to_json(value, **style).replace("<", "\\u003c")


STDOUT = "-"  # as a file name on a command line


def write_json(path: Path | str, value) -> None:
    """Write ``value`` to a file, indented; for "-" to the standard output of the process."""
    text = to_json(value, indent=1) + "\n"
    if str(path) == STDOUT:
        sys.__stdout__.write(text)
        sys.__stdout__.flush()
    else:
        Path(path).write_text(text)


def _without_nan(value):
    """``value`` with None in place of every float that is not finite."""
    if isinstance(value, dict):
        return {name: _without_nan(part) for name, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_nan(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
