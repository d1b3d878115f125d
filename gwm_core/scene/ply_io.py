"""Scenes on disk: the PLY layout of 3D Gaussian Splatting, and our own safetensors.

Every splat viewer opens the PLY layout of Kerbl et al. 2023: log scales, logit opacity, quaternion
wxyz, colour as the 0th SH coefficient. plyfile is not used: it refuses comments that are not ASCII,
and reads a header of any length.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from gwm_core.errors import InputError
from gwm_core.scene.gaussians import COLORS, COLUMNS, MEANS, OPACITY, QUATS, SCALES

SH_0 = 0.28209479177387814
MAXIMUM_HEADER = 1 << 16  # [bytes]
MAXIMUM_INVALID = 0.01  # fraction of Gaussians that may be left out as invalid
FLAT = 0.01  # thickness of a surfel of 2DGS over its smaller scale; the file has none
MINIMUM_SCALE = 1e-12  # [m] a smaller one would be 0 in 32 bits
_END = re.compile(rb"end_header[ \t]*\r?\n")
KINDS = {
    "float": "<f4",
    "float32": "<f4",
    "double": "<f8",
    "float64": "<f8",
    "uchar": "u1",
    "uint8": "u1",
    "char": "i1",
    "int8": "i1",
    "short": "<i2",
    "int16": "<i2",
    "ushort": "<u2",
    "uint16": "<u2",
    "int": "<i4",
    "int32": "<i4",
    "uint": "<u4",
    "uint32": "<u4",
}
NAMES = (
    "x",
    "y",
    "z",
    "nx",
    "ny",
    "nz",
    "f_dc_0",
    "f_dc_1",
    "f_dc_2",
    "opacity",
    "scale_0",
    "scale_1",
    "scale_2",
    "rot_0",
    "rot_1",
    "rot_2",
    "rot_3",
)
# bytes that `ns-export` can write instead of f_dc (UnityGaussianSplatting #176)
RGB = ("red", "green", "blue")


def check_ending(path: Path) -> None:
    """Raise InputError unless ``path`` ends in .ply or .safetensors."""
    if Path(path).suffix not in (".ply", ".safetensors"):
        raise InputError(f"{path}: a scene ends in .ply or .safetensors")


def save_scene(path: Path, scene: np.ndarray) -> None:
    """Write a scene (N, 14) as .ply or .safetensors, by the ending: as a whole, or not at all."""
    path = Path(path)
    check_ending(path)
    if path.suffix == ".ply":
        content = _to_ply(scene)
    else:
        content = save(
            {"gaussians": np.ascontiguousarray(scene, np.float32)},
            metadata={"columns": " ".join(COLUMNS)},
        )
    partial = path.with_name(path.name + ".partial")
    try:
        partial.write_bytes(content)
        partial.rename(path)
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}") from None


def load_scene(path: Path, note: Callable[[str], None] = warnings.warn) -> np.ndarray:
    """Read a scene (N, 14) float32.

    Args:
        path: of the file.
        note: called with one line when invalid Gaussians are left out, or when values look as if
            they were not stored as logarithms and logits.

    Raises:
        InputError: the file is missing, cut short, not a scene, or a larger fraction of it than
            ``MAXIMUM_INVALID`` is invalid.
    """
    path = Path(path)
    check_ending(path)
    try:
        found = (
            _from_ply(path, note) if path.suffix == ".ply" else load(path.read_bytes())["gaussians"]
        )
        scene, reasons = _valid_rows(found)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from None
    except (ValueError, KeyError, SafetensorError) as error:
        raise InputError(f"{path} is not a Gaussian scene: {error}") from None
    lost = len(found) - len(scene)
    said = f"{lost} of {len(found)} Gaussians cannot be drawn ({', '.join(reasons)})"
    if lost > MAXIMUM_INVALID * len(found):
        raise InputError(
            f"{path} is not a Gaussian scene: {said}, at most {MAXIMUM_INVALID:.0%} may be left out"
        )
    if lost:
        note(f"{path}: {said} and are left out")
    return scene


def _valid_rows(scene: np.ndarray) -> tuple[np.ndarray, list[str]]:
    """The valid rows of a scene, float32, and what is wrong with the others."""
    if scene.ndim != 2 or scene.shape[1] != len(COLUMNS):
        raise ValueError(f"shape {scene.shape}, wanted (N, {len(COLUMNS)})")
    scene = scene.astype(np.float32)
    finite = np.isfinite(scene).all(1)
    wrong = {
        "values that are not finite": ~finite,
        "scales that are not positive": finite & (scene[:, SCALES] <= 0).any(1),
        "quaternions of no length": finite & (np.linalg.norm(scene[:, QUATS], axis=1) < 1e-6),
        "opacities outside 0-1": finite & ((scene[:, OPACITY] < 0) | (scene[:, OPACITY] > 1)),
    }
    good = ~np.any(list(wrong.values()), axis=0)
    return scene[good], [reason for reason, rows in wrong.items() if rows.any()]


def _to_ply(scene: np.ndarray) -> bytes:
    rows = np.zeros(len(scene), [(name, "<f4") for name in NAMES])
    opacity = np.clip(scene[:, OPACITY].astype(float), 1e-6, 1 - 1e-6)
    columns = [
        *scene[:, MEANS].T,
        *np.zeros((3, len(scene))),
        *((scene[:, COLORS] - 0.5) / SH_0).T,
        np.log(opacity / (1 - opacity)),
        *np.log(scene[:, SCALES]).T,
        *scene[:, QUATS].T,
    ]
    for name, column in zip(NAMES, columns):
        rows[name] = column
    lines = ["ply", "format binary_little_endian 1.0", f"element vertex {len(scene)}"]
    lines += [*(f"property float {name}" for name in NAMES), "end_header", ""]
    return "\n".join(lines).encode() + rows.tobytes()


def _read_rows(path: Path) -> np.ndarray:
    """The vertices (N,) of a PLY file, one field per property."""
    with open(path, "rb") as file:
        head = file.read(MAXIMUM_HEADER)
        end = _END.search(head)
        if not end or not head.startswith(b"ply"):
            raise ValueError("no PLY header in its first 64 KiB")
        # comments are in any encoding
        lines = head[: end.start()].decode("utf-8", "replace").splitlines()
        before, count, kind = _vertices(lines[1:])
        begin, size = end.end() + before, path.stat().st_size
        if size - begin < count * kind.itemsize:
            raise ValueError(
                f"its header promises {count} rows of {kind.itemsize} bytes, {max(0, size - begin)}"
                " follow"
            )
        file.seek(begin)
        return np.frombuffer(file.read(count * kind.itemsize), kind)


def _from_ply(path: Path, note: Callable[[str], None]) -> np.ndarray:
    """Read a PLY file of 3DGS or 2DGS tools, without higher SH coefficients.

    Memory is bounded by the file's size. Surfels of 2DGS have two scales; the third becomes
    ``FLAT`` of the smaller one.
    """
    rows = _read_rows(path)
    names = rows.dtype.names
    if "packed_position" in names:
        raise ValueError("it is compressed: export it as a plain PLY")
    rgb = "f_dc_0" not in names and all(
        rows.dtype.fields.get(name, ("",))[0] == np.uint8 for name in RGB
    )
    optional = ("nx", "ny", "nz", "scale_2", *(("f_dc_0", "f_dc_1", "f_dc_2") if rgb else ()))
    if missing := [name for name in NAMES if name not in names and name not in optional]:
        raise ValueError(f"properties {', '.join(missing)} are missing")

    def columns(*names: str) -> np.ndarray:
        return np.stack([rows[name].astype(np.float64) for name in names], axis=1)

    logits, logs = (
        rows["opacity"].astype(np.float64),
        columns(*(name for name in NAMES[10:13] if name in names)),
    )
    for text in _storage_warnings(logits, logs):
        note(f"{path}: {text}")
    colors = columns(*RGB) / 255 if rgb else columns("f_dc_0", "f_dc_1", "f_dc_2") * SH_0 + 0.5
    with np.errstate(over="ignore"):  # what overflows is left out as not finite
        opacity = 1 / (1 + np.exp(-logits))
        scales = np.exp(logs)
        if scales.shape[1] == 2:
            scales = np.hstack([scales, FLAT * scales.min(1, keepdims=True)])
        scales = np.where(scales > 0, np.maximum(scales, MINIMUM_SCALE), scales)
        parts = [
            columns("x", "y", "z"),
            scales,
            columns("rot_0", "rot_1", "rot_2", "rot_3"),
            np.clip(colors, 0, 1),
            opacity[:, None],
        ]
        return np.concatenate(parts, axis=1).astype(np.float32)


def _storage_warnings(logits: np.ndarray, logs: np.ndarray) -> list[str]:
    """Warnings where opacities (N,) and scales (N, 3) seem to be stored without logit and log.

    Some exporters do that: supersplat #264, pixelsplat #115.
    """
    if not len(logs):
        return []
    warnings_ = []
    if (logs > 0).all():
        warnings_.append(
            "all scales are above 1 m: lengths seem to be stored where their logarithms are wanted"
        )
    if ((logits >= 0) & (logits <= 1)).all() and np.ptp(logits):
        warnings_.append(
            "all opacities are from 0.5 to 0.73: they seem to be stored where their logits are"
            " wanted"
        )
    return warnings_


def _vertices(lines: list[str]) -> tuple[int, int, np.dtype]:
    """Bytes before the vertices, their number, and the layout of one.

    Elements behind the vertices are not read.
    """
    before = 0
    for words, fields in _elements(lines):
        if len(words) != 3 or not words[2].isdecimal():
            raise ValueError(f"'{' '.join(words)}' is no element with a name and a count")
        vertices, count = words[1] == "vertex", int(words[2])
        lists = [name for name, kind in fields if kind is None]
        if lists and (vertices or count):
            raise ValueError(
                f"property '{lists[0]}' is not a plain number, in or before the vertices"
            )
        kind = np.dtype([(name, kind) for name, kind in fields if kind])
        if vertices and fields:
            return before, count, kind
        before += count * kind.itemsize
    raise ValueError("an element 'vertex' with properties is wanted")


def _elements(lines: list[str]) -> list[tuple[list[str], list[tuple[str, str | None]]]]:
    """The words of every element's line, with names and types of its properties; None is a list."""
    elements = []
    for words in map(str.split, lines):
        if words[:1] == ["format"] and words[1:2] != ["binary_little_endian"]:
            raise ValueError(f"format {' '.join(words[1:])}, wanted binary_little_endian")
        if words[:1] == ["element"]:
            elements.append((words, []))
        if words[:1] == ["property"]:
            plain = len(words) == 3 and words[1] in KINDS
            if not elements or not (plain or words[1:2] == ["list"]):
                raise ValueError(f"property '{' '.join(words)}' is not a plain number")
            elements[-1][1].append((words[-1], KINDS[words[1]] if plain else None))
    return elements
