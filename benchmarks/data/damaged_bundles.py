"""Damage a bundle in many ways. Every damaged bundle must be refused before it is used."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from gwm_core.errors import InputError
from gwm_core.runtime.bundle import open_bundle


def damaged(
    folder: Path, flips: int, cuts: int, seed: int, step: Callable[[], None] = lambda: None
) -> dict:
    """Flip single bits and cut files of a copy of a bundle; each damage is undone again.

    Half of the flips are spread evenly over files, the others over bytes. "taken" lists the damage
    that was not refused.
    """
    rng = np.random.default_rng(seed)
    taken = []
    refused = {"flips": 0, "cuts": 0}
    files = sorted(path for path in Path(folder).iterdir())
    sizes = np.array([path.stat().st_size for path in files])
    weights = np.full(len(files), 1 / len(files)), sizes / sizes.sum()
    for k in range(flips + cuts):
        kind = "flips" if k < flips else "cuts"
        file = files[rng.choice(len(files), p=weights[k % 2])]
        at = int(rng.integers(file.stat().st_size))
        whole = _flip(file, at, int(rng.integers(8))) if kind == "flips" else _cut(file, at)
        try:
            open_bundle(folder)
            taken.append(f"{file.name} {kind} at {at}")
        except InputError:
            refused[kind] += 1
        whole()
        step()
    return {
        "flips": flips,
        "cuts": cuts,
        "files": len(files),
        "taken": taken,
        "flips_refused": refused["flips"],
        "cuts_refused": refused["cuts"],
    }


def _flip(file: Path, at: int, bit: int) -> Callable[[], None]:
    """Flip a bit in place; returns what flips it back."""

    def turn() -> None:
        with open(file, "r+b") as stream:
            stream.seek(at)
            byte = stream.read(1)[0]
            stream.seek(at)
            stream.write(bytes([byte ^ 1 << bit]))

    turn()
    return turn


def _cut(file: Path, length: int) -> Callable[[], None]:
    """Keep the first ``length`` bytes; returns what puts the rest back."""
    whole = file.read_bytes()
    file.write_bytes(whole[:length])
    return lambda: file.write_bytes(whole)
