"""Train the world model on latents of the VAE."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from gwm_core.errors import InputError
from gwm_core.files.json_files import to_json
from gwm_core.model.checkpoint import load_vae, load_world, save_world
from gwm_core.model.config import WorldModelConfig
from gwm_core.model.weights_file import digest
from gwm_core.model.world_model import WorldModel
from gwm_core.training.datasets.latents import LatentSequences
from gwm_core.training.training_loop import Batch
from gwm_core.training.training_run import TrainingRun, held_out

JITTER = 0.1  # noise on the history, in spreads of a change
IMAGINED = 3  # latents before the target that the model itself predicts in training, at most


class WorldModelBatches:
    """Windows of training sequences."""

    def __init__(
        self, sequences: LatentSequences, which: np.ndarray, world: WorldModel, device: str
    ):
        """``which`` are the numbers of the sequences to train on."""
        self._sequences = sequences
        self._world = world
        self._device = device
        self._context = world.config.context
        self._lookahead = world.config.lookahead
        self._windows = sequences.windows(self._context + 1 + IMAGINED, which)
        self._pairs = sequences.windows(self._lookahead + 1, which)

    def sample_batch(self, count: int) -> Batch:
        """A training batch, as ``WorldModel.loss`` takes it."""
        index = torch.randint(len(self._windows[0]), (count,)).numpy()
        length = self._context + 1 + int(torch.randint(IMAGINED + 1, ()))
        latents, actions, done = self._sequences.take(*(w[index] for w in self._windows), length)
        batch = {
            "latents": latents,
            "actions": actions[:, self._context - 1 :],
            "done": done[:, -1],
        } | self._world.sample_noise(count)
        if self._lookahead:
            index = torch.randint(len(self._pairs[0]), (count,)).numpy()
            latents, _, _ = self._sequences.take(
                *(p[index] for p in self._pairs), self._lookahead + 1
            )
            batch |= {"now": latents[:, 0], "later": latents[:, -1]}
        return {name: tensor.to(self._device) for name, tensor in batch.items()}


def train_world(
    sequences: LatentSequences,
    episode: np.ndarray,
    vae_folder: Path,
    world_config: WorldModelConfig,
    run: TrainingRun,
    begin: Path | None = None,
) -> dict:
    """Train a world model on latents of the VAE in ``vae_folder`` and save it in ``run.out``.

    Args:
        episode: (S,) number of the episode of each sequence.
        begin: folder of a world model of the same VAE, whose weights and normalisation training
            starts from.

    Returns:
        ``evaluate_world_model`` of held-out sequences.
    """
    torch.manual_seed(run.config.seed)
    world = WorldModel(world_config, load_vae(vae_folder).config).to(run.device)
    held = held_out(episode, run.config.held_out)
    batches = WorldModelBatches(sequences, np.flatnonzero(~held), world, run.device)
    _set_normalization(world, sequences.latents[~held].float())
    settings = to_json(asdict(world_config)) + (Path(vae_folder) / "vae.json").read_text()
    if begin:
        world.load_state_dict(
            world.state_dict() | _initial_weights(begin, vae_folder, world_config)
        )
        begun = {"begun_from": digest(begin / "world.safetensors")}
        run = replace(run, provenance=run.provenance | begun)
        settings += str(begin)

    def loss(model: WorldModel, **batch) -> Tensor:
        return model.loss(**batch, jitter=JITTER)

    return run.train(
        world,
        loss,
        batches.sample_batch,
        lambda w: evaluate_world_model(w, sequences, np.flatnonzero(held)),
        settings,
        len(episode),
        lambda average, provenance: save_world(run.out, average, Path(vae_folder), provenance),
    )


def _set_normalization(world: WorldModel, latents: Tensor) -> None:
    """Measure the spreads that ``world`` normalises by on training latents (S, L, K, D)."""
    steps = world.config.lookahead
    world.set_normalization(
        latents,
        latents[:, 1:] - latents[:, :-1],
        latents[:, steps:] - latents[:, :-steps] if steps else None,
    )


def _initial_weights(folder: Path, vae_folder: Path, config: WorldModelConfig) -> dict[str, Tensor]:
    """The tensors that a world model of ``config`` can take over from the one in ``folder``."""
    world, _ = load_world(folder, vae_folder)
    if replace(world.config, steps=config.steps, lookahead=config.lookahead) != config:
        raise InputError(
            f"the world model in {folder} is of another configuration: begin from one of the same"
            " --config"
        )
    same = world.config.lookahead == config.lookahead
    new = () if same else ("lookahead_action", "lookahead_std")
    return {name: tensor for name, tensor in world.state_dict().items() if name not in new}


@torch.no_grad()
def evaluate_world_model(
    world: WorldModel, sequences: LatentSequences, which: np.ndarray
) -> dict[str, float]:
    """Errors of rollouts over the sequences ``which``, in spreads of one step's change.

    Returns:
        error_first, error_last: mean squared error at the first and at the last step.
        static_first, static_last: the same of a prediction in which nothing moves.
        done: fraction of steps at which the predicted success is right.
        lookahead: fraction of the change over ``lookahead`` steps that features miss, if any.
    """
    device, context = world.middle.device, world.config.context
    parts = []
    for part in np.array_split(which, max(1, len(which) // 32)):
        z, actions, done = (
            x[part].float().to(device)
            for x in (sequences.latents, sequences.actions, sequences.done)
        )
        futures, success = world.rollout(z[:, :context], actions[:, context - 1 :])
        truth, spread = z[:, context:], world.change_std
        error = ((futures - truth) / spread).square().mean((0, 2, 3))
        static = ((z[:, context - 1 : context] - truth) / spread).square().mean((0, 2, 3))
        right = ((success > 0.5) == (done[:, context:] > 0.5)).float().mean()
        parts.append([error[0], error[-1], static[0], static[-1], right])
        if steps := world.config.lookahead:
            change = (z[:, steps] - z[:, 0]) / world.lookahead_std
            parts[-1].append(world.lookahead_loss(z[:, 0], z[:, steps]) / change.square().mean())
    names = ("error_first", "error_last", "static_first", "static_last", "done", "lookahead")
    return dict(zip(names, torch.tensor(parts).mean(0).tolist()))
