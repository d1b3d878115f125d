"""Check addresses for use in command lines. Standard library only, as launch files use it."""

from __future__ import annotations

import re

from gwm_core.errors import InputError


def address(source: str, text) -> str:
    """Return ``text``. Raises InputError unless it can be an address or a host name, or is empty.

    Drivers put it into command lines and xacro.
    """
    if not isinstance(text, str) or not re.fullmatch(r"[A-Za-z0-9.:-]*", text):
        raise InputError(f"{source}: an address or a host name is wanted, got {text!r}")
    return text
