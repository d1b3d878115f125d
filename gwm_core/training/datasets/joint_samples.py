"""What a policy learns from: demonstrations, and episodes of any kind."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TypeVar

import numpy as np

from gwm_core.data.episode_info import list_all_episodes, read_infos
from gwm_core.errors import InputError, one_of
from gwm_core.model.checkpoint import load_vae
from gwm_core.model.config import WorldActionConfig
from gwm_core.model.weights_file import read_weights
from gwm_core.training.datasets.array_cache import numbered
from gwm_core.training.datasets.future_samples import FutureSamples, load_future_samples
from gwm_core.training.datasets.policy_samples import (
    PolicySamples,
    load_samples,
    refuse_mixed,
    refuse_reserved,
    tasks_of,
)
from gwm_core.training.datasets.stored_rows import StoredRows

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class JointSamples:
    """Samples, and the configuration with the tasks and the VAE that they are of."""

    config: WorldActionConfig
    demonstrations: PolicySamples
    futures: FutureSamples | None

    def first(self, episodes: int) -> JointSamples:
        """Those of the first demonstrations, and of futures that no later one began alike with."""
        starts = self.demonstrations.starts
        demonstrations = _kept(self.demonstrations, self.demonstrations.episode < episodes)
        if not self.futures:
            return replace(self, demonstrations=demonstrations)
        return replace(self, demonstrations=demonstrations).without_futures(starts[episodes:])

    def with_futures(self, starts: Collection[str]) -> JointSamples:
        """All demonstrations, and the futures of the episodes that began from ``starts``."""
        known = np.array([name in starts for name in self.futures.starts])
        return replace(self, futures=_kept(self.futures, known[self.futures.episode]))

    def without_futures(self, starts: Collection[str]) -> JointSamples:
        """All demonstrations, and the futures of the other episodes."""
        return self.with_futures(set(self.futures.starts) - set(starts))

    def without(self, starts: Collection[str]) -> JointSamples:
        """The demonstrations and the futures of the other episodes."""
        left = [name not in starts for name in self.demonstrations.starts]
        kept = _kept(self.demonstrations, np.array(left)[self.demonstrations.episode])
        return replace(self, demonstrations=kept).without_futures(starts)


def load_joint_samples(
    config: WorldActionConfig,
    data: Sequence[Path],
    processes: int,
    lifted: Progress,
    encoded: Progress,
    futures: Sequence[Path] = (),
    vae: Path | None = None,
    begin: Path | None = None,
    tasks: Sequence[str] = (),
    device: str = "cpu",
    corrections: bool = False,
) -> JointSamples:
    """Load demonstrations below ``data``, and with a VAE all episodes below ``futures``.

    Args:
        lifted, encoded: called with the episodes done and their number.
        begin: folder of the network that training starts from. Without ``vae`` its configuration
            counts, so that a network that predicts goes on to do so.
        tasks: that the network is to know, by default those of ``data``.
        device: that makes the latents.
        corrections: where an operator took over from a policy, learn the operator's part alone.

    Raises:
        InputError: an episode is reserved for evaluation, cameras differ, or a task of ``tasks``
            is known neither to an episode nor to ``begin``.
    """
    data, futures = list(data), list(futures)
    refuse_reserved([*data, *futures])
    paths = [path for some in list_all_episodes([*data, *futures]).values() for path in some]
    refuse_mixed(paths)
    if tasks:
        _check_tasks(tasks, paths, begin)
    config = replace(config, tasks=tuple(tasks) or tasks_of(data, config.tasks))
    if vae:
        made = load_vae(vae).config
        lift = replace(made.lift, count=min(made.lift.count, config.lift.count))
        config = replace(config, vae=made, lift=lift)
    elif begin:
        begun = read_weights(begin, "policy").config
        config = replace(config, vae=begun.vae, lift=begun.lift)
    demonstrations = load_samples(data, config.tasks, config.lift, processes, lifted, corrections)
    if not vae:
        return JointSamples(config, demonstrations, None)
    return JointSamples(
        config,
        demonstrations,
        load_future_samples(futures, config, vae, processes, encoded, device),
    )


Samples = TypeVar("Samples", PolicySamples, FutureSamples)


def _kept(samples: Samples, kept: np.ndarray) -> Samples:
    """The samples (S,) that are ``kept``, their episodes numbered anew."""
    arrays = {}
    for field in fields(samples):
        value = getattr(samples, field.name)
        if isinstance(value, StoredRows):
            arrays[field.name] = value.kept(kept)
        elif isinstance(value, np.ndarray):
            arrays[field.name] = value[kept]
    episode = arrays["episode"]
    starts = tuple(samples.starts[number] for number in np.unique(episode))
    return replace(samples, **arrays | {"episode": numbered(episode)}, starts=starts)


def _check_tasks(tasks: Sequence[str], paths: list[Path], begin: Path | None) -> None:
    """Raise InputError for a task that is named twice or that nothing knows."""
    known = set(read_weights(begin, "policy").config.tasks) if begin else set()
    for info in read_infos(paths).values():
        known |= {info["task"], *info.get("reached", {})}
    for task in tasks:
        one_of("task", task, sorted(known))
    if len(set(tasks)) < len(tasks):
        raise InputError(f"a task is named twice: {' '.join(tasks)}")
