"""Scenes on disk: the PLY layout of 3D Gaussian Splatting, which every splat viewer opens, and our own safetensors.

PLY after Kerbl et al. 2023: log scales, logit opacity, quaternion wxyz, colour as the 0th SH coefficient.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from gwm_core.errors import InputError
from gwm_core.scene.gaussians import COLORS, COLUMNS, MEANS, OPACITY, QUATS, SCALES

SH_0 = 0.28209479177387814
HEADER_LIMIT = 1 << 16  # [bytes]
KINDS = {
    "float": "<f4", "float32": "<f4", "double": "<f8", "float64": "<f8", "uchar": "u1", "uint8": "u1", "char": "i1",
    "int8": "i1", "short": "<i2", "int16": "<i2", "ushort": "<u2", "uint16": "<u2", "int": "<i4", "int32": "<i4",
    "uint": "<u4", "uint32": "<u4",
}  # fmt: skip
NAMES = ("x", "y", "z", "nx", "ny", "nz", "f_dc_0", "f_dc_1", "f_dc_2", "opacity", "scale_0", "scale_1", "scale_2",
         "rot_0", "rot_1", "rot_2", "rot_3")  # fmt: skip


def check_ending(path: Path) -> None:
    """Raise InputError unless ``path`` ends as a scene does."""
    if Path(path).suffix not in (".ply", ".safetensors"):
        raise InputError(f"{path}: a scene ends in .ply or .safetensors")


def save_scene(path: Path, scene: np.ndarray) -> None:
    """Write a scene (N, 14) as .ply or .safetensors, by the ending. Nothing half-written is left behind."""
    path = Path(path)
    check_ending(path)
    if path.suffix == ".ply":
        content = _to_ply(scene)
    else:
        content = save({"gaussians": np.ascontiguousarray(scene, np.float32)}, metadata={"columns": " ".join(COLUMNS)})
    partial = path.with_name(path.name + ".partial")
    try:
        partial.write_bytes(content)
        partial.rename(path)
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}") from None


def load_scene(path: Path) -> np.ndarray:
    """Read a scene (N, 14) float32. Raises InputError when the file is missing, cut short, or not a scene."""
    path = Path(path)
    check_ending(path)
    try:
        return _checked(_from_ply(path) if path.suffix == ".ply" else load(path.read_bytes())["gaussians"])
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from None
    except (ValueError, KeyError, SafetensorError) as error:
        raise InputError(f"{path} is not a Gaussian scene: {error}") from None


def _checked(scene: np.ndarray) -> np.ndarray:
    if scene.ndim != 2 or scene.shape[1] != len(COLUMNS):
        raise ValueError(f"shape {scene.shape}, wanted (N, {len(COLUMNS)})")
    if not np.isfinite(scene).all():
        raise ValueError("it holds values that are not finite")
    if (scene[:, SCALES] <= 0).any() or (np.linalg.norm(scene[:, QUATS], axis=1) < 1e-6).any():
        raise ValueError("it holds scales that are not positive or quaternions of no length")
    if (scene[:, OPACITY] < 0).any() or (scene[:, OPACITY] > 1).any():
        raise ValueError("it holds opacities outside 0-1")
    return scene.astype(np.float32)


def _to_ply(scene: np.ndarray) -> bytes:
    rows = np.zeros(len(scene), [(name, "<f4") for name in NAMES])
    opacity = np.clip(scene[:, OPACITY].astype(float), 1e-6, 1 - 1e-6)
    columns = [*scene[:, MEANS].T, *np.zeros((3, len(scene))), *((scene[:, COLORS] - 0.5) / SH_0).T,
               np.log(opacity / (1 - opacity)), *np.log(scene[:, SCALES]).T, *scene[:, QUATS].T]  # fmt: skip
    for name, column in zip(NAMES, columns):
        rows[name] = column
    lines = ["ply", "format binary_little_endian 1.0", f"element vertex {len(scene)}"]
    lines += [*(f"property float {name}" for name in NAMES), "end_header", ""]
    return "\n".join(lines).encode() + rows.tobytes()


def _from_ply(path: Path) -> np.ndarray:
    """Read what any 3DGS tool writes; higher SH coefficients are dropped. Memory is bounded by the file's size."""
    with open(path, "rb") as file:
        head = file.read(HEADER_LIMIT)
        text, end, _ = head.partition(b"end_header\n")
        if not end or not text.startswith(b"ply"):
            raise ValueError("no PLY header in its first 64 KiB")
        count, kind = _header(text.decode("ascii").split("\n")[1:])
        begin, size = len(text) + len(end), path.stat().st_size
        if size - begin < count * kind.itemsize:
            raise ValueError(f"its header promises {count} rows of {kind.itemsize} bytes, {size - begin} bytes follow")
        file.seek(begin)
        rows = np.frombuffer(file.read(count * kind.itemsize), kind)
    missing = [name for name in NAMES if name not in rows.dtype.names and name[0] != "n"]
    if missing:
        raise ValueError(f"properties {', '.join(missing)} are missing")

    def columns(*names: str) -> np.ndarray:
        return np.stack([rows[name].astype(np.float64) for name in names], axis=1)

    with np.errstate(over="ignore"):  # what overflows is refused as not finite
        opacity = 1 / (1 + np.exp(-rows["opacity"].astype(np.float64)))
        parts = [columns("x", "y", "z"), np.exp(columns("scale_0", "scale_1", "scale_2")),
                 columns("rot_0", "rot_1", "rot_2", "rot_3"),
                 np.clip(columns("f_dc_0", "f_dc_1", "f_dc_2") * SH_0 + 0.5, 0, 1), opacity[:, None]]  # fmt: skip
        return np.concatenate(parts, axis=1).astype(np.float32)


def _header(lines: list[str]) -> tuple[int, np.dtype]:
    """Rows and their layout."""
    count, fields = None, []
    for line in lines:
        words = line.split()
        if words[:1] == ["format"] and words[1:2] != ["binary_little_endian"]:
            raise ValueError(f"format {' '.join(words[1:])}, wanted binary_little_endian")
        if words[:1] == ["element"]:
            if count is not None or words[1:2] != ["vertex"] or not words[2:3] or not words[2].isdecimal():
                raise ValueError("one element 'vertex' with a count is wanted")
            count = int(words[2])
        if words[:1] == ["property"]:
            if len(words) != 3 or words[1] not in KINDS:
                raise ValueError(f"property '{line}' is not a plain number")
            fields.append((words[2], KINDS[words[1]]))
    if count is None or not fields:
        raise ValueError("one element 'vertex' with properties is wanted")
    return count, np.dtype(fields)
