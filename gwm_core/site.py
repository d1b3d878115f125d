"""A lab's own numbers: where its cameras are and where the arm may go. One YAML file, ``~/.config/gwm/site.yaml``.

    cameras:
      front: {prefix: camera/front, serial: "048322070450", T_base_camera: [[...], [...], [...], [0, 0, 0, 1]]}
      wrist: {prefix: camera/wrist, T_tcp_camera: [[...], [...], [...], [0, 0, 0, 1]]}
    workspace: {low: [0.22, -0.45, 0.005], high: [0.80, 0.45, 0.70]}

Without a file the simulation's site is used; a real robot needs one.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import yaml

from gwm_core import topics
from gwm_core.control.kinematics import fk
from gwm_core.control.limits import Workspace
from gwm_core.errors import InputError
from gwm_core.scene.camera import look_at
from gwm_core.types import ArmState

DEFAULT_FILE = Path("~/.config/gwm/site.yaml")
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
        return {"prefix": self.prefix, **serial, MOUNTS[self.moving]: self.T.tolist()}

    @staticmethod
    def from_dict(values: dict) -> Camera:
        """Back from ``to_dict``. Raises ValueError with what is wrong."""
        if not isinstance(values, dict) or "prefix" not in values or sum(key in values for key in MOUNTS) != 1:
            raise ValueError(f"prefix and one of {' or '.join(MOUNTS)} are wanted")
        moving = MOUNTS[True] in values
        try:
            T = np.array(values[MOUNTS[moving]], float)
        except (TypeError, ValueError):
            raise ValueError(f"{MOUNTS[moving]} is not a matrix of numbers") from None
        rigid = T.shape == (4, 4) and np.allclose(T[:3, :3] @ T[:3, :3].T, np.eye(3), atol=1e-3)
        if not rigid or np.linalg.det(T[:3, :3]) < 0 or not np.isfinite(T).all() or not np.allclose(T[3], [0, 0, 0, 1]):
            raise ValueError(f"{MOUNTS[moving]} is not a rigid 4x4 transform")
        if not isinstance(values.get("serial", ""), str):
            raise ValueError("serial must stand in quotes, or it loses its leading zeros")
        return Camera(str(values["prefix"]), T, moving, values.get("serial", ""))


@dataclass(frozen=True)
class Site:
    """Cameras by name and the workspace."""

    cameras: dict[str, Camera]
    workspace: Workspace = field(default_factory=Workspace)


def simulation_site() -> Site:
    """The site of the simulation."""
    from gwm_core.sim.scene import CAMERAS  # needs mujoco, which a real robot's machine may lack

    return Site({name: Camera(topics.prefix_of(name), look_at(*pose)) for name, pose in CAMERAS.items()})


def workspace_of(robot: str, path: str) -> Workspace:
    """The box the TCP may move in, for a process that needs no more of the site (and must not load the simulation)."""
    return Workspace() if robot == "sim" and not path else load_site(path or DEFAULT_FILE).workspace


def load_site(path: Path) -> Site:
    """Read and check a site file. Raises InputError naming the key that is wrong."""
    try:
        values = yaml.safe_load(Path(path).expanduser().read_text())
    except (OSError, yaml.YAMLError) as error:
        raise InputError(f"cannot read site file {path}: {error}") from None
    if not isinstance(values, dict) or set(values) - {"cameras", "workspace"} or not values.get("cameras"):
        raise InputError(f"site file {path}: valid keys are cameras (at least one) and workspace")
    cameras = {}
    for name, entry in values["cameras"].items():
        try:
            cameras[name] = Camera.from_dict(entry)
        except ValueError as error:
            raise InputError(f"site file {path}: cameras.{name}: {error}") from None
    return Site(cameras, _workspace(path, values.get("workspace")))


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
    return Workspace(tuple(low), tuple(high))
