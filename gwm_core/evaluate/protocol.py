"""A comparison of policies, fixed before its first trial: what is tried, in which order, and when it ends.

    name: stacking, with and without features
    policies: {with: runs/with, without: runs/without}     # name -> bundle or checkpoint
    tasks: [{task: stack, difficulty: nominal}]
    trials: 100          # of every policy on every task, from the same initial conditions
    seed: 5000           # of the first initial condition
    stop: fixed          # or sequential: two policies on one task, ended as soon as the evidence suffices
    alpha: 0.05

Policies have codes (A, B, ...) dealt by a secret; nothing but ``key.json`` says whose is whose until the end.
"""

from __future__ import annotations

import hashlib
import json
import secrets
import string
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import yaml

from gwm_core.errors import InputError, one_of
from gwm_core.json_files import to_json, write_json
from gwm_core.types import RESERVED

STOPS = ("fixed", "sequential")
PLAN, KEY = "protocol.json", "key.json"


@dataclass(frozen=True)
class Task:
    """What is tried. ``difficulty`` is the simulation's; "" on a robot."""

    task: str
    difficulty: str = "nominal"

    def __str__(self) -> str:
        return f"{self.task} {self.difficulty}".strip()


@dataclass(frozen=True)
class Slot:
    """One trial to be made: the policy by its code, the initial condition by its seed."""

    number: int
    code: str
    task: Task
    seed: int


@dataclass(frozen=True)
class Protocol:
    """What was decided before the first trial."""

    name: str
    policies: dict[str, str]
    tasks: tuple[Task, ...]
    trials: int
    seed: int = 5000
    stop: str = "fixed"
    alpha: float = 0.05

    def __post_init__(self):
        one_of("stop", self.stop, STOPS)
        if not 2 <= len(self.policies) <= len(string.ascii_uppercase):
            raise InputError(f"a protocol compares 2 to 26 policies, not {len(self.policies)}")
        if not self.tasks or self.trials < 1 or not 0 < self.alpha < 0.5:
            raise InputError("a protocol has tasks, trials from 1 on and alpha between 0 and 0.5")
        if self.seed < RESERVED:
            raise InputError(f"seed {self.seed} is one that policies are trained on: {RESERVED} and up")
        if self.stop == "sequential" and (len(self.policies), len(self.tasks)) != (2, 1):
            raise InputError("stop: sequential is for two policies on one task; fixed compares more")


_KNOWN = set(Protocol.__dataclass_fields__)
_NEEDED = {"name", "policies", "tasks", "trials"}


def read_protocol(file: Path) -> Protocol:
    """Read a YAML file. Raises InputError with what would have been valid."""
    try:
        values = yaml.safe_load(Path(file).read_text())
        if not isinstance(values, dict) or set(values) - _KNOWN or not set(values) >= _NEEDED:
            needed, other = ", ".join(sorted(_NEEDED)), ", ".join(sorted(_KNOWN - _NEEDED))
            raise InputError(f"{file}: a protocol says {needed}, and may say {other}; nothing else")
        tasks = tuple(Task(**task) if isinstance(task, dict) else Task(str(task)) for task in values["tasks"])
        policies = {str(name): str(folder) for name, folder in values["policies"].items()}
        rest = {name: values[name] for name in ("name", "trials", "seed", "stop", "alpha") if name in values}
        return Protocol(policies=policies, tasks=tasks, **rest)
    except (OSError, yaml.YAMLError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{file} is no protocol: {error}") from None


@dataclass(frozen=True)
class Plan:
    """A protocol under way: its slots in order, under codes.

    Attributes:
        sha256: of everything that was decided, weights included. sealed: of the key, which cannot be swapped later.
    """

    protocol: Protocol
    weights: dict[str, str]  # name -> SHA-256 of what the policy is
    sealed: str
    slots: tuple[Slot, ...]
    sha256: str


def begin(protocol: Protocol, weights: dict[str, str], folder: Path) -> Plan:
    """Fix a protocol in ``folder``, or go on with the one there. Raises InputError where that one is another.

    Args:
        weights: by name, SHA-256 of each policy.
    """
    file, decided = Path(folder) / PLAN, {"protocol": asdict(protocol), "weights": weights}
    if file.exists():
        plan = open_plan(folder)
        if _canonical(decided) != _canonical({"protocol": asdict(plan.protocol), "weights": plan.weights}):
            raise InputError(f"{folder} holds another protocol, or its weights have changed: choose another folder")
        return plan
    Path(folder).mkdir(parents=True, exist_ok=True)
    names = list(protocol.policies)
    secrets.SystemRandom().shuffle(names)
    key = {"codes": dict(zip(string.ascii_uppercase, names)), "salt": secrets.token_hex(16)}
    decided["sealed"] = hashlib.sha256(_canonical(key)).hexdigest()
    decided["sha256"] = hashlib.sha256(_canonical(decided)).hexdigest()
    write_json(Path(folder) / KEY, key)
    write_json(file, decided)
    return open_plan(folder)


def open_plan(folder: Path) -> Plan:
    """The plan in ``folder``. Raises InputError where it was changed."""
    try:
        decided = json.loads((Path(folder) / PLAN).read_text())
        digest = decided.pop("sha256")
        if hashlib.sha256(_canonical(decided)).hexdigest() != digest:
            raise InputError(f"{Path(folder) / PLAN} was changed after it was fixed: start anew in another folder")
        values = decided["protocol"]
        protocol = Protocol(**values | {"tasks": tuple(Task(**task) for task in values["tasks"])})
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise InputError(f"no protocol in {folder} ({error})") from None
    return Plan(protocol, decided["weights"], decided["sealed"], _slots(protocol, digest), digest)


def _slots(protocol: Protocol, digest: str) -> tuple[Slot, ...]:
    """Initial conditions in random order, and for each the policies in random order: drawn from the hash."""
    rng = np.random.default_rng(int(digest[:16], 16))
    conditions = [(task, protocol.seed + k) for k in range(protocol.trials) for task in protocol.tasks]
    codes = list(string.ascii_uppercase[: len(protocol.policies)])
    drawn = [(str(code), *conditions[k]) for k in rng.permutation(len(conditions)) for code in rng.permutation(codes)]
    return tuple(Slot(number, *slot) for number, slot in enumerate(drawn))


def read_key(plan: Plan, folder: Path) -> dict[str, str]:
    """Code -> name of every policy. Raises InputError where the key is not the one that was sealed."""
    try:
        key = json.loads((Path(folder) / KEY).read_text())
        codes = dict(key["codes"])
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise InputError(
            f"the key of {folder} cannot be read ({error}): nobody can say whose codes these are"
        ) from None
    if hashlib.sha256(_canonical(key)).hexdigest() != plan.sealed:
        raise InputError(f"{Path(folder) / KEY} is not the key that was sealed before the first trial")
    return codes


def _canonical(values) -> bytes:
    return to_json(values, sort_keys=True, separators=(",", ":")).encode()
