"""Frames without a camera: from a recorded episode, or from a folder in the TUM RGB-D layout.

TUM RGB-D benchmark (Sturm et al. 2012): ``rgb/ depth/ groundtruth.txt`` with poses of the camera in
the world (tx ty tz qx qy qz qw), ``associations.txt`` or ``rgb.txt`` and ``depth.txt``, and here
``intrinsics.json`` with fx, fy, cx, cy and depth_scale [units per metre]. Depth is 16 bit, 0 and
65535 are no reading. Colour may be grey or have an alpha channel, which is ignored.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from gwm_core.data.episode import Episode, read_episode, synced_observations
from gwm_core.errors import InputError
from gwm_core.geometry.camera import from_opencv, pose_matrix
from gwm_core.types import Frame

FARTHEST = 20.0  # [m] median depth beyond which the unit must be wrong
NEAREST = 0.02  # [m]
# [s] largest difference between a colour image, its depth and its pose, as in TUM's associate.py
MAXIMUM_SKEW = 0.02
# fraction of images without depth or pose beyond which their stamps must be wrong
MAXIMUM_UNPAIRED = 0.5
SATURATED = 65535  # 16-bit depth that is no reading
LARGEST = 4 << 30  # [bytes] of frames and their surfels
_PIXEL = 3 + 4 + 56  # [bytes] colour, depth, and the surfel of a pixel
INTRINSICS = ("fx", "fy", "cx", "cy", "depth_scale")


@dataclass(frozen=True)
class FrameSource:
    """Frames of one source."""

    frames: list[Frame]
    skipped: int = 0  # images left out, as no depth or pose has their stamp


def read_source(path: Path, stride: int = 1) -> FrameSource:
    """Read the first frame of each camera of an episode, or every ``stride``-th of a TUM folder.

    Raises:
        InputError: neither of the two, too many frames for ``LARGEST``, too few with depth and
            pose, or frames that are damaged, empty or in the wrong unit.
    """
    path = Path(path)
    try:
        if (path / "episode.json").exists():
            source = FrameSource(episode_frames(read_episode(path)))
        elif (path / "groundtruth.txt").exists():
            source = _tum_source(path, stride)
        else:
            raise InputError(
                f"{path} is neither an episode (episode.json) nor a TUM RGB-D folder"
                " (groundtruth.txt)"
            )
        if not source.frames:
            raise ValueError("it lists no frames")
        for frame in source.frames:
            _check_depth(frame)
    except OSError as error:
        raise InputError(f"cannot read {error.filename or path}: {error.strerror}") from None
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: {error}") from None
    return source


def _check_depth(frame: Frame) -> None:
    readings = frame.depth[frame.depth > 0]
    if not np.isfinite(frame.depth).all() or readings.size < 0.001 * frame.depth.size:
        raise ValueError(f"frame {frame.camera} has no usable depth ({readings.size} readings)")
    if not NEAREST < np.median(readings) < FARTHEST:
        raise ValueError(
            f"frame {frame.camera} has a median depth of {np.median(readings):.4g} m: its unit must"
            " be wrong (depth_scale in intrinsics.json is in units per metre)"
        )


def episode_frames(episode: Episode) -> list[Frame]:
    """The first observation, paired as on the robot. Raises ValueError when there is none."""
    found = next(synced_observations(episode), None)
    if found is None:
        raise ValueError("no images of all cameras, depth and joints have the same stamp")
    return [episode.frame(camera, *pair) for camera, pair in found.images.items()]


def _tum_source(path: Path, stride: int) -> FrameSource:
    values = _intrinsics(path / "intrinsics.json")
    fx, fy, cx, cy, depth_scale = (values[name] for name in INTRINSICS)
    K = from_opencv([[fx, 0, cx], [0, fy, cy], [0, 0, 1]])
    pose_stamps, poses = _poses(path / "groundtruth.txt")
    listed = _pairs(path)
    paired = []  # stamp, names of the images, row of the pose
    for stamp, color, depth_stamp, depth in listed:
        row, skew = _nearest(pose_stamps, stamp)
        in_time = max(skew, abs(depth_stamp - stamp)) <= MAXIMUM_SKEW
        if in_time and np.isfinite(poses[row]).all():
            paired.append((stamp, color, depth, row))
    skipped = len(listed) - len(paired)
    if skipped > MAXIMUM_UNPAIRED * len(listed):
        raise ValueError(
            f"{skipped} of {len(listed)} images have no depth or pose within"
            f" {MAXIMUM_SKEW * 1e3:.0f} ms"
        )
    chosen = paired[::stride]
    _require_memory(path, chosen, len(paired))
    frames = []
    for stamp, color, depth, row in chosen:
        rgb, raw = read_color(path, color), read_image(path, depth, np.uint16)
        units = np.where(raw == SATURATED, 0, raw).astype(np.float32)
        metres = units / np.float32(depth_scale)
        x, y, z, qx, qy, qz, qw = poses[row]
        frames.append(
            Frame(color, round(stamp * 1e9), rgb, metres, K, pose_matrix((x, y, z, qw, qx, qy, qz)))
        )
    return FrameSource(frames, skipped)


def _require_memory(path: Path, chosen: list[tuple], count: int) -> None:
    """Raise InputError where frames of the first one's size would exceed ``LARGEST``."""
    if not chosen:
        return
    height, width = read_color(path, chosen[0][1]).shape[:2]
    size = height * width * _PIXEL
    if len(chosen) * size > LARGEST:
        stride = -(-count // max(1, LARGEST // size))
        needed = (
            f"{len(chosen)} frames of {width}x{height} would take {len(chosen) * size / 1e9:.1f} GB"
        )
        raise InputError(
            f"{path}: {needed}, the maximum is {LARGEST / 1e9:.1f} GB: --stride {stride} leaves out"
            " the rest"
        )


def _intrinsics(file: Path) -> dict[str, float]:
    """fx, fy, cx, cy [pixels] and depth_scale [units per metre]."""
    values = json.loads(file.read_text(encoding="utf-8-sig"))
    if not isinstance(values, dict):
        raise ValueError(f"{file.name}: an object with fx, fy, cx, cy and depth_scale is wanted")
    for name in INTRINSICS:
        if type(values.get(name)) not in (int, float) or (
            name == "depth_scale" and not values[name] > 0
        ):
            raise ValueError(
                f"{file.name}: {name} is {str(values.get(name))[:40]}, a number is wanted"
            )
    return values


def _poses(file: Path) -> tuple[np.ndarray, np.ndarray]:
    """Stamps (P,) [s], sorted, and x y z [m] qx qy qz qw (P, 7)."""
    rows = _lines(file)
    if not rows or any(len(row) != 8 for row in rows):
        raise ValueError(
            f"{file.name}: eight numbers a line are wanted, stamp tx ty tz qx qy qz qw"
        )
    values = np.array(rows, float)
    values = values[np.argsort(values[:, 0], kind="stable")]
    return values[:, 0], values[:, 1:]


def _pairs(path: Path) -> list[tuple[float, str, float, str]]:
    """(stamp [s], colour, stamp [s], depth) of every colour image.

    The pairs are those of ``associations.txt``, or without it the nearest by stamp.
    """
    if (path / "associations.txt").exists():
        rows = _lines(path / "associations.txt")
        if any(len(row) != 4 for row in rows):
            raise ValueError(
                "associations.txt: stamp, colour, stamp and depth are wanted in a line"
            )
        pairs = [(float(a), color, float(b), depth) for a, color, b, depth in rows]
        if pairs and _is_depth(path, pairs[0][1]):
            # the arguments of associate.py were in the other order
            pairs = [(b, depth, a, color) for a, color, b, depth in pairs]
        return pairs
    colors, depths = (
        [(float(row[0]), row[1]) for row in _lines(path / name)]
        for name in ("rgb.txt", "depth.txt")
    )
    if not depths:
        raise ValueError("depth.txt lists no images")
    depths.sort()
    stamps = np.array([stamp for stamp, _ in depths])
    return [(stamp, color, *depths[_nearest(stamps, stamp)[0]]) for stamp, color in colors]


def _is_depth(path: Path, name: str) -> bool:
    image = cv2.imread(_inside(path, name), cv2.IMREAD_UNCHANGED)
    return image is not None and image.dtype == np.uint16 and image.ndim == 2


def _nearest(stamps: np.ndarray, stamp: float) -> tuple[int, float]:
    """Row of the sorted ``stamps`` (S,) nearest to ``stamp``, and the difference."""
    k = int(np.clip(np.searchsorted(stamps, stamp), 1, max(1, len(stamps) - 1)))
    k = min((k - 1, min(k, len(stamps) - 1)), key=lambda i: abs(stamps[i] - stamp))
    return k, abs(stamps[k] - stamp)


def _lines(path: Path) -> list[list[str]]:
    text = path.read_text(encoding="utf-8-sig")
    return [line.split() for line in text.splitlines() if line.strip() and not line.startswith("#")]


def read_color(folder: Path, name: str) -> np.ndarray:
    """(H, W, 3) uint8 RGB of any 8- or 16-bit image of ``folder``, without alpha.

    Raises ValueError as ``read_image``.
    """
    image = cv2.imread(_inside(folder, name), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    if image is None:
        raise ValueError(f"{name} is no image")
    return np.ascontiguousarray(image[..., ::-1])


def read_image(folder: Path, name: str, kind) -> np.ndarray:
    """An image of ``folder`` as OpenCV reads it.

    Raises ValueError when it is outside the folder, missing, or not of ``kind``.
    """
    image = cv2.imread(_inside(folder, name), cv2.IMREAD_UNCHANGED)
    if image is None or image.dtype != kind:
        raise ValueError(f"{name} is not a {np.dtype(kind).name} image")
    return image


def _inside(folder: Path, name: str) -> str:
    path = (folder / name).resolve()
    if folder.resolve() not in path.parents:
        raise ValueError(f"{name} lies outside the folder")
    if not path.is_file():
        raise ValueError(f"{name} is missing")
    return str(path)
