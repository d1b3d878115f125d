"""Read the robomimic HDF5 files that ``robomimic`` writes. Nothing in a file is trusted."""

from __future__ import annotations

import hashlib
import multiprocessing
import re
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import numpy as np

from gwm_core.data.resampled_episode import ResampledEpisode
from gwm_core.errors import InputError
from gwm_core.files.png import encode_png
from gwm_core.interop.robomimic import NAMES
from gwm_core.interop.untrusted import (
    MAXIMUM_EPISODE_BYTES,
    MAXIMUM_EPISODES,
    MAXIMUM_JSON_BYTES,
    MAXIMUM_PIXELS,
    MAXIMUM_ROWS,
    check_table,
    damage_as_input_error,
    needed,
    parse_json,
    parse_record,
    require_bounded,
    whole,
)

_WIDTHS = {"obs/state": 9, "obs/velocity": 7, "obs/pose": 10, "actions": 10, "actions_joints": 8}
_ERRORS = (
    OSError,
    RuntimeError,
    ValueError,
    TypeError,
    LookupError,
    MemoryError,
    OverflowError,
    AttributeError,
)
_FILTERS = {1, 2, 3}  # deflate, shuffle, fletcher32: nothing that would load a plug-in
_MAXIMUM_CHUNK = 64 << 20  # [bytes]
_MAXIMUM_RATIO = 1100  # of a chunk's size to its stored bytes; deflate reaches 1032


def import_robomimic(src: Path) -> Iterator[ResampledEpisode]:
    """Read the episodes of a file of ``export_robomimic``, one in memory at a time.

    Columns and depth are exact; colour is the stored pixels as PNG. A process of its own reads the
    file, as libhdf5 crashes on some damaged blocks.

    Raises:
        InputError: anything is damaged, inconsistent or unsafe (links to other files, external or
            virtual storage, filters other than deflate, shuffle and checksums), or missing.
    """
    path, rows = Path(src), 0
    if not path.is_file():
        raise InputError(f"no file {path}")
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as reader:
        try:
            episodes, total = reader.submit(_overview, path).result()
            for k in range(episodes):
                table = reader.submit(_episode, path, k).result()
                rows += len(table)
                if k + 1 == episodes and total != rows:
                    raise InputError(f"{path}: total is {total}, the demos have {rows} rows")
                yield table
        except BrokenProcessPool:
            raise InputError(f"{path} cannot be read: libhdf5 crashes on it") from None


def _overview(path: Path) -> tuple[int, int]:
    """The numbers of episodes and of rows by the file's own account."""
    h5py = needed("h5py")
    with _guarded(path), h5py.File(path, "r") as file:
        data = _child(path, file, "data", h5py.Group)
        names = list(data)
        if (
            not names
            or len(names) > MAXIMUM_EPISODES
            or set(names) != {f"demo_{k}" for k in range(len(names))}
        ):
            raise InputError(
                f"{path}: data holds {str(names[:3])[:80]}: demo_0, demo_1 ... are wanted, none"
                " missing"
            )
        return len(names), int(data.attrs["total"])


def _episode(path: Path, k: int) -> ResampledEpisode:
    h5py = needed("h5py")
    with _guarded(path), h5py.File(path, "r") as file:
        return _read_demo(
            path, _child(path, file, f"data/demo_{k}", h5py.Group), f"{path}, demo_{k}"
        )


def _guarded(path: Path):
    """The errors of h5py as InputError."""
    return damage_as_input_error(path, _ERRORS)


def _child(path: Path, group, name: str, kind: type):
    """Member ``name`` of a group, reached by hard links alone."""
    h5py, found = needed("h5py"), group
    for part in name.split("/"):
        link = found.get(part, getlink=True)
        if link is None:
            raise InputError(f"{path}: {group.name}/{name} is missing")
        if not isinstance(link, h5py.HardLink):
            raise InputError(f"{path}: {group.name}/{name} is a link to elsewhere")
        found = found[part]
        if part != name.rpartition("/")[2] and not isinstance(found, h5py.Group):
            raise InputError(f"{path}: {found.name} is no group")
    if not isinstance(found, kind):
        raise InputError(f"{path}: {found.name} is no {kind.__name__.lower()}")
    return found


def _array(path: Path, demo, name: str, dtype, shape: tuple):
    """A dataset of this type and shape (None: any length), stored in this file.

    Its size must be possible for the number of its stored bytes.
    """
    found = _child(path, demo, name, needed("h5py").Dataset)
    if found.dtype != np.dtype(dtype) or found.ndim != len(shape):
        raise InputError(
            f"{path}: {found.name} is {str(found.dtype)[:30]} {found.shape}, not {np.dtype(dtype)}"
        )
    if any(wanted is not None and wanted != length for wanted, length in zip(shape, found.shape)):
        raise InputError(f"{path}: {found.name} is {found.shape}, not {shape}")
    if found.external or found.is_virtual:
        raise InputError(f"{path}: {found.name} is stored elsewhere")
    made = found.id.get_create_plist()
    if not {made.get_filter(k)[0] for k in range(made.get_nfilters())} <= _FILTERS:
        raise InputError(f"{path}: {found.name} is packed in a way that is not read")
    stored = found.id.get_storage_size()
    chunk = int(np.prod(found.chunks or (1,), dtype=object)) * found.dtype.itemsize
    size = int(np.prod(found.shape, dtype=object)) * found.dtype.itemsize
    if (
        not 0 < stored <= path.stat().st_size
        or size > stored * _MAXIMUM_RATIO
        or chunk > _MAXIMUM_CHUNK
    ):
        raise InputError(f"{path}: {found.name} says {size} bytes, of which {stored} are stored")
    return found


def _read_demo(path: Path, demo, where: str) -> ResampledEpisode:
    rows = whole(f"{where}: num_samples", demo.attrs["num_samples"], 1, MAXIMUM_ROWS)
    arrays = {
        name: _array(path, demo, name, np.float32, (rows, width))[()]
        for name, width in _WIDTHS.items()
    }
    arrays["states"] = _array(path, demo, "states", np.float32, (rows, 9))[()]
    arrays["rewards"] = _array(path, demo, "rewards", np.float32, (rows,))[()]
    arrays |= {
        name: _array(path, demo, name, np.uint8, (rows,))[()] for name in ("dones", "usable")
    }
    text = _array(path, demo, "gwm", np.uint8, (None,))
    if text.size > MAXIMUM_JSON_BYTES:
        raise InputError(
            f"{where}: gwm has {text.size} bytes: at most {MAXIMUM_JSON_BYTES} are read"
        )
    arrays["gwm"] = text[()]
    total = hashlib.sha256()
    for name in sorted(arrays):
        total.update(np.ascontiguousarray(arrays[name]))
    text = arrays["gwm"].tobytes().decode()
    require_bounded(where, text)
    record = parse_json(f"{where}: gwm", text)
    info, intrinsics = parse_record(where, record)
    fps = whole(f"{where}: fps", record.get("fps"), 1, 1000)
    color: dict[str, list[bytes]] = {}
    depth: dict[str, list[bytes]] = {}
    budget = [MAXIMUM_EPISODE_BYTES]
    for camera in sorted(info["cameras"]):
        color[camera] = _images(path, demo, f"obs/{camera}_image", rows, total, budget)
        depth[camera] = _images(path, demo, f"obs/{camera}_depth", rows, total, budget)
    if (
        re.fullmatch(r"[0-9a-f]{64}", str(demo.attrs.get("sha256", "")))
        and demo.attrs["sha256"] != total.hexdigest()
    ):
        raise InputError(f"{where} is not what was exported: copy the file again")
    columns = {column: arrays[name] for column, name in NAMES.items()}
    ordered = [{name: made[name] for name in info["cameras"]} for made in (color, depth)]
    return check_table(
        where, ResampledEpisode(fps, info, intrinsics, columns, arrays["usable"] != 0, *ordered)
    )


def _images(path: Path, demo, name: str, rows: int, total, budget: list[int]) -> list[bytes]:
    depth = name.endswith("_depth")
    found = _array(
        path, demo, name, np.uint16 if depth else np.uint8, (rows, None, None, 1 if depth else 3)
    )
    if not 0 < found.shape[1] * found.shape[2] <= MAXIMUM_PIXELS:
        raise InputError(
            f"{path}: {found.name} has images of {found.shape[2]}x{found.shape[1]} pixels"
        )
    kept = []
    for k in range(rows):
        image = found[k]
        total.update(image)
        kept.append(encode_png(image[..., 0] if depth else image[..., ::-1]))
        budget[0] -= len(kept[-1])
        if budget[0] < 0:
            raise InputError(
                f"{path}: {demo.name} has more than {MAXIMUM_EPISODE_BYTES} bytes of images"
            )
    return kept
