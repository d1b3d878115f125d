"""Checksums of a folder: ``SHA256SUMS`` lists all its files, as ``sha256sum -c`` reads it."""

from __future__ import annotations

import hashlib
import re
import stat
from collections.abc import Collection
from pathlib import Path

from gwm_core.errors import InputError

SUMS = "SHA256SUMS"
_LINE = re.compile(r"([0-9a-f]{64})  ([A-Za-z0-9][A-Za-z0-9._-]*)\n")
_MAXIMUM_FILE = 8 << 30  # [bytes]
_MAXIMUM_LIST = 1 << 16  # [bytes]


def write_checksums(folder: Path) -> None:
    """Write the list over all files of ``folder`` but hidden ones, which it may not have.

    The list is written last, so an incomplete folder is never valid.
    """
    files = sorted(
        path
        for path in Path(folder).iterdir()
        if path.name != SUMS and not path.name.startswith(".")
    )
    partial = Path(folder) / f".{SUMS}.partial"
    partial.write_text("".join(f"{sha256(path)}  {path.name}\n" for path in files))
    partial.rename(Path(folder) / SUMS)


def verify_checksums(folder: Path, known: Collection[str]) -> dict[str, str]:
    """Check every file, and return SHA-256 by file name. Files are only hashed, not parsed.

    Raises InputError for a file that is missing, changed, linked, not listed, or not ``known``.
    """
    folder = Path(folder)
    sums = _listed(folder)
    for path in sorted(folder.iterdir()):
        about = path.lstat()
        if not stat.S_ISREG(about.st_mode) or about.st_nlink != 1:
            raise InputError(f"{path} is a link or no plain file: {folder} takes copies only")
        if path.name != SUMS and path.name not in sums:
            raise InputError(
                f"{path} is not in {SUMS}: remove it, or make the folder anew with `gwm compile`"
            )
        if about.st_size > _MAXIMUM_FILE:
            raise InputError(
                f"{path} has {about.st_size} bytes: more than {_MAXIMUM_FILE} are not read"
            )
    for name, expected in sums.items():
        if name not in known:
            raise InputError(
                f"{folder} lists '{name}', which is no file of ours: valid are"
                f" {', '.join(sorted(known))}"
            )
        try:
            found = sha256(folder / name)
        except OSError as error:
            raise InputError(
                f"{folder / name} is listed in {SUMS} but cannot be read: {error.strerror}"
            ) from None
        if found != expected:
            raise InputError(
                f"{folder / name} does not match {SUMS}: damaged or swapped; take a fresh copy"
            )
    return sums


def _listed(folder: Path) -> dict[str, str]:
    try:
        with open(folder / SUMS, "rb") as file:
            text = file.read(_MAXIMUM_LIST + 1).decode("ascii")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"no readable {SUMS} in {folder} ({type(error).__name__})") from None
    lines = _LINE.findall(text)
    names = [name for _, name in lines]
    if (
        "".join(f"{digest}  {name}\n" for digest, name in lines) != text
        or names != sorted(set(names))
        or not names
    ):
        raise InputError(
            f"{folder / SUMS} is damaged: lines of a SHA-256, two spaces and a file name, sorted,"
            " are wanted"
        )
    return {name: digest for digest, name in lines}


def sha256(path: Path) -> str:
    """Hex digest of a file. Raises OSError when it cannot be read."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
