"""Inputs of a policy from episodes, to test bundles and compare runtimes with."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from gwm_core.data.episode import read_episode, synced_observations
from gwm_core.data.episode_info import list_episodes
from gwm_core.errors import InputError
from gwm_core.model.inputs import proprioception
from gwm_core.runtime.planner import Planner
from gwm_core.runtime.policy_runner import PolicyRunner
from gwm_core.sim.rollout import SimEnvironment, rollout
from gwm_core.sim.tasks import TASKS, sample_layout
from gwm_core.training.datasets.policy_samples import lift_moments
from gwm_core.types import ArmState, Observation


class GoldenInput(NamedTuple):
    """Arguments of ``PolicyRunner.rows``: scene (N, 14), proprio (11,), task."""

    scene: np.ndarray
    proprio: np.ndarray
    task: int


class _RecordingPolicy:
    """A policy that records its inputs."""

    sees = "scene"

    def __init__(self, runner: PolicyRunner):
        self.runner = runner
        self.inputs: list[GoldenInput] = []

    def act(self, scene: np.ndarray, observation: Observation) -> np.ndarray:
        """As ``PolicyRunner.act``."""
        task = self.runner.tasks.index(observation.task)
        self.inputs.append(_golden_input(scene, observation.state, task))
        return self.runner.act(scene, observation)


def simulated(runner: PolicyRunner, count: int, seed: int, renderer: str) -> list[GoldenInput]:
    """``count`` inputs from simulated episodes, about as many of each task.

    Raises InputError where no task can be simulated.
    """
    tasks = [task for task in runner.tasks if task in TASKS]
    if not tasks:
        raise InputError(
            f"{', '.join(runner.tasks)} cannot be simulated: name recorded episodes with --data"
        )
    policy, environment = _RecordingPolicy(runner), SimEnvironment(renderer=renderer)
    planner = Planner(policy, runner.lift_config)
    counts = np.diff(np.linspace(0, count, len(tasks) + 1).astype(int))
    inputs = []
    for task, task_count in zip(tasks, counts):
        policy.inputs, episode = [], seed
        while len(policy.inputs) < task_count:
            rollout(environment, planner, sample_layout(task, episode))
            episode += 1
        inputs += _spread(policy.inputs, task_count)
    return inputs


def recorded(runner: PolicyRunner, count: int, folder: Path) -> list[GoldenInput]:
    """``count`` inputs from recorded episodes of the policy's tasks."""
    found = []
    for path in list_episodes(folder):
        episode = read_episode(path)
        if episode.info["task"] in runner.tasks:
            task = runner.tasks.index(episode.info["task"])
            observations = list(synced_observations(episode))
            numbers = list(range(len(observations)))
            for number, _, scene in lift_moments(
                episode, observations, numbers, runner.lift_config
            ):
                found.append(_golden_input(scene, observations[number][2], task))
        if len(found) >= 4 * count:
            break
    if len(found) < count:
        raise InputError(
            f"{folder} has {len(found)} moments of {', '.join(runner.tasks)}: {count} are wanted"
        )
    return _spread(found, count)


def _golden_input(scene: np.ndarray, state: ArmState, task: int) -> GoldenInput:
    return GoldenInput(scene.astype(np.float32), proprioception(state), task)


def _spread(found: list[GoldenInput], count: int) -> list[GoldenInput]:
    """``count`` of them, evenly apart."""
    return [found[i] for i in np.linspace(0, len(found) - 1, count).astype(int)]
