"""Practice: plans from real states, carried out in the world model, and the better ones kept.

Each start is an observed state of a trial. The policy plans from it several times, each time from
fresh noise, and each plan is followed for a short time through gate and latency. Its advantage is
the value of where it ends minus the mean over the plans of its start. Short branches from real
states keep the model's errors small (arXiv 2603.20607, 2602.11075).
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import load_file, save_file

from gwm_core.control.gate.config import GateConfig
from gwm_core.control.gate.gate import Gate
from gwm_core.errors import InputError
from gwm_core.geometry.kinematics import HOME_Q, Unreachable, solve
from gwm_core.improvement.trials import NothingToLearn
from gwm_core.model.checkpoint import load_predicting_policy, load_vae
from gwm_core.model.inputs import proprioception
from gwm_core.model.world_action_model import WorldActionModel
from gwm_core.runtime.imagined_rollout import imagined_rollout
from gwm_core.runtime.imagined_world import ImaginedWorld, imagined_world
from gwm_core.runtime.planner import Planner
from gwm_core.scene.patches import patches
from gwm_core.training.datasets.future_samples import FutureSamples
from gwm_core.training.datasets.policy_samples import PolicySamples
from gwm_core.training.success.sample_states import observed_scene
from gwm_core.training.training_run import Progress
from gwm_core.types import ArmState, Observation
from gwm_core.workers.pool import workers

_STAMP = 10**9  # [ns] of the start; the gate takes no chunk with the id 0
_GRIPS = 0.01  # [m] change of the commanded width over the rows of a sample
STARTS, PLANS = "starts.safetensors", "plans"  # in the folder of the practice
_OF_START = ("points", "colors", "proprio")  # arrays that a start is made of


@dataclass(frozen=True)
class PracticeConfig:
    """How much is practised, and what is kept of it."""

    starts: int = 500  # real states
    candidates: int = 8  # plans from each
    seconds: float = 1.6  # for which a plan is followed
    gripping_fraction: float = 0.5  # of the starts: the gripper opens or closes within 1.6 s
    kept_fraction: float = 0.25  # of all plans, those with the largest advantages


@dataclass(frozen=True)
class PracticeJob:
    """Which model practises what."""

    model: Path
    task: str
    config: PracticeConfig
    seed: int


class NoisyPolicy:
    """A policy that plans from a given noise (H, 10), as a ``ScenePolicy``.

    Attributes:
        first: rows (H, 10) float32 of its first plan.
    """

    sees = "scene"

    def __init__(self, model: WorldActionModel, noise: np.ndarray):
        self._model = model
        self._noise = torch.from_numpy(noise)[None]
        self.first: np.ndarray | None = None

    @torch.inference_mode()
    def act(self, scene: np.ndarray, observation: Observation) -> np.ndarray:
        """As ``ScenePolicy.act``."""
        model, c = self._model, self._model.config
        seen = torch.from_numpy(patches(scene[: c.lift.count], c.centers, c.neighbors))[None]
        proprio = torch.from_numpy(proprioception(observation.state))[None]
        task = torch.tensor([c.tasks.index(observation.task)])
        tokens = model.encoder(seen, proprio)
        rows = model.absolute(model.plan_decoder(tokens, task, self._noise), proprio)[0].numpy()
        if self.first is None:
            self.first = rows
        return rows.astype(np.float64)


def choose_starts(samples: FutureSamples, config: PracticeConfig, seed: int) -> np.ndarray:
    """Numbers of samples to start from, in order: at random, a part of them near gripping."""
    rng = np.random.default_rng([seed, 0x57A])
    widths = np.concatenate([samples.proprio[:, None, 9], samples.rows[..., 9]], axis=1)
    grips = np.ptp(widths, axis=1) > _GRIPS
    wanted = round(config.starts * config.gripping_fraction)
    near = rng.permutation(np.flatnonzero(grips))[:wanted]
    others = rng.permutation(np.setdiff1d(np.arange(len(samples)), near))
    return np.sort(np.concatenate([near, others[: config.starts - len(near)]]))


def run_practice(
    job: PracticeJob, samples: FutureSamples, out: Path, processes: int, progress: Progress
) -> dict[str, float]:
    """Practise from states of ``samples``. Kept in ``out`` start by start, so that it goes on.

    Returns:
        starts: from which the arm could begin. plans: from all of them. value: their mean value.
        advantage: mean of those that ``kept_plans`` keeps.

    Raises:
        InputError: the arm could begin nowhere.
        NothingToLearn: all plans of every start end with one value.
    """
    (out / PLANS).mkdir(parents=True, exist_ok=True)
    if not (out / STARTS).exists():
        index = choose_starts(samples, job.config, job.seed)
        arrays = {name: np.ascontiguousarray(getattr(samples, name)[index]) for name in _OF_START}
        partial_file = out / f"{STARTS}.partial"
        save_file(arrays, partial_file)
        partial_file.rename(out / STARTS)
    count = len(load_file(out / STARTS)["proprio"])
    missing = [k for k in range(count) if not _plans_file(out, k).exists()]
    with workers(processes, len(missing)) as pool:
        done = count - len(missing)
        for _ in pool.imap_unordered(partial(_practise_start, job, out), missing):
            done += 1
            progress(done, count, {})
    values = _values(out)
    if not values.size:
        raise InputError("the arm can begin at none of the states: trials of this arm are wanted")
    kept = _kept(values, job.config.kept_fraction)
    if not kept.any():
        raise NothingToLearn(
            "no plan is better than the others from its start: a policy whose plans the gate"
            " accepts is wanted, or other trials"
        )
    advantages = values - values.mean(1, keepdims=True)
    return {
        "starts": len(values),
        "plans": values.size,
        "value": float(values.mean()),
        "advantage": float(advantages[kept].mean()),
    }


def kept_plans(out: Path, config: PracticeConfig, task: int) -> PolicySamples:
    """The plans of a practice whose advantages are positive and among the largest.

    Args:
        task: its number.
    """
    parts = [part for part in _parts(out) if len(part["value"])]
    values = np.stack([part["value"] for part in parts])
    start, candidate = np.nonzero(_kept(values, config.kept_fraction))
    numbers = np.array([int(parts[k]["start"][0]) for k in start])
    arrays = load_file(out / STARTS)
    rows = np.stack([parts[k]["rows"][c] for k, c in zip(start, candidate)])
    return PolicySamples(
        **{name: arrays[name][numbers] for name in _OF_START},
        rows=rows,
        valid=np.ones(rows.shape[:2], bool),
        task=np.full(len(rows), task, np.int64),
        episode=np.unique(numbers, return_inverse=True)[1],
    )


def _kept(values: np.ndarray, fraction: float) -> np.ndarray:
    """Mask of the plans (S, C) that are kept, by their values (S, C)."""
    advantages = values - values.mean(1, keepdims=True)
    return (advantages > 0) & (advantages >= np.quantile(advantages, 1 - fraction))


def _practise_start(job: PracticeJob, out: Path, number: int) -> None:
    """Practise from one start and keep its plans: rows (C, H, 10) and value (C,); none where the
    arm cannot begin there.
    """
    model, world = _networks(job.model)
    arrays = {name: array[number] for name, array in _starts(out).items()}
    state = arm_state(arrays["proprio"])
    rows, values = [], []
    if state is not None:
        scene = observed_scene(arrays["points"], arrays["colors"], world.lift_config.opacity)
        observation = Observation(state.stamp, (), state, job.task)
        rng = np.random.default_rng([job.seed, number])
        for _ in range(job.config.candidates):
            noise = rng.standard_normal(tuple(model.noise.shape), dtype=np.float32)
            policy, gate = NoisyPolicy(model, noise), Gate(GateConfig(auto_arm=True))
            trial = imagined_rollout(
                world, Planner(policy), gate, scene, observation, number, job.config.seconds
            )
            rows.append(policy.first)
            values.append(world.value(trial.end, job.task))
    file = _plans_file(out, number)
    partial_file = file.with_suffix(".partial")
    plans = {
        "start": np.array([number]),
        "rows": np.array(rows, np.float32),
        "value": np.array(values, np.float32),
    }
    save_file(plans, partial_file)
    partial_file.rename(file)


def arm_state(proprio: np.ndarray) -> ArmState | None:
    """An arm at rest whose gripper is at proprio (11,), by inverse kinematics. None where no
    posture reaches it.
    """
    try:
        q = solve(np.asarray(proprio[None, :10], np.float64), HOME_Q)[0]
    except Unreachable:
        return None
    return ArmState(_STAMP, q, np.zeros(7), float(proprio[9]), float(proprio[10]))


@functools.lru_cache(maxsize=1)
def _networks(folder: Path) -> tuple[WorldActionModel, ImaginedWorld]:
    torch.set_num_threads(1)
    model = load_predicting_policy(folder)
    return model, imagined_world(model, load_vae(folder))


@functools.lru_cache(maxsize=1)
def _starts(out: Path) -> dict[str, np.ndarray]:
    return load_file(out / STARTS)


def _plans_file(out: Path, number: int) -> Path:
    return out / PLANS / f"{number:06d}.safetensors"


def _parts(out: Path) -> list[dict[str, np.ndarray]]:
    return [load_file(file) for file in sorted((out / PLANS).glob("*.safetensors"))]


def _values(out: Path) -> np.ndarray:
    """Values (S, C) of all plans."""
    found = [part["value"] for part in _parts(out) if len(part["value"])]
    return np.stack(found) if found else np.empty((0, 0))
