"""Save and load trained networks. ``weights_file`` describes and verifies the files."""

from __future__ import annotations

import os
import shutil
from dataclasses import asdict
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load, save_file
from torch import Tensor, nn

from gwm_core.errors import InputError
from gwm_core.files.json_files import to_json, write_json
from gwm_core.model.image_model import ImageModel
from gwm_core.model.vae import VAE
from gwm_core.model.weights_file import (
    MANIFESTS,
    current_names,
    digest,
    predicting_config,
    read_weights,
)
from gwm_core.model.world_action_model import WorldActionModel

WEIGHTS, MANIFEST = "policy.safetensors", MANIFESTS["policy"]


def save_policy(
    folder: Path, policy: WorldActionModel, provenance: dict, vae_folder: Path | None = None
) -> None:
    """Write weights, then the manifest: a folder that was not finished is never valid.

    Args:
        vae_folder: of the VAE whose latents the policy predicts; copied into ``folder``.
    """
    manifest = {"provenance": provenance}
    if policy.config.vae:
        manifest["vae_sha256"] = digest(Path(vae_folder) / "vae.safetensors")
        _copy_vae(Path(vae_folder), Path(folder))
    _save(Path(folder), "policy", policy, asdict(policy.config), manifest)


def save_vae(folder: Path, vae: VAE, provenance: dict) -> None:
    """As ``save_policy``."""
    _save(Path(folder), "vae", vae, asdict(vae.config), {"provenance": provenance})


def save_image_model(folder: Path, model: ImageModel, provenance: dict) -> None:
    """As ``save_policy``."""
    _save(Path(folder), "image", model, asdict(model.config), {"provenance": provenance})


def load_policy(folder: Path) -> WorldActionModel:
    """Load a policy for inference.

    Raises InputError when files are missing or damaged, or do not match the manifest.
    """
    policy, manifest = _load(Path(folder), "policy", WorldActionModel)
    vae = Path(folder) / "vae.safetensors"
    if policy.config.vae and manifest.get("vae_sha256") != digest(vae):
        raise InputError(
            f"the policy in {folder} was trained on the latents of another VAE than the one there"
        )
    return policy


def load_predicting_policy(folder: Path) -> WorldActionModel:
    """As ``load_policy``. Raises InputError also where the policy predicts nothing."""
    predicting_config(folder)
    return load_policy(folder)


def load_vae(folder: Path) -> VAE:
    """As ``load_policy``."""
    return _load(Path(folder), "vae", VAE)[0]


def load_image_model(folder: Path) -> ImageModel:
    """As ``load_policy``."""
    return _load(Path(folder), "image", ImageModel)[0]


def refuse_other_vae(source: Path, folder: Path) -> None:
    """Raise InputError where a copy of the VAE in ``source`` would replace another one in
    ``folder``.
    """
    file = "vae.safetensors"
    if (folder / file).exists() and digest(folder / file) != digest(source / file):
        raise InputError(
            f"{folder / file} is not that of {source} and would be lost: choose another --out"
        )


def _copy_vae(source: Path, folder: Path) -> None:
    """Copy the VAE that a policy needs beside it."""
    refuse_other_vae(source, folder)
    if source.resolve() == folder.resolve():
        return
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("vae.safetensors", MANIFESTS["vae"]):
        shutil.copyfile(source / name, folder / name)


def write_tensors(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    """Write a file and flush it to the disk. Raises InputError where there is no room."""
    try:
        save_file(tensors, path, metadata=metadata)
        with open(path, "rb") as file:
            os.fsync(file.fileno())
    except (OSError, SafetensorError) as error:
        raise InputError(
            f"cannot write {path} ({error}): make room; called again, the run goes on"
        ) from None


def _save(folder: Path, kind: str, network: nn.Module, config: dict, manifest: dict) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {
        name: tensor.detach().float().cpu().contiguous()
        for name, tensor in network.state_dict().items()
    }
    partial = folder / f"{kind}.safetensors.partial"
    write_tensors(partial, tensors, {"config": to_json(config)})
    manifest = {"sha256": {f"{kind}.safetensors": digest(partial)}, **manifest}
    (folder / MANIFESTS[kind]).unlink(missing_ok=True)
    partial.rename(folder / f"{kind}.safetensors")
    write_json(folder / MANIFESTS[kind], manifest)


def _load(folder: Path, kind: str, build) -> tuple[nn.Module, dict]:
    weights = read_weights(folder, kind)
    try:
        network = build(weights.config)
        network.load_state_dict(current_names(load(weights.data), kind))
    except (SafetensorError, RuntimeError, TypeError, ValueError) as error:
        cause = " ".join(str(error).split())  # torch writes several lines
        raise InputError(
            f"{folder / f'{kind}.safetensors'} is not a {kind} of this version: {cause}"
        ) from None
    return network.eval(), weights.manifest
