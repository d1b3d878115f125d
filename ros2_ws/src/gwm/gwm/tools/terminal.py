"""Code that the verbs share: declaring one, checks before long work, and a progress bar."""

from __future__ import annotations

import argparse
import io
import os
import re
import sys
import time
from pathlib import Path

from gwm_core.errors import InputError, meant
from gwm_core.files.json_files import STDOUT

CALLED = "GWM_CALLED"  # environment variable with the command as typed, set by ./gwm
TASKS = "lift, pick_place or stack"
POLICIES = "policy folder, policy server (ws://HOST:PORT or its contract), or expert"


class Parser(argparse.ArgumentParser):
    """Reports bad arguments like any bad input: one line, exit 2."""

    def error(self, message: str):
        """Raise InputError."""
        raise InputError(f"{message} (see `{self.prog} --help`)")

    def refuse(self, words: list[str]):
        """Raise InputError for words that the verb does not know."""
        known = [option for action in self._actions for option in action.option_strings]
        name = words[0].partition("=")[0]
        near = meant(name, known) if name.startswith("-") else ""
        self.error(f"unrecognized arguments: {' '.join(words)}{near.rstrip(':')}")

    def _check_value(self, action, value) -> None:
        """Refuse a word that is none of an action's choices, and name the one that is meant."""
        if action.choices is not None and value not in action.choices:
            what = "verb" if action.metavar == "VERB" else "kind"
            valid = ", ".join(map(str, action.choices))
            raise InputError(
                f"unknown {what} '{value}'{meant(value, action.choices)} valid are {valid} (see"
                f" `{self.prog} --help`)"
            )


def verb(verbs, name: str, help_: str, example: str, run):
    """Declare a verb; ``run`` takes the parsed arguments and returns the exit code."""
    parser = verbs.add_parser(
        name, help=help_, description=help_, epilog=f"example: {as_called(example)}"
    )
    parser.set_defaults(run=run, parser=parser)
    return parser


def as_called(text: str) -> str:
    """Return ``text`` with every command line in it starting as the user called gwm (``./gwm``)."""
    command = os.environ.get(CALLED, "gwm")
    return re.sub(r"(^|`)gwm(?= |$)", rf"\1{command}", text)


def note(text: str) -> None:
    """Print a remark to stderr."""
    print(f"gwm: {text}", file=sys.stderr)


def say_next(text: str) -> None:
    """Print the next command to type."""
    print(f"next: {as_called(text)}")


def without_number(text: str) -> str:
    """Return ``text`` without the system's error numbers."""
    return re.sub(r"\[Errno -?\d+\] ", "", text)


def said_by_system(error: OSError) -> str:
    """Return one line for an error of the system, with the file where it names one."""
    names = [str(name) for name in (error.filename, error.filename2) if name is not None]
    return ": ".join([*names, error.strerror or str(error) or type(error).__name__])


def escape_names() -> None:
    """Write characters that a terminal cannot show as escapes instead of failing."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
            stream.reconfigure(errors="backslashreplace")


def cores() -> int:
    """Return the number of cores this process may use."""
    return len(os.sched_getaffinity(0))


def shipped() -> str:
    """Return the folder of the demo weights."""
    from gwm.graph.environment import resource

    return str(resource("models/demo"))


def renderer() -> str:
    """Return the best renderer of this machine."""
    from gwm_core.sim.cameras import choose_renderer

    return choose_renderer()


def device(name: str) -> str:
    """Return ``name``. Raises InputError where this machine has no such device to train on."""
    import torch

    if name not in ("cpu", "cuda") or (name == "cuda" and not torch.cuda.is_available()):
        raise InputError(
            f"device '{name}' is not there: valid are cpu{', cuda' * torch.cuda.is_available()}"
        )
    return name


def positive(name: str, value: int) -> int:
    """Return ``value``. Raises InputError when it is below 1."""
    if value < 1:
        raise InputError(f"--{name} must be 1 or more, got {value}")
    return value


def natural(name: str, value: int) -> int:
    """Return ``value``. Raises InputError when it is below 0."""
    if value < 0:
        raise InputError(f"--{name} must be 0 or more, got {value}")
    return value


def writable(path: str | None) -> None:
    """Raise InputError where a file cannot be written, before a long run."""
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
    """Make a folder. Raises InputError where it cannot be written, before a long run."""
    import tempfile

    try:
        Path(path).mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}; choose another --out") from None


class ProgressBar:
    """A progress bar on a terminal; elsewhere a plain line every tenth, with the time to go."""

    def __init__(self, total: int, what: str):
        from tqdm import tqdm

        self._plain = not sys.stderr.isatty()
        self._total = total
        self._done = 0
        self._what = what
        self._last: tuple[float, int] | None = None  # time of the last line, and what was done
        self._bar = tqdm(total=total, desc=what, disable=self._plain)

    def begin(self) -> None:
        """Print the start, where the first tenth takes long."""
        if self._plain:
            print(f"{self._what}: 0/{self._total}", file=sys.stderr, flush=True)

    def to(self, done: int, note: str = "") -> None:
        """Show ``done`` of the total."""
        if self._plain and (
            done * 10 // self._total > self._done * 10 // self._total or done == self._total
        ):
            said = f"{self._what}: {done}/{self._total} {note}".rstrip()
            print(f"{said}{self._time_left(done)}", file=sys.stderr, flush=True)
            self._last = None
        self._last = self._last or (time.monotonic(), done)
        self._bar.update(done - self._done)
        self._bar.set_postfix_str(note)
        self._done = done

    def _time_left(self, done: int) -> str:
        """By the pace since the last line: before it a resumed run counts what was kept."""
        from tqdm import tqdm

        if self._last is None or done <= self._last[1] or done == self._total:
            return ""
        begun, first = self._last
        left = (time.monotonic() - begun) / (done - first) * (self._total - done)
        return f" (about {tqdm.format_interval(left)} left)"

    def step(self, note: str = "") -> None:
        """Count one more as done."""
        self.to(self._done + 1, note)


class DeferredProgressBar:
    """A bar that appears only when there is work."""

    def __init__(self, what: str):
        self._what, self._bar = what, None

    def __call__(self, done: int, total: int, *_) -> None:
        """Show ``done`` of ``total``."""
        if self._bar is None:
            self._bar = ProgressBar(total, self._what)
            self._bar.begin()
        self._bar.to(done)
