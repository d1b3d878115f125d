"""A trained network on disk: safetensors, its configuration, and the hashes that are checked before anything is loaded.

``<kind>.safetensors`` holds weights and normalisation, and the configuration in its metadata. ``<kind>.json``
(``manifest.json`` for a policy) holds its SHA-256 and where the weights came from; a world model's also that of the VAE
whose latents it was trained on.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import asdict
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load, save_file
from torch import nn

from gwm_core.errors import InputError
from gwm_core.model.config import PolicyConfig, VAEConfig, WorldConfig
from gwm_core.model.policy import Policy
from gwm_core.model.vae import VAE
from gwm_core.model.world import World
from gwm_core.scene.lift import LiftConfig

WEIGHTS, MANIFEST = "policy.safetensors", "manifest.json"
_MANIFESTS = {"policy": MANIFEST, "vae": "vae.json", "world": "world.json"}


def save_policy(folder: Path, policy: Policy, provenance: dict, world: Path | None = None) -> None:
    """Write weights and manifest; the manifest comes last, so a half-written folder is never valid.

    Args:
        world: folder of the world model whose features the policy needs; it is copied into ``folder``.
    """
    manifest = {"provenance": provenance}
    if policy.config.foresight:
        manifest["world_sha256"] = _digest(Path(world) / "world.safetensors")
        copies = [f"{kind}.{ending}" for kind in ("vae", "world") for ending in ("safetensors", "json")]
        for name in copies if Path(world).resolve() != Path(folder).resolve() else ():
            Path(folder).mkdir(parents=True, exist_ok=True)
            shutil.copyfile(Path(world) / name, Path(folder) / name)
    _save(Path(folder), "policy", policy, asdict(policy.config), manifest)


def save_vae(folder: Path, vae: VAE, provenance: dict) -> None:
    """As ``save_policy``."""
    _save(Path(folder), "vae", vae, asdict(vae.config), {"provenance": provenance})


def save_world(folder: Path, world: World, vae_folder: Path, provenance: dict) -> None:
    """As ``save_policy``, with the hash of the VAE in ``vae_folder``."""
    manifest = {"vae_sha256": _digest(Path(vae_folder) / "vae.safetensors"), "provenance": provenance}
    _save(Path(folder), "world", world, asdict(world.config), manifest)


def load_policy(folder: Path) -> Policy:
    """Load a policy for inference. Raises InputError when files are missing, damaged or not what the manifest says."""
    policy, manifest = _load(Path(folder), "policy", lambda values: Policy(PolicyConfig(**_with_lift(values))))
    if policy.config.foresight and manifest.get("world_sha256") != _digest(Path(folder) / "world.safetensors"):
        raise InputError(
            f"the policy in {folder} was trained on the features of another world model than the one there"
        )
    return policy


def load_vae(folder: Path) -> VAE:
    """As ``load_policy``."""
    return _load(Path(folder), "vae", lambda values: VAE(VAEConfig(**_with_lift(values))))[0]


def load_world(folder: Path, vae_folder: Path | None = None) -> tuple[World, VAE]:
    """A world model and the VAE it belongs to, from the same folder unless told. Raises InputError as above."""
    vae_folder = Path(vae_folder or folder)
    vae = load_vae(vae_folder)
    world, manifest = _load(Path(folder), "world", lambda values: World(WorldConfig(**values), vae.config))
    if manifest.get("vae_sha256") != _digest(vae_folder / "vae.safetensors"):
        raise InputError(
            f"the world model in {folder} was trained on the latents of another VAE than the one in {vae_folder}: "
            "name the folder of its own, or train it again with `gwm train world`"
        )
    return world, vae


def _save(folder: Path, kind: str, network: nn.Module, config: dict, manifest: dict) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: tensor.detach().float().cpu().contiguous() for name, tensor in network.state_dict().items()}
    partial = folder / f"{kind}.safetensors.partial"
    save_file(tensors, partial, metadata={"config": json.dumps(config)})
    manifest = {"sha256": {f"{kind}.safetensors": _digest(partial)}, **manifest}
    (folder / _MANIFESTS[kind]).unlink(missing_ok=True)
    partial.rename(folder / f"{kind}.safetensors")
    (folder / _MANIFESTS[kind]).write_text(json.dumps(manifest, indent=1) + "\n")


def _load(folder: Path, kind: str, build) -> tuple[nn.Module, dict]:
    weights, name = folder / f"{kind}.safetensors", _MANIFESTS[kind]
    try:
        manifest = json.loads((folder / name).read_text())
        data = weights.read_bytes()
        expected = manifest["sha256"][weights.name]
    except (OSError, ValueError, KeyError, TypeError) as error:
        hint = f"a folder with {weights.name} and {name} is wanted, as `gwm train {kind} --out` makes"
        raise InputError(f"no {kind} in {folder} ({type(error).__name__}): {hint}") from None
    if hashlib.sha256(data).hexdigest() != expected:
        raise InputError(f"{weights} does not match its manifest: damaged or swapped, train it again")
    try:
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])  # safetensors: length, header, tensors
        network = build(_tuples(json.loads(header["__metadata__"]["config"])))
        network.load_state_dict(load(data))
    except (SafetensorError, RuntimeError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"{weights} is not a {kind} of this version: {error}") from None
    return network.eval(), manifest


def _with_lift(values: dict) -> dict:
    return values | {"lift": LiftConfig(**_tuples(values["lift"]))}


def _tuples(values: dict) -> dict:
    """JSON has no tuples."""
    return {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}


def _digest(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from None
