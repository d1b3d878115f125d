"""The folders of episodes, and ``episode.json`` in each, whose types are checked before use."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from pathlib import Path

from gwm_core.errors import InputError
from gwm_core.files.atomic_write import PARTIAL, to_disk
from gwm_core.files.json_files import write_json

INFO = "episode.json"
_MAXIMUM_INFO = 4 << 20  # [bytes]
BROKEN = ".broken"  # ending of an episode that is being recovered
TRASH = "trash"  # folder of discarded episodes


def _number(value) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _windows(value) -> bool:
    return isinstance(value, list) and all(
        isinstance(window, list)
        and len(window) == 2
        and all(type(end) is int and 0 <= end < 2**63 for end in window)
        for window in value
    )


_FIELDS = {  # name: its type in words, and a check
    "task": ("a text", lambda value: isinstance(value, str)),
    "seed": ("a whole number", lambda value: value is None or type(value) is int),
    "success": ("true or false", lambda value: value is None or isinstance(value, bool)),
    "seconds": ("a number", _number),
    "cameras": ("an object of cameras", lambda value: isinstance(value, dict)),
    "sha256": ("an object of hashes", lambda value: isinstance(value, dict)),
    "unusable": ("a list of [begin, end] in ns", _windows),
    "interventions": ("a list of [begin, end] in ns", _windows),
    "reached": (
        "lists of [begin, end] in ns by task",
        lambda value: isinstance(value, dict) and all(map(_windows, value.values())),
    ),
}


def checked(info) -> dict:
    """Return ``info`` if every known field has its type. Raises ValueError."""
    if not isinstance(info, dict):
        raise ValueError("it is no JSON object")
    for name, (what, is_valid) in _FIELDS.items():
        if name in info and not is_valid(info[name]):
            raise ValueError(f"'{name}' is {str(info[name])[:40]!r}, {what} is wanted")
    return info


def replace_info(folder: Path, info: dict) -> None:
    """Write episode.json anew; a crash leaves the old one. Raises OSError."""
    file = Path(folder) / INFO
    partial = file.with_name(file.name + PARTIAL)
    write_json(partial, info)
    to_disk(partial)
    partial.replace(file)
    to_disk(file.parent)


def read_info(folder: Path) -> dict:
    """Read episode.json. Raises OSError, ValueError or RecursionError where it is damaged."""
    file = Path(folder) / INFO
    if file.stat().st_size > _MAXIMUM_INFO:
        raise ValueError(f"{file.stat().st_size} bytes of {INFO}")
    return checked(json.loads(file.read_text()))


def info_problem(folder: Path) -> str:
    """Why episode.json cannot be read, or ""."""
    try:
        missing = {"task", "cameras", "sha256"} - set(read_info(folder))
    except (OSError, ValueError, RecursionError) as error:
        return str(error)
    return f"{', '.join(sorted(missing))} not in {INFO}" if missing else ""


def read_infos(paths: Iterable[Path]) -> dict[Path, dict]:
    """Read episode.json of every episode. Raises InputError that names the damaged ones."""
    paths = list(paths)
    if wrong := [f"{path} ({why})" for path in paths if (why := info_problem(path))]:
        more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise InputError(
            f"broken {INFO}: {', '.join(wrong[:3])}{more}: copy the folder again, or move it"
            " elsewhere to go on without"
        )
    return {path: read_info(path) for path in paths}


def verdict(info: dict) -> bool | None:
    """Whether the episode succeeded; None of play, and where nobody said so."""
    return None if info.get("policy") == "play" else info.get("success")


def start_names(infos: dict[Path, dict]) -> list[str]:
    """For every episode a name of what it began from.

    Episodes of one task, difficulty and seed of the simulation have one layout, and one name. None
    of them is held out while another one is trained on. Others have the name of their folder and
    their content, wherever they lie.
    """
    return [_start_name(path, info) for path, info in infos.items()]


def _start_name(path: Path, info: dict) -> str:
    if info.get("robot") == "sim" and info.get("seed") is not None:
        return f"{info['task']} {info.get('difficulty')} {info['seed']}"
    content = sorted(info.get("sha256", {}).values())
    return " ".join([path.name, *content]) if content else str(path.resolve())


def same_starts(infos: dict[Path, dict]) -> list[int]:
    """For every episode the index of the first one that began alike, often its own."""
    first: dict[str, int] = {}
    return [first.setdefault(name, index) for index, name in enumerate(start_names(infos))]


def list_episodes(folder: Path) -> list[Path]:
    """Finished episodes in and below ``folder``, sorted, without its trash.

    Raises InputError when there are none.
    """
    paths = [
        path.parent
        for path in Path(folder).rglob(INFO)
        if path.parent.suffix not in (PARTIAL, BROKEN)
    ]
    found = sorted(path for path in paths if TRASH not in path.relative_to(folder).parts)
    if not found:
        raise InputError(f"no episodes in {folder}; 'gwm collect --out {folder}' makes some")
    return found


def list_all_episodes(folders: Iterable[Path]) -> dict[Path, list[Path]]:
    """``list_episodes`` of each folder, but every episode once, and no folder without one.

    Raises InputError as ``list_episodes``.
    """
    seen: set[Path] = set()
    episodes = {}
    for folder in folders:
        new = [path for path in list_episodes(folder) if path.resolve() not in seen]
        seen |= {path.resolve() for path in new}
        if new:
            episodes[folder] = new
    return episodes


def list_unfinished(folder: Path) -> list[Path]:
    """Episodes in and below ``folder`` that were not closed, or not fully recovered."""
    found = {path.with_suffix("") for path in Path(folder).rglob(f"*{BROKEN}")}
    found |= {
        path.with_suffix("")
        for path in Path(folder).rglob(f"*{PARTIAL}")
        if (path / INFO).exists() or (path / "bag").is_dir()  # not of a training's cache
    }
    return sorted(path for path in found if TRASH not in path.relative_to(folder).parts)
