"""Collect episodes in simulation, without ROS, in parallel processes. None is lost for failing.

An ``EpisodeSource`` says who acts. Of the expert, all labels are its own: disturbances happen
before the recording, or are marked as unusable. ``episode.json`` lists the intervals whose labels
must not be used, and those in which the rule of a task holds.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from gwm_core.address import is_remote
from gwm_core.data.episode_info import list_episodes, read_infos
from gwm_core.data.episode_writer import EpisodeWriter
from gwm_core.errors import InputError, one_of
from gwm_core.files.atomic_write import PARTIAL, refuse_inside
from gwm_core.model.weights_file import read_weights
from gwm_core.sim.rollout import SimEnvironment, rollout
from gwm_core.sim.tasks import DIFFICULTIES, TASKS, sample_layout
from gwm_core.site import simulation_site
from gwm_core.training.collection.episode_sources import (
    EXPERT,
    PERTURBED,
    PLAY,
    EpisodeSource,
    make_source,
)
from gwm_core.training.collection.sim_recorder import SimRecorder
from gwm_core.types import RESERVED
from gwm_core.workers.pool import workers


@dataclass(frozen=True)
class CollectConfig:
    """What to collect.

    Attributes:
        policy: "expert", "play" (motion without a task) or the folder of a policy.
        perturb: folder of demonstrations to replay with perturbations, instead of a policy. Task,
            difficulty and layout are theirs.
    """

    task: str
    out: Path
    episodes: int = 200
    seed: int = 0
    difficulty: str = "nominal"
    renderer: str = "egl"
    policy: str = EXPERT
    perturb: Path | None = None


_world: SimEnvironment | None = None


def _record(job: tuple[CollectConfig, int, Path | None]) -> str:
    """Collect one episode; returns how it ended: "success", "failure" or "play"."""
    global _world
    config, seed, demonstration = job
    _world = _world or SimEnvironment(renderer=config.renderer)
    rng = np.random.default_rng([seed, 0xC0])
    source = make_source(config.policy, config.task, seed, config.difficulty, rng, demonstration)
    folder = Path(config.out) / source.name
    if folder.exists():  # collected before an interruption
        return _outcome(read_infos([folder])[folder])
    # left by an interrupted run
    shutil.rmtree(folder.with_name(folder.name + PARTIAL), ignore_errors=True)
    return _outcome(_write(folder, source, _world))


def _write(folder: Path, source: EpisodeSource, world: SimEnvironment) -> dict:
    """Run and write the episode; returns its episode.json."""
    cameras = {name: camera.to_dict() for name, camera in simulation_site().cameras.items()}
    info = source.info | {"robot": "sim"}
    writer = EpisodeWriter(folder, info | {"cameras": cameras})
    world.sim.reset(source.layout)  # the recorder asks which objects there are
    recorder = SimRecorder(writer, world)
    q, width = source.start
    trial = rollout(
        world,
        source.planner,
        source.layout,
        source.rollout,
        recorder,
        lambda sim: sim.teleport(q, width),
    )
    info |= {
        "success": trial.success and not source.is_play,
        "seconds": trial.seconds,
        "unusable": source.unusable(),
        "reached": recorder.reached,
    }
    writer.close(info | {"cameras": cameras, "trial": asdict(trial)})
    return info


def _outcome(info: dict) -> str:
    if info.get("policy") == PLAY:
        return "play"
    return "success" if info.get("success") else "failure"


def collect(
    config: CollectConfig, processes: int, progress: Callable[[str], None] = lambda outcome: None
) -> Counter[str]:
    """Collect episodes on seeds from ``seed`` on; returns how many ended as "success", "failure"
    and "play".

    Seeds from 4000 on are reserved for choosing and reporting; no training takes them.
    """
    last = config.seed + config.episodes - 1
    if config.seed < 0 or config.seed < RESERVED <= last:
        raise InputError(
            f"seeds {config.seed} to {last} will not do: 0-{RESERVED - 1} are for training,"
            f" {RESERVED} and up for choosing and reporting, and a folder holds one or the other"
        )
    # check the names before any work
    demonstrations = _demonstrations(config)
    if config.perturb is None:
        sample_layout(config.task, config.seed, config.difficulty)
    if config.policy not in (EXPERT, PLAY) and not is_remote(config.policy):
        one_of("task", config.task, read_weights(Path(config.policy), "policy").config.tasks)
    jobs = [
        (config, config.seed + i, demonstrations[i % len(demonstrations)])
        for i in range(config.episodes)
    ]
    outcomes: Counter[str] = Counter()
    with workers(processes, len(jobs)) as pool:
        for outcome in pool.imap_unordered(_record, jobs):
            outcomes[outcome] += 1
            progress(outcome)
    return outcomes


def _demonstrations(config: CollectConfig) -> list[Path | None]:
    """Successful episodes of the simulation below ``config.perturb``; [None] where it is None."""
    if config.perturb is None:
        return [None]
    refuse_inside(config.perturb, config.out)
    infos = read_infos(list_episodes(config.perturb))
    found = [path for path, info in infos.items() if _can_be_replayed(info)]
    if not found:
        raise InputError(
            f"nothing to perturb in {config.perturb}: successful episodes of `gwm collect` are"
            " wanted, since others have no layout to repeat"
        )
    if reserved := [path for path in found if infos[path]["seed"] >= RESERVED]:
        raise InputError(
            f"{reserved[0]} has a seed from {RESERVED} on, which nothing is trained on: perturb"
            " demonstrations of training seeds"
        )
    return list(found)


def _can_be_replayed(info: dict) -> bool:
    """Whether it is a success of the simulation whose layout is known, and no replay itself."""
    return bool(
        info.get("success")
        and info.get("robot") == "sim"
        and info.get("policy") != PERTURBED
        and info["task"] in TASKS
        and isinstance(info.get("seed"), int)
        and info.get("difficulty") in DIFFICULTIES
    )
