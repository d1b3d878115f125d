"""The recorded trials that a policy is improved on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gwm_core.data.episode_info import list_all_episodes, read_infos, start_names, verdict
from gwm_core.errors import InputError, one_of
from gwm_core.model.weights_file import digest, predicting_config
from gwm_core.recording.provenance import policy_code
from gwm_core.sim.tasks import TASKS
from gwm_core.training.datasets.joint_samples import JointSamples, Progress, load_joint_samples
from gwm_core.training.datasets.policy_samples import refuse_mixed, refuse_reserved

LEAST = 10  # trials; fewer say nothing of what succeeds
_CHECKED = 5  # every fifth trial is kept to check the success model on


class NothingToLearn(InputError):
    """The trials, or practice from them, tell no better plan from a worse one."""


def no_progress(done: int, total: int) -> None:
    """Report nothing."""


@dataclass(frozen=True)
class RecordedTrials:
    """Trials of one policy at one task, each with a verdict."""

    infos: dict[Path, dict]
    task: str

    @property
    def successes(self) -> int:
        """How many succeeded."""
        return sum(bool(info["success"]) for info in self.infos.values())

    @property
    def simulated(self) -> bool:
        """Whether the simulation can repeat them."""
        robots = {info.get("robot") for info in self.infos.values()}
        return self.task in TASKS and robots == {"sim"}

    @property
    def starts(self) -> list[str]:
        """The name of what each trial began from."""
        return start_names(self.infos)

    @property
    def checked(self) -> dict[str, bool]:
        """Starts of the trials that the success model is checked on, and whether they succeeded.

        Of the successes and of the failures every fifth one, and at least two.
        """
        chosen = {}
        names = dict(zip(self.infos, self.starts))
        for ended in (True, False):
            some = [path for path, info in self.infos.items() if info["success"] is ended]
            every = min(_CHECKED, max(1, len(some) // 2))
            chosen |= {names[path]: ended for path in some[every - 1 :: every]}
        return chosen


def read_trials(policy: Path, folders: Sequence[Path]) -> RecordedTrials:
    """The trials below ``folders``.

    Args:
        policy: folder of the checkpoint or bundle that acted in them.

    Raises:
        InputError: a trial has no verdict, or is of another policy, of a task that the policy does
            not know, of other cameras, or reserved for evaluation; fewer than ten trials, of
            several tasks, or all of one outcome (``NothingToLearn``).
    """
    folders = list(folders)
    refuse_reserved(folders)
    infos = read_infos(path for some in list_all_episodes(folders).values() for path in some)
    refuse_mixed(list(infos))
    for path, info in infos.items():
        if verdict(info) is None:
            raise InputError(
                f"{path} has no verdict, which practice learns from: rate it, or move it elsewhere"
            )
        _check_policy(policy, path, info)
    tasks = sorted({info["task"] for info in infos.values()})
    if len(tasks) > 1:
        raise InputError(f"trials of {' and '.join(tasks)}: improve one task at a time")
    one_of("task", tasks[0], predicting_config(policy).tasks)
    trials = RecordedTrials(infos, tasks[0])
    if len(infos) < LEAST:
        raise InputError(f"{len(infos)} trials are too few: {LEAST} or more are wanted")
    if trials.successes in (0, len(infos)):
        ended = "failed" if trials.successes == 0 else "succeeded"
        raise NothingToLearn(
            f"all {len(infos)} trials {ended}: both outcomes are wanted, since practice learns from"
            " their difference"
        )
    if min(trials.successes, len(infos) - trials.successes) < 2:
        raise NothingToLearn(
            f"{trials.successes} of {len(infos)} trials succeeded: two or more of each outcome are"
            " wanted, one of them to check the success model on"
        )
    return trials


def load_round_samples(
    policy: Path,
    episodes: Sequence[Path],
    data: Sequence[Path],
    futures: Sequence[Path],
    processes: int,
    lifted: Progress = no_progress,
    encoded: Progress = no_progress,
    device: str = "cpu",
) -> JointSamples:
    """Demonstrations and successful trials to imitate; all trials and ``futures`` to predict.

    Args:
        policy: folder of the policy whose tasks and VAE they are of.
        episodes: folders of the trials. data: of demonstrations.
        lifted, encoded: called with the episodes done and their number. device: that makes latents.

    Raises:
        InputError: the policy predicts nothing, and as ``load_samples``.
    """
    config = predicting_config(policy)
    return load_joint_samples(
        config,
        [*data, *episodes],
        processes,
        lifted,
        encoded,
        [*futures, *episodes],
        policy,
        policy,
        config.tasks,
        device,
    )


def _check_policy(policy: Path, path: Path, info: dict) -> None:
    """Raise InputError where another policy acted in the episode at ``path``."""
    own = digest(policy / "policy.safetensors")
    if "weights" in info:  # of `gwm collect --policy`
        acted = info["weights"] == own
    else:  # of the recorder, whose code is salted by the folder of the run
        code = policy_code(str(policy), path.parent, make=False)
        acted = bool(code) and code == info.get("policy")
    if not acted:
        raise InputError(
            f"{path} is no trial of {policy}: policy '{info.get('policy')}' acted in it; name"
            " trials of the policy that is to improve"
        )
