"""``gwm completion``: words that a shell completes."""

from __future__ import annotations

import argparse
import os

from gwm.tools.terminal import verb
from gwm_core.errors import one_of

SHELLS = ("bash", "zsh", "fish")
_ASKED = "_ARGCOMPLETE"  # in the environment while a shell asks for words


def add(verbs) -> None:
    """Declare the verb."""
    p = verb(
        verbs,
        "completion",
        "Print what a shell needs to complete the words of this command.",
        'eval "$(gwm completion)"',
        completion,
    )
    p.add_argument("shell", nargs="?", default="bash", help=f"{', '.join(SHELLS)} (default bash)")


def completion(args) -> int:
    import argcomplete

    called = ["gwm", "./gwm"]
    print(argcomplete.shellcode(called, shell=one_of("shell", args.shell, SHELLS)))
    return 0


def complete(parser: argparse.ArgumentParser) -> None:
    """Print the words that a shell asks for, and end; without such a question do nothing."""
    if _ASKED in os.environ:
        import argcomplete

        argcomplete.autocomplete(parser)


def graph_arguments(prefix: str, **_) -> list[str]:
    """Return the ``NAME:=VALUE`` words that begin with ``prefix``."""
    from dataclasses import fields

    from gwm.graph.config import GraphConfig

    words = []
    for field in fields(GraphConfig):
        values = field.metadata["choices"] or (("true", "false") if field.type == "bool" else ("",))
        words += [f"{field.name}:={value}" for value in values]
    return [word for word in words if word.startswith(prefix)]
