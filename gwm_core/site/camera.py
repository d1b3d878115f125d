"""A camera of a site: its topics, and its pose in the base frame or in that of the TCP."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gwm_core.files.yaml_files import numbers, text
from gwm_core.geometry.kinematics import fk
from gwm_core.types import ArmState

MOUNTS = ("T_base_camera", "T_tcp_camera")  # fixed, moving


@dataclass(frozen=True)
class Camera:
    """A camera's topic prefix and pose: in the base frame, or in that of the TCP (``moving``).

    Our own camera node can drive one with a ``serial``.
    """

    prefix: str
    T: np.ndarray  # (4, 4) T_base_camera (fixed) or T_tcp_camera (moving)
    moving: bool = False
    serial: str = ""  # of the RealSense
    calibrated: dict | None = None  # as ``Calibration.record`` makes it

    def pose_at(self, state: ArmState | None) -> np.ndarray:
        """T_base_camera (4, 4) with the arm at ``state``.

        Raises ValueError when a moving camera has no state.
        """
        if not self.moving:
            return self.T
        if state is None:
            raise ValueError(f"{self.prefix}: no joint states around its image")
        return fk(state.q) @ self.T

    def to_dict(self) -> dict:
        """As in a site file and in episode.json."""
        entry: dict = {"prefix": self.prefix}
        if self.serial:
            entry["serial"] = self.serial
        entry[MOUNTS[self.moving]] = self.T.tolist()
        if self.calibrated is not None:
            entry["calibrated"] = self.calibrated
        return entry

    @staticmethod
    def from_dict(values: dict) -> Camera:
        """The inverse of ``to_dict``. Raises ValueError with what is wrong."""
        if (
            not isinstance(values, dict)
            or "prefix" not in values
            or sum(key in values for key in MOUNTS) != 1
        ):
            raise ValueError(f"prefix and one of {' or '.join(MOUNTS)} are wanted")
        moving, calibrated = MOUNTS[True] in values, values.get("calibrated")
        if calibrated is not None and not isinstance(calibrated, dict):
            raise ValueError("calibrated is not what gwm calibrate writes")
        T = rigid(MOUNTS[moving], values[MOUNTS[moving]])
        return Camera(
            text("prefix", values["prefix"]).lstrip("/"),
            T,
            moving,
            values.get("serial", ""),
            calibrated,
        )


def rigid(name: str, values) -> np.ndarray:
    """A rigid transform (4, 4) from nested lists. Raises ValueError naming a wrong one."""
    try:
        T = numbers(values)
    except ValueError as error:
        raise ValueError(f"{name} is not a rigid 4x4 transform: {error}") from None
    if T.shape != (4, 4) or not np.allclose(T[3], [0, 0, 0, 1]):
        raise ValueError(f"{name} is not a rigid 4x4 transform")
    if (
        not np.allclose(T[:3, :3] @ T[:3, :3].T, np.eye(3), atol=1e-3)
        or np.linalg.det(T[:3, :3]) < 0
    ):
        raise ValueError(f"{name} is not a rigid 4x4 transform")
    return T
