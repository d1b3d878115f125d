"""The probability that a task is done in a predicted scene, as an operator may read it.

A policy whose success head was not calibrated on predicted scenes says nothing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.special import logit

from gwm_core.errors import InputError
from gwm_core.model.calibration import Calibration, Probability
from gwm_core.model.weights_file import MANIFESTS, read_weights

# of a probability, away from 0 and from 1: bfloat16, in which graphs may compute, knows none nearer
_SMALLEST = 2.0**-9


@dataclass(frozen=True)
class PredictedSuccess:
    """Calibration of "done" in scenes that are predicted by the longest jump.

    Attributes:
        observed: what the graphs apply already. predicted: what predicted scenes need.
    """

    observed: Calibration
    predicted: Calibration

    def __call__(self, probability: float) -> Probability:
        """The probability with its interval, for one of the graph ``success``.

        Raises FloatingPointError where it is not finite.
        """
        if not math.isfinite(probability):
            raise FloatingPointError(f"the success head gives a probability of {probability}")
        p = float(np.clip(probability, _SMALLEST, 1 - _SMALLEST))
        return self.predicted.probability((logit(p) - self.observed.offset) / self.observed.slope)


def read_predicted_success(folder: Path) -> dict[str, PredictedSuccess]:
    """The calibrations of a policy by task, from its manifest; empty where there are none."""
    provenance = read_weights(folder, "policy").manifest.get("provenance", {})
    try:
        return {
            task: PredictedSuccess(
                _calibration(found["done"]) if "done" in found else Calibration(),
                _calibration(found["predicted"]),
            )
            for task, found in provenance.get("calibration", {}).items()
            if "predicted" in found
        }
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{Path(folder) / MANIFESTS['policy']}: no calibration of the success head"
            f" ({type(error).__name__}: {error}): calibrate it anew with"
            " `gwm train success --calibrate`"
        ) from None


def _calibration(found: dict) -> Calibration:
    covariance = np.array(found["covariance"], float)
    values = np.array([found["slope"], found["offset"], *covariance.ravel()], float)
    if covariance.shape != (2, 2) or not np.isfinite(values).all() or found["slope"] <= 0:
        raise ValueError("a slope above 0, an offset and a covariance (2, 2) are wanted")
    if np.linalg.eigvalsh(covariance).min() < 0 or not np.allclose(covariance, covariance.T):
        raise ValueError("the covariance is none")
    return Calibration(found["slope"], found["offset"], tuple(map(tuple, covariance.tolist())))
