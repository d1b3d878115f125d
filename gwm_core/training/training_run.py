"""What every trainer shares: the run, the held-out episodes, and the record of its settings."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np
from torch import Tensor, nn

from gwm_core.errors import InputError
from gwm_core.files.json_files import to_json
from gwm_core.model.config import TrainConfig
from gwm_core.training.training_loop import STATE, Batch, Trunk, finish, fit

Progress = Callable[[int, int, dict], None]  # iterations done, iterations in all, figures


def silent(*_) -> None:
    """Report nothing."""


@dataclass(frozen=True)
class TrainingRun:
    """How a network is trained, where to, and who hears of it.

    Attributes:
        config: of the training. out: folder for the network and the state of an unfinished run.
        provenance: what the manifest is to say beside the settings and figures.
        device: "cpu" or "cuda".
        progress: called every 20 iterations. record: called after every validation.
        trunk: file of the common beginning of runs of several lengths, see ``training_loop``.
        compiled: by torch.compile, which takes a minute or two first.
    """

    config: TrainConfig
    out: Path
    provenance: dict = field(default_factory=dict)
    device: str = "cpu"
    progress: Progress = silent
    record: Callable[[int, nn.Module, dict], None] = silent
    trunk: Path | None = None
    compiled: bool = False

    def train(
        self,
        network: nn.Module,
        loss: Callable[..., Tensor],
        sample_batch: Callable[[int], Batch],
        validate: Callable[[nn.Module], dict[str, float]],
        settings: str,
        samples: int,
        save: Callable[[nn.Module, dict], None],
    ) -> dict:
        """``fit`` the network and save it. Returns its figures.

        Args:
            settings: what a resumed run must share beside the training's own configuration.
            samples: number of training samples.
            save: writes the averaged network with its provenance.
        """
        key = self._key(settings, samples)
        average, figures = fit(
            network,
            loss,
            sample_batch,
            validate,
            self.config,
            Path(self.out),
            key,
            self.progress,
            self.record,
            Trunk(self.trunk, self._key(settings, samples, iterations=0)) if self.trunk else None,
            self.compiled,
        )
        made = {"train": asdict(self.config), "samples": samples, "device": self.device}
        made |= {"settings": hashlib.sha256(key.encode()).hexdigest()}
        finish(self.out, lambda: save(average, self.provenance | made | figures))
        return figures

    def finished(self, manifest: Path, settings: str, samples: int) -> dict:
        """What a finished run of several lengths left in ``manifest``; {} where there is none.

        Raises InputError where it is of other settings or samples.
        """
        if not self.trunk or not manifest.exists() or (self.out / STATE).exists():
            return {}
        provenance = json.loads(manifest.read_text())["provenance"]
        key = self._key(settings, samples)
        if provenance.get("settings") != hashlib.sha256(key.encode()).hexdigest():
            raise InputError(
                f"{self.out} holds a network of other settings or episodes: choose another --out"
            )
        return provenance

    def _key(self, settings: str, samples: int, **changes) -> str:
        """The settings that a resumed run must share with the interrupted one."""
        return to_json([settings, asdict(replace(self.config, **changes)), samples])


DECAY = 0.2  # last fraction of each of several lengths, in which the rate falls


def lengths_of(
    run: TrainingRun, lengths: Sequence[int], option: str = "--lengths"
) -> list[TrainingRun]:
    """A run of each number of iterations in a folder of its own, the shortest first.

    Each goes on from where the rate of the shorter one began to fall.

    Raises InputError, which names the command's ``option``, for a length that ends before the rate
    has risen.
    """
    runs = []
    for length in sorted(set(lengths)):
        config = replace(run.config, iterations=length, decay=DECAY)
        if length * (1 - DECAY) < config.warmup:
            least = math.ceil(config.warmup / (1 - DECAY))
            raise InputError(f"{option} {length}: {least} or more, since the rate rises first")
        trunk = run.out / "trunk.safetensors"
        runs.append(replace(run, config=config, out=run.out / str(length), trunk=trunk))
    return runs


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


def count_parameters(network: nn.Module) -> int:
    """Number of trained numbers."""
    return sum(p.numel() for p in network.parameters())
