"""Addresses that go into command lines, or that policies are named by.

Standard library only, as launch files use it.
"""

from __future__ import annotations

import re
from pathlib import Path

from gwm_core.errors import InputError

SERVERS = ("ws://", "wss://")  # begin the address of a policy server


def is_server(policy: str) -> bool:
    """Whether a policy is named by the address of its server."""
    return policy.startswith(SERVERS)


def is_remote(policy: str) -> bool:
    """Whether a policy runs elsewhere: named by its server, or by the file of a contract."""
    return is_server(policy) or Path(policy).is_file()


def address(source: str, text) -> str:
    """Return ``text``. Raises InputError unless it can be an address or a host name, or is empty.

    Drivers put it into command lines and xacro.
    """
    if not isinstance(text, str) or not re.fullmatch(r"[A-Za-z0-9.:-]*", text):
        raise InputError(f"{source}: an address or a host name is wanted, got {text!r}")
    return text
