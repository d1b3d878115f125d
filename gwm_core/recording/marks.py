"""What an operator says of the episode that is recorded."""

from __future__ import annotations

from gwm_core import topics
from gwm_core.task_spec import MAX_FIELD, MAX_FIELDS

MAX_NOTE = 500  # characters
# characters of a mark, with each one of note and fields written as \uXXXX
LONGEST = 6 * (MAX_NOTE + 2 * MAX_FIELDS * MAX_FIELD) + 500
OF_VERDICT = ("success", "score", "cause")  # entries that a correction of the verdict replaces
OF_SAVE = {*OF_VERDICT, "note", "fields"}  # entries that may go with the end of an episode


def checked(mark) -> dict:
    """Return what was said. Raises ValueError where it is no mark."""
    if (
        not isinstance(mark, dict)
        or not all(is_entry(name, value) for name, value in mark.items())
        or ("correct" in mark and mark.keys() != {"correct", "success"})
    ):
        raise ValueError(
            'no JSON object of "success" (bool), "note" (str), "score" (0 to 1), "cause" '
            f'({" or ".join(topics.ABORTS)}), "fields" (short texts), "save" (bool), or some of'
            ' them; "correct" (the last episode) with "success" alone'
        )
    return mark


def is_entry(name: str, value) -> bool:
    """Whether a mark may have this entry."""
    match name:
        case "success" | "save":
            return isinstance(value, bool)
        case "correct":
            return isinstance(value, str) and value.startswith("episode_")
        case "note":
            return isinstance(value, str) and len(value) <= MAX_NOTE
        case "score":
            return type(value) in (int, float) and 0 <= value <= 1
        case "cause":
            return value in topics.ABORTS
        case "fields":
            return isinstance(value, dict) and len(value) <= MAX_FIELDS and _are_short(value)
    return False


def _are_short(fields: dict) -> bool:
    return all(
        isinstance(text, str) and len(text) <= MAX_FIELD
        for entry in fields.items()
        for text in entry
    )
