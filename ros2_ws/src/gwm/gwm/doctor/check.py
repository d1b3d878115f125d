"""One finding of ``gwm doctor``."""

from __future__ import annotations

from typing import NamedTuple

OK, LIMITED, BROKEN = 0, 1, 2  # levels; the worst one is the exit code


class DoctorCheck(NamedTuple):
    """One line: level, what was checked, what was found, and what to do about it."""

    level: int
    what: str
    found: str
    remedy: str = ""
