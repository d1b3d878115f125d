"""A lab's own numbers: where its cameras are and where the arm may go. One YAML file, ``~/.config/gwm/site.yaml``.

    cameras:
      front: {prefix: camera/front, serial: "048322070450", T_base_camera: [[...], [...], [...], [0, 0, 0, 1]]}
      wrist: {prefix: camera/wrist, T_tcp_camera: [[...], [...], [...], [0, 0, 0, 1]]}
    workspace: {low: [0.22, -0.45, 0.005], high: [0.80, 0.45, 0.70]}
    robot: {type: fr3, ip: 172.16.0.2}
    home: [0.0, -0.3, 0.0, -2.3, 0.0, 2.0, 0.7854]
    profile: {name: desk, tcp_speed: 0.1}
    limits: {dq_max: [1, 1, 1, 1, 2, 2, 2]}
    tasks: {sort_screws: {instruction: put every screw into the box}}   # gwm_core/own_task.py

``gwm calibrate`` writes a camera's place, and beside it ``calibrated``: when, and how well the views agreed.
All but the cameras may be left out; ``launch/site.example.yaml`` says what each means. Limits may be narrowed here,
never widened. Without a file the simulation's site is used; a real robot needs one.
"""

from __future__ import annotations

import os
import re
import shutil
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np
import yaml
from scipy.spatial.transform import Rotation

from gwm_core import topics
from gwm_core.control.kinematics import HOME_Q, fk
from gwm_core.control.limits import DESK, FR3, PROFILES, UNITS, ArmLimits, Profile, Workspace
from gwm_core.errors import InputError, one_of
from gwm_core.own_task import OwnTask, own_tasks
from gwm_core.scene.camera import look_at
from gwm_core.types import ArmState

DEFAULT_FILE = Path("~/.config/gwm/site.yaml")
KEYS = ("cameras", "workspace", "robot", "home", "profile", "limits", "tasks")
ROBOTS = ("fr3",)
MOUNTS = ("T_base_camera", "T_tcp_camera")  # fixed, moving


@dataclass(frozen=True)
class Camera:
    """A camera's topic prefix and place: in the base frame, or on the hand (``moving``) in the frame of the TCP.

    One with a ``serial`` can be driven by our own camera node.
    """

    prefix: str
    T: np.ndarray  # (4, 4) T_base_camera, or T_tcp_camera of one on the hand
    moving: bool = False
    serial: str = ""  # of the RealSense
    calibrated: dict | None = None  # as gwm_core.scene.calibrate.Calibration.record makes it

    def place(self, state: ArmState | None) -> np.ndarray:
        """T_base_camera (4, 4) at the moment of ``state``. Raises ValueError when a moving camera has none."""
        if not self.moving:
            return self.T
        if state is None:
            raise ValueError(f"{self.prefix}: no joint states around its image")
        return fk(state.q) @ self.T

    def to_dict(self) -> dict:
        """As in a site file and in episode.json."""
        serial = {"serial": self.serial} if self.serial else {}
        known = {} if self.calibrated is None else {"calibrated": self.calibrated}
        return {"prefix": self.prefix, **serial, MOUNTS[self.moving]: self.T.tolist(), **known}

    @staticmethod
    def from_dict(values: dict) -> Camera:
        """Back from ``to_dict``. Raises ValueError with what is wrong."""
        if not isinstance(values, dict) or "prefix" not in values or sum(key in values for key in MOUNTS) != 1:
            raise ValueError(f"prefix and one of {' or '.join(MOUNTS)} are wanted")
        moving, calibrated = MOUNTS[True] in values, values.get("calibrated")
        if calibrated is not None and not isinstance(calibrated, dict):
            raise ValueError("calibrated is not what gwm calibrate writes")
        serial = values.get("serial", "")
        if not isinstance(serial, str):
            raise ValueError("serial must stand in quotes, or it loses its leading zeros")
        T = rigid(MOUNTS[moving], values[MOUNTS[moving]])
        return Camera(str(values["prefix"]), T, moving, serial, calibrated)


def rigid(name: str, values) -> np.ndarray:
    """A rigid transform (4, 4) from nested lists. Raises ValueError naming it when it is none."""
    try:
        T = np.array(values, float)
    except (TypeError, ValueError):
        raise ValueError(f"{name} is not a matrix of numbers") from None
    if T.shape != (4, 4) or not np.isfinite(T).all() or not np.allclose(T[3], [0, 0, 0, 1]):
        raise ValueError(f"{name} is not a rigid 4x4 transform")
    if not np.allclose(T[:3, :3] @ T[:3, :3].T, np.eye(3), atol=1e-3) or np.linalg.det(T[:3, :3]) < 0:
        raise ValueError(f"{name} is not a rigid 4x4 transform")
    return T


@dataclass(frozen=True)
class Site:
    """Cameras by name, the workspace, and what else is a lab's own of its robot."""

    cameras: dict[str, Camera]
    workspace: Workspace = field(default_factory=Workspace)
    robot: str = "fr3"
    robot_ip: str = ""
    home: tuple[float, ...] = tuple(HOME_Q.tolist())  # (7,) [rad]
    profile: Profile | None = None  # the most that this site allows; None: whatever profile is asked for
    limits: ArmLimits = FR3
    tasks: dict[str, OwnTask] = field(default_factory=dict)

    def profile_called(self, name: str) -> Profile:
        """One of PROFILES within this site's own. "": the site's own, or desk. Raises InputError."""
        if not name:
            return self.profile or DESK
        asked = PROFILES[one_of("profile", name, PROFILES)]
        return asked if self.profile is None else asked.within(self.profile)


def simulation_site() -> Site:
    """The site of the simulation."""
    from gwm_core.sim.camera_poses import CAMERAS

    return Site({name: Camera(topics.prefix_of(name), look_at(*pose)) for name, pose in CAMERAS.items()})


def site_of(robot: str, path: str) -> Site:
    """The site file, or the simulation's own site when none was given."""
    return simulation_site() if robot == "sim" and not path else load_site(path or DEFAULT_FILE)


def motion_site(robot: str, path: str) -> Site:
    """The site for a process that needs no cameras, and must not load the simulation for them."""
    return Site({}) if robot == "sim" and not path else load_site(path or DEFAULT_FILE)


def load_site(path: Path) -> Site:
    """Read and check a site file. Raises InputError naming the key that is wrong."""
    try:
        values = yaml.safe_load(Path(path).expanduser().read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError(f"cannot read site file {path}: {error}") from None
    known = isinstance(values, dict) and not set(values) - set(KEYS)
    if not known or not isinstance(values.get("cameras"), dict) or not values["cameras"]:
        raise InputError(f"site file {path}: valid keys are {', '.join(KEYS)}; cameras has at least one")
    cameras = {}
    for name, entry in values["cameras"].items():
        if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", str(name)):
            raise InputError(f"site file {path}: cameras.{name}: a name is letters, digits and underscores")
        try:
            cameras[name] = Camera.from_dict(entry)
        except ValueError as error:
            raise InputError(f"site file {path}: cameras.{name}: {error}") from None
    workspace = _workspace(path, values.get("workspace"))
    robot, ip = _robot(path, values.get("robot"))
    limits = _limits(path, values.get("limits"))
    home = _home(path, values.get("home"), workspace, limits)
    profile, tasks = _profile(path, values.get("profile")), own_tasks(f"site file {path}: tasks", values.get("tasks"))
    return Site(cameras, workspace, robot, ip, home, profile, limits, tasks)


def _robot(path: Path, entry) -> tuple[str, str]:
    entry = {} if entry is None else entry
    if not isinstance(entry, dict) or set(entry) - {"type", "ip"}:
        raise InputError(f"site file {path}: robot: valid keys are type and ip")
    try:
        robot = one_of("robot", entry.get("type", "fr3"), ROBOTS)
    except InputError as error:
        raise InputError(f"site file {path}: robot.type: {error}") from None
    return robot, address(f"site file {path}: robot.ip", entry.get("ip", ""))


def address(source: str, text) -> str:
    """``text`` if it can be an address or a host name, or is empty. Drivers put it into command lines and xacro."""
    if not isinstance(text, str) or not re.fullmatch(r"[A-Za-z0-9.:-]*", text):
        raise InputError(f"{source}: an address or a host name is wanted, got {text!r}")
    return text


def _home(path: Path, entry, workspace: Workspace, limits: ArmLimits) -> tuple[float, ...]:
    try:
        q = np.array(HOME_Q if entry is None else entry, float)
    except (TypeError, ValueError):
        q = np.zeros(0)
    if q.shape != (7,) or not np.all(np.isfinite(q)):
        raise InputError(f"site file {path}: home: seven joint angles in radians are wanted")
    low, high = limits.q_low, limits.q_high
    outside = np.flatnonzero((q < low) | (q > high))
    if outside.size:
        i = int(outside[0])
        hint = "; are these degrees?" if np.abs(q).max() > 2 * np.pi else ""
        raise InputError(
            f"site file {path}: home: joint {i + 1} is {q[i]:.3f}, outside {low[i]:.3f} to {high[i]:.3f} rad{hint}"
        )
    tcp = fk(q)[:3, 3]
    if not workspace.holds(tcp):
        raise InputError(f"site file {path}: home: puts the TCP at {tcp.round(3).tolist()} m, outside the workspace")
    return tuple(q.tolist())


def _profile(path: Path, entry) -> Profile | None:
    if entry is None:
        return None
    if not isinstance(entry, dict) or set(entry) - {"name", *asdict(DESK)}:
        raise InputError(f"site file {path}: profile: valid keys are name, {', '.join(asdict(DESK))}")
    name = entry.get("name", "desk")
    if not isinstance(name, str) or name not in PROFILES:
        raise InputError(f"site file {path}: profile.name: '{name}' is none of {', '.join(PROFILES)}")
    widest, narrower = asdict(PROFILES[name]), {key: value for key, value in entry.items() if key != "name"}
    for key, value in narrower.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= widest[key]:
            raise InputError(f"site file {path}: profile.{key}: may only narrow {name}'s {widest[key]}, got {value}")
    return replace(PROFILES[name], **narrower)


def _limits(path: Path, entry) -> ArmLimits:
    entry = {} if entry is None else entry
    if not isinstance(entry, dict):
        raise InputError(f"site file {path}: limits: valid keys are {', '.join(UNITS)}, seven numbers each")
    return FR3.narrowed(f"site file {path}: limits", **{str(key): values for key, values in entry.items()})


def mounts(site: Site) -> str:
    """The cameras as the ``cameras`` argument of urdf/fr3.urdf.xacro. Raises InputError when two share a frame."""
    lines, frames = [], set()
    for name, camera in site.cameras.items():
        frame = camera.prefix.rpartition("/")[2]  # realsense2_camera's camera_name, which names its frames
        if frame in frames or not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", frame):
            raise InputError(
                f"cameras.{name}: the last part of prefix {camera.prefix} names its frames, so it is made of letters, "
                "digits and underscores, and no other camera's"
            )
        frames.add(frame)
        roll, pitch, yaw = Rotation.from_matrix(camera.T[:3, :3]).as_euler("xyz")
        numbers = [*camera.T[:3, 3], roll, pitch, yaw]
        parent = "fr3_hand_tcp" if camera.moving else "fr3_link0"
        lines.append(" ".join([frame, parent, *(f"{x:.9f}" for x in numbers)]))
    return "; ".join(lines)


def _workspace(path: Path, box) -> Workspace:
    widest = Workspace()
    if box is None:
        return widest
    try:
        low, high = (np.array(box[end], float).reshape(3) for end in ("low", "high"))
    except (TypeError, KeyError, ValueError):
        raise InputError(f"site file {path}: workspace needs low and high, three metres each") from None
    if not np.all(low < high) or np.any(low < widest.low) or np.any(high > widest.high):
        raise InputError(f"site file {path}: workspace may only narrow {widest.low} to {widest.high}")
    return Workspace(tuple(low.tolist()), tuple(high.tolist()))


def refuse_installed(path: Path) -> None:
    """Raise InputError when ``path`` lies in an installed package: a lab's numbers have their own file."""
    path = Path(path).expanduser().resolve()
    ament = [Path(p).resolve() for p in os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep) if p]
    if {"site-packages", "dist-packages"} & set(path.parts) or any(p in path.parents for p in ament):
        raise InputError(f"{path} belongs to an installed package: copy it to {DEFAULT_FILE} and leave out --site")


def write_camera(path: Path, name: str, camera: Camera, now: str) -> Path | None:
    """Put a camera into a site file; all else in it stays, comments included. Nothing half-written is left behind.

    Args:
        now: for the name of the old file's copy.

    Returns:
        The copy of the old file, ``<path>.bak-<now>``; None when there was none.
    """
    from ruamel.yaml import YAML, YAMLError  # keeps comments, which PyYAML drops

    refuse_installed(path)
    path = Path(path).expanduser().resolve()  # a link stays a link
    yaml_file, existed = YAML(typ="rt"), path.exists()
    yaml_file.default_flow_style, yaml_file.width = None, 120
    partial, backup = (path.with_name(path.name + ending) for ending in (".partial", f".bak-{now}"))
    try:
        values = (yaml_file.load(path.read_text()) if existed else None) or {}
        entry = values.setdefault("cameras", {}).setdefault(name, {})
        for key in (*MOUNTS, "calibrated"):
            entry.pop(key, None)
        entry.update(camera.to_dict())
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(partial, "w") as file:
            yaml_file.dump(values, file)
            file.flush()
            os.fsync(file.fileno())
        load_site(partial)
        if existed:
            shutil.copy2(path, backup)
        os.replace(partial, path)
    except (AttributeError, TypeError, YAMLError) as error:
        raise InputError(f"site file {path} is not one: {error}") from None
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}") from None
    finally:
        partial.unlink(missing_ok=True)
    return backup if existed else None
