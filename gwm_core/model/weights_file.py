"""Weights files, read without torch and verified before use.

``<kind>.safetensors`` holds weights and normalisation, and the configuration in its metadata.
``<kind>.json`` (``manifest.json`` for a policy) holds its SHA-256 and the provenance of the
weights; that of a policy that predicts latents also holds the SHA-256 of their VAE.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
from safetensors.numpy import load

from gwm_core.errors import InputError, older_policy, refuse_older_policy
from gwm_core.files.checksums import sha256
from gwm_core.model.config import ImageModelConfig, VAEConfig, WorldActionConfig
from gwm_core.scene.lift import LiftConfig

MANIFESTS = {"policy": "manifest.json", "vae": "vae.json", "image": "image.json"}
_CONFIGS = {"policy": WorldActionConfig, "vae": VAEConfig, "image": ImageModelConfig}
_OLDER_WORLD = "world.safetensors"  # of a world model that earlier versions had beside a policy
# Names in files of version 0.1 -> names now: fields of the configuration, and the first part of
# the names of tensors.
_RENAMED_FIELDS = {"vae": {"riders": "gripper_tokens"}}
_RENAMED_TENSORS = {
    "vae": {"riders": "gripper_tokens", "part": "gripper_query", "shown": "gripper_latent"},
    "image": {"enter": "image_in", "leave": "image_out"},
}
T = TypeVar("T")


class Weights(NamedTuple):
    """A verified file: its bytes, the network's configuration and the manifest beside it."""

    data: bytes
    config: WorldActionConfig | VAEConfig | ImageModelConfig
    manifest: dict
    kind: str

    def arrays(self) -> dict[str, np.ndarray]:
        """The tensors by the names that the networks have now."""
        return current_names(load(self.data), self.kind)


def current_names(tensors: dict[str, T], kind: str) -> dict[str, T]:
    """Rename the tensors of a ``kind`` of network that an earlier version saved."""
    renamed = _RENAMED_TENSORS.get(kind, {})
    current = {}
    for name, tensor in tensors.items():
        first, dot, rest = name.partition(".")
        current[f"{renamed.get(first, first)}{dot}{rest}"] = tensor
    return current


def read_weights(folder: Path, kind: str) -> Weights:
    """Read and verify the weights of a ``kind`` of network.

    Raises InputError when files are missing or damaged, do not match the manifest, or are of a kind
    that earlier versions had.
    """
    file, name = Path(folder) / f"{kind}.safetensors", MANIFESTS[kind]
    try:
        manifest = json.loads((Path(folder) / name).read_text())
        data = file.read_bytes()
        expected = manifest["sha256"][file.name]
    except (OSError, ValueError, KeyError, TypeError) as error:
        if kind == "policy" and not file.exists():
            refuse_older_world(folder)
        hint = f"a folder with {file.name} and {name} is wanted, as `gwm train {kind} --out` makes"
        raise InputError(f"no {kind} in {folder} ({type(error).__name__}): {hint}") from None
    if hashlib.sha256(data).hexdigest() != expected:
        raise InputError(f"{file} does not match its manifest: damaged or swapped, train it again")
    try:
        # safetensors: length of the header, header, tensors
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
        values = dict(json.loads(header["__metadata__"]["config"]))
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{file} is not a {kind} of this version: {error}") from None
    if kind == "policy":
        refuse_older_policy(folder, values)
    try:
        config = _config(values, kind)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"{file} is not a {kind} of this version: {error}") from None
    return Weights(data, config, manifest, kind)


def refuse_seen(
    folder: Path, kind: str, starts: Iterable[str], note: Callable[[str], None] = warnings.warn
) -> None:
    """Raise InputError where a ``kind`` of network was trained on episodes that it is to be
    measured on, or on others that began alike.

    Args:
        starts: of these episodes, as of ``start_names``.
        note: called where the network's provenance does not say what it has seen.
    """
    seen = read_weights(folder, kind).manifest.get("provenance", {}).get("trained_on")
    if seen is None:
        note(
            f"the {kind} in {folder} does not say which episodes it has seen: these may be among"
            " them"
        )
    elif both := sorted(set(seen) & set(starts)):
        raise InputError(
            f"the {kind} in {folder} has seen {len(both)} of these episodes, as '{both[0]}': take"
            " others, or a network that has not"
        )


def refuse_older_world(folder: Path) -> None:
    """Raise InputError where a folder has a world model as earlier versions had beside a policy."""
    if (Path(folder) / _OLDER_WORLD).exists():
        raise older_policy(folder)


def predicting_config(folder: Path) -> WorldActionConfig:
    """The configuration of the policy in a folder.

    Raises InputError where that policy predicts nothing.
    """
    config = read_weights(folder, "policy").config
    if config.vae is None:
        raise InputError(
            f"the policy in {folder} predicts nothing: `gwm train policy --futures DIR --vae DIR`"
            " makes one that does"
        )
    return config


def digest(path: Path) -> str:
    """SHA-256 of a file. Raises InputError when it cannot be read."""
    try:
        return sha256(path)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from None


def _config(values: dict, kind: str):
    """The configuration from its stored fields."""
    renamed = _RENAMED_FIELDS.get(kind, {})
    values = _tuples({renamed.get(name, name): value for name, value in values.items()})
    if "lift" in values:
        values["lift"] = LiftConfig(**_tuples(values["lift"]))
    if values.get("vae"):
        values["vae"] = _config(values["vae"], "vae")
    return _CONFIGS[kind](**values)


def _tuples(values: dict) -> dict:
    """Lists as tuples, which JSON does not have."""
    return {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
