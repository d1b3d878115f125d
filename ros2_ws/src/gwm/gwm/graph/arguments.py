"""Arguments of the graph on a command line: defaults, descriptions, parsing and checks.

`gwm up` and the launch files read them here. Standard library only, like ``gwm.graph.config``.
"""

from __future__ import annotations

import difflib
import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Collection, Iterable
from dataclasses import fields
from pathlib import Path

from gwm.graph.config import TASKS, GraphConfig
from gwm.graph.environment import ROOT, VENV, interpreter, refuse_mixed_ros, resource
from gwm_core.errors import InputError, meant, one_of
from gwm_core.files import checksums

# Arguments that may begin with ~.
PATHS = tuple(argument.name for argument in fields(GraphConfig) if argument.metadata["path"])
FILES = ("bringup.launch.py", "teleop.launch.py", "drivers.launch.py")
DRIVERS = {  # further arguments of the launch files: default, meaning
    "start_drivers": ("false", "start the drivers of the robot and its cameras as well"),
    "robot_ip": ("", "of the control box, for the drivers; empty: robot.ip of the site file"),
    "use_fake_hardware": (
        "false",
        "ros2_control's stand-in for the arm, for the drivers (efforts do not move it)",
    ),
}


def defaults() -> dict[str, object]:
    """Return each argument's default, whose type is the argument's."""
    return {argument.name: argument.default for argument in fields(GraphConfig)}


def descriptions() -> dict[str, str]:
    """Return what each argument means, in one line."""
    return {argument.name: argument.metadata["help"] for argument in fields(GraphConfig)}


def refuse_unknown(names: Iterable[str], valid: Collection[str], strict: bool = True) -> None:
    """Raise InputError for an argument that nobody reads. A misspelt one would keep its default.

    Args:
        names: the arguments given.
        valid: the arguments there are.
        strict: refuse every unknown argument. Otherwise only those that look like one of ours: a
            lab's own launch file, which includes ours, may have more.
    """
    for name in names:
        near = difflib.get_close_matches(name, valid, 1, 0.7)
        if name not in valid and (strict or near):
            raise InputError(
                f"unknown argument '{name}'{meant(name, valid)} valid are"
                f" {', '.join(sorted(valid))}"
            )


def parse(words: Iterable[str]) -> GraphConfig:
    """Read ``name:=value`` words. Values get their default's type, and ~ in paths is expanded."""
    valid, values = defaults(), {}
    for word in words:
        name, separator, text = word.partition(":=")
        if not separator:
            raise InputError(f"'{word}' is not NAME:=VALUE")
        refuse_unknown([name], valid)
        if name in values:
            raise InputError(f"{name} is given twice")
        values[name] = _convert(name, text, type(valid[name]))
    return GraphConfig(**values)


def _convert(name: str, text: str, kind: type) -> object:
    try:
        if kind is bool:
            return {"true": True, "false": False}[text.lower()]
        return kind(os.path.expanduser(text) if name in PATHS else text)
    except (ValueError, KeyError):
        wanted = {bool: "true or false", int: "a whole number", float: "a number"}[kind]
        raise InputError(f"{name}:={text}: {wanted} is wanted") from None


def read_site(robot: str, path: str) -> dict:
    """Return the output of `gwm site check --json`, run by the Python that has our packages.

    The Python of ``ros2 launch`` may have none of them.

    Raises:
        InputError: the check failed; the message is its reason.
    """
    words = ["site", "check", *([path] if path else []), "--robot", robot, "--json", "-"]
    words = [interpreter(), "-m", "gwm", *words]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise InputError(reason.removeprefix("gwm: "))
    return json.loads(done.stdout)


def check_launch_arguments(given: Iterable[str], command: list[str]) -> None:
    """Raise InputError for launch arguments that our launch files do not have.

    Args:
        given: all launch configurations.
        command: the words of the process. Where they name none of our launch files, a lab's launch
            file includes ours and may have arguments of its own.
    """
    ours = any(Path(word).name in FILES for word in command)
    typed = {word.partition(":=")[0] for word in command if ":=" in word}
    refuse_unknown([name for name in given if ours and name in typed], (*defaults(), *DRIVERS))
    refuse_unknown(given, (*defaults(), *DRIVERS), strict=False)


def preflight(config: GraphConfig) -> None:
    """Check what ``processes`` cannot: packages, site file, checksums, the folder of episodes.

    Raises:
        InputError: nothing should be started; the message says why.
    """
    refuse_mixed_ros()
    if not (VENV / "gwm-complete").exists() and importlib.util.find_spec("torch") is None:
        raise InputError(
            f"{sys.executable} has none of gwm's packages: run `./gwm doctor` in {ROOT} once"
        )
    robot, site = config.robot, config.site
    own_tasks = read_site(robot, site)["tasks"] if site or robot != "sim" else ()
    policy = Path(config.policy or resource("models/demo"))
    if config.mode == "teleop":
        one_of("task", config.task, (*TASKS, *own_tasks))
    elif (policy / checksums.SUMS).is_file():
        checksums.verify_checksums(policy, [path.name for path in policy.iterdir()])
    try:
        Path(config.record).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"cannot write {config.record}: {error.strerror}; choose another record:="
        ) from None
