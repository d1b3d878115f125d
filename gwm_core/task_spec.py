"""A lab's own tasks, from its site file: an instruction, the rubric a person rates by, and what
they fill in of every episode.

    tasks:
      sort_screws:
        instruction: put every screw into the box
        seconds: 40
        rubric: {a screw is in the air: 0.3, a screw is in the box: 0.4, all of them are: 0.3}
        fields: {box: [left, right], batch: text}

The recorder copies the task into its episodes.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from math import isclose

from gwm_core.errors import InputError
from gwm_core.files.yaml_files import known_keys, text

KEYS = ("instruction", "seconds", "rubric", "fields")
MAX_FIELDS, MAX_CHOICES = 6, 8
MAX_FIELD = 60  # characters of a field's name, and of a choice
_TEXT = "text"  # in place of choices
_MAXIMUM_SECONDS = 300.0  # [s]


@dataclass(frozen=True)
class TaskSpec:
    """A task that a person rates."""

    instruction: str
    seconds: float  # time limit [s]
    rubric: dict[str, float]  # criterion -> weight; the weights add up to 1
    fields: dict[str, tuple[str, ...]]  # wanted of every episode -> choices; none: any text

    def to_dict(self) -> dict:
        """As in a site file."""
        fields = {name: list(choices) or _TEXT for name, choices in self.fields.items()}
        return self.to_episode() | ({"fields": fields} if fields else {})

    def to_episode(self) -> dict:
        """As in episode.json, whose ``fields`` are what was filled in."""
        return {"instruction": self.instruction, "seconds": self.seconds, "rubric": self.rubric}


def parse_tasks(source: str, entry) -> dict[str, TaskSpec]:
    """The tasks of a site file. Raises InputError that begins with ``source``."""
    if not isinstance(entry, dict):
        given = "nothing stands there" if entry is None else f"got {entry!r}"
        raise InputError(f"{source}: {given}: names are wanted, and under each what is to be done")
    return {name: _named_task(f"{source}.{name}", name, values) for name, values in entry.items()}


def _named_task(source: str, name: str, values) -> TaskSpec:
    values = known_keys(source, values, KEYS)
    if "instruction" in values:
        text(f"{source}.instruction", values["instruction"])
    try:
        return _parse_task(name, values)
    except ValueError as error:
        raise InputError(f"{source}: {error}") from None


def _parse_task(name: str, values) -> TaskSpec:
    """Raises ValueError with what is wrong."""
    if not re.fullmatch(r"[a-z][a-z0-9_]*", str(name)):
        raise ValueError("a name is small letters, digits and underscores")
    if (
        not isinstance(values, dict)
        or set(values) - set(KEYS)
        or not isinstance(values.get("instruction"), str)
    ):
        raise ValueError(f"valid keys are {', '.join(KEYS)}; instruction is a sentence")
    seconds = values.get("seconds", 25.0)
    rubric = values.get("rubric", {"success": 1.0})
    if (
        isinstance(seconds, bool)
        or not isinstance(seconds, int | float)
        or not 0 < seconds <= _MAXIMUM_SECONDS
    ):
        raise ValueError(f"seconds: up to {_MAXIMUM_SECONDS:.0f} are allowed, got {seconds}")
    if (
        not isinstance(rubric, dict)
        or not rubric
        or not all(_is_weight(value) for value in rubric.values())
    ):
        raise ValueError("rubric: criteria with a weight each, above 0")
    if not isclose(sum(rubric.values()), 1.0, abs_tol=1e-6):
        raise ValueError(f"rubric: weights add up to 1, not to {sum(rubric.values()):g}")
    return TaskSpec(
        values["instruction"],
        float(seconds),
        {str(text): float(value) for text, value in rubric.items()},
        _fields(values.get("fields", {})),
    )


def _fields(entry) -> dict[str, tuple[str, ...]]:
    """Raises ValueError with what is wrong."""
    wanted = f"up to {MAX_FIELDS} names, and under each {_TEXT} or 2 to {MAX_CHOICES} choices"
    if not isinstance(entry, dict) or len(entry) > MAX_FIELDS:
        raise ValueError(f"fields: {wanted}")
    fields = {}
    for name, choices in entry.items():
        several = isinstance(choices, list) and 2 <= len(choices) <= MAX_CHOICES
        texts = [name, *choices] if several else [name]
        if not (several or choices == _TEXT) or not all(map(_is_short, texts)):
            raise ValueError(f"fields.{name}: {wanted}, of up to {MAX_FIELD} characters")
        fields[name] = tuple(choices) if several else ()
        if len(set(fields[name])) < len(fields[name]):
            raise ValueError(f"fields.{name}: a choice stands there twice")
    return fields


def _is_short(text) -> bool:
    return isinstance(text, str) and 0 < len(text.strip()) <= len(text) <= MAX_FIELD


def _is_weight(value) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= 1
