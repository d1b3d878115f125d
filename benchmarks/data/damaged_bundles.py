"""A bundle damaged in many ways: each has to be refused before anything is made of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from gwm_core.errors import InputError
from gwm_core.runtime.bundle import open_bundle


def damaged(
    folder: Path, flips: int, cuts: int, seed: int, step: Callable[[], None] = lambda: None
) -> dict:
    """Flip single bits and cut files of a copy of a bundle, each put right again.

    Half of the flips are spread over files evenly, so that small ones get their share; the others
    over bytes. "taken" lists what was not refused, as file and bit or length.
    """
    rng, taken, refused = np.random.default_rng(seed), [], {"flips": 0, "cuts": 0}
    files = sorted(path for path in Path(folder).iterdir())
    sizes = np.array([path.stat().st_size for path in files])
    shares = np.full(len(files), 1 / len(files)), sizes / sizes.sum()
    for k in range(flips + cuts):
        kind = "flips" if k < flips else "cuts"
        file = files[rng.choice(len(files), p=shares[k % 2])]
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
