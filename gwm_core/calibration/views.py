"""The views of a calibration on disk: a folder of PNG files and ``views.json``.

    {"K": [[fx, 0, cx], [0, fy, cy], [0, 0, 1]],
     "views": [{"color": "00.png", "q": [q1, ..., q7], "width": 0.08, "depth": "00_depth.png"},
     ...]}

``K`` in pixels as in a ``Frame`` (centres at + 0.5), ``q`` the joints [rad] while the image was
taken. ``depth`` (16 bit, millimetres, aligned to colour) and ``width`` (the gripper's opening [m])
may be left out.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from gwm_core.errors import InputError
from gwm_core.files.json_files import write_json
from gwm_core.scene.frame_source import read_color, read_image
from gwm_core.sync import MS, Sync
from gwm_core.types import OPEN_WIDTH, Frame

INDEX = "views.json"
REST = 400 * MS  # [ns] before an image, in which the arm must not move
MAXIMUM_MOTION = 5e-4  # [rad] that counts as rest


@dataclass(frozen=True)
class CalibrationView:
    """One image with the arm at rest."""

    name: str
    color: np.ndarray  # (H, W, 3) uint8 RGB
    q: np.ndarray  # (7,) [rad]
    depth: np.ndarray | None = None  # (H, W) float32 [m]
    width: float = OPEN_WIDTH  # [m] gripper


def read_views(folder: Path) -> tuple[np.ndarray, list[CalibrationView]]:
    """Read K (3, 3) and the views of a folder. Raises InputError naming a damaged view."""
    folder, where = Path(folder), INDEX
    try:
        index = json.loads((folder / INDEX).read_text())
        K, views = np.array(index["K"], float).reshape(3, 3), []
        for k, entry in enumerate(index["views"]):
            where = f"view {k}"
            views.append(_view(folder, entry, K))
            if views[-1].color.shape != views[0].color.shape:
                raise ValueError(f"{views[-1].name} has another size than {views[0].name}")
    except KeyError as error:
        raise InputError(f"{folder}: {where} has no {error}") from None
    except OSError as error:
        raise InputError(f"cannot read {folder / INDEX}: {error.strerror}") from None
    except (ValueError, TypeError, AttributeError) as error:
        raise InputError(f"{folder}: {where}: {error}") from None
    if not views:
        raise InputError(f"{folder}: {INDEX} lists no views")
    return K, views


def _view(folder: Path, entry: dict, K: np.ndarray) -> CalibrationView:
    q, width = np.array(entry["q"], float), float(entry.get("width", OPEN_WIDTH))
    if q.shape != (7,) or not np.isfinite(q).all() or not 0 <= width <= OPEN_WIDTH + 0.01:
        raise ValueError(
            f"seven finite joints and a width of 0-{OPEN_WIDTH} m are wanted, got {entry['q']},"
            f" {width}"
        )
    color = read_color(folder, entry["color"])
    depth = None
    if "depth" in entry:
        depth = read_image(folder, entry["depth"], np.uint16).astype(np.float32) * np.float32(1e-3)
    # for the checks of a frame
    aligned = np.empty(color.shape[:2]) if depth is None else depth
    Frame(entry["color"], 0, color, aligned, K, np.eye(4))
    return CalibrationView(entry["color"], color, q, depth, width)


def at_rest(sync: Sync, stamp: int) -> bool | None:
    """Whether the arm was at rest before ``stamp`` [ns]; None where joint states are missing."""
    states = [sync.joints_at(stamp - k * REST // 4) for k in range(5)]
    if any(state is None for state in states):
        return None
    return bool(np.ptp([state.q for state in states], axis=0).max() < MAXIMUM_MOTION)


def add_view(folder: Path, K: np.ndarray, view: CalibrationView) -> None:
    """Add a view to a folder and return when it is on disk. ``view.name`` ends in .png."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / INDEX
    index = json.loads(path.read_text()) if path.exists() else {"K": K.tolist(), "views": []}
    entry = {"color": view.name, "q": view.q.tolist(), "width": view.width}
    _write(folder / view.name, view.color[..., ::-1])
    if view.depth is not None:
        entry["depth"] = view.name.replace(".png", "_depth.png")
        _write(folder / entry["depth"], np.rint(view.depth * 1000).astype(np.uint16))
    index["views"].append(entry)
    partial = path.with_name(INDEX + ".partial")
    write_json(partial, index)
    os.replace(partial, path)


def _write(path: Path, image: np.ndarray) -> None:
    if not cv2.imwrite(str(path), image):
        raise OSError(f"cannot write {path}")
