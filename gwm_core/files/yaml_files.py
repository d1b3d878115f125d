"""The reader of all YAML files that people write. It refuses repeated keys and ambiguous values.

YAML 1.2: ``on``, ``yes`` and ``1:30`` are text and ``5e-2`` is a number (YAML 1.1 has both the
other way round). Dates are text too, and so are numbers that begin with a zero, as serial numbers
do. Keys are text, each once in its mapping. A merge (``<<``) is refused, as it would hide a
repeated key.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from ruamel.yaml import YAML, YAMLError
from ruamel.yaml.constructor import ConstructorError, SafeConstructor
from ruamel.yaml.error import MarkedYAMLError

from gwm_core.errors import InputError

_TAG = "tag:yaml.org,2002:"


class _Constructor(SafeConstructor):
    def construct_mapping(self, node, deep=False):
        lines: dict[str, int] = {}
        for key, _ in getattr(node, "value", ()):
            if key.tag not in (f"{_TAG}str", f"{_TAG}timestamp"):
                unclear = f"the key {_source(key)} is not text: in quotes it is"
                raise ConstructorError(None, None, unclear, key.start_mark)
            if key.value in lines:
                twice = (
                    f"'{key.value}' is there already, in line {lines[key.value]}: keep one of them"
                )
                raise ConstructorError(None, None, twice, key.start_mark)
            lines[key.value] = key.start_mark.line + 1
        return super().construct_mapping(node, deep)

    def construct_yaml_int(self, node):
        if node.value.startswith("0") and node.value.isdecimal() and node.value != "0":
            return node.value
        return super().construct_yaml_int(node)


_Constructor.add_constructor(f"{_TAG}int", _Constructor.construct_yaml_int)
_Constructor.add_constructor(f"{_TAG}timestamp", SafeConstructor.construct_yaml_str)


def _source(key) -> str:
    return f"'{key.value}'" if isinstance(key.value, str) else "in brackets"


def read_yaml(path: Path, what: str = "") -> dict:
    """Read a file of ``key: value`` lines; an empty one is {}.

    Args:
        path: of the file.
        what: kind of the file, for the message: ``site file``.

    Raises:
        InputError: with the line of the error.
    """
    name = f"{what} {path}".strip()
    reader = YAML(typ="safe", pure=True)
    reader.Constructor = _Constructor
    try:
        values = reader.load(Path(path).expanduser().read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"cannot read {name}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise InputError(f"cannot read {name}: it is no text in UTF-8") from None
    except MarkedYAMLError as error:
        raise InputError(f"cannot read {name}: {_where(error)}{_what(error)}") from None
    except YAMLError as error:
        raise InputError(f"cannot read {name}: {' '.join(str(error).split())}") from None
    if not isinstance(values, dict | None):
        raise InputError(f"cannot read {name}: lines of KEY: VALUE are wanted")
    return values or {}


def _where(error: MarkedYAMLError) -> str:
    mark = error.problem_mark or error.context_mark
    return f"line {mark.line + 1}: " if mark else ""


def _what(error: MarkedYAMLError) -> str:
    if "'\\t'" in error.problem:
        return "a tab, where YAML takes spaces alone"
    return " ".join(error.problem.split())


def text(key: str, value) -> str:
    """Return ``value``. Raises InputError naming ``key`` when it is not text in YAML."""
    if isinstance(value, str):
        return value
    if value is None:
        raise InputError(f"{key}: text is wanted, and nothing stands there")
    if isinstance(value, dict | list):
        raise InputError(f"{key}: text is wanted, not a list or further keys")
    kind = "true or false" if isinstance(value, bool) else "a number"
    raise InputError(
        f"{key}: text is wanted, and YAML takes {str(value).lower()} for {kind}: write it in quotes"
    )


def known_keys(source: str, entry, valid) -> dict:
    """Return ``entry``. Raises InputError when it is no mapping or has an unknown key."""
    if entry is None:
        raise InputError(
            f"{source}: nothing stands there: leave it out, or give some of {', '.join(valid)}"
        )
    if not isinstance(entry, dict):
        raise InputError(f"{source}: valid keys are {', '.join(valid)}; got {entry!r}")
    for key in entry:
        if key not in valid:
            raise InputError(f"{source}: unknown key '{key}': valid keys are {', '.join(valid)}")
    return entry


def numbers(values) -> np.ndarray:
    """Nested lists of finite numbers as an array. Raises ValueError for anything else."""
    for value in _leaves(values):
        if isinstance(value, bool) or not isinstance(value, int | float) or not np.isfinite(value):
            raise ValueError(f"{value!r} is no number")
    return np.array(values, float)


def _leaves(values):
    if not isinstance(values, list | tuple):
        yield values
        return
    for value in values:
        yield from _leaves(value)
