"""The one reader of YAML files that people write: words mean what they look like, and nothing is said twice.

YAML 1.2: ``on``, ``yes`` and ``1:30`` are text and ``5e-2`` is a number (YAML 1.1 has both the other way round). Dates
are text too. Keys are text, each once in its mapping; a merge (``<<``) would hide a key that is given twice.
"""

from __future__ import annotations

from pathlib import Path

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
                twice = f"'{key.value}' is there already, in line {lines[key.value]}: keep one of them"
                raise ConstructorError(None, None, twice, key.start_mark)
            lines[key.value] = key.start_mark.line + 1
        return super().construct_mapping(node, deep)


_Constructor.add_constructor(f"{_TAG}timestamp", SafeConstructor.construct_yaml_str)


def _source(key) -> str:
    return f"'{key.value}'" if isinstance(key.value, str) else "in brackets"


def read_yaml(path: Path) -> dict:
    """Read a file of ``key: value`` lines; an empty one is {}. Raises InputError with the line of what is wrong."""
    reader = YAML(typ="safe", pure=True)
    reader.Constructor = _Constructor
    try:
        values = reader.load(Path(path).expanduser().read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise InputError(f"cannot read {path}: it is no text in UTF-8") from None
    except MarkedYAMLError as error:
        raise InputError(f"cannot read {path}: {_where(error)}{_what(error)}") from None
    except YAMLError as error:
        raise InputError(f"cannot read {path}: {' '.join(str(error).split())}") from None
    if not isinstance(values, dict | None):
        raise InputError(f"cannot read {path}: lines of KEY: VALUE are wanted")
    return values or {}


def _where(error: MarkedYAMLError) -> str:
    mark = error.problem_mark or error.context_mark
    return f"line {mark.line + 1}: " if mark else ""


def _what(error: MarkedYAMLError) -> str:
    if "'\\t'" in error.problem:
        return "a tab, where YAML takes spaces alone"
    return " ".join(error.problem.split())


def text(key: str, value) -> str:
    """``value``, or InputError when YAML takes it for something else than text. ``key`` is named."""
    if isinstance(value, str):
        return value
    if value is None:
        raise InputError(f"{key}: text is wanted, and nothing stands there")
    if isinstance(value, dict | list):
        raise InputError(f"{key}: text is wanted, not a list or further keys")
    kind = "true or false" if isinstance(value, bool) else "a number"
    raise InputError(f"{key}: text is wanted, and YAML takes {str(value).lower()} for {kind}: write it in quotes")
