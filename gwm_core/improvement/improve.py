"""One round of improvement: tune the model on recorded trials, practise in it, learn from practice.

    trials -> tune -> check -> practise -> learn

``tune`` trains the policy and its success head further, on the trials and on older
episodes. ``check`` holds the success head against trials that it has not seen. ``practise``
imagines plans from states of the trials and keeps the better ones. ``learn`` trains the policy on
these, and on demonstrations and successes in the same batches. Every stage is kept in a folder of
its own, so an interrupted round goes on.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from gwm_core.errors import InputError
from gwm_core.files.json_files import to_json, write_json
from gwm_core.improvement.practice import PracticeConfig, PracticeJob, kept_plans, run_practice
from gwm_core.improvement.success_check import SuccessCheck, check_success
from gwm_core.improvement.trials import RecordedTrials
from gwm_core.model.checkpoint import load_predicting_policy
from gwm_core.model.config import WorldActionTraining
from gwm_core.model.weights_file import MANIFESTS, digest
from gwm_core.training.datasets.joint_samples import JointSamples
from gwm_core.training.success.train_success import SuccessSamples, train_success
from gwm_core.training.train_world_action_model import train_world_action_model
from gwm_core.training.training_loop import STATE
from gwm_core.training.training_run import Progress, TrainingRun, silent

SETTINGS, RESULT = "settings.json", "round.json"
MODEL, PRACTICE, POLICY = "model", "practice", "policy"  # folders of the stages


@dataclass(frozen=True)
class ImproveConfig:
    """How a round improves a policy.

    Attributes:
        training: of both networks, apart from the number of iterations.
        model_iterations: of ``tune``; 0 keeps the model and fits its success head alone.
        policy_iterations: of ``learn``.
        imagine: whether it practises. Else it imitates demonstrations and successes for as long.
    """

    training: WorldActionTraining = field(
        default_factory=lambda: WorldActionTraining(
            batch=48, learning_rate=1e-3, muon=True, warmup=50, validate_every=200
        )
    )
    model_iterations: int = 600
    policy_iterations: int = 600
    imagine: bool = True
    practice: PracticeConfig = field(default_factory=PracticeConfig)
    seed: int = 0

    def of(self, iterations: int) -> WorldActionTraining:
        """The training of a stage."""
        return replace(self.training, iterations=iterations, seed=self.seed)


Stage = Callable[[str], Progress]  # makes the progress of the stage with this name


def no_progress(name: str) -> Progress:
    """Report nothing."""
    return silent


@dataclass(frozen=True)
class ImprovementRound:
    """A round, whose stages are kept in ``out``.

    Attributes:
        policy: folder of the starting checkpoint or bundle; it stays as it is.
        trials: of this policy.
        samples: demonstrations, successful trials among them, and futures, all trials among them.
        stage: called when a stage begins.
    """

    policy: Path
    trials: RecordedTrials
    samples: JointSamples
    config: ImproveConfig
    out: Path
    device: str = "cpu"
    processes: int = 1
    stage: Stage = no_progress

    def run(self) -> dict:
        """Run the stages that are not done yet. Returns the figures of the round.

        Raises InputError where ``out`` holds a round of other settings, or the success model cannot
        tell failures from successes.
        """
        self._settle()
        self._tune()
        check = self.check()
        figures = {
            "trials": len(self.trials.infos),
            "successes": self.trials.successes,
            "success_model": asdict(check),
        }
        if self.config.imagine:
            check.refuse()
            figures |= {"practice": self._practise()}
        self._learn()
        write_json(self.out / RESULT, figures)
        return figures

    @property
    def improved(self) -> Path:
        """The folder of the improved policy."""
        return self.out / POLICY

    def check(self) -> SuccessCheck:
        """The success model of the tuned model on trials that it has not seen."""
        model = load_predicting_policy(self.out / MODEL)
        chosen = self.trials.checked
        held = self.samples.with_futures(chosen).futures
        return check_success(model, held, chosen, self.trials.task)

    def _settle(self) -> None:
        """Write the settings, or hold them against those of the interrupted round."""
        settings = to_json(
            {
                "policy": digest(self.policy / "policy.safetensors"),
                "config": asdict(self.config),
                "demonstrations": sorted(self.samples.demonstrations.starts),
                "futures": sorted(self.samples.futures.starts),
            },
            indent=1,
        )
        file = self.out / SETTINGS
        if file.exists():
            if file.read_text() != settings:
                raise InputError(
                    f"{self.out} holds a round of another policy, episodes or settings: choose"
                    " another --out"
                )
            return
        self.out.mkdir(parents=True, exist_ok=True)
        file.write_text(settings)

    def _tune(self) -> None:
        out, begin = self.out / MODEL, self.policy
        if _finished(out):
            return
        samples = self.samples.without(self.trials.checked)
        config = self.config.of(self.config.model_iterations)
        run = TrainingRun(config, out, device=self.device, progress=self.stage("tune the model"))
        if config.iterations:
            train_world_action_model(
                samples.demonstrations, samples.config, run, samples.futures, begin, begin
            )
        else:
            train_success(begin, SuccessSamples(samples.futures, None), run)

    def _practise(self) -> dict[str, float]:
        job = PracticeJob(
            self.out / MODEL, self.trials.task, self.config.practice, self.config.seed
        )
        own = {*self.trials.starts} - {*self.trials.checked}
        states = self.samples.with_futures(own).futures
        return run_practice(
            job, states, self.out / PRACTICE, self.processes, self.stage("practise")
        )

    def _learn(self) -> None:
        out, begin = self.improved, self.out / MODEL
        if _finished(out):
            return
        practised = None
        if self.config.imagine:
            samples = self.samples
            task = samples.config.tasks.index(self.trials.task)
            practised = kept_plans(self.out / PRACTICE, self.config.practice, task)
        run = TrainingRun(
            self.config.of(self.config.policy_iterations),
            out,
            device=self.device,
            progress=self.stage("learn from practice" if practised else "imitate successes"),
        )
        train_world_action_model(
            self.samples.demonstrations,
            self.samples.config,
            run,
            self.samples.without_futures(self.trials.checked).futures,
            begin,
            begin,
            practised,
        )


def _finished(out: Path) -> bool:
    return (out / MANIFESTS["policy"]).exists() and not (out / STATE).exists()
