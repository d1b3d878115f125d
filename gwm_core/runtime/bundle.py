"""A bundle: weights, what they may be used for, and inputs whose outputs are known; refused where
anything differs.

policy.safetensors manifest.json                         and of the world model, where there is one:
vae.safetensors vae.json world.safetensors world.json
golden.safetensors   scenes, states and the rows the trained network made of them
bundle.json          tasks, cameras and workspace it was trained with, tolerances, where it comes from
divergence.json      how far what comes may be from what was imagined
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
from gwm_core.model.weights_file import MANIFESTS, read_weights
from gwm_core.runtime.divergence import LIMITS

CONTRACT, GOLDEN = "bundle.json", "golden.safetensors"
FORMAT = 1
# of rows in units of their spread, when a bundle is loaded
TOLERANCE = {"fp32": 1e-3, "bf16": 2e-2, "fp16": 2e-2}
LARGEST_MM, LARGEST_DEG = 1.0, 0.2  # of a pose, whatever the precision
KINDS = ("policy", "vae", "world")
FILES = (
    CONTRACT,
    GOLDEN,
    LIMITS,
    *(f"{kind}.safetensors" for kind in KINDS),
    *(MANIFESTS[kind] for kind in KINDS),
)


@dataclass(frozen=True)
class Drift:
    """How far rows are from the golden ones: largest difference in units of their spread, [mm] and
    [degrees].
    """

    normalized: float
    mm: float
    degrees: float


@dataclass(frozen=True)
class Bundle:
    """A verified folder."""

    folder: Path
    contract: dict

    def golden(self) -> dict[str, np.ndarray]:
        """Scenes (G, N, 14), proprio (G, 11), poses (G, 4, 4), task (G,), rows (G, H, 10) and their
        spread (10,).
        """
        try:
            return load_file(self.folder / GOLDEN)
        except (OSError, SafetensorError) as error:
            raise InputError(f"{self.folder / GOLDEN} cannot be read: {error}") from None

    def check(self, rows: Callable[..., np.ndarray], precision: str, where: str) -> Drift:
        """Run the golden inputs. Raises InputError for rows that are not those of the trained
        network.
        """
        golden = self.golden()
        inputs = zip(*(golden[name] for name in ("scene", "proprio", "pose", "task")))
        try:
            made = np.stack([rows(*values) for values in inputs])
        except (
            RuntimeError,
            ValueError,
            KeyError,
        ) as error:  # a graph with other inputs or outputs
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
        most = self.contract["tolerance"][precision]
        if far.normalized > most or far.mm > LARGEST_MM or far.degrees > LARGEST_DEG:
            raise InputError(
                f"{where} is not the trained policy: its rows are up to {far.normalized:.1e} of"
                f" their spread, {far.mm:.2f} mm and {far.degrees:.2f} degrees away, and"
                f" {most:.0e}, {LARGEST_MM} mm and {LARGEST_DEG} degrees are allowed: choose"
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


def drift(rows: np.ndarray, known: np.ndarray, spread: np.ndarray) -> Drift:
    """Largest differences of rows (..., 10)."""
    turn = np.swapaxes(from_rows(known)[..., :3, :3], -1, -2) @ from_rows(rows)[..., :3, :3]
    return Drift(
        float((np.abs(rows - known) / spread).max()),
        float(1e3 * np.linalg.norm((rows - known)[..., :3], axis=-1).max()),
        float(np.degrees(np.linalg.norm(rotation_vector(turn), axis=-1)).max()),
    )


def is_bundle(folder: Path) -> bool:
    """Whether a folder claims to be one; otherwise it is a checkpoint, as training leaves it."""
    return any((Path(folder) / name).exists() for name in (checksums.SUMS, CONTRACT, GOLDEN))


def open_bundle(folder: Path) -> Bundle:
    """Verify a folder. Raises InputError where a bit of it differs from what was sealed."""
    folder = Path(folder)
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


def check_place(source: Path, out: Path) -> None:
    """Raise InputError where a bundle of ``source`` cannot go to ``out``: it is there, or is read
    itself.
    """
    from gwm_core.files.atomic_write import refuse_inside

    refuse_inside(source, out)
    if Path(out).exists():
        raise InputError(f"{out} exists; choose another name")


def make_bundle(source: Path, out: Path, golden: dict[str, Sequence], cameras: int) -> None:
    """Bundle a checkpoint; ``out`` appears whole or not at all.

    Args:
        golden: as of ``Bundle.golden``. cameras: how many the policy was trained with.

    Raises:
        InputError: as ``check_place``, or the checkpoint is damaged.
    """
    from gwm_core.files import atomic_write  # which the robot's process need not load

    source, out = Path(source), Path(out)
    check_place(source, out)
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
        "provenance": {
            kind: known.manifest.get("provenance", {}) for kind, known in weights.items()
        },
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
