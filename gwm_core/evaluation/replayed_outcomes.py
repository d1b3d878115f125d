"""Replay the commands of recorded episodes in predictions, and ask the policy for their end.

It separates the success head from the predictions. On observed scenes only the head can be wrong.
In a replay from the first observation on, the predictions can be wrong too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gwm_core.data.episode import read_episode
from gwm_core.data.episode_info import list_episodes, read_infos
from gwm_core.data.time_grid import stretches
from gwm_core.errors import InputError, one_of
from gwm_core.runtime.imagined_rollout import ROWS, PredictedStates, called_success
from gwm_core.runtime.imagined_world import ImaginedWorld
from gwm_core.training.datasets.clips import episode_clips

Clips = dict[str, np.ndarray]  # of ``episode_clips``


@dataclass(frozen=True)
class ReplayedOutcome:
    """An episode and what the model says of it.

    Attributes:
        success: what really happened. seconds: of its longest unbroken stretch, which is replayed.
        observed: probability that the task is done, from observed scenes alone, in order.
        imagined: the same along the prediction from the first observations on.
    """

    episode: str
    success: bool
    seconds: float
    observed: list[float]
    imagined: list[float]

    @property
    def called(self) -> tuple[bool, bool]:
        """Whether the model calls it a success, from observed and from imagined scenes."""
        return called_success(self.observed), called_success(self.imagined)


class OutcomeReplay:
    """Replays stretches of episodes, by the jumps of an imagined trial.

    Attributes:
        lift_config: how scenes are to be lifted. least: moments of the shortest stretch.
    """

    least = ROWS + 1

    def __init__(self, world: ImaginedWorld):
        self._world, self.lift_config = world, world.lift_config

    def __call__(self, clips: Clips, task: str) -> tuple[list[float], list[float]]:
        """Probabilities of success from observed scenes at every moment, and from imagined ones
        after every ``ROWS`` rows.
        """
        one_of("task", task, self._world.config.tasks)
        scenes, actions = clips["scenes"].astype(np.float32), clips["actions"]
        proprio = np.concatenate([clips["poses"], actions[:, 9:]], axis=1)
        states = [self._world.observe(*pair) for pair in zip(scenes, proprio)]
        observed = [self._world.success(state, task) for state in states]
        predictions, imagined = PredictedStates(self._world, states[0]), []
        for k in range(1, len(actions) - ROWS + 1, ROWS):
            state = predictions.after(actions[k : k + ROWS])
            imagined.append(self._world.success(state, task))
        return observed, imagined


def replay_outcomes(
    replay: OutcomeReplay,
    folder: Path,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[ReplayedOutcome]:
    """Replay every episode below ``folder`` that has a verdict; play has none.

    Raises InputError where an episode is without, or none is left.
    """
    found = read_infos(list_episodes(folder)).items()
    infos = {path: info for path, info in found if info.get("policy") != "play"}
    if without := [path for path, info in infos.items() if info.get("success") is None]:
        raise InputError(
            f"{without[0]} has no verdict, which the prediction is held against: rate it, or move"
            " it elsewhere"
        )
    if not infos:
        raise InputError(f"{folder} holds play alone, which neither succeeds nor fails")
    outcomes = []
    for path, info in infos.items():
        outcomes.append(_replay(replay, path, info))
        progress(len(outcomes), len(infos))
    return outcomes


def _replay(replay: OutcomeReplay, path: Path, info: dict) -> ReplayedOutcome:
    clips = episode_clips(read_episode(path), replay.lift_config)
    longest = max(stretches(clips["stamps"]), key=lambda part: part.stop - part.start)
    clips = {name: values[longest] for name, values in clips.items()}
    count = len(clips["stamps"])
    if count < replay.least:
        raise InputError(
            f"episode {path}: {replay.least} consecutive observations are wanted, it has {count}"
        )
    observed, imagined = replay(clips, info["task"])
    seconds = round((count - 1) * 0.1, 1)
    return ReplayedOutcome(path.name, bool(info["success"]), seconds, observed, imagined)


def outcome_table(outcomes: list[ReplayedOutcome]) -> dict[str, dict[str, int]]:
    """For the episodes that succeeded and that failed: how many, and how many are called successes
    from observed and from imagined latents.
    """
    return {
        name: {
            "episodes": len(some),
            "observed": sum(o.called[0] for o in some),
            "imagined": sum(o.called[1] for o in some),
        }
        for name, wanted in (("succeeded", True), ("failed", False))
        for some in [[o for o in outcomes if o.success is wanted]]
    }
