"""Attacks on a robomimic file: links, storage in other files, false sizes, other types."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np


def _swap(name: str, make: Callable) -> Callable[[Path], None]:
    """Replace a member of the first demo."""

    def attack(path: Path) -> None:
        with h5py.File(path, "r+") as file:
            demo = file["data/demo_0"]
            old = demo[name][()]
            del demo[name]
            made = make(old, path)
            if isinstance(made, dict):
                demo.create_dataset(name, **made)
            elif isinstance(made, h5py.VirtualLayout):
                demo.create_virtual_dataset(name, made)
            else:
                demo[name] = made

    return attack


def _virtual(old: np.ndarray, path: Path) -> h5py.VirtualLayout:
    layout = h5py.VirtualLayout(shape=old.shape, dtype=old.dtype)
    layout[...] = h5py.VirtualSource("/etc/passwd", "x", shape=old.shape)
    return layout


def _attribute(where: str, name: str, value) -> Callable[[Path], None]:
    def attack(path: Path) -> None:
        with h5py.File(path, "r+") as file:
            file[where].attrs[name] = value

    return attack


def _moved(name: str, to: str) -> Callable[[Path], None]:
    def attack(path: Path) -> None:
        with h5py.File(path, "r+") as file:
            file.move(name, to)

    return attack


_PACKED = {"dtype": np.uint8, "compression": "gzip", "chunks": (1 << 20,)}
ROBOMIMIC: dict[str, Callable[[Path], None]] = {
    "external link": _swap("actions", lambda old, path: h5py.ExternalLink("/etc/passwd", "/x")),
    "soft link": _swap("actions", lambda old, path: h5py.SoftLink("/data/demo_1/actions")),
    "soft link to itself": _swap(
        "actions", lambda old, path: h5py.SoftLink("/data/demo_0/actions")
    ),
    "images behind a link": _swap(
        "obs/front_image", lambda old, path: h5py.SoftLink("/data/demo_1/obs/front_image")
    ),
    "stored in /etc/passwd": _swap(
        "actions",
        lambda old, path: {
            "shape": old.shape,
            "dtype": old.dtype,
            "external": [("/etc/passwd", 0, 1000)],
        },
    ),
    "virtual": _swap("actions", _virtual),
    "texts": _swap(
        "actions", lambda old, path: {"data": ["x"] * len(old), "dtype": h5py.string_dtype()}
    ),
    "lists of any length": _swap(
        "actions", lambda old, path: {"shape": (len(old),), "dtype": h5py.vlen_dtype("f4")}
    ),
    "a billion rows": _swap(
        "actions",
        lambda old, path: {
            "shape": (10**9, 10),
            "dtype": "f4",
            "chunks": (1000, 10),
            "compression": "gzip",
        },
    ),
    "one vast chunk": _swap(
        "gwm",
        lambda old, path: (
            {"data": np.zeros(80 << 20, np.uint8)} | _PACKED | {"chunks": (80 << 20,)}
        ),
    ),
    "JSON that unpacks to 80 MB": _swap(
        "gwm", lambda old, path: {"data": np.full(80 << 20, 32, np.uint8)} | _PACKED
    ),
    "JSON of a million lists": _swap(
        "gwm", lambda old, path: np.frombuffer(b"[" + b"[]," * 4_000_000, np.uint8)
    ),
    "vast images": _swap(
        "obs/front_image",
        lambda old, path: {
            "shape": (len(old), 60_000, 60_000, 3),
            "dtype": "u1",
            "chunks": (1, 100, 100, 3),
        },
    ),
    "images of floats": _swap("obs/front_image", lambda old, path: old.astype(np.float32)),
    "no depth": _moved("data/demo_0/obs/front_depth", "data/demo_0/obs/gone"),
    "NaN": _swap("actions", lambda old, path: old * np.float32(np.nan)),
    "a row less": _swap("actions", lambda old, path: old[1:]),
    "doubles": _swap("actions", lambda old, path: old.astype(np.float64)),
    "num_samples": _attribute("data/demo_0", "num_samples", 10**9),
    "num_samples is text": _attribute("data/demo_0", "num_samples", "many"),
    "total": _attribute("data", "total", 10**9),
    "no demo_0": _moved("data/demo_0", "data/demo_9"),
    "a demo that is a number": lambda path: (
        _moved("data/demo_1", "data/demo_x")(path),
        _scalar(path),
    )[0],
    "a name that leads elsewhere": _moved("data/demo_1", "data/.."),
}


def _scalar(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        file["data/demo_1"] = 3
