"""Who acts in an episode that is collected: the expert, play, a policy, or a perturbed replay.

The expert starts 45 % of its episodes from an unusual pose (near or low beside an object, 35 % of
them with a closed gripper), and 35 % get a push while carrying.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gwm_core.address import is_remote, is_server
from gwm_core.data.episode import Episode, read_episode
from gwm_core.data.episode_info import INFO
from gwm_core.geometry.kinematics import HOME_Q, Unreachable, solve, to_rows
from gwm_core.model.weights_file import digest
from gwm_core.runtime.planner import MEASURED_LATENCY, Planner
from gwm_core.sim.planners import make_planner
from gwm_core.sim.rollout import RolloutConfig
from gwm_core.sim.scene import Layout
from gwm_core.sim.tasks import TIME_LIMIT, sample_layout
from gwm_core.training.collection.perturbed_expert import PerturbedExpert
from gwm_core.training.collection.perturbed_replay import PerturbedReplay, sample_perturbation
from gwm_core.training.collection.play_policy import SECONDS, PlayPolicy
from gwm_core.training.collection.sim_recorder import CAMERA_PERIOD
from gwm_core.types import OPEN_WIDTH

EXPERT, PLAY, PERTURBED = "expert", "play", "perturbed"
# [s] uniform: the loop of the demonstrations is as late as the real one
LATENCY = (0.06, 0.14)
_DIGITS = 8  # of a hash in the name of a folder: another policy gets other folders
_REST = 3.0  # [s] after a replayed demonstration, for its success to last
# [s] for which recording goes on after success, so that futures of the release are seen whole
AFTER_SUCCESS = 2.0


@dataclass(frozen=True)
class EpisodeSource:
    """An episode to collect.

    Attributes:
        name: of its folder. policy: as episode.json names it.
        start: joints (7,) [rad] and gripper width [m].
        unusable: called at the end, gives intervals [begin, end] [ns] without usable labels.
    """

    name: str
    policy: str
    planner: Planner
    layout: Layout
    rollout: RolloutConfig
    start: tuple[np.ndarray, float] = (HOME_Q, OPEN_WIDTH)
    unusable: Callable[[], list[list[int]]] = list
    demonstration: str = ""  # name of the episode that is replayed
    weights: str = ""  # SHA-256 of those of the policy

    @property
    def is_play(self) -> bool:
        """Whether it has no task to succeed at."""
        return self.policy == PLAY

    @property
    def info(self) -> dict:
        """What episode.json says of it before it begins."""
        layout = self.layout
        info = {
            "task": layout.task,
            "seed": layout.seed,
            "difficulty": layout.difficulty,
            "policy": self.policy,
        }
        known = {"demonstration": self.demonstration, "weights": self.weights}
        return info | {name: value for name, value in known.items() if value}


def make_source(
    policy: str,
    task: str,
    seed: int,
    difficulty: str,
    rng: np.random.Generator,
    demonstration: Path | None = None,
) -> EpisodeSource:
    """The source of the episode ``seed``.

    Args:
        policy: "expert", "play", a policy's folder or a policy server.
        demonstration: to replay instead.
    """
    if demonstration is not None:
        return _perturbed(demonstration, seed, rng)
    layout = sample_layout(task, seed, difficulty)
    name = f"{task}_{difficulty}_{seed:06d}"
    if policy not in (EXPERT, PLAY):
        plan = RolloutConfig(
            latency=MEASURED_LATENCY, camera_period=CAMERA_PERIOD, after_success=AFTER_SUCCESS
        )
        weights = _digest(policy)
        folder = f"policy_{weights[:_DIGITS]}_{name}"
        return EpisodeSource(folder, policy, _planner(policy), layout, plan, weights=weights)
    play = policy == PLAY
    actor = PlayPolicy(rng) if play else PerturbedExpert(rng)
    return EpisodeSource(
        f"play_{name}" if play else name,
        policy,
        Planner(actor),
        layout,
        _expert_loop(SECONDS, SECONDS) if play else _expert_loop(TIME_LIMIT),
        _unusual_start(rng, layout),
        lambda: [] if play else actor.unusable,
    )


def _perturbed(path: Path, seed: int, rng: np.random.Generator) -> EpisodeSource:
    episode = _episode(path)
    info, first = episode.info, episode.states[0]
    seconds = 1e-9 * float(episode.command_stamps[-1] - episode.command_stamps[0])
    actor = PerturbedReplay(episode, sample_perturbation(rng, seconds))
    return EpisodeSource(
        f"{PERTURBED}_{path.name}_{digest(path / INFO)[:_DIGITS]}_{seed:06d}",
        PERTURBED,
        Planner(actor),
        sample_layout(info["task"], info["seed"], info["difficulty"]),
        _expert_loop(min(TIME_LIMIT, seconds + _REST)),
        (first.q, first.width),
        lambda: actor.unusable,
        path.name,
    )


def _expert_loop(seconds: float, after_success: float = AFTER_SUCCESS) -> RolloutConfig:
    return RolloutConfig(
        latency=LATENCY,
        replan_every=2,
        camera_period=CAMERA_PERIOD,
        time_limit=seconds,
        after_success=after_success,
    )


@functools.lru_cache(maxsize=1)
def _planner(policy: str) -> Planner:
    return make_planner(policy)


def _digest(policy: str) -> str:
    """SHA-256 of a policy's weights; of a policy server, of its contract or its address."""
    if is_server(policy):
        return hashlib.sha256(policy.encode()).hexdigest()
    return digest(Path(policy) if is_remote(policy) else Path(policy) / "policy.safetensors")


@functools.lru_cache(maxsize=1)
def _episode(path: Path) -> Episode:
    return read_episode(path)


def _unusual_start(rng: np.random.Generator, layout: Layout) -> tuple[np.ndarray, float]:
    """Initial joints and gripper width; HOME_Q and open in 55 % of the cases."""
    if rng.random() > 0.45:
        return HOME_Q, OPEN_WIDTH
    near = layout.cubes["red"][:2] if rng.random() < 0.6 else layout.plate
    xy = near + rng.uniform(-0.09, 0.09, 2)
    # low only where no object stands
    spots = np.array([c[:2] for c in layout.cubes.values()])
    clear = (
        np.linalg.norm(spots - xy, axis=1).min() > 0.075
        and np.linalg.norm(layout.plate - xy) > 0.11
    )
    z = rng.uniform(0.03 if clear else 0.11, 0.28)
    yaw = rng.uniform(-0.8, 0.8)
    c, s = np.cos(yaw), np.sin(yaw)
    T = np.array([[c, s, 0, xy[0]], [s, -c, 0, xy[1]], [0, 0, -1, z], [0, 0, 0, 1]])
    try:
        q = solve(to_rows(T, 0.0)[None], HOME_Q)[0]
    except Unreachable:
        return HOME_Q, OPEN_WIDTH
    return q, (0.0 if rng.random() < 0.35 else OPEN_WIDTH)
