"""The arguments of the graph as words on a command line: what they mean, what they say, what is
refused.

`gwm up` and the launch files read them here. Standard library only, like
``gwm.graph.process_list``.
"""

from __future__ import annotations

import difflib
import importlib.util
import inspect
import json
import os
import subprocess
import sys
from collections.abc import Collection, Iterable
from pathlib import Path

from gwm.graph.process_list import ROOT, TASKS, VENV, graph, interpreter, refuse_mixed_ros
from gwm_core.errors import InputError, one_of
from gwm_core.files import checksums

# arguments that may begin with ~
PATHS = ("policy", "site", "record", "console_certificate", "console_key")
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
    """Each argument's default, whose type is the argument's."""
    return {
        name: parameter.default for name, parameter in inspect.signature(graph).parameters.items()
    }


def described() -> dict[str, str]:
    """What each argument of ``graph`` means, in one line, from its docstring."""
    texts: dict[str, str] = {}
    for line in inspect.cleandoc(graph.__doc__).partition("Args:")[2].strip("\n").splitlines():
        names, _, text = line.strip().partition(": ")
        if not line.startswith(" " * 8):  # not what goes on from the line before
            latest = [name.strip() for name in names.split(",")]
            texts |= dict.fromkeys(latest, text)
        else:
            texts |= {name: f"{texts[name]} {line.strip()}" for name in latest}
    return texts


def refuse_unknown(names: Iterable[str], known: Collection[str], strict: bool = True) -> None:
    """Raise InputError for an argument that nobody reads: a misspelt one would start with its
    default.

    Args:
        strict: refuse all of them; else those alone that look like one of ours, as a lab's own
            launch file, which includes ours, may have more.
    """
    for name in names:
        near = difflib.get_close_matches(name, known, 1, 0.7)
        if name not in known and (strict or near):
            hint = f": is {near[0]} meant?" if near else ":"
            raise InputError(
                f"unknown argument '{name}'{hint} valid are {', '.join(sorted(known))}"
            )


def parse(words: list[str]) -> dict[str, object]:
    """``name:=value`` words -> keyword arguments of ``graph``, each of its default's type, ~ in
    paths expanded.
    """
    known, values = defaults(), {}
    for word in words:
        name, separator, text = word.partition(":=")
        if not separator:
            raise InputError(f"'{word}' is not NAME:=VALUE")
        refuse_unknown([name], known)
        if name in values:
            raise InputError(f"{name} is given twice")
        kind = type(known[name])
        try:
            if kind is bool:
                values[name] = {"true": True, "false": False}[text.lower()]
            else:
                values[name] = kind(os.path.expanduser(text) if name in PATHS else text)
        except (ValueError, KeyError):
            valid = {bool: "true or false", int: "a whole number", float: "a number"}[kind]
            raise InputError(f"{name}:={text}: {valid} is wanted") from None
    return values


def read_site(robot: str, path: str) -> dict:
    """What `gwm site check --json` says, run by the Python that has our packages: this one may have
    none of them.

    Raises InputError with its reason.
    """
    words = ["site", "check", *([path] if path else []), "--robot", robot, "--json", "-"]
    words = [interpreter(), "-m", "gwm", *words]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise InputError(reason.removeprefix("gwm: "))
    return json.loads(done.stdout)


def launched(given: Iterable[str], command: list[str]) -> None:
    """Raise InputError for launch arguments that our launch files do not have.

    Args:
        given: all launch configurations. command: the words of the process; where they name no
            launch file of ours, one of the lab's includes it, and may have arguments of its own.
    """
    ours = any(Path(word).name in FILES for word in command)
    typed = {word.partition(":=")[0] for word in command if ":=" in word}
    refuse_unknown([name for name in given if ours and name in typed], (*defaults(), *DRIVERS))
    refuse_unknown(given, (*defaults(), *DRIVERS), strict=False)


def check(values: dict[str, object]) -> None:
    """Raise InputError for what can be known of ``parse``'s values before anything starts, and
    ``graph`` cannot see.
    """
    given = defaults() | values
    robot, site, mode, task, policy, record = (
        str(given[name]) for name in ("robot", "site", "mode", "task", "policy", "record")
    )
    refuse_mixed_ros()
    if not (VENV / "gwm-complete").exists() and importlib.util.find_spec("torch") is None:
        raise InputError(
            f"{sys.executable} has none of gwm's packages: run `./gwm doctor` in {ROOT} once"
        )
    own = read_site(robot, site)["tasks"] if site or robot != "sim" else ()
    if mode == "teleop":
        one_of("task", task, (*TASKS, *own))
    elif (Path(policy) / checksums.SUMS).is_file():
        checksums.verify_checksums(Path(policy), [path.name for path in Path(policy).iterdir()])
    try:
        Path(record).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"cannot write {record}: {error.strerror}; choose another record:="
        ) from None
