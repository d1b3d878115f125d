"""The folder of a study: its settings and results, so that an interrupted study can be resumed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gwm_core.errors import InputError
from gwm_core.evaluation.policy_eval import EvalConfig, evaluate
from gwm_core.files import atomic_write
from gwm_core.files.json_files import to_json

SETTINGS = "study.txt"


def check_settings(out: Path, settings: str) -> None:
    """Save the study's settings in its first run, and compare with them in a resumed one.

    Raises InputError where ``out`` holds a study with other settings.
    """
    file = out / SETTINGS
    if not file.exists():
        _write(file, settings)
    elif file.read_text() != settings:
        raise InputError(
            f"{out} holds a study with other settings: choose another --out or remove it"
        )


def kept(file: Path, make: Callable[[], Any]) -> Any:
    """The result of ``make`` as JSON holds it. It is made once and kept in ``file``."""
    if not file.exists():
        _write(file, to_json(make()) + "\n")
    return json.loads(file.read_text())


def kept_successes(config: EvalConfig, processes: int, file: Path) -> list[bool]:
    """Successes of the trials of a policy, made once and kept in ``file``."""
    return kept(file, lambda: [bool(trial.success) for trial in evaluate(config, processes)])


def _write(file: Path, text: str) -> None:
    """Write a file that an interruption leaves either whole or absent."""
    with atomic_write.file(file) as partial:
        partial.write_text(text)
