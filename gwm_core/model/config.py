"""Configurations of the networks and of their training; saved with every checkpoint."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from gwm_core.errors import one_of
from gwm_core.scene.lift import LiftConfig
from gwm_core.types import CHUNK_ROWS

ACTION = 10  # pose row: xyz [m], rot6d, gripper width [m]


@dataclass(frozen=True)
class VAEConfig:
    """Size of the 3D VAE. Each token decodes to ``lift.count / tokens`` Gaussians."""

    tokens: int = 128
    gripper_tokens: int = 48  # tokens that move with the gripper
    latent: int = 32  # channels; the first three are the token's anchor
    width: int = 128
    heads: int = 4
    neighbors: int = 32  # Gaussians around its anchor that a query sees first
    context: int = 1024  # farthest points of the scene that it attends to next
    encoder_layers: int = 2
    decoder_layers: int = 3
    kl: float = 1e-4
    lift: LiftConfig = field(default_factory=lambda: LiftConfig(count=2048))


@dataclass(frozen=True)
class WorldActionConfig:
    """Size of the policy and how it samples. Without a VAE it only plans."""

    tasks: tuple[str, ...] = ("lift", "pick_place", "stack")
    width: int = 128
    heads: int = 4
    encoder_layers: int = 3
    plan_layers: int = 4
    future_layers: int = 4
    success_layers: int = 2
    centers: int = 96  # scene tokens
    neighbors: int = 16  # Gaussians per scene token
    rows: int = CHUNK_ROWS
    steps: int = 4  # Euler steps from noise to chunk
    future_steps: int = 1  # Euler steps from noise to a future; one step predicts the mean
    jumps: tuple[int, ...] = (4, 8, 16)  # rows after which a future is predicted
    lift: LiftConfig = field(default_factory=LiftConfig)
    vae: VAEConfig | None = None  # of the latents whose future is predicted


@dataclass(frozen=True)
class ImageModelConfig:
    """Size of the image-to-image baseline: more parameters than VAE and policy together."""

    cameras: int = 2
    # channels at a half, a quarter, ... of the image size
    widths: tuple[int, ...] = (32, 64, 128, 160, 304)
    blocks: int = 2  # at the lowest resolution
    condition: int = 192  # channels of action and camera


@dataclass(frozen=True)
class TrainConfig:
    """How a network is trained."""

    iterations: int = 6000
    batch: int = 64
    noise_samples: int = 2  # per encoded observation, of the policy
    learning_rate: float = 1e-3
    warmup: int = 200
    # last fraction of the iterations, in which the rate falls; 0: by a cosine from the warm-up on
    decay: float = 0.0
    weight_decay: float = 0.02
    clip: float = 1.0
    muon: bool = False  # optimise matrices by Muon, everything else by AdamW
    ema: float = 0.999
    held_out: float = 0.03  # fraction of the episodes, for validation
    validate_every: int = 500
    seed: int = 0
    bfloat16: bool = True  # matrix products in 16 bits, where the device multiplies these faster


@dataclass(frozen=True)
class WorldActionTraining(TrainConfig):
    """How a policy is trained: on plans and futures at once, then on success."""

    future_batch: int = 24  # samples of futures beside a ``batch`` of plans
    future_weight: float = 0.5
    rotation: float = 0.5  # [rad] up to which plans are rotated about the vertical, both ways
    reflect: bool = True  # every second plan, on average: `training.symmetries`
    real_fraction: float = 0.6  # of the plans, where plans of practice are beside demonstrations
    start_fraction: float = 0.3  # of the futures' times: 0, where a one-step prediction begins
    # noise on the latent that a future starts from, in spreads of the first jump's change
    latent_noise: float = 0.1
    # of the success head, which is fitted last
    success_iterations: int = 1500
    success_batch: int = 96
    success_samples: int = 6_000  # at most

    def as_recorded(self) -> WorldActionTraining:
        """The same for tasks with a direction of their own."""
        return replace(self, rotation=0.0, reflect=False)


# "paper": 512 tokens of 64 channels as read from the paper's appendix. Its depth and width are not
# published; the depth of the VAE is that of the published code. "tiny" is for tests.
POLICIES = {
    "demo": (WorldActionConfig(), WorldActionTraining(batch=48, learning_rate=3e-3, muon=True)),
    "tiny": (
        WorldActionConfig(
            width=32,
            heads=2,
            encoder_layers=1,
            plan_layers=1,
            future_layers=1,
            success_layers=1,
            centers=32,
            neighbors=8,
            lift=LiftConfig(count=96),
        ),
        WorldActionTraining(
            iterations=40,
            batch=8,
            future_batch=4,
            warmup=5,
            validate_every=20,
            held_out=0.34,
            success_iterations=200,
        ),
    ),
}
VAES = {
    "demo": (
        VAEConfig(),
        TrainConfig(iterations=4000, batch=8, learning_rate=3e-3, muon=True, held_out=0.05),
    ),
    "paper": (
        VAEConfig(tokens=512, gripper_tokens=128, latent=64, width=256, heads=8, decoder_layers=4),
        TrainConfig(iterations=200_000, batch=64, learning_rate=1e-4, warmup=2000, ema=0.9999),
    ),
    "tiny": (
        VAEConfig(
            tokens=16,
            gripper_tokens=4,
            latent=8,
            width=32,
            heads=2,
            neighbors=8,
            context=64,
            encoder_layers=1,
            decoder_layers=1,
            lift=LiftConfig(count=128),  # more than policies see, as in "demo"
        ),
        TrainConfig(iterations=20, batch=4, warmup=5, validate_every=10, held_out=0.34),
    ),
}
IMAGE_MODELS = {
    "demo": (
        ImageModelConfig(),
        TrainConfig(iterations=4000, batch=16, learning_rate=5e-4, held_out=0.05),
    ),
    "tiny": (
        ImageModelConfig(widths=(8, 16, 16), blocks=1, condition=16),
        TrainConfig(iterations=20, batch=4, warmup=5, validate_every=10, held_out=0.34),
    ),
}


def named_config(name: str, among: dict = POLICIES) -> tuple:
    """The configurations of a network and of its training that are called ``name``."""
    return among[one_of("config", name, among)]
