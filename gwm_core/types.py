"""The records that travel through the system.

Arrays are numpy; the docstring of the package has the conventions.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

import numpy as np

CHUNK_ROWS = 16
CHUNK_DT = 0.1  # [s] between rows; a chunk has H = 16 rows at 10 Hz
# seeds from here on are for choosing and evaluating policies; nothing is trained on them
RESERVED = 4000
OPEN_WIDTH = 0.08  # [m] Franka hand, fully open


@dataclass(frozen=True)
class Frame:
    """One RGB-D image pair of one camera, with its pose in the base frame.

    Raises ValueError when its parts do not fit together.
    """

    camera: str
    stamp: int  # [ns] mid-exposure
    color: np.ndarray  # (H, W, 3) uint8
    depth: np.ndarray  # (H, W) float32 [m]
    K: np.ndarray  # (3, 3) pixels
    T_base_camera: np.ndarray  # (4, 4)

    def __post_init__(self):
        if self.color.shape != (*self.depth.shape, 3) or self.depth.size == 0:
            raise ValueError(
                f"{self.camera}: colour {self.color.shape} and aligned depth {self.depth.shape}"
                " differ"
            )
        if not (np.all(np.isfinite(self.K)) and self.K[0, 0] > 0 and self.K[1, 1] > 0):
            raise ValueError(
                f"{self.camera}: camera matrix {np.round(self.K, 3).tolist()} has no focal length"
            )


@dataclass(frozen=True)
class ArmState:
    """Measured joints and gripper, and the last gripper width that the gate commanded."""

    stamp: int  # [ns]
    q: np.ndarray  # (7,) [rad]
    dq: np.ndarray  # (7,) [rad/s]
    width: float  # [m] measured finger opening
    width_command: float = OPEN_WIDTH  # [m]


@dataclass(frozen=True)
class Observation:
    """The input of a policy."""

    stamp: int  # [ns] of the newest frame; the id of the chunk made from it
    frames: tuple[Frame, ...]
    state: ArmState
    task: str
    # ground truth for the scripted expert alone: name -> (x, y, z, yaw, size)
    objects: dict[str, np.ndarray] | None = None


@dataclass(frozen=True)
class ActionChunk:
    """The poses of a policy, solved for joints: row k (from 1) is due at ``stamp`` + k * dt."""

    stamp: int  # [ns] of the observation; the id of the chunk
    q: np.ndarray  # (H, 7) [rad]
    width: np.ndarray  # (H,) [m]
    dt: float = CHUNK_DT

    @property
    def sha256(self) -> str:
        """Hash over the id, the spacing and every row."""
        digest = hashlib.sha256(f"{self.stamp} {self.dt!r} {self.q.shape}".encode())
        digest.update(np.ascontiguousarray(self.q, np.float64).tobytes())
        digest.update(np.ascontiguousarray(self.width, np.float64).tobytes())
        return digest.hexdigest()


@dataclass(frozen=True)
class Decision:
    """The planner's answer to one observation: a chunk, or the reason why there is none."""

    stamp: int  # [ns]
    chunk: ActionChunk | None
    poses: np.ndarray | None  # (H, 10) pose rows of the policy
    reason: str = ""
    stages_ms: dict[str, float] = field(default_factory=dict)
    scene: np.ndarray | None = None  # (N, 14) input of the policy
    # camera that adds nothing to the scene -> reason
    blind_cameras: dict[str, str] = field(default_factory=dict)
