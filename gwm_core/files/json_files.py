"""JSON as the standard has it: what is undefined, NaN or infinite, is written as null."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path


def to_json(value, **style) -> str:
    """JSON text of ``value``; ``style`` are the layout arguments of ``json.dumps``."""
    return json.dumps(_defined(value), allow_nan=False, **style)


STDOUT = "-"  # where a file is asked for on a command line


def write_json(path: Path | str, value) -> None:
    """Write ``value`` to a file, indented; to the process's own standard output for "-"."""
    text = to_json(value, indent=1) + "\n"
    if str(path) == STDOUT:
        sys.__stdout__.write(text)
        sys.__stdout__.flush()
    else:
        Path(path).write_text(text)


def _defined(value):
    """``value`` with None in place of every float that is not finite."""
    if isinstance(value, dict):
        return {name: _defined(part) for name, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_defined(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
