"""Protocols: comparisons of policies whose trials, order and end are fixed before the first trial.

    name: stacking, with and without features
    policies: {with: runs/with, without: runs/without}     # name -> bundle or checkpoint
    tasks: [{task: stack, difficulty: nominal}]
    trials: 100          # of every policy on every task, from the same initial conditions
    seed: 5000           # of the first initial condition
    stop: fixed          # or sequential: two policies on one task, until the evidence suffices
    alpha: 0.05

Policies have codes (A, B, ...) that are assigned at random. Until the end only ``key.json`` tells
which code is which policy.
"""

from __future__ import annotations

import hashlib
import json
import secrets
import string
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from gwm_core.errors import InputError, one_of
from gwm_core.files.json_files import to_json, write_json
from gwm_core.files.yaml_files import read_yaml, text
from gwm_core.types import RESERVED

STOPS = ("fixed", "sequential")
PLAN, KEY = "protocol.json", "key.json"
MAX_TRIALS = 100_000  # of every policy on every task
MAX_SEED = 2**32 - 1 - MAX_TRIALS


@dataclass(frozen=True)
class TrialTask:
    """A task to try. ``difficulty`` is that of the simulation; "" on a robot."""

    task: str
    difficulty: str = "nominal"

    def __str__(self) -> str:
        return f"{self.task} {self.difficulty}".strip()


@dataclass(frozen=True)
class TrialSlot:
    """A planned trial: the policy by its code, the initial condition by its seed."""

    number: int
    code: str
    task: TrialTask
    seed: int


@dataclass(frozen=True)
class Protocol:
    """The decisions before the first trial."""

    name: str
    policies: dict[str, str]
    tasks: tuple[TrialTask, ...]
    trials: int
    seed: int = 5000
    stop: str = "fixed"
    alpha: float = 0.05

    def __post_init__(self):
        text("name", self.name)
        _whole("trials", self.trials, 1, MAX_TRIALS)
        _whole("seed", self.seed, RESERVED, MAX_SEED)  # lower seeds are for training
        one_of("stop", text("stop", self.stop), STOPS)
        if (
            isinstance(self.alpha, bool)
            or not isinstance(self.alpha, int | float)
            or not 0 < self.alpha < 0.5
        ):
            raise InputError(
                f"alpha: a number between 0 and 0.5 is wanted, such as 0.05, not {self.alpha!r}"
            )
        if not 2 <= len(self.policies) <= len(string.ascii_uppercase):
            raise InputError(f"a protocol compares 2 to 26 policies, not {len(self.policies)}")
        if not self.tasks:
            raise InputError("a protocol has tasks, at least one")
        if twice := [str(task) for task, count in Counter(self.tasks).items() if count > 1]:
            raise InputError(
                f"tasks: {twice[0]} is there twice, trials says how often each is tried"
            )
        if self.stop == "sequential" and (len(self.policies), len(self.tasks)) != (2, 1):
            raise InputError(
                "stop: sequential is for two policies on one task; fixed compares more"
            )


_KNOWN = set(Protocol.__dataclass_fields__)
_NEEDED = {"name", "policies", "tasks", "trials"}


def _whole(key: str, value, low: int, high: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise InputError(
            f"{key}: a whole number from {low} to {high} is wanted, such as {max(low, 50)}, not"
            f" {value!r}"
        )


def read_protocol(file: Path) -> Protocol:
    """Read a YAML file. Raises InputError with what would have been valid."""
    values = read_yaml(file)
    try:
        if set(values) - _KNOWN or not set(values) >= _NEEDED:
            needed, other = ", ".join(sorted(_NEEDED)), ", ".join(sorted(_KNOWN - _NEEDED))
            raise InputError(f"a protocol says {needed}, and may say {other}; nothing else")
        if not isinstance(values["policies"], dict):
            raise InputError("policies: lines of NAME: FOLDER are wanted")
        policies = {
            name: text(f"policies: {name}", folder) for name, folder in values["policies"].items()
        }
        if not isinstance(values["tasks"], list):
            raise InputError("tasks: a list is wanted, such as [lift, stack]")
        tasks = tuple(_task(k, task) for k, task in enumerate(values["tasks"], 1))
        return Protocol(**values | {"policies": policies, "tasks": tasks})
    except InputError as error:
        raise InputError(f"{file} is no protocol: {error}") from None


def _task(number: int, values) -> TrialTask:
    key = f"tasks, number {number}"
    if not isinstance(values, dict):
        return TrialTask(text(key, values))
    if not {"task"} <= set(values) <= {"task", "difficulty"}:
        raise InputError(
            f"{key}: task is wanted, and difficulty may be said, not"
            f" {', '.join(values) or 'nothing'}"
        )
    return TrialTask(**{name: text(f"{key}: {name}", value) for name, value in values.items()})


@dataclass(frozen=True)
class TrialOrder:
    """A protocol with its slots in order, under codes.

    Attributes:
        sha256: of all decisions, weights included.
        sealed: SHA-256 of the key, so that it cannot be swapped later.
    """

    protocol: Protocol
    weights: dict[str, str]  # name -> SHA-256 of the policy
    sealed: str
    slots: tuple[TrialSlot, ...]
    sha256: str


def begin(protocol: Protocol, weights: dict[str, str], folder: Path) -> TrialOrder:
    """Fix a protocol in ``folder``, or open the one there.

    Raises InputError where ``folder`` holds another protocol.

    Args:
        weights: by name, SHA-256 of each policy.
    """
    file, decided = Path(folder) / PLAN, {"protocol": asdict(protocol), "weights": weights}
    if file.exists():
        plan = open_plan(folder)
        if _canonical(decided) != _canonical(
            {"protocol": asdict(plan.protocol), "weights": plan.weights}
        ):
            raise InputError(
                f"{folder} holds another protocol, or its weights have changed: choose another"
                " folder"
            )
        return plan
    names = list(protocol.policies)
    secrets.SystemRandom().shuffle(names)
    key = {"codes": dict(zip(string.ascii_uppercase, names)), "salt": secrets.token_hex(16)}
    decided["sealed"] = hashlib.sha256(_canonical(key)).hexdigest()
    decided["sha256"] = hashlib.sha256(_canonical(decided)).hexdigest()
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        write_json(Path(folder) / KEY, key)
        write_json(file, decided)
    except OSError as error:
        raise InputError(
            f"cannot write {folder}: {error.strerror}; choose another folder"
        ) from None
    return open_plan(folder)


def open_plan(folder: Path) -> TrialOrder:
    """The plan in ``folder``. Raises InputError where it was changed."""
    try:
        decided = json.loads((Path(folder) / PLAN).read_text())
        digest = decided.pop("sha256")
        if hashlib.sha256(_canonical(decided)).hexdigest() != digest:
            raise InputError(
                f"{Path(folder) / PLAN} was changed after it was fixed: start anew in another"
                " folder"
            )
        values = decided["protocol"]
        protocol = Protocol(
            **values | {"tasks": tuple(TrialTask(**task) for task in values["tasks"])}
        )
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise InputError(f"no protocol in {folder} ({error})") from None
    return TrialOrder(
        protocol, decided["weights"], decided["sealed"], _slots(protocol, digest), digest
    )


def _slots(protocol: Protocol, digest: str) -> tuple[TrialSlot, ...]:
    """Initial conditions in random order, and for each the policies in random order.

    The hash of the protocol is the seed.
    """
    rng = np.random.default_rng(int(digest[:16], 16))
    conditions = [
        (task, protocol.seed + k) for k in range(protocol.trials) for task in protocol.tasks
    ]
    codes = list(string.ascii_uppercase[: len(protocol.policies)])
    order = [
        (str(code), *conditions[k])
        for k in rng.permutation(len(conditions))
        for code in rng.permutation(codes)
    ]
    return tuple(TrialSlot(number, *slot) for number, slot in enumerate(order))


def read_key(plan: TrialOrder, folder: Path) -> dict[str, str]:
    """Code -> name of every policy. Raises InputError where the key is not the sealed one."""
    try:
        key = json.loads((Path(folder) / KEY).read_text())
        codes = dict(key["codes"])
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise InputError(
            f"the key of {folder} cannot be read ({error}): nobody can say whose codes these are"
        ) from None
    if hashlib.sha256(_canonical(key)).hexdigest() != plan.sealed:
        raise InputError(
            f"{Path(folder) / KEY} is not the key that was sealed before the first trial"
        )
    return codes


def _canonical(values) -> bytes:
    return to_json(values, sort_keys=True, separators=(",", ":")).encode()
