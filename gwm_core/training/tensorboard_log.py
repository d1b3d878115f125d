"""Figures and images of a training for TensorBoard."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from torch import nn


class TensorBoardLog:
    """Call it after every validation, inside a ``with``. Without a folder it writes nothing."""

    def __init__(self, folder: Path | None):
        self._folder, self._writer = folder, None

    def __enter__(self) -> TensorBoardLog:
        if self._folder is not None:
            from tensorboardX import SummaryWriter

            self._writer = SummaryWriter(str(self._folder))
        return self

    def __exit__(self, *_) -> None:
        if self._writer is not None:
            self._writer.close()

    def __call__(self, done: int, network: nn.Module, figures: dict) -> None:
        """Write the defined figures of iteration ``done``; (H, W, 3) are images in [0, 1]."""
        if self._writer is None:
            return
        for name, value in figures.items():
            if np.ndim(value):
                self._writer.add_image(name, value, done, dataformats="HWC")
            elif np.isfinite(value):  # an undefined figure is no point of the curve
                self._writer.add_scalar(name, value, done)
