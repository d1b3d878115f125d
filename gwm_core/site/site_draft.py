"""A site file from a few answers: its text with comments, checked before it is written.

The answers are a dictionary, as a page sends them and ``gwm setup`` collects them:

    robot: {type, ip}
    cameras: name -> {prefix, serial, mount: base or hand, eye: [x, y, z], target: [x, y, z]}
    workspace: {low: [x, y, z], high: [x, y, z]}
    home: seven angles [rad]
    profile: {name, tcp_speed}
"""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path

import numpy as np

from gwm_core.errors import InputError, one_of
from gwm_core.files.atomic_write import PARTIAL, to_disk
from gwm_core.files.json_files import to_json
from gwm_core.files.yaml_files import known_keys, numbers, text
from gwm_core.geometry.camera import look_at
from gwm_core.geometry.kinematics import HOME_Q
from gwm_core.site.site_file import load_site

DEFAULTS = {
    "robot": {"type": "fr3", "ip": ""},
    "cameras": {},
    "workspace": {"low": [0.30, -0.35, 0.010], "high": [0.70, 0.35, 0.50]},
    "home": HOME_Q.round(4).tolist(),
    "profile": {"name": "desk", "tcp_speed": 0.10},
}
_TARGET = [0.5, 0.0, 0.05]  # [m] what a camera looks at, to begin with
_EYES = {"front": [1.15, 0.0, 0.62], "side": [0.55, 0.85, 0.55]}  # [m] in the order of cameras
CAMERA_KEYS = ("prefix", "serial", "mount", "eye", "target")
MOUNTS = ("base", "hand")
# on the hand, 5 cm in front of it and 6 cm behind the finger tips, looking along the fingers
_ON_HAND = np.array([[0.0, -1, 0, 0.05], [1, 0, 0, 0], [0, 0, 1, -0.06], [0, 0, 0, 1]])


def first_pose(number: int) -> tuple[str, list[float], list[float]]:
    """Name, position and target [m] from which the setup of a camera (0, 1, ...) begins."""
    name, eye = [*_EYES.items(), (f"camera{number + 1}", _EYES["side"])][min(number, len(_EYES))]
    return name, eye, _TARGET


def check_answers(part: dict) -> None:
    """Raise InputError for answers that have no place in a site file. Missing ones are defaults."""
    name, eye, target = first_pose(0)
    camera = {"prefix": name, "eye": eye, "target": target}
    with tempfile.TemporaryDirectory() as folder:
        write_site(Path(folder) / "site.yaml", {"cameras": {name: camera}, **part})


def camera_pose(source: str, camera: dict) -> np.ndarray:
    """(4, 4): T_base_camera of a camera on a stand, T_tcp_camera of one on the hand.

    Raises InputError that begins with ``source``.
    """
    known_keys(source, camera, CAMERA_KEYS)
    if camera.get("mount") is not None and not isinstance(camera["mount"], str):
        raise InputError(f"{source}.mount: valid are {', '.join(MOUNTS)}")
    if one_of(f"{source}.mount", camera.get("mount", "base"), MOUNTS) == "hand":
        return _ON_HAND
    points = []
    for key in ("eye", "target"):
        try:
            points.append(numbers(camera.get(key)))
        except (ValueError, TypeError, OverflowError) as error:
            raise InputError(f"{source}.{key}: {error}") from None
        if points[-1].shape != (3,):
            raise InputError(f"{source}.{key}: three metres are wanted, got {camera.get(key)}")
    return look_at(*points)


def site_text(answers: dict) -> str:
    """The site file of the answers. Raises InputError for one that has no place in it."""
    known_keys("setup", answers, DEFAULTS)
    values = {key: answers.get(key, default) for key, default in DEFAULTS.items()}
    robot = known_keys("robot", values["robot"], ("type", "ip"))
    box = known_keys("workspace", values["workspace"], ("low", "high"))
    profile = known_keys("profile", values["profile"], ("name", "tcp_speed"))
    cameras = values["cameras"]
    if not isinstance(cameras, dict) or not cameras:
        raise InputError("cameras: at least one is wanted: a name, and where it is")
    lines = [
        "# Written by `gwm setup`. Check it with `gwm site check FILE`.",
        "# Metres, radians. The base is the frame of the arm's foot, x forward, z up.",
        "",
        "robot:",
        *(
            f"  {key}: {to_json(value, ensure_ascii=False)}"
            for key, value in robot.items()
            if value
        ),
        "",
        "# Poses by eye: `gwm calibrate --camera NAME` measures them.",
        "cameras:",
        *(line for name, camera in cameras.items() for line in _camera_lines(name, camera)),
        "",
        "# Box for the TCP.",
        "workspace:",
        *(f"  {end}: {_row(f'workspace.{end}', value)}" for end, value in box.items()),
        "",
        "# Where gate/home moves to.",
        f"home: {_row('home', values['home'])}",
        "",
        "# The most that this lab allows, whatever profile:=... says.",
        "profile:",
        *(f"  {key}: {to_json(value, ensure_ascii=False)}" for key, value in profile.items()),
    ]
    return "\n".join(lines) + "\n"


def _camera_lines(name: str, camera: dict) -> list[str]:
    source = f"cameras.{name}"
    T = camera_pose(source, camera)
    frame = "T_tcp_camera" if camera.get("mount") == "hand" else "T_base_camera"
    return [
        f"  {_quoted(name)}:",
        f"    prefix: {_quoted(text(f'{source}.prefix', camera.get('prefix')))}",
        *([f"    serial: {_quoted(camera['serial'])}"] if camera.get("serial") else []),
        f"    {frame}:",
        *(f"      - {(row.round(6) + 0.0).tolist()}" for row in T),
    ]


def _quoted(value) -> str:
    return to_json(str(value), ensure_ascii=False)


def _row(source: str, values) -> str:
    """Numbers as a YAML list. Raises InputError that begins with ``source`` for other values."""
    try:
        return str(numbers(values).tolist())
    except (ValueError, TypeError, OverflowError) as error:
        raise InputError(f"{source}: {error}") from None


def write_site(path: Path, answers: dict, replace: bool = False) -> Path | None:
    """Write the site file of the answers; it is there as a whole, or not at all.

    Args:
        replace: an existing file becomes ``<path>.bak-<time>``, which is returned.

    Raises:
        InputError: an answer is not valid, or the file exists.
    """
    path = Path(path).expanduser()
    if path.exists() and not replace:
        raise InputError(f"{path} exists: --replace keeps a copy of it and writes a new one")
    partial = path.with_name(path.name + PARTIAL)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(site_text(answers))
        load_site(partial)
        to_disk(partial)
        backup = None
        if path.exists():
            backup = path.with_name(f"{path.name}.bak-{time.strftime('%Y%m%d-%H%M%S')}")
            os.link(path, backup)
        partial.replace(path)
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}") from None
    except InputError as error:
        raise InputError(str(error).replace(f"site file {partial}: ", "")) from None
    finally:
        partial.unlink(missing_ok=True)
    return backup
