"""A trained network on disk: safetensors, its configuration, and the hashes that are checked before anything is loaded.

``policy.safetensors`` holds weights and normalisation, and the configuration in its metadata. ``manifest.json`` holds
the SHA-256 of every file and where the weights came from.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load, save_file

from gwm_core.errors import InputError
from gwm_core.model.config import PolicyConfig
from gwm_core.model.policy import Policy
from gwm_core.scene.lift import LiftConfig

WEIGHTS, MANIFEST = "policy.safetensors", "manifest.json"


def save_policy(folder: Path, policy: Policy, provenance: dict) -> None:
    """Write weights and manifest; the manifest comes last, so a half-written folder is never valid."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    config = json.dumps(asdict(policy.config))
    tensors = {name: tensor.detach().float().cpu().contiguous() for name, tensor in policy.state_dict().items()}
    partial = folder / (WEIGHTS + ".partial")
    save_file(tensors, partial, metadata={"config": config})
    digest = hashlib.sha256(partial.read_bytes()).hexdigest()
    (folder / MANIFEST).unlink(missing_ok=True)
    partial.rename(folder / WEIGHTS)
    manifest = {"sha256": {WEIGHTS: digest}, "provenance": provenance}
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n")


def load_policy(folder: Path) -> Policy:
    """Load a policy for inference. Raises InputError when files are missing, damaged or not what the manifest says."""
    folder = Path(folder)
    try:
        manifest = json.loads((folder / MANIFEST).read_text())
        data = (folder / WEIGHTS).read_bytes()
        expected = manifest["sha256"][WEIGHTS]
    except (OSError, ValueError, KeyError, TypeError) as error:
        hint = "a folder with policy.safetensors and manifest.json is wanted, as `gwm train policy --out` makes"
        raise InputError(f"no policy in {folder} ({type(error).__name__}): {hint}") from None
    if hashlib.sha256(data).hexdigest() != expected:
        raise InputError(f"{folder / WEIGHTS} does not match its manifest: damaged or swapped, train it again")
    try:
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])  # safetensors: length, header, tensors
        policy = Policy(config_from_json(header["__metadata__"]["config"]))
        policy.load_state_dict(load(data))
    except (SafetensorError, RuntimeError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"{folder / WEIGHTS} is not a policy of this version: {error}") from None
    return policy.eval()


def config_from_json(text: str) -> PolicyConfig:
    """The configuration saved with the weights; unknown or missing fields raise TypeError."""
    values = json.loads(text)
    lift = LiftConfig(**{k: tuple(v) if isinstance(v, list) else v for k, v in values.pop("lift").items()})
    return PolicyConfig(**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}, lift=lift)
