"""What a weights file says of itself, read without torch: configuration, where it came from, and
whether it is whole.

``<kind>.safetensors`` holds weights and normalisation, and the configuration in its metadata.
``<kind>.json`` (``manifest.json`` for a policy) holds its SHA-256 and where the weights came from;
a world model's also that of the VAE whose latents it was trained on.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import NamedTuple

from gwm_core.errors import InputError
from gwm_core.files.checksums import sha256
from gwm_core.model.config import ImageModelConfig, PolicyConfig, VAEConfig, WorldModelConfig
from gwm_core.scene.lift import LiftConfig

MANIFESTS = {
    "policy": "manifest.json",
    "vae": "vae.json",
    "world": "world.json",
    "image": "image.json",
}
_CONFIGS = {
    "policy": PolicyConfig,
    "vae": VAEConfig,
    "world": WorldModelConfig,
    "image": ImageModelConfig,
}


class Weights(NamedTuple):
    """A verified file: its bytes, the network's configuration and the manifest beside it."""

    data: bytes
    config: PolicyConfig | VAEConfig | WorldModelConfig | ImageModelConfig
    manifest: dict


def read_weights(folder: Path, kind: str) -> Weights:
    """Read and verify. Raises InputError when files are missing, damaged or not what the manifest
    says.
    """
    file, name = Path(folder) / f"{kind}.safetensors", MANIFESTS[kind]
    try:
        manifest = json.loads((Path(folder) / name).read_text())
        data = file.read_bytes()
        expected = manifest["sha256"][file.name]
    except (OSError, ValueError, KeyError, TypeError) as error:
        hint = f"a folder with {file.name} and {name} is wanted, as `gwm train {kind} --out` makes"
        raise InputError(f"no {kind} in {folder} ({type(error).__name__}): {hint}") from None
    if hashlib.sha256(data).hexdigest() != expected:
        raise InputError(f"{file} does not match its manifest: damaged or swapped, train it again")
    try:
        # safetensors: length, header, tensors
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
        values = _tuples(json.loads(header["__metadata__"]["config"]))
        if "lift" in values:
            values["lift"] = LiftConfig(**_tuples(values["lift"]))
        return Weights(data, _CONFIGS[kind](**values), manifest)
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{file} is not a {kind} of this version: {error}") from None


def digest(path: Path) -> str:
    """SHA-256 of a file. Raises InputError when it cannot be read."""
    try:
        return sha256(path)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from None


def _tuples(values: dict) -> dict:
    """JSON has no tuples."""
    return {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
