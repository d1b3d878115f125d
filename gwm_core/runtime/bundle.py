"""Bundles: weights with the conditions of their use, golden inputs and outputs, and checksums.

policy.safetensors, manifest.json
vae.safetensors, vae.json    if the policy predicts
golden.safetensors   scenes, states, and the rows that the trained network made of them
bundle.json          tasks, cameras and workspace of the training, tolerances, provenance
divergence.json      limits of the divergence between predicted and observed scenes
SHA256SUMS           over all of them
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from gwm_core.errors import InputError
from gwm_core.files import checksums
from gwm_core.files.json_files import write_json
from gwm_core.geometry.kinematics import from_rows, rotation_vector
from gwm_core.model.weights_file import MANIFESTS, read_weights, refuse_older_world
from gwm_core.runtime.divergence import LIMITS

CONTRACT, GOLDEN = "bundle.json", "golden.safetensors"
FORMAT = 1
# of golden rows, in units of their spread
TOLERANCE = {"fp32": 1e-3, "bf16": 2e-2, "fp16": 2e-2}
LARGEST_MM, LARGEST_DEG = 1.0, 0.2  # of a pose, at any precision
KINDS = ("policy", "vae")
FILES = (
    CONTRACT,
    GOLDEN,
    LIMITS,
    *(f"{kind}.safetensors" for kind in KINDS),
    *(MANIFESTS[kind] for kind in KINDS),
)


@dataclass(frozen=True)
class Drift:
    """Largest difference of rows from the golden ones, in their spread, in [mm] and [degrees]."""

    normalized: float
    mm: float
    degrees: float


@dataclass(frozen=True)
class Bundle:
    """A verified folder."""

    folder: Path
    contract: dict

    def golden(self) -> dict[str, np.ndarray]:
        """Golden inputs and outputs.

        scene (G, N, 14), proprio (G, 11), task (G,), rows (G, H, 10) and their spread (10,).
        """
        try:
            return load_file(self.folder / GOLDEN)
        except (OSError, SafetensorError) as error:
            raise InputError(f"{self.folder / GOLDEN} cannot be read: {error}") from None

    def check(self, rows: Callable[..., np.ndarray], precision: str, where: str) -> Drift:
        """Run the golden inputs. Raises InputError for other rows than the trained network's.

        Args:
            rows: ``PolicyRunner.rows``. where: names what runs, in the message.
        """
        golden = self.golden()
        inputs = zip(*(golden[name] for name in ("scene", "proprio", "task")))
        try:
            made = np.stack([rows(*values) for values in inputs])
        except (RuntimeError, ValueError, KeyError) as error:  # other inputs or outputs
            raise InputError(
                f"{where} is not this policy: {str(error).strip().splitlines()[0]}"
            ) from None
        if made.shape != golden["rows"].shape or not np.isfinite(made).all():
            raise InputError(
                f"{where} gives {made.shape} rows, finite: {bool(np.isfinite(made).all())}: not"
                " this policy"
            )
        try:
            far = drift(made, golden["rows"], golden["spread"])
        except ValueError as error:
            raise InputError(f"{where} is not this policy: {error}") from None
        tolerance = self.contract["tolerance"][precision]
        if far.normalized > tolerance or far.mm > LARGEST_MM or far.degrees > LARGEST_DEG:
            raise InputError(
                f"{where} is not the trained policy: its rows are up to {far.normalized:.1e} of"
                f" their spread, {far.mm:.2f} mm and {far.degrees:.2f} degrees away, and"
                f" {tolerance:.0e}, {LARGEST_MM} mm and {LARGEST_DEG} degrees are allowed: choose"
                " another runtime or precision"
            )
        return far

    def check_site(self, cameras: int) -> None:
        """Raises InputError for a site that the policy was not trained for."""
        if cameras != self.contract["cameras"]:
            raise InputError(
                f"{self.folder} was trained with {self.contract['cameras']} cameras, the site has"
                f" {cameras}"
            )


def drift(rows: np.ndarray, golden: np.ndarray, spread: np.ndarray) -> Drift:
    """Largest differences of rows (..., 10) from golden ones."""
    rotation = np.swapaxes(from_rows(golden)[..., :3, :3], -1, -2) @ from_rows(rows)[..., :3, :3]
    return Drift(
        float((np.abs(rows - golden) / spread).max()),
        float(1e3 * np.linalg.norm((rows - golden)[..., :3], axis=-1).max()),
        float(np.degrees(np.linalg.norm(rotation_vector(rotation), axis=-1)).max()),
    )


def is_bundle(folder: Path) -> bool:
    """Whether a folder is meant to be a bundle, rather than a checkpoint as training leaves it."""
    return any((Path(folder) / name).exists() for name in (checksums.SUMS, CONTRACT, GOLDEN))


def open_bundle(folder: Path) -> Bundle:
    """Verify a bundle. Raises InputError where any bit differs from its checksums, and for a bundle
    with a world model, as earlier versions had.
    """
    folder = Path(folder)
    refuse_older_world(folder)
    sums = checksums.verify_checksums(folder, FILES)
    if missing := [name for name in (CONTRACT, GOLDEN, "policy.safetensors") if name not in sums]:
        raise InputError(f"{folder} lacks {', '.join(missing)}: make it anew with `gwm compile`")
    try:
        contract = json.loads((folder / CONTRACT).read_text())
        fits = contract["format"] == FORMAT and set(contract["tolerance"]) == set(TOLERANCE)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{folder / CONTRACT} cannot be read ({type(error).__name__}): {error}"
        ) from None
    if not fits:
        raise InputError(
            f"{folder} is of another format than {FORMAT}: make it anew with `gwm compile`"
        )
    return Bundle(folder, contract)


def check_destination(source: Path, out: Path) -> None:
    """Raise InputError where a bundle of ``source`` cannot go to ``out``: it exists, or lies in
    ``source``.
    """
    from gwm_core.files.atomic_write import refuse_inside

    refuse_inside(source, out)
    if Path(out).exists():
        raise InputError(f"{out} exists; choose another name")


def make_bundle(source: Path, out: Path, golden: dict[str, Sequence], cameras: int) -> None:
    """Bundle a checkpoint. ``out`` appears complete or not at all.

    Args:
        golden: as of ``Bundle.golden``. cameras: how many the policy was trained with.

    Raises:
        InputError: as ``check_destination``, or the checkpoint is damaged.
    """
    from gwm_core.files import atomic_write  # not needed on the robot

    source, out = Path(source), Path(out)
    check_destination(source, out)
    there = [kind for kind in KINDS if (source / f"{kind}.safetensors").exists()]
    weights = {kind: read_weights(source, kind) for kind in there}
    policy = weights["policy"].config
    contract = {
        "format": FORMAT,
        "tasks": list(policy.tasks),
        "cameras": cameras,
        "workspace_m": {"low": list(policy.lift.low), "high": list(policy.lift.high)},
        "gaussians": policy.lift.count,
        "rows": policy.rows,
        "row": (
            "xyz [m] and rot6d of fr3_hand_tcp in fr3_link0, finger opening [m]; row k is due k *"
            " 0.1 s after t_obs"
        ),
        "tolerance": TOLERANCE,
        "provenance": {kind: one.manifest.get("provenance", {}) for kind, one in weights.items()},
    }
    copied = [name for kind in there for name in (f"{kind}.safetensors", MANIFESTS[kind])]
    with atomic_write.folder(out) as folder:
        for name in (*copied, *([LIMITS] if (source / LIMITS).exists() else [])):
            shutil.copyfile(source / name, folder / name)
        save_file(
            {name: np.ascontiguousarray(value) for name, value in golden.items()}, folder / GOLDEN
        )
        write_json(folder / CONTRACT, contract)
        checksums.write_checksums(folder)
