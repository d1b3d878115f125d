"""Atomic exports: written as ``<name>.partial``, and renamed when they are on disk."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from gwm_core.errors import InputError

PARTIAL = ".partial"  # ending of unfinished files and folders
_MARK = ".gwm-export"  # in a .partial of ours; no other folder is ever cleared


@dataclass(frozen=True)
class Exported:
    """The result of an export."""

    path: Path
    episodes: int
    rows: int
    size: int  # [bytes]


def to_disk(path: Path) -> None:
    """Return when a file or folder is on disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def folder(out: Path) -> Iterator[Path]:
    """A folder to write into, which becomes ``out``. It is emptied after an interrupted export.

    Raises InputError when ``out`` exists, cannot be written, or another export is writing it.
    """
    out, partial = _names(out)
    mark = partial / _MARK
    try:
        if partial.exists() and not mark.is_file():
            raise InputError(f"{partial} is not what an export left: move it elsewhere")
        partial.mkdir(parents=True, exist_ok=True)
        with open(mark, "a") as lock:
            _lock(lock, partial)
            for path in partial.iterdir():
                if path != mark:
                    (
                        shutil.rmtree(path)
                        if path.is_dir() and not path.is_symlink()
                        else path.unlink()
                    )
            try:
                yield partial
            except BaseException:
                shutil.rmtree(partial, ignore_errors=True)
                raise
            mark.unlink()
            for path in (*partial.rglob("*"), partial):
                to_disk(path)
            partial.rename(out)
            to_disk(out.parent)
    except OSError as error:
        raise InputError(f"cannot write {out}: {error.strerror or error}") from None


@contextmanager
def file(out: Path) -> Iterator[Path]:
    """As ``folder``, for one file; its ``.partial`` is overwritten."""
    out, partial = _names(out)
    try:
        partial.parent.mkdir(parents=True, exist_ok=True)
        if partial.is_symlink() or (partial.exists() and not partial.is_file()):
            raise InputError(f"{partial} is not what an export left: move it elsewhere")
        with open(partial, "a") as lock:
            _lock(lock, partial)
            try:
                yield partial
            except BaseException:
                partial.unlink(missing_ok=True)
                raise
            to_disk(partial)
            partial.rename(out)
            to_disk(out.parent)
    except OSError as error:
        raise InputError(f"cannot write {out}: {error.strerror or error}") from None


def refuse_inside(source: Path, out: Path) -> None:
    """Raise InputError where ``out`` is ``source`` or lies in it."""
    if Path(source).resolve() in (Path(out).resolve(), *Path(out).resolve().parents):
        raise InputError(
            f"{out} is, or lies in, {source}, which is read: choose another place for the output"
        )


def _names(out: Path) -> tuple[Path, Path]:
    out = Path(out).absolute()
    if out.exists() or out.is_symlink():
        raise InputError(f"{out} exists; choose another name")
    return out, out.with_name(out.name + PARTIAL)


def _lock(lock, partial: Path) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise InputError(f"another export is writing {partial}") from None
