"""The arrays of samples as training takes them."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import torch
from torch import Tensor

from gwm_core.training.datasets.future_samples import FutureSamples
from gwm_core.training.datasets.policy_samples import PolicySamples
from gwm_core.training.datasets.stored_rows import StoredRows


class SampleArrays:
    """The arrays of S samples by name: small ones on a device, large ones where they are stored."""

    def __init__(self, samples: PolicySamples | FutureSamples, device: torch.device):
        self._device = device
        self._small: dict[str, Tensor] = {}
        self._stored: dict[str, StoredRows] = {}
        for field in fields(samples):
            array = getattr(samples, field.name)
            if isinstance(array, StoredRows):
                self._stored[field.name] = array
            elif isinstance(array, np.ndarray):
                self._small[field.name] = torch.from_numpy(array).to(device)

    def __getitem__(self, name: str) -> Tensor:
        """A small array (S, ...)."""
        return self._small[name]

    def read(self, name: str, index: Tensor) -> Tensor:
        """Samples with the numbers ``index`` (B,) of any array, on the device."""
        if name in self._small:
            return self._small[name][index]
        return torch.from_numpy(self._stored[name][index.cpu().numpy()]).to(self._device)

    def take(self, index: Tensor) -> dict[str, Tensor]:
        """The samples with the numbers ``index`` (B,), as a network takes them: points [m], colours
        in [0, 1] and latents in float32.
        """
        names = [name for name in (*self._small, *self._stored) if name != "episode"]
        batch = {name: self.read(name, index) for name in names}
        batch["colors"] = batch["colors"] / 255
        for name in {"points", "latents"} & batch.keys():
            batch[name] = batch[name].float()
        return batch
