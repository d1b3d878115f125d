"""The console's address: its port, its tokens, and the file that stores both for its owner.

A console that the same starter restarts keeps its address, so that open pages keep working. Tokens
are on no command line and in no log.
"""

from __future__ import annotations

import os
import secrets
import socket
import stat
import sys
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from gwm.console.access import OPERATOR, VIEWER
from gwm_core.errors import InputError

PORTS = 10  # tried, from the one that was asked for
FILE = "console.url"


@dataclass(frozen=True)
class ConsoleAddress:
    """A listening socket, and the role of each token."""

    sock: socket.socket
    port: int
    tokens: dict[str, str]


def address(file: Path, host: str, port: int, starter: str) -> ConsoleAddress:
    """Return the address in ``file`` where this ``starter`` wrote it, else a new one.

    A new address gets a free port from ``port`` on.

    Raises:
        InputError: no port is free.
    """
    stored = _read_address(file, starter)
    tokens = (
        stored[1] if stored else {secrets.token_urlsafe(32): role for role in (OPERATOR, VIEWER)}
    )
    reason = ""
    for number in dict.fromkeys([*(stored[:1] if stored else ()), *range(port, port + PORTS)]):
        try:
            return ConsoleAddress(socket.create_server((host, number)), number, tokens)
        except OSError as error:
            reason = error.strerror
    raise InputError(
        f"the console cannot listen on {host}, ports {port} to {port + PORTS - 1}: {reason}"
    )


def keep(file: Path, origin: str, tokens: dict[str, str], starter: str) -> list[str]:
    """Write the addresses, the operator's first, for their owner alone. Returns them."""
    urls = [f"{origin}/?token={token}" for token in tokens]
    file.unlink(missing_ok=True)
    with os.fdopen(os.open(file, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w") as out:
        out.write("\n".join([*urls, starter]) + "\n")
    return urls


def to_say(file: Path) -> str:
    """Return the operator's address for a terminal, else the file that holds it.

    A token belongs in no log.
    """
    return file.read_text().split()[0] if sys.stdout.isatty() else f"the address in {file}"


def starter_of(parent: int) -> str:
    """Return the id of the process that started this one, and its start in ticks since boot.

    proc(5) describes the fields.
    """
    fields = Path(f"/proc/{parent}/stat").read_text().rpartition(")")[2].split()
    return f"started by {parent} at {fields[19]}"


def _read_address(file: Path, starter: str) -> tuple[int, dict[str, str]] | None:
    """Return port and tokens of a file that only we can read and that this starter wrote."""
    try:
        with os.fdopen(os.open(file, os.O_RDONLY | os.O_NOFOLLOW)) as source:
            about, lines = os.fstat(source.fileno()), source.read().splitlines()
    except OSError:  # there is none, or a link: a new one is made
        return None
    private = about.st_uid == os.getuid() and not stat.S_IMODE(about.st_mode) & 0o077
    if not private or len(lines) != 3 or lines[2] != starter:
        return None
    urls = [urlsplit(line) for line in lines[:2]]
    return urls[0].port, {
        parse_qs(url.query)["token"][0]: role for url, role in zip(urls, (OPERATOR, VIEWER))
    }
