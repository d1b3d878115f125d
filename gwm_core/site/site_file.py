"""The site file of a lab: poses of its cameras, its workspace, robot, limits and tasks.

It is one YAML file, ``~/.config/gwm/site.yaml``:

    cameras:
      front: {prefix: camera/front, serial: "048322070450", T_base_camera: [[...], [...], [...], [0,
          0, 0, 1]]}
      wrist: {prefix: camera/wrist, T_tcp_camera: [[...], [...], [...], [0, 0, 0, 1]]}
    workspace: {low: [0.22, -0.45, 0.005], high: [0.80, 0.45, 0.70]}
    robot: {type: fr3, ip: 172.16.0.2}
    home: [0.0, -0.3, 0.0, -2.3, 0.0, 2.0, 0.7854]
    profile: {name: desk, tcp_speed: 0.1}
    limits: {dq_max: [1, 1, 1, 1, 2, 2, 2]}
    tasks: {sort_screws: {instruction: put every screw into the box}}   # gwm_core/task_spec.py
    fci: {real_time: false}   # gwm_core/site/fci_settings.py

``gwm calibrate`` writes the pose of a camera, and beside it ``calibrated``: when, and how well the
views agreed. Only the cameras are required; ``launch/site.example.yaml`` explains every entry.
Limits may be narrowed here, never widened. Unknown and repeated entries are refused. Without a file
the simulation's site is used; a real robot needs one.
"""

from __future__ import annotations

import functools
import re
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation

from gwm_core import topics
from gwm_core.address import address
from gwm_core.errors import InputError, one_of
from gwm_core.files.yaml_files import known_keys, numbers, read_yaml
from gwm_core.geometry.camera import look_at
from gwm_core.geometry.kinematics import HOME_Q, fk
from gwm_core.geometry.limits import (
    DESK,
    FR3,
    PANDA,
    PROFILES,
    UNITS,
    ArmLimits,
    Profile,
    Workspace,
)
from gwm_core.site.camera import MOUNTS, Camera
from gwm_core.site.fci_settings import FciSettings, parse_fci
from gwm_core.task_spec import TaskSpec, parse_tasks

DEFAULT_FILE = Path("~/.config/gwm/site.yaml")
KEYS = ("cameras", "workspace", "robot", "home", "profile", "limits", "tasks", "fci")
LIMITS = {limits.name: limits for limits in (FR3, PANDA)}
CAMERA_KEYS = ("prefix", "serial", *MOUNTS, "calibrated")
_NAME = r"[A-Za-z][A-Za-z0-9_]*"


@dataclass(frozen=True)
class Site:
    """The content of a site file."""

    cameras: dict[str, Camera]
    workspace: Workspace = field(default_factory=Workspace)
    robot: str = "fr3"
    robot_ip: str = ""
    home: tuple[float, ...] = tuple(HOME_Q.tolist())  # (7,) [rad]
    # upper bound of every profile at this site; None: no bound
    profile: Profile | None = None
    limits: ArmLimits = FR3
    tasks: dict[str, TaskSpec] = field(default_factory=dict)
    fci: FciSettings = field(default_factory=FciSettings)

    def named_profile(self, name: str) -> Profile:
        """One of PROFILES, bounded by this site's own; for "" the site's own, or desk.

        Raises InputError for an unknown name.
        """
        if not name:
            return self.profile or DESK
        requested = PROFILES[one_of("profile", name, PROFILES)]
        return requested if self.profile is None else requested.within(self.profile)


def simulation_site() -> Site:
    """The site of the simulation."""
    from gwm_core.geometry.simulated_cameras import CAMERAS

    return Site(
        {name: Camera(topics.prefix_of(name), look_at(*pose)) for name, pose in CAMERAS.items()}
    )


def site_of(robot: str, path: str) -> Site:
    """The site of a path; without one the simulation's, or for a robot that of ``DEFAULT_FILE``.

    Raises InputError where the file is of another robot.
    """
    return simulation_site() if robot == "sim" and not path else _site_with(robot, path)


def motion_site(robot: str, path: str) -> Site:
    """As ``site_of``, without the simulation's cameras: for a process that needs none."""
    return Site({}) if robot == "sim" and not path else _site_with(robot, path)


def _site_with(robot: str, path: str) -> Site:
    site = load_site(path or DEFAULT_FILE)
    wanted = topics.ROBOTS[0] if robot == "sim" else robot
    if site.robot != wanted:
        raise InputError(
            f"site file {path or DEFAULT_FILE} is of a {site.robot}, but robot:={robot} needs one"
            f" of a {wanted}: give another robot:=, or mend robot.type"
        )
    return site


def load_site(path: Path) -> Site:
    """Read and check a site file. Raises InputError naming the key that is wrong."""
    source = f"site file {path}"
    values = known_keys(source, read_yaml(path, "site file"), KEYS)

    def section(name: str, check):
        """Read a section by ``check``; a missing one is empty."""
        return check(f"{source}: {name}", values.get(name, {}))

    workspace = section("workspace", _workspace)
    robot, ip = section("robot", _robot)
    limits = section("limits", functools.partial(_limits, LIMITS[robot]))
    home = _home(f"{source}: home", values.get("home", HOME_Q.tolist()), workspace, limits)
    profile = _profile(f"{source}: profile", values["profile"]) if "profile" in values else None
    tasks = section("tasks", parse_tasks)
    return Site(
        cameras=section("cameras", _cameras),
        workspace=workspace,
        robot=robot,
        robot_ip=ip,
        home=home,
        profile=profile,
        limits=limits,
        tasks=tasks,
        fci=section("fci", parse_fci),
    )


def _cameras(source: str, entry) -> dict[str, Camera]:
    if not isinstance(entry, dict) or not entry:
        raise InputError(
            f"{source}: at least one is wanted: a name, and under it {', '.join(CAMERA_KEYS)}"
        )
    cameras = {name: _camera(f"{source}.{name}", name, values) for name, values in entry.items()}
    for key in ("prefix", "serial"):
        owners: dict[str, str] = {}
        for name, camera in cameras.items():
            value = getattr(camera, key)
            if value and owners.setdefault(value, name) != name:
                raise InputError(
                    f"{source}.{name}: {key} {value} is that of {owners[value]}: each camera has"
                    " its own"
                )
    return cameras


def _camera(source: str, name: str, entry) -> Camera:
    if not re.fullmatch(_NAME, name):
        raise InputError(f"{source}: a name is letters, digits and underscores")
    known_keys(source, entry, CAMERA_KEYS)
    try:
        camera = Camera.from_dict(entry)
    except ValueError as error:
        raise InputError(f"{source}: {error}") from None
    if not re.fullmatch(rf"{_NAME}(/{_NAME})*", camera.prefix):
        raise InputError(
            f"{source}: prefix '{entry['prefix']}' is not NAMESPACE/NAME, as in camera/front:"
            " letters, digits and underscores; its last part names its frames"
        )
    if "serial" in entry:
        _serial(source, entry["serial"])
    return camera


def _serial(source: str, serial) -> None:
    if isinstance(serial, int):
        raise InputError(f"{source}: serial must stand in quotes, or it loses its leading zeros")
    if not isinstance(serial, str) or not re.fullmatch("[A-Za-z0-9]+", serial):
        shown = "nothing" if serial is None else repr(serial)
        raise InputError(
            f"{source}: serial is {shown}: the digits that are printed under the camera are wanted,"
            " in quotes and without underscore or blank; leave the line out where any camera"
            " will do"
        )


def _robot(source: str, entry) -> tuple[str, str]:
    entry = known_keys(source, entry, ("type", "ip"))
    try:
        robot = one_of("robot", entry.get("type", "fr3"), topics.ROBOTS)
    except InputError as error:
        raise InputError(f"{source}.type: {error}") from None
    return robot, address(f"{source}.ip", entry.get("ip", ""))


def _home(source: str, entry, workspace: Workspace, limits: ArmLimits) -> tuple[float, ...]:
    q = _row(source, entry, 7, "seven joint angles in radians are wanted")
    low, high = limits.q_low, limits.q_high
    outside = np.flatnonzero((q < low) | (q > high))
    if outside.size:
        i = int(outside[0])
        hint = "; are these degrees?" if np.abs(q).max() > 2 * np.pi else ""
        raise InputError(
            f"{source}: joint {i + 1} is {q[i]:.3f}, outside {low[i]:.3f} to {high[i]:.3f}"
            f" rad{hint}"
        )
    tcp = fk(q)[:3, 3]
    if not workspace.contains(tcp):
        raise InputError(
            f"{source}: puts the TCP at {tcp.round(3).tolist()} m, outside the workspace"
        )
    return tuple(q.tolist())


def _row(source: str, entry, count: int, wanted: str) -> np.ndarray:
    try:
        row = numbers(entry)
    except ValueError as error:
        raise InputError(f"{source}: {wanted}: {error}") from None
    if row.shape != (count,):
        raise InputError(f"{source}: {wanted}, got {entry}")
    return row


def _profile(source: str, entry) -> Profile:
    entry = known_keys(source, entry, ("name", *asdict(DESK)))
    name = entry.get("name", "desk")
    if not isinstance(name, str) or name not in PROFILES:
        raise InputError(f"{source}.name: '{name}' is none of {', '.join(PROFILES)}")
    widest = asdict(PROFILES[name])
    narrower = {key: value for key, value in entry.items() if key != "name"}
    for key, value in narrower.items():
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise InputError(f"{source}.{key}: a number is wanted, got {value!r}")
        if not 0 < value <= widest[key]:
            raise InputError(f"{source}.{key}: may only narrow {name}'s {widest[key]}, got {value}")
    return replace(PROFILES[name], **narrower)


def _limits(widest: ArmLimits, source: str, entry) -> ArmLimits:
    entry = known_keys(source, entry, UNITS)
    rows = {
        key: _row(source, values, 7, f"{key} needs seven finite numbers in {UNITS[key]}").tolist()
        for key, values in entry.items()
    }
    return widest.narrowed(source, **rows)


def xacro_mounts(site: Site) -> str:
    """The argument ``cameras`` of urdf/fr3.urdf.xacro. Raises InputError when two share a frame."""
    lines, frames = [], set()
    for name, camera in site.cameras.items():
        # realsense2_camera's camera_name, which names its frames
        frame = camera.prefix.rpartition("/")[2]
        if frame in frames:
            raise InputError(
                f"cameras.{name}: the last part of prefix {camera.prefix} names its frames, and is"
                " another camera's"
            )
        frames.add(frame)
        roll, pitch, yaw = Rotation.from_matrix(camera.T[:3, :3]).as_euler("xyz")
        pose = [*camera.T[:3, 3], roll, pitch, yaw]
        parent = topics.name_of(site.robot, "fr3_hand_tcp" if camera.moving else "fr3_link0")
        lines.append(" ".join([frame, parent, *(f"{x:.9f}" for x in pose)]))
    return "; ".join(lines)


def _workspace(source: str, box) -> Workspace:
    widest = Workspace()
    box = known_keys(source, box, ("low", "high"))
    if not box:
        return widest
    if len(box) < 2:
        raise InputError(f"{source} needs low and high, three metres each")
    low, high = (
        _row(f"{source}.{end}", box[end], 3, "three metres are wanted") for end in ("low", "high")
    )
    if not np.all(low < high) or np.any(low < widest.low) or np.any(high > widest.high):
        raise InputError(f"{source} may only narrow {widest.low} to {widest.high}")
    return Workspace(tuple(low.tolist()), tuple(high.tolist()))
