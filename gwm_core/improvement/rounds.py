"""Rounds of improvement in simulation: collect trials, improve, measure; and again.

    OUT/round_1/trials      what the current policy did
    OUT/round_1/            the stages of the round, as of ``ImprovementRound``
    OUT/real/0.json         measured trials of the starting policy, 1.json of round 1, ...
    OUT/imagined/1_old.json the same starts in the tuned model of round 1: old and new policy

Everything is kept, so interrupted rounds go on, and further rounds may follow.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from gwm_core.errors import InputError, one_of
from gwm_core.evaluation.policy_eval import EvalConfig, run_trials
from gwm_core.evaluation.policy_eval_in_world_model import imagined_trials
from gwm_core.files.json_files import to_json
from gwm_core.improvement.figures import best_policy, paired_figures, reason_to_stop
from gwm_core.improvement.improve import (
    MODEL,
    POLICY,
    PRACTICE,
    SETTINGS,
    ImproveConfig,
    ImprovementRound,
    Stage,
    no_progress,
)
from gwm_core.improvement.pictures import PictureJob
from gwm_core.improvement.plan_change import plan_distance
from gwm_core.improvement.trial_records import TrialRecord, kept_trials
from gwm_core.improvement.trials import NothingToLearn, load_round_samples, read_trials
from gwm_core.model.weights_file import digest, predicting_config
from gwm_core.sim.tasks import sample_layout
from gwm_core.training.collection.collect import CollectConfig, collect
from gwm_core.types import RESERVED

CHOOSING = 100  # seeds from 4000 on, by which policies are chosen
TRIALS = "trials"  # folder of a round


@dataclass(frozen=True)
class Collection:
    """Which trials the rounds collect. ``episodes``: in each round, on seeds of its own."""

    task: str
    difficulty: str = "nominal"
    episodes: int = 50
    seed: int = 3000

    def check(self, rounds: int) -> None:
        """Raise InputError where so many rounds need seeds beyond those for training."""
        end = self.seed + rounds * self.episodes
        if self.seed < 0 or self.episodes < 1 or end > RESERVED:
            raise InputError(
                f"{rounds} rounds of {self.episodes} episodes from seed {self.seed} on will not do:"
                f" 1 or more episodes, on seeds 0-{RESERVED - 1} for training, are wanted"
            )


@dataclass(frozen=True)
class SimulatedRounds:
    """Rounds of improvement, kept in ``out``.

    Attributes:
        policy: folder of the starting policy. data: of demonstrations. futures: of older episodes.
        trials: measured for each policy, from the same starts.
    """

    policy: Path
    collection: Collection
    rounds: int
    trials: int
    config: ImproveConfig
    out: Path
    data: tuple[Path, ...] = ()
    futures: tuple[Path, ...] = ()
    renderer: str = "egl"
    device: str = "cpu"
    processes: int = 1
    stage: Stage = no_progress

    def run(self) -> dict:
        """Run what is not done yet.

        Returns:
            the figures of all rounds; overall: of the starting policy and the last one, as
            ``paired_figures``; kept: the number of the best policy; stopped: why they ended early.

        Raises InputError for settings that are not those of ``out``, and where the first round has
        nothing to learn from. A later one without it ends the rounds.
        """
        self._settle()
        rounds: list[dict] = []
        stopped = ""
        for number in range(1, self.rounds + 1):
            try:
                rounds.append(self._round(number))
            except NothingToLearn as error:
                if number == 1:
                    raise
                stopped = f"round {number} has nothing to learn from: {error}"
                break
            if stopped := _stopped(rounds[-1], self.trials):
                break
        return {
            "policy": str(self.policy),
            "task": self.collection.task,
            "difficulty": self.collection.difficulty,
            "rounds": rounds,
            "stopped": stopped,
            "overall": self._overall(len(rounds)),
            "kept": self._kept(len(rounds)),
        }

    def policy_of(self, number: int) -> Path:
        """The folder of the policy of round ``number``; 0 is the starting one."""
        return self.policy if number == 0 else self.folder(number) / POLICY

    def folder(self, number: int) -> Path:
        """The folder of a round."""
        return self.out / f"round_{number}"

    @property
    def seeds(self) -> range:
        """Seeds of the measured trials."""
        return range(RESERVED, RESERVED + self.trials)

    def shown(self, number: int) -> tuple[PictureJob, TrialRecord, TrialRecord]:
        """The first start from which the policy of round ``number`` succeeds, else the first one:
        what is shown of it, and the real and the imagined outcome.
        """
        real, imagined = self._real(number), self._imagined(number, number)
        k = next((k for k, trial in enumerate(real) if trial.success), 0)
        job = PictureJob(
            self.folder(number) / MODEL,
            self.policy_of(number),
            self.collection.task,
            self.collection.difficulty,
            real[k].seed,
            self.renderer,
        )
        return job, real[k], imagined[k]

    def _settle(self) -> None:
        """Check the words; write the settings, or hold them against those of ``out``."""
        wanted = self.collection
        wanted.check(self.rounds)
        sample_layout(wanted.task, wanted.seed, wanted.difficulty)
        one_of("task", wanted.task, predicting_config(self.policy).tasks)
        if not 1 <= self.trials <= CHOOSING:
            raise InputError(
                f"{self.trials} trials will not do: policies are chosen on seeds {RESERVED}-"
                f"{RESERVED + CHOOSING - 1}, so 1-{CHOOSING} are wanted"
            )
        settings = to_json(
            {"policy": digest(self.policy / "policy.safetensors"), "collection": asdict(wanted)},
            indent=1,
        )
        file = self.out / SETTINGS
        if file.exists() and file.read_text() != settings:
            raise InputError(
                f"{self.out} holds rounds of another policy or collection: choose another --out"
            )
        self.out.mkdir(parents=True, exist_ok=True)
        file.write_text(settings)

    def _round(self, number: int) -> dict:
        """Collect, improve and measure. Returns the figures."""
        folder, policy = self.folder(number), self.policy_of(number - 1)
        self._collect(number)
        earlier = [self.folder(k) / TRIALS for k in range(1, number)]
        trials = read_trials(policy, [folder / TRIALS])
        samples = load_round_samples(
            policy,
            [folder / TRIALS],
            [*self.data, *earlier],
            [*self.futures, *earlier],
            self.processes,
            self._stage(number, "lift"),
            self._stage(number, "encode"),
            self.device,
        )
        this = ImprovementRound(
            policy,
            trials,
            samples,
            self.config,
            folder,
            self.device,
            self.processes,
            lambda name: self._stage(number, name),
        )
        figures = {"round": number} | this.run()
        if self.config.imagine:
            distance = plan_distance(policy, this.improved, folder / PRACTICE, trials.task)
            figures["plan_distance_mm"] = distance
        figures["real"] = paired_figures(self._real(number - 1), self._real(number))
        figures["imagined"] = paired_figures(
            self._imagined(number, number - 1), self._imagined(number, number)
        )
        return figures

    def _collect(self, number: int) -> None:
        wanted = self.collection
        config = CollectConfig(
            wanted.task,
            self.folder(number) / TRIALS,
            wanted.episodes,
            wanted.seed + (number - 1) * wanted.episodes,
            wanted.difficulty,
            self.renderer,
            str(self.policy_of(number - 1)),
        )
        done, progress = 0, self._stage(number, "collect")

        def count(outcome: str) -> None:
            nonlocal done
            done += 1
            progress(done, wanted.episodes, {})

        collect(config, self.processes, count)

    def _real(self, number: int) -> list[TrialRecord]:
        """Measured trials of the policy of round ``number``."""
        policy, wanted = self.policy_of(number), self.collection
        config = EvalConfig(
            wanted.task, str(policy), difficulty=wanted.difficulty, renderer=self.renderer
        )

        def run(seeds: list[int]) -> Iterable:
            return run_trials([(config, seed) for seed in seeds], self.processes)

        return kept_trials(
            self.out / "real" / f"{number}.json",
            self._measured(policy),
            self.seeds,
            run,
            self.stage(f"real trials, policy {number}"),
        )

    def _imagined(self, number: int, whose: int) -> list[TrialRecord]:
        """The same starts in the tuned model of round ``number``, by the policy of ``whose``."""
        model, policy = self.folder(number) / MODEL, self.policy_of(whose)
        wanted = self.collection

        def run(seeds: list[int]) -> Iterable:
            words = str(model), str(policy), wanted.task, wanted.difficulty
            return imagined_trials([(*words, s, self.renderer) for s in seeds], self.processes)

        which = "new" if whose == number else "old"
        return kept_trials(
            self.out / "imagined" / f"{number}_{which}.json",
            self._measured(policy) | {"model": digest(model / "policy.safetensors")},
            self.seeds,
            run,
            self._stage(number, f"imagined trials, {which} policy"),
        )

    def _overall(self, rounds: int) -> dict:
        """The starting policy and that of the last round."""
        return paired_figures(self._real(0), self._real(rounds))

    def _kept(self, rounds: int) -> int:
        """The number of the policy with the most measured successes."""
        return best_policy([sum(t.success for t in self._real(k)) for k in range(rounds + 1)])

    def _measured(self, policy: Path) -> dict:
        wanted = self.collection
        weights = digest(policy / "policy.safetensors")
        return {"policy": weights, "task": wanted.task, "difficulty": wanted.difficulty}

    def _stage(self, number: int, name: str):
        return self.stage(f"round {number}: {name}")


def _stopped(figures: dict, trials: int) -> str:
    imagined, real = (
        tuple(figures[kind][when]["successes"] for when in ("before", "after"))
        for kind in ("imagined", "real")
    )
    return reason_to_stop(imagined, real, trials)
