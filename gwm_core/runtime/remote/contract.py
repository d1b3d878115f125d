"""What a foreign policy sees and what it answers, from a short YAML file.

    server: ws://127.0.0.1:8000
    images:
      observation/image: {camera: front, size: [224, 224]}
    state:
      observation/state: [joints, gripper_opening]
    prompt: prompt
    actions: {key: actions, space: joint_positions, gripper: opening, rate: 10, rows: 16}

A server may send its own contract in its metadata, under ``contract``. It then has to be the same.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from numbers import Real
from pathlib import Path

from gwm_core.errors import InputError, meant
from gwm_core.files.yaml_files import known_keys, read_yaml, text
from gwm_core.runtime.remote.connection import ServerAddress

KEYS = ("server", "authority", "timeout", "images", "state", "prompt", "prompts", "actions")
STATES = {  # part of a state -> its numbers
    "joints": 7,  # [rad]
    "joint_velocities": 7,  # [rad/s]
    "position": 3,  # of the TCP [m]
    "rotation_vector": 3,  # [rad]
    "rot6d": 6,  # first two columns of the rotation
    "gripper_width": 1,  # [m]
    "gripper_command": 1,  # [m] commanded width
    "gripper_opening": 1,  # 0 closed, 1 open
    "gripper_closing": 1,  # 0 open, 1 closed
}
SPACES = {  # of actions -> numbers of a row without the gripper
    "joint_positions": 7,  # [rad]
    "joint_deltas": 7,  # [rad], each from the row before
    "joint_velocities": 7,  # [rad/s]
    "poses": 6,  # of the TCP: position [m], rotation vector [rad]
    "poses_rot6d": 9,  # position [m], first two columns of the rotation
}
GRIPPERS = ("width", "opening", "closing")  # [m]; 0 closed to 1 open; 0 open to 1 closed
KINDS = ("color", "depth")
LONGEST = 0.45  # [s] for an answer: the gate takes no chunk of an older observation than 0.48 s
SHORTEST = 0.6  # [s] of a chunk: the next one comes after 0.4 s, and takes its time


@dataclass(frozen=True)
class ImageSpec:
    """An image of the observation: uint8 RGB, or depth as uint16 [mm], padded with black."""

    camera: str
    size: tuple[int, int]  # height, width [pixels]
    kind: str = "color"


@dataclass(frozen=True)
class ActionSpec:
    """The answer: ``rows`` actions or more under ``key``, ``rate`` of them a second."""

    space: str
    gripper: str
    rate: float  # [Hz]
    rows: int
    key: str = "actions"

    @property
    def width(self) -> int:
        """Numbers of a row; the last one is the gripper's."""
        return SPACES[self.space] + 1


@dataclass(frozen=True)
class PolicyContract:
    """What is sent and what is expected."""

    images: dict[str, ImageSpec]  # key of the observation -> image
    state: dict[str, tuple[str, ...]]  # key of the observation -> parts, one after another
    actions: ActionSpec
    prompt: str = "prompt"  # key of the task's text; "": none is sent
    prompts: dict[str, str] = field(default_factory=dict)  # task -> its text
    timeout: float = 0.35  # [s] for an answer

    def of_server(self) -> dict:
        """The part that a server may send too: all but texts and times."""
        values = asdict(self)
        return {name: values[name] for name in ("images", "state", "actions", "prompt")}

    def check_metadata(self, metadata: dict, source: str) -> None:
        """Raise InputError where the server says something else of itself.

        ``action_horizon`` and ``action_dim`` are taken for the rows of an answer and their width.
        """
        if (own := metadata.get("contract")) is not None:
            theirs = parse_contract(f"{source}: contract in the metadata", own).of_server()
            for name, value in self.of_server().items():
                if theirs[name] != value:
                    raise InputError(f"{source}: {name}: {theirs[name]} there, {value} here")
        dim, horizon = (metadata.get(name) for name in ("action_dim", "action_horizon"))
        if isinstance(dim, Real) and dim != self.actions.width:
            raise InputError(f"{source}: rows of {dim} numbers there, {self.actions.width} here")
        if isinstance(horizon, Real) and horizon < self.actions.rows:
            raise InputError(f"{source}: {horizon} rows there, {self.actions.rows} here")


def read_contract(path: Path) -> tuple[ServerAddress, PolicyContract]:
    """Read a file. Raises InputError that names the file and the key."""
    source, values = str(path), read_yaml(path, "policy contract")
    if "server" not in values:
        raise InputError(f"{source}: server is missing, as server: ws://127.0.0.1:8000")
    server = text(f"{source}: server", values["server"])
    address = ServerAddress(server, text(f"{source}: authority", values.get("authority", "")))
    address.check(f"{source}: server")
    return address, parse_contract(source, values)


def parse_contract(source: str, values) -> PolicyContract:
    """A contract from its mapping. Raises InputError that begins with ``source``."""
    values = known_keys(source, values, KEYS)
    for name in ("images", "state", "actions"):
        if not isinstance(values.get(name), dict) or not values[name]:
            raise InputError(f"{source}: {name}: further keys are wanted")
    images = {
        key: _image(f"{source}: images.{key}", entry) for key, entry in values["images"].items()
    }
    state = {key: _parts(f"{source}: state.{key}", entry) for key, entry in values["state"].items()}
    keys = [*images, *state]
    prompt = text(f"{source}: prompt", values.get("prompt", "prompt"))
    if len({*keys, prompt}) < len(keys) + 1:
        raise InputError(f"{source}: a key of the observation stands there twice")
    prompts = values.get("prompts", {})
    if not isinstance(prompts, dict):
        raise InputError(f"{source}: prompts: lines of TASK: TEXT are wanted")
    prompts = {name: text(f"{source}: prompts.{name}", said) for name, said in prompts.items()}
    timeout = _number(f"{source}: timeout", values.get("timeout", 0.35), 0.01, LONGEST)
    actions = _actions(f"{source}: actions", values["actions"])
    return PolicyContract(images, state, actions, prompt, prompts, timeout)


def _image(source: str, entry) -> ImageSpec:
    entry = known_keys(source, entry, ("camera", "size", "kind"))
    size = entry.get("size")
    if (
        not isinstance(size, list | tuple)
        or len(size) != 2
        or not all(type(n) is int and 8 <= n <= 2048 for n in size)
    ):
        raise InputError(f"{source}.size: [height, width] is wanted, 8 to 2048 pixels")
    kind = _choice(f"{source}.kind", entry.get("kind", "color"), KINDS)
    return ImageSpec(text(f"{source}.camera", entry.get("camera")), tuple(size), kind)


def _parts(source: str, entry) -> tuple[str, ...]:
    if not isinstance(entry, list | tuple) or not entry:
        raise InputError(f"{source}: a list of parts is wanted, of {', '.join(STATES)}")
    return tuple(_choice(source, part, STATES) for part in entry)


def _actions(source: str, entry) -> ActionSpec:
    entry = known_keys(source, entry, ("key", "space", "gripper", "rate", "rows"))
    space = _choice(f"{source}.space", entry.get("space"), SPACES)
    gripper = _choice(f"{source}.gripper", entry.get("gripper"), GRIPPERS)
    rate = _number(f"{source}.rate", entry.get("rate"), 2, 50)
    rows = _number(f"{source}.rows", entry.get("rows"), 2, 256)
    if rows != int(rows):
        raise InputError(f"{source}.rows: a whole number is wanted")
    if rows / rate < SHORTEST - 1e-9:
        raise InputError(
            f"{source}: {rows:.0f} rows at {rate:g} Hz are {rows / rate:.2f} s: the arm would wait"
            f" for every chunk, so {SHORTEST:g} s or more are wanted"
        )
    key = text(f"{source}.key", entry.get("key", "actions"))
    return ActionSpec(space, gripper, rate, int(rows), key)


def _choice(source: str, value, valid) -> str:
    if text(source, value) not in valid:
        near = meant(value, valid)
        raise InputError(f"{source}: unknown '{value}'{near} valid are {', '.join(sorted(valid))}")
    return value


def _number(source: str, value, low: float, high: float) -> float:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not low <= value <= high:
        raise InputError(f"{source}: a number from {low:g} to {high:g} is wanted, got {value!r}")
    return float(value)
