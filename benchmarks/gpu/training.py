"""Steps a second of every network's training, with and without compilation, on made-up samples."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from benchmarks.gpu import made_up_samples
from benchmarks.gpu.figures import Figure, remark
from gwm_core.model.config import (
    IMAGE_MODELS,
    POLICIES,
    VAES,
    TrainConfig,
    WorldActionConfig,
    WorldActionTraining,
)
from gwm_core.model.image_model import ImageModel
from gwm_core.model.vae import VAE
from gwm_core.model.world_action_model import WorldActionModel
from gwm_core.training import train_image_model, vae_reconstruction
from gwm_core.training.datasets.future_samples import FutureSamples
from gwm_core.training.datasets.policy_samples import PolicySamples
from gwm_core.training.future_batches import FutureBatches
from gwm_core.training.policy_batches import PolicyBatches
from gwm_core.training.train_vae import VAEBatches
from gwm_core.training.train_world_action_model import FUTURE, PLAN, world_action_loss
from gwm_core.training.training_loop import Batch, fit

SAMPLES = 400
_COMPILED = ("policy and world model", "policy", "image model", "VAE")  # in this order
_LAST_COMPILATION = 40.0  # [s] after the begin; one takes up to a minute and more


class Training(NamedTuple):
    """What ``fit`` takes."""

    network: nn.Module
    loss: Callable[..., torch.Tensor]
    sample_batch: Callable[[int], Batch]
    config: TrainConfig


def measure(device: str, quick: bool) -> Iterator[Figure]:
    """Steps a second of every network. On a GPU also the largest memory, and the same again
    compiled, as far as the time allows.
    """
    begun, size = time.monotonic(), "tiny" if quick else "demo"
    steps = 3 if quick else 40 if device == "cuda" else 6
    for name in TRAININGS:
        yield from _guarded(name, size, steps, False, device)
    if device == "cpu":
        yield remark("compiled, and GPU memory", "no GPU")
        return
    for name in _COMPILED:
        if time.monotonic() - begun > _LAST_COMPILATION:
            yield remark(f"{name}, compiled", "not measured: no time was left for compiling it")
            continue
        yield from _guarded(name, size, steps, True, device)


def _guarded(name: str, size: str, steps: int, compiled: bool, device: str) -> Iterator[Figure]:
    """``_figures`` of a network, or why there are none: what one ends with leaves the others."""
    what = f"{name}{', compiled' * compiled}"
    try:
        yield from _figures(what, TRAININGS[name](size, device), steps, compiled, device)
    except Exception as error:
        yield Figure(what, None, "steps/s", 0.0, f"{type(error).__name__}: {error}"[:200])


def _figures(
    name: str, training: Training, steps: int, compiled: bool, device: str
) -> Iterator[Figure]:
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    yield Figure(name, 1 / step_seconds(training, steps, compiled), "steps/s")
    if device == "cuda":
        yield Figure(f"{name}: GPU memory", torch.cuda.max_memory_allocated() / 2**20, "MB")


def step_seconds(training: Training, steps: int, compiled: bool = False) -> float:
    """Median duration [s] of a step of ``fit``, its batch included."""
    begun: list[float] = []

    def sample_batch(count: int) -> Batch:
        begun.append(time.perf_counter())
        return training.sample_batch(count)

    warm = 3
    config = replace(training.config, iterations=steps + warm + 1, validate_every=10**9)
    made = training.network, training.loss, sample_batch, lambda _: {}, config
    with tempfile.TemporaryDirectory() as out:
        fit(*made, Path(out), "", compiled=compiled)
    return statistics.median(np.diff(begun)[warm:])


def _policy(size: str, device: str) -> Training:
    """Of plans alone."""
    config, training = POLICIES[size]
    return of_samples(made_up_samples.plans(SAMPLES, config), None, config, training, device)


def _world_action(size: str, device: str) -> Training:
    """Of plans and futures at once."""
    config, training = POLICIES[size]
    config = replace(config, vae=VAES[size][0])
    samples = made_up_samples.plans(SAMPLES, config), made_up_samples.futures(SAMPLES, config)
    return of_samples(*samples, config, training, device)


def of_samples(
    plans: PolicySamples,
    futures: FutureSamples | None,
    config: WorldActionConfig,
    training: WorldActionTraining,
    device: str,
) -> Training:
    """Of a policy, on plans and perhaps futures."""
    of_plans = PolicyBatches(plans, torch.device(device), training, config.rows)
    network = WorldActionModel(config).to(device)
    network.set_normalization(of_plans.relative_rows())
    of_futures = None
    if futures:
        of_futures = FutureBatches(futures, torch.device(device), training, set(), set())
        network.future_decoder.set_normalization(of_futures.tokens())

    def loss(model: WorldActionModel, **batch) -> torch.Tensor:
        return world_action_loss(model, training, **batch)

    def sample_batch(count: int) -> Batch:
        batch = {PLAN + name: value for name, value in of_plans.sample_batch(count).items()}
        if of_futures:
            future = of_futures.sample_batch(training.future_batch, network)
            batch |= {FUTURE + name: value for name, value in future.items()}
        return batch

    return Training(network, loss, sample_batch, training)


def _vae(size: str, device: str) -> Training:
    config, training = VAES[size]
    clips = made_up_samples.clips(60, config.lift)
    every = np.ones(len(clips), bool)
    gripper = np.zeros((config.gripper_tokens, 3), np.float32)
    gripper[:, 2] = np.linspace(-0.1, 0, len(gripper))
    batches = VAEBatches(clips, config, every, gripper, device, lambda done, total: None)
    network = VAE(config).to(device)
    network.gripper_tokens.copy_(torch.from_numpy(gripper))
    return Training(network, vae_reconstruction.loss, batches.sample_batch, training)


def _image_model(size: str, device: str) -> Training:
    config, training = IMAGE_MODELS[size]
    clips = made_up_samples.clips(60, VAES[size][0].lift)
    starts = clips.starts(3)

    def sample_batch(count: int) -> Batch:
        index = starts[torch.randint(len(starts), (count,)).numpy()]
        batch = train_image_model.take(clips, index, np.zeros(count, np.int64))
        batch["noise"] = torch.randn(batch["past"].shape)
        return {name: tensor.to(device) for name, tensor in batch.items()}

    return Training(ImageModel(config).to(device), train_image_model.loss, sample_batch, training)


TRAININGS = {
    "policy": _policy,
    "policy and world model": _world_action,
    "VAE": _vae,
    "image model": _image_model,
}
