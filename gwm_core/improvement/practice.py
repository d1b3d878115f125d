"""Practice: plans from real states, carried out in the world model, and the better ones kept.

Each start is an observed state of a trial. A rollout follows the policy from there for some time,
through gate and latency. The policy plans from the same noise in all of a rollout, and from fresh
noise in each. Its value is 1 where the task is done at its end, and else the value of the end. Its
advantage is that minus the mean over the rollouts of the start. Short branches from real states
keep the model's errors small (arXiv 2603.20607, 2602.11075).
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from gwm_core.control.gate.config import GateConfig
from gwm_core.control.gate.gate import Gate
from gwm_core.errors import InputError
from gwm_core.geometry.kinematics import HOME_Q, Unreachable, solve
from gwm_core.improvement.noisy_policy import NoisyPolicy, load_networks
from gwm_core.improvement.trials import NothingToLearn
from gwm_core.model.config import ACTION
from gwm_core.runtime.imagined_rollout import imagined_rollout
from gwm_core.runtime.planner import Planner
from gwm_core.training.datasets.array_cache import numbered, stacked
from gwm_core.training.datasets.future_samples import FutureSamples
from gwm_core.training.datasets.policy_samples import PolicySamples
from gwm_core.training.success.sample_states import observed_scene
from gwm_core.training.training_run import Progress
from gwm_core.types import ArmState, Observation
from gwm_core.workers.pool import workers

_STAMP = 10**9  # [ns] of the start; the gate takes no chunk with the id 0
_GRIPS = 0.01  # [m] change of the commanded width over the rows of a sample
STARTS, PLANS = "states.safetensors", "plans"  # in the folder of the practice
_SEEN, _ENCODED = ("points", "colors", "proprio"), ("latents", "anchors")  # arrays of a start
_OF_PLAN = (*_SEEN, "rows")
_ALIKE = 0.01  # spread of the values of a start from which every plan ends alike


@dataclass(frozen=True)
class PracticeConfig:
    """How much is practised, and what is kept of it."""

    starts: int = 500  # real states
    candidates: int = 8  # rollouts from each, where the first half of them differ
    seconds: float = 1.6  # of a rollout
    gripping_fraction: float = 0.5  # of the starts: the gripper opens or closes within 1.6 s
    kept_fraction: float = 0.25  # of all rollouts, those with the largest advantages


@dataclass(frozen=True)
class PracticeJob:
    """Which model practises what."""

    model: Path
    task: str
    config: PracticeConfig
    seed: int


def choose_starts(samples: FutureSamples, config: PracticeConfig, seed: int) -> np.ndarray:
    """Numbers of samples to start from, in order: at random, a part of them near gripping."""
    rng = np.random.default_rng([seed, 0x57A])
    widths = np.concatenate([samples.proprio[:, None, 9], samples.rows[..., 9]], axis=1)
    grips = np.ptp(widths, axis=1) > _GRIPS
    wanted = round(config.starts * config.gripping_fraction)
    near = rng.permutation(np.flatnonzero(grips))[:wanted]
    others = rng.permutation(np.setdiff1d(np.arange(len(samples)), near))
    return np.sort(np.concatenate([near, others[: config.starts - len(near)]]))


def start_arrays(samples: FutureSamples, index: np.ndarray) -> dict[str, np.ndarray]:
    """What practice begins from, of the samples with these numbers."""
    arrays = {name: np.ascontiguousarray(getattr(samples, name)[index]) for name in _SEEN}
    for name in _ENCODED:  # now, not after each jump
        arrays[name] = np.float32(getattr(samples, name)[index][:, 0])
    return arrays


def run_practice(
    job: PracticeJob, samples: FutureSamples, out: Path, processes: int, progress: Progress
) -> dict[str, float]:
    """Practise from states of ``samples``. Kept in ``out`` start by start, so that it goes on.

    Returns:
        starts: from which the arm could begin. settled: of these, where the plan decides nothing,
        so that half of the rollouts were left out. value: mean over the starts. rollouts, plans:
        that ``kept_plans`` keeps. advantage: mean of these rollouts.

    Raises:
        InputError: the arm could begin nowhere.
        NothingToLearn: all rollouts of every start end with one value.
    """
    (out / PLANS).mkdir(parents=True, exist_ok=True)
    if not (out / STARTS).exists():
        index = choose_starts(samples, job.config, job.seed)
        partial_file = out / f"{STARTS}.partial"
        save_file(start_arrays(samples, index), partial_file)
        partial_file.rename(out / STARTS)
    count = len(load_file(out / STARTS)["proprio"])
    missing = [k for k in range(count) if not _plans_file(out, k).exists()]
    if missing:
        load_networks(job.model)  # compiled once, before the processes need them
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
        "settled": int((np.ptp(values, axis=1) == 0).sum()),
        "value": float(values.mean()),
        "rollouts": int(kept.sum()),
        "plans": len(kept_plans(out, job.config, 0)),
        "advantage": float(advantages[kept].mean()),
    }


def kept_plans(out: Path, config: PracticeConfig, task: int) -> PolicySamples:
    """The plans of the rollouts whose advantages are positive and among the largest.

    Args:
        task: its number.
    """
    chosen = dict(zip(_practised(out), _kept(_values(out), config.kept_fraction)))
    parts, kept = [], []
    for file, rollouts in chosen.items():
        if rollouts.any():
            part = load_file(file)
            parts.append(part)
            kept.append(np.flatnonzero(rollouts[part["candidate"]]))
    arrays = {
        name: np.concatenate([part[name][index] for part, index in zip(parts, kept)])
        for name in _OF_PLAN
    }
    return PolicySamples(
        **arrays,
        valid=np.ones(arrays["rows"].shape[:2], bool),
        task=np.full(len(arrays["rows"]), task, np.int64),
        episode=numbered(np.repeat(np.arange(len(parts)), list(map(len, kept)))),
    )


def _kept(values: np.ndarray, fraction: float) -> np.ndarray:
    """Mask of the plans (S, C) that are kept, by their values (S, C)."""
    advantages = values - values.mean(1, keepdims=True)
    return (advantages > 0) & (advantages >= np.quantile(advantages, 1 - fraction))


def _practise_start(job: PracticeJob, out: Path, number: int) -> None:
    """Practise from one start. Keeps the value (C,) of each rollout, and the plans of those above
    the mean, each with the number of its ``candidate``; nothing where the arm cannot begin there.
    """
    arrays = {name: array[number] for name, array in _starts(out).items()}
    rollouts = [] if arm_state(arrays["proprio"]) is None else _rollouts(job, arrays, number)
    values = np.array([value for value, _ in rollouts], np.float32)
    if values.size < job.config.candidates and values.size:
        values = np.full(job.config.candidates, values.mean(), np.float32)
    good = [k for k in range(len(rollouts)) if values[k] > values.mean()]
    plans = [plan | {"candidate": np.array(k)} for k in good for plan in rollouts[k][1]]
    file = _plans_file(out, number)
    partial_file = file.with_suffix(".partial")
    save_file(stacked(plans) | {"value": values}, partial_file)
    partial_file.rename(file)


def _rollouts(
    job: PracticeJob, start: dict[str, np.ndarray], number: int
) -> list[tuple[float, list[dict[str, np.ndarray]]]]:
    """Value and plans of each rollout; only of the first half where these end alike."""
    networks = load_networks(job.model)
    world = networks.world
    arm = arm_state(start["proprio"])
    scene = observed_scene(start["points"], start["colors"], world.lift_config.opacity)
    state = world.state(scene, *(start[name] for name in ("proprio", *_ENCODED)))
    observation = Observation(arm.stamp, (), arm, job.task)
    rng = np.random.default_rng([job.seed, number])
    half = (job.config.candidates + 1) // 2
    done: list[tuple[float, list[dict[str, np.ndarray]]]] = []
    for k in range(job.config.candidates):
        if k == half > 1 and np.ptp([value for value, _ in done]) < _ALIKE:
            break
        noise = rng.standard_normal((world.config.rows, ACTION), dtype=np.float32)
        policy, gate = NoisyPolicy(networks, noise), Gate(GateConfig(auto_arm=True))
        trial = imagined_rollout(
            world, Planner(policy), gate, state, observation, number, job.config.seconds
        )
        value = 1.0 if trial.success else world.value(trial.end, job.task)
        done.append((value, policy.plans))
    return done


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
def _starts(out: Path) -> dict[str, np.ndarray]:
    return load_file(out / STARTS)


def _plans_file(out: Path, number: int) -> Path:
    return out / PLANS / f"{number:06d}.safetensors"


def _practised(out: Path) -> list[Path]:
    """The files of the starts where the arm could begin, in order."""
    return [file for file in sorted((out / PLANS).glob("*.safetensors")) if _value(file).size]


def _value(file: Path) -> np.ndarray:
    with safe_open(file, "numpy") as arrays:
        return arrays.get_tensor("value")


def _values(out: Path) -> np.ndarray:
    """Values (S, C) of all rollouts."""
    found = [_value(file) for file in _practised(out)]
    return np.stack(found) if found else np.empty((0, 0))
