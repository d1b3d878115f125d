"""What the verbs share: how one is declared, checks that come before long work, and a progress
bar.
"""

from __future__ import annotations

import argparse
import io
import os
import re
import sys
from pathlib import Path

from gwm_core.errors import InputError
from gwm_core.files.json_files import STDOUT

CALLED = "GWM_CALLED"  # the command as it was typed, set by the script in the repository
TASKS = "lift, pick_place or stack"


class Parser(argparse.ArgumentParser):
    """Bad arguments are bad input like any other: one line, exit 2."""

    def error(self, message: str):
        """Raise InputError."""
        raise InputError(f"{message} (see `{self.prog} --help`)")


def verb(verbs, name: str, help_: str, example: str, run):
    """Declare a verb; ``run`` takes the parsed arguments and returns the exit code."""
    parser = verbs.add_parser(
        name, help=help_, description=help_, epilog=f"example: {as_called(example)}"
    )
    parser.set_defaults(run=run)
    return parser


def as_called(text: str) -> str:
    """``text`` with the command as it was called, ``./gwm`` say, wherever a line to type in begins
    with gwm.
    """
    command = os.environ.get(CALLED, "gwm")
    return re.sub(r"(^|`)gwm(?= |$)", rf"\1{command}", text)


def say_next(text: str) -> None:
    """Say what is done next: ``gwm ...`` as a line to type in."""
    print(f"next: {as_called(text)}")


def without_number(text: str) -> str:
    """``text`` without the system's numbers of errors in it, which say nothing beside its words."""
    return re.sub(r"\[Errno -?\d+\] ", "", text)


def said_by_system(error: OSError) -> str:
    """One line for what the system refused, with the file where it names one."""
    names = [str(name) for name in (error.filename, error.filename2) if name is not None]
    return ": ".join([*names, error.strerror or str(error) or type(error).__name__])


def escape_names() -> None:
    """Write what a terminal cannot show, as in the name of a file from elsewhere, as an escape
    instead of failing.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
            stream.reconfigure(errors="backslashreplace")


def cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0))


def shipped() -> str:
    """Folder of the demo weights."""
    from gwm.graph.environment import resource

    return str(resource("models/demo"))


def renderer() -> str:
    """The best renderer this machine has."""
    from gwm_core.sim.cameras import choose_renderer

    return choose_renderer()


def positive(name: str, value: int) -> int:
    """``value``, or InputError when it is below 1."""
    if value < 1:
        raise InputError(f"--{name} must be 1 or more, got {value}")
    return value


def natural(name: str, value: int) -> int:
    """``value``, or InputError when it is below 0."""
    if value < 0:
        raise InputError(f"--{name} must be 0 or more, got {value}")
    return value


def writable(path: str | None) -> None:
    """Raise InputError now rather than lose the figures of a long run."""
    if path and path != STDOUT:
        existed = Path(path).exists()
        try:
            with open(path, "a"):
                pass
        except OSError as error:
            raise InputError(f"cannot write {path}: {error.strerror}") from None
        if not existed:
            Path(path).unlink()


def writable_folder(path: str) -> None:
    """Make a folder, or raise InputError now, before the work, where nothing can be written into
    it.
    """
    import tempfile

    try:
        Path(path).mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}; choose another --out") from None


class ProgressBar:
    """A progress bar on a terminal, a plain line every tenth elsewhere."""

    def __init__(self, total: int, what: str):
        from tqdm import tqdm

        self._plain, self._total, self._done, self._what = not sys.stderr.isatty(), total, 0, what
        self._bar = tqdm(total=total, desc=what, disable=self._plain)

    def begin(self) -> None:
        """Say that it has begun, where the first tenth takes long."""
        if self._plain:
            print(f"{self._what}: 0/{self._total}", file=sys.stderr, flush=True)

    def to(self, done: int, note: str = "") -> None:
        """Show ``done`` of the total."""
        if self._plain and (
            done * 10 // self._total > self._done * 10 // self._total or done == self._total
        ):
            print(f"{self._what}: {done}/{self._total} {note}", file=sys.stderr, flush=True)
        self._bar.update(done - self._done)
        self._bar.set_postfix_str(note)
        self._done = done

    def step(self, note: str = "") -> None:
        """One more is done."""
        self.to(self._done + 1, note)


class DeferredProgressBar:
    """A bar that shows itself only when there is something to do."""

    def __init__(self, what: str):
        self._what, self._bar = what, None

    def __call__(self, done: int, total: int, *_) -> None:
        """Show ``done`` of ``total``."""
        if self._bar is None:
            self._bar = ProgressBar(total, self._what)
            self._bar.begin()
        self._bar.to(done)
