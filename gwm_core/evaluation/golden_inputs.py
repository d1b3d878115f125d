"""Moments a policy was asked at: what a bundle is tested with, and runtimes are compared on."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from gwm_core.data.episode import read_episode, synced_observations
from gwm_core.data.episode_info import list_episodes
from gwm_core.errors import InputError
from gwm_core.geometry.kinematics import fk
from gwm_core.model.inputs import proprioception
from gwm_core.runtime.planner import Planner
from gwm_core.runtime.policy_runner import PolicyRunner
from gwm_core.sim.rollout import SimEnvironment, rollout
from gwm_core.sim.tasks import TASKS, sample_layout
from gwm_core.training.datasets.policy_samples import lift_moments
from gwm_core.types import ArmState, Observation


class GoldenInput(NamedTuple):
    """The arguments of ``PolicyRunner.rows``: scene (N, 14), proprio (11,), pose (4, 4) and the
    number of the task.
    """

    scene: np.ndarray
    proprio: np.ndarray
    pose: np.ndarray
    task: int


class _Watched:
    """A policy that remembers what it was asked."""

    sees = "scene"

    def __init__(self, actor: PolicyRunner):
        self.actor, self.moments = actor, []

    def act(self, scene: np.ndarray, observation: Observation) -> np.ndarray:
        """As ``PolicyRunner.act``."""
        task = self.actor.tasks.index(observation.task)
        self.moments.append(_moment(scene, observation.state, task))
        return self.actor.act(scene, observation)


def simulated(actor: PolicyRunner, count: int, seed: int, renderer: str) -> list[GoldenInput]:
    """``count`` moments of simulated episodes, a share of each task. Raises InputError where none
    can be simulated.
    """
    tasks = [task for task in actor.tasks if task in TASKS]
    if not tasks:
        raise InputError(
            f"{', '.join(actor.tasks)} cannot be simulated: name recorded episodes with --data"
        )
    watched, world, found = _Watched(actor), SimEnvironment(renderer=renderer), []
    planner, shares = (
        Planner(watched, actor.lift_config),
        np.diff(np.linspace(0, count, len(tasks) + 1).astype(int)),
    )
    for task, share in zip(tasks, shares):
        watched.moments, episode = [], seed
        while len(watched.moments) < share:
            rollout(world, planner, sample_layout(task, episode))
            episode += 1
        found += _spread(watched.moments, share)
    return found


def recorded(actor: PolicyRunner, count: int, folder: Path) -> list[GoldenInput]:
    """``count`` moments of recorded episodes of the policy's tasks."""
    found = []
    for path in list_episodes(folder):
        episode = read_episode(path)
        if episode.info["task"] in actor.tasks:
            task = actor.tasks.index(episode.info["task"])
            seen = list(synced_observations(episode))
            for number, _, scene in lift_moments(
                episode, seen, list(range(len(seen))), actor.lift_config
            ):
                found.append(_moment(scene, seen[number][2], task))
        if len(found) >= 4 * count:
            break
    if len(found) < count:
        raise InputError(
            f"{folder} has {len(found)} moments of {', '.join(actor.tasks)}: {count} are wanted"
        )
    return _spread(found, count)


def _moment(scene: np.ndarray, state: ArmState, task: int) -> GoldenInput:
    return GoldenInput(scene.astype(np.float32), proprioception(state), fk(state.q), task)


def _spread(found: list[GoldenInput], count: int) -> list[GoldenInput]:
    """``count`` of them, evenly apart."""
    return [found[i] for i in np.linspace(0, len(found) - 1, count).astype(int)]
