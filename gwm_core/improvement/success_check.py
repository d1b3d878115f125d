"""Check that the success model can tell failures from successes, on trials that it has not seen."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gwm_core.improvement.trials import NothingToLearn
from gwm_core.model.world_action_model import WorldActionModel
from gwm_core.training.datasets.future_samples import FutureSamples
from gwm_core.training.success.success_calibration import question_logits

LEAST_AUC = 0.65  # 0.5 is chance


@dataclass(frozen=True)
class SuccessCheck:
    """How well the value of scenes sorts trials."""

    auc: float  # probability that a success has a larger mean value than a failure
    successes: int
    failures: int

    def refuse(self) -> None:
        """Raise NothingToLearn where practice would learn from a wrong value."""
        if self.auc < LEAST_AUC:
            raise NothingToLearn(
                f"the success model cannot tell failures from successes: on {self.successes} and"
                f" {self.failures} trials that it has not seen its AUC is {self.auc:.2f}, and"
                f" {LEAST_AUC} or more is wanted: record more trials; nothing was practised"
            )


def check_success(
    model: WorldActionModel, samples: FutureSamples, trials: dict[str, bool], task: str
) -> SuccessCheck:
    """Sort the trials by the mean logit of the value over their samples.

    Args:
        samples: of the trials. trials: by start, whether each succeeded.
    """
    tasks = model.config.tasks
    logits = question_logits(model, samples)[:, len(tasks) + tasks.index(task)]
    sums = np.bincount(samples.episode, logits)
    means = dict(zip(samples.starts, sums / np.bincount(samples.episode)))
    scores = [
        np.array([means[start] for start, ended in trials.items() if ended is wanted])
        for wanted in (True, False)
    ]
    above = scores[0][:, None] - scores[1]
    auc = float((above > 0).mean() + 0.5 * (above == 0).mean())
    return SuccessCheck(auc, len(scores[0]), len(scores[1]))
