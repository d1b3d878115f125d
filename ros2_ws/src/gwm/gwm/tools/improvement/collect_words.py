"""The words of ``--collect``: ``task:=stack difficulty:=nominal episodes:=50 seed:=3000``."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import MISSING, fields

from gwm.graph.arguments import refuse_unknown
from gwm_core.errors import InputError
from gwm_core.improvement.rounds import Collection

_NUMBERS = ("episodes", "seed")


def parse_collection(words: Iterable[str]) -> Collection:
    """Read ``name:=value`` words; several may stand in one string.

    Raises InputError for a word of another form, an unknown or repeated name, and a missing task.
    """
    names = [field.name for field in fields(Collection)]
    values: dict[str, str | int] = {}
    for word in " ".join(words).split():
        name, separator, text = word.partition(":=")
        if not separator or not text:
            raise InputError(f"--collect: '{word}' is not NAME:=VALUE")
        refuse_unknown([name], names)
        if name in values:
            raise InputError(f"--collect: {name} is given twice")
        values[name] = _number(name, text) if name in _NUMBERS else text
    for field in fields(Collection):
        if field.default is MISSING and field.name not in values:
            raise InputError(f"--collect: {field.name}:= is missing")
    return Collection(**values)


def _number(name: str, text: str) -> int:
    if not (text.isascii() and text.isdecimal()):
        raise InputError(f"--collect: {name}:={text}: a whole number is wanted")
    return int(text)
