"""What every trainer shares: the held-out episodes, and the record of the settings of a run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict

import numpy as np
from torch import nn

from gwm_core.errors import InputError
from gwm_core.files.json_files import to_json
from gwm_core.model.config import TrainConfig

Progress = Callable[[int, int, dict], None]  # iterations done, iterations in all, figures


def silent(*_) -> None:
    """Report nothing."""


def held_out(episode: np.ndarray, fraction: float) -> np.ndarray:
    """Mask (S,) of the validation samples: those of every n-th episode, at least of the last one.

    Raises InputError where that leaves no sample for validation, or none for training.

    Args:
        episode: (S,) number of the episode of each sample.
    """
    episodes = int(episode.max(initial=-1)) + 1
    if episodes < 2:
        raise InputError("one episode is too few: two are needed, one of them for validation")
    every = min(episodes, max(2, round(1 / fraction)))
    held = episode % every == every - 1
    if held.all() or not held.any():
        cause = "nothing is left to train on" if held.all() else "nothing is held out"
        raise InputError(
            f"{cause}: only {len(np.unique(episode))} of {episodes} episodes are long enough;"
            " record more"
        )
    return held


def settings_key(network, config: TrainConfig, samples: int) -> str:
    """The settings that a resumed run must share with the interrupted one."""
    return to_json([asdict(network), asdict(config), samples])


def provenance_of(config: TrainConfig, samples: int, device: str) -> dict:
    """What the manifest of a checkpoint says about its training."""
    return {"train": asdict(config), "samples": samples, "device": device}


def count_parameters(network: nn.Module) -> int:
    """Number of trained numbers."""
    return sum(p.numel() for p in network.parameters())
