"""Where frames come from when there is no camera: a recorded episode, or a folder in the TUM RGB-D layout.

TUM RGB-D benchmark (Sturm et al. 2012): ``rgb/ depth/ associations.txt groundtruth.txt`` with poses of the camera in
the world (tx ty tz qx qy qz qw), and here ``intrinsics.json`` with fx, fy, cx, cy and depth_scale [units per metre].
"""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np

from gwm_core.data.episode import read_episode
from gwm_core.errors import InputError
from gwm_core.scene.camera import from_opencv, pose_matrix
from gwm_core.types import Frame

FARTHEST = 20.0  # [m] median depth beyond which the unit must be wrong
NEAREST = 0.02  # [m]


def read_source(path: Path) -> list[Frame]:
    """Frames of an episode's first moment, one per camera, or all frames of a TUM folder.

    Raises:
        InputError: neither of the two, or frames that are damaged, empty or in the wrong unit.
    """
    path = Path(path)
    try:
        if (path / "episode.json").exists():
            frames = _episode_frames(path)
        elif (path / "groundtruth.txt").exists():
            frames = _tum_frames(path)
        else:
            raise InputError(f"{path} is neither an episode (episode.json) nor a TUM RGB-D folder (groundtruth.txt)")
        if not frames:
            raise ValueError("it lists no frames")
        for frame in frames:
            _check_depth(frame)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: {error}") from None
    return frames


def _check_depth(frame: Frame) -> None:
    seen = frame.depth[frame.depth > 0]
    if not np.isfinite(frame.depth).all() or seen.size < 0.001 * frame.depth.size:
        raise ValueError(f"frame {frame.camera} has no usable depth ({seen.size} readings)")
    if not NEAREST < np.median(seen) < FARTHEST:
        raise ValueError(f"frame {frame.camera} has a median depth of {np.median(seen):.4g} m: its unit must be wrong "
                         "(depth_scale in intrinsics.json is in units per metre)")  # fmt: skip


def _episode_frames(path: Path) -> list[Frame]:
    episode = read_episode(path)
    frames = []
    for camera in episode.info["cameras"]:
        (stamp, color), (_, depth) = episode.images[camera, "color"][0], episode.images[camera, "depth"][0]
        frames.append(episode.frame(camera, stamp, color, depth))
    return frames


def _tum_frames(path: Path) -> list[Frame]:
    c = json.loads((path / "intrinsics.json").read_text())
    K = from_opencv([[c["fx"], 0, c["cx"]], [0, c["fy"], c["cy"]], [0, 0, 1]])
    poses = {}
    for line in _lines(path / "groundtruth.txt"):
        stamp, x, y, z, qx, qy, qz, qw = (float(word) for word in line)
        poses[stamp] = pose_matrix((x, y, z, qw, qx, qy, qz))
    frames = []
    for stamp, color, depth_stamp, depth in _lines(path / "associations.txt"):
        near = min(poses, key=lambda s: abs(s - float(stamp)))
        if abs(near - float(stamp)) > 0.02 or abs(float(depth_stamp) - float(stamp)) > 0.02:
            raise ValueError(f"no pose or depth within 20 ms of {color}")
        image, raw = read_image(path, color, np.uint8), read_image(path, depth, np.uint16)
        metres = raw.astype(np.float32) / np.float32(c["depth_scale"])
        rgb = np.ascontiguousarray(image[..., ::-1])
        frames.append(Frame(color, round(float(stamp) * 1e9), rgb, metres, K, poses[near]))
    return frames


def _lines(path: Path) -> list[list[str]]:
    return [line.split() for line in path.read_text().splitlines() if line.strip() and not line.startswith("#")]


def read_image(folder: Path, name: str, kind) -> np.ndarray:
    """An image of ``folder`` as OpenCV reads it. Raises ValueError when it is outside, absent or not of ``kind``."""
    path = (folder / name).resolve()
    if folder.resolve() not in path.parents:
        raise ValueError(f"{name} lies outside the folder")
    image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if image is None or image.dtype != kind:
        raise ValueError(f"{name} is not a {np.dtype(kind).name} image")
    return image
