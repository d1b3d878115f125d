"""What a world action model learns from: demonstrations, and episodes of any kind."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from gwm_core.data.episode_info import list_all_episodes, read_infos
from gwm_core.errors import InputError, one_of
from gwm_core.model.checkpoint import load_vae
from gwm_core.model.config import WorldActionConfig
from gwm_core.model.weights_file import read_weights
from gwm_core.training.datasets.future_samples import FutureSamples, load_future_samples
from gwm_core.training.datasets.policy_samples import (
    PolicySamples,
    load_samples,
    refuse_mixed,
    refuse_reserved,
    tasks_of,
)

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class JointSamples:
    """Samples, and the configuration with the tasks and the VAE that they are of."""

    config: WorldActionConfig
    demonstrations: PolicySamples
    futures: FutureSamples | None


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
) -> JointSamples:
    """Load demonstrations below ``data``, and with a VAE all episodes below ``futures``.

    Args:
        lifted, encoded: called with the episodes done and their number.
        begin: folder of the network that training starts from.
        tasks: that the network is to know, by default those of ``data``.

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
    demonstrations = load_samples(data, config.tasks, config.lift, processes, lifted)
    if not vae:
        return JointSamples(config, demonstrations, None)
    return JointSamples(
        config, demonstrations, load_future_samples(futures, config, vae, processes, encoded)
    )


def _check_tasks(tasks: Sequence[str], paths: list[Path], begin: Path | None) -> None:
    """Raise InputError for a task that is named twice or that nothing knows."""
    known = set(read_weights(begin, "policy").config.tasks) if begin else set()
    for info in read_infos(paths).values():
        known |= {info["task"], *info.get("reached", {})}
    for task in tasks:
        one_of("task", task, sorted(known))
    if len(set(tasks)) < len(tasks):
        raise InputError(f"a task is named twice: {' '.join(tasks)}")
