"""Augmented batches of future samples, and their loss."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from gwm_core.errors import InputError
from gwm_core.model.config import WorldActionTraining
from gwm_core.model.flow_matching import sample_times
from gwm_core.model.future_decoder import Future, Tokens
from gwm_core.model.world_action_model import WorldActionModel
from gwm_core.training.datasets.future_samples import FutureSamples
from gwm_core.training.policy_batches import augment
from gwm_core.training.sample_arrays import SampleArrays
from gwm_core.training.training_loop import Batch
from gwm_core.training.training_run import held_out

_GRIPS = 0.01  # [m] change of the width over the rows of a sample


class FutureBatches:
    """Future samples, and augmented batches of them on one device."""

    def __init__(
        self,
        samples: FutureSamples,
        device: torch.device,
        config: WorldActionTraining,
        held: set[str],
        trained: set[str],
    ):
        """``held`` and ``trained`` are starts that plans hold out and train on.

        The others are divided anew.
        """
        self.device = device
        self._noise, self._start_fraction = config.latent_noise, config.start_fraction
        self._arrays = SampleArrays(samples, device)
        every = held_out(samples.episode, config.held_out)
        of_held, of_trained = (
            np.array([name in names for name in samples.starts])[samples.episode]
            for names in (held, trained)
        )
        out = torch.from_numpy(of_held | (every & ~of_trained)).to(device)
        self.held = out.cpu().numpy()
        self.training = (~out).nonzero()[:, 0]
        self.validation = out.nonzero()[:, 0]
        now, rows = (self._arrays[name][self.training] for name in ("proprio", "rows"))
        widths = torch.cat([now[:, None, 9], rows[..., 9]], dim=1)
        self._gripping = self.training[widths.amax(1) - widths.amin(1) > _GRIPS]
        if not len(self.training):
            raise InputError("nothing is left to learn futures from: name more --futures")

    def take(self, index: Tensor) -> Batch:
        """The samples with these numbers (B,)."""
        return self._arrays.take(index)

    def sample_batch(self, count: int, model: WorldActionModel) -> Batch:
        """An augmented batch: of every sample one of its jumps, if it has any.

        In every second one the gripper opens or closes, since such samples are few. The latents are
        shifted with the points, and the present one is noisy, as a predicted one is.
        """
        index = self._drawn(self.training, count)
        if len(self._gripping):
            index[::2] = self._drawn(self._gripping, len(index[::2]))
        batch = self.take(index)
        seen = augment(batch["points"], batch["colors"], batch["proprio"])
        for name in ("done", "later_done", "outcome"):  # for the success head alone
            del batch[name]
        names = ("latents", "anchors", "motions", "valid")
        latents, anchors, motions, valid = (batch.pop(name) for name in names)
        decoder, lift = model.future_decoder, model.config.vae.lift
        extent = (torch.tensor(lift.high) - torch.tensor(lift.low)).to(self.device) / 2
        latents[..., :3] += seen.shift[:, None] / extent
        anchors = anchors + seen.shift[:, None]
        jump = torch.multinomial(valid.float() + 1e-6, 1)[:, 0]
        each = torch.arange(count, device=self.device)
        times = sample_times((count, 1, 1), self.device)
        at_start = torch.rand(count, 1, 1, device=self.device) < self._start_fraction
        now = latents[:, 0]
        spread = decoder.change_std[0, : now.shape[-1]]
        now = now + self._noise * spread * torch.randn_like(now)
        return batch | {
            "points": seen.points,
            "colors": seen.colors,
            "proprio": seen.proprio,
            "latent": now,
            "anchors": anchors[:, 0],
            "later_latent": latents[each, jump + 1],
            "later_anchors": anchors[each, jump + 1],
            "motions": motions[each, jump],
            "jump": jump,
            # Weights over the whole batch, so that processes that share it have its loss.
            "weight": _weights(valid[each, jump]),
            "noise": torch.randn(count, *decoder.noise.shape, device=self.device),
            "times": torch.where(at_start, 0.0, times),
        }

    def _drawn(self, numbers: Tensor, count: int) -> Tensor:
        return numbers[torch.randint(len(numbers), (count,), device=self.device)]

    def tokens(self, limit: int = 4000) -> Tokens:
        """Tokens (S, 1 + jumps, K) of about ``limit`` training samples with all jumps."""
        whole = self.training[self._arrays["valid"][self.training].all(1)]
        if not len(whole):
            raise InputError(
                "no episode of --futures lasts as long as the longest jump: record longer ones"
            )
        some = whole[:: max(1, len(whole) // limit)]
        return Tokens(*(self._arrays.read(name, some).float() for name in ("latents", "anchors")))


def _weights(counts: Tensor) -> Tensor:
    """Weights with which the mean is that over the samples (B, ...) that count."""
    return counts * (counts.numel() / counts.sum().clamp(min=1))


def future_losses(
    model: WorldActionModel, scene: Tensor, latent, anchors, later_latent, later_anchors, **batch
) -> Tensor:
    """Weighted losses (B,) of the futures of a batch, whose scene tokens are (B, S, d)."""
    now, later = Tokens(latent, anchors), Tokens(later_latent, later_anchors)
    weight, later = batch.pop("weight"), Future(later, batch.pop("motions"))
    return model.future_loss(scene, tokens=now, later=later, **batch) * weight
