"""The numbers of the networks and of their training; saved with every checkpoint."""

from __future__ import annotations

from dataclasses import dataclass, field

from gwm_core.errors import one_of
from gwm_core.scene.lift import LiftConfig
from gwm_core.types import CHUNK_ROWS


@dataclass(frozen=True)
class PolicyConfig:
    """Size of the policy and how it samples."""

    tasks: tuple[str, ...] = ("lift", "pick_place", "stack")
    width: int = 128
    heads: int = 4
    encoder_layers: int = 2
    decoder_layers: int = 4
    centers: int = 96  # scene tokens
    neighbors: int = 16  # Gaussians per token
    rows: int = CHUNK_ROWS
    steps: int = 4  # Euler steps from noise to chunk
    lift: LiftConfig = field(default_factory=LiftConfig)


@dataclass(frozen=True)
class TrainConfig:
    """How a policy is trained."""

    iterations: int = 6000
    batch: int = 64
    draws: int = 2  # noise draws per encoded observation
    learning_rate: float = 1e-3
    warmup: int = 200
    weight_decay: float = 0.02
    clip: float = 1.0
    ema: float = 0.999
    held_out: float = 0.03  # share of episodes for validation
    validate_every: int = 500
    seed: int = 0


CONFIGS = {
    "demo": (PolicyConfig(), TrainConfig()),
    "tiny": (
        PolicyConfig(width=32, heads=2, encoder_layers=1, decoder_layers=1, centers=32, neighbors=8),
        TrainConfig(iterations=40, batch=8, warmup=5, validate_every=20, held_out=0.34),
    ),
}


def named_config(name: str) -> tuple[PolicyConfig, TrainConfig]:
    """A named pair of configurations."""
    return CONFIGS[one_of("config", name, CONFIGS)]
