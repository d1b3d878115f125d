"""Run the trials of a protocol in simulation, by several processes, from the journal's end on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from gwm_core.address import is_remote, is_server
from gwm_core.errors import InputError
from gwm_core.evaluation.policy_eval import EvalConfig, run_trials
from gwm_core.evaluation.protocol.definition import Protocol, TrialOrder, TrialSlot, read_key
from gwm_core.evaluation.protocol.journal import Journal, JournalEntry, TrialOutcome
from gwm_core.evaluation.protocol.report import interim_result
from gwm_core.model.weights_file import digest
from gwm_core.runtime.planner import Planner
from gwm_core.sim.planners import make_planner
from gwm_core.sim.rollout import Observer, SimEnvironment, Trial, rollout
from gwm_core.sim.tasks import sample_layout
from gwm_core.types import Observation

LIFTED = 0.5  # partial credit for the cube in the air


def weights_of(protocol: Protocol) -> dict[str, str]:
    """Name -> SHA-256 of each policy; of a policy server's contract, as nobody knows its weights.

    Raises InputError for what is no policy.
    """
    return {name: _weights(name, policy) for name, policy in protocol.policies.items()}


def _weights(name: str, policy: str) -> str:
    if policy == "expert":
        return policy
    if is_server(policy):
        raise InputError(
            f"policy '{name}': trials of a server need its contract in a file: write one with"
            f" server: {policy} (docs/remote-policy.md), and name the file"
        )
    if is_remote(policy):
        return digest(Path(policy))
    manifest = Path(policy) / "manifest.json"
    if not manifest.is_file():
        raise InputError(
            f"policy '{name}': no {manifest}; a bundle, a checkpoint, the contract of a policy"
            " server or expert is wanted"
        )
    return digest(manifest)


def check_tasks(protocol: Protocol) -> None:
    """Raise InputError for a task or difficulty that the simulation lacks."""
    for task in protocol.tasks:
        sample_layout(task.task, protocol.seed, task.difficulty)


def run(
    plan: TrialOrder,
    journal: Journal,
    folder: Path,
    processes: int,
    renderer: str,
    progress: Callable[[], None],
) -> None:
    """Run the trials without an outcome, in order. A sequential protocol stops when decided."""
    names, waiting = read_key(plan, folder), journal.waiting()
    sequential = plan.protocol.stop == "sequential"
    if not waiting or (sequential and interim_result(plan, journal, names)["over"]):
        return
    jobs = [(_config(plan, slot, names, renderer), slot.seed) for slot in waiting]
    for slot, trial in zip(waiting, run_trials(jobs, processes)):
        journal.add(slot, _outcome(trial))
        progress()
        if sequential and interim_result(plan, journal, names)["over"]:
            return


def _config(plan: TrialOrder, slot: TrialSlot, names: dict[str, str], renderer: str) -> EvalConfig:
    policy = plan.protocol.policies[names[slot.code]]
    return EvalConfig(slot.task.task, policy, difficulty=slot.task.difficulty, renderer=renderer)


def _outcome(trial: Trial) -> TrialOutcome:
    """The outcome by the rules of the task, from the state of the simulation."""
    stopped = {cause: count for cause, count in trial.stops.items() if count}
    if trial.success:
        note = ""
    elif stopped:
        note = f"gate stopped: {', '.join(stopped)}"
    else:
        note = "lifted, not where it belongs in time" if trial.lifted else "never lifted"
    score = 1.0 if trial.success else LIFTED * trial.lifted
    return TrialOutcome(
        bool(trial.success), trial.seconds, score, note, violations=trial.violations
    )


class AskedImages(Observer):
    """Keeps the first camera's image of every observation of the policy."""

    def __init__(self):
        self.frames: list[np.ndarray] = []

    def observation(self, observation: Observation) -> None:
        """Keep its image."""
        if observation.frames:
            self.frames.append(observation.frames[0].color)


def trial_images(
    plan: TrialOrder, entry: JournalEntry, names: dict[str, str], renderer: str, count: int = 5
) -> list[bytes]:
    """Run a trial again, with the same result, and return images (JPEG) evenly over its time."""
    config = _config(plan, entry.slot, names, renderer)
    planner: Planner = make_planner(config.policy)
    observer = AskedImages()
    layout = sample_layout(config.task, entry.slot.seed, config.difficulty)
    rollout(SimEnvironment(renderer=renderer), planner, layout, observer=observer)
    chosen = (
        np.linspace(0, len(observer.frames) - 1, min(count, len(observer.frames)))
        .round()
        .astype(int)
    )
    return [cv2.imencode(".jpg", observer.frames[k][..., ::-1])[1].tobytes() for k in chosen]
