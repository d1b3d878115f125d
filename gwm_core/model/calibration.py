"""Calibrated probabilities of the success head, with what few trials leave open."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.special import expit

_NORMAL_95 = 1.96  # standard deviations of a normal distribution that 95 % lie within


class Probability(NamedTuple):
    """A probability and its 95 % interval."""

    value: float
    low: float
    high: float


class Calibration(NamedTuple):
    """The logit of a calibrated probability is ``slope * logit + offset``.

    Attributes:
        covariance: (2, 2) of the logarithm of the slope and of the offset, after the fit.
    """

    slope: float = 1.0
    offset: float = 0.0
    covariance: tuple[tuple[float, float], tuple[float, float]] = ((0.0, 0.0), (0.0, 0.0))

    def __call__(self, logits: np.ndarray) -> np.ndarray:
        """Calibrated logits."""
        return self.slope * logits + self.offset

    def probability(self, logit: float) -> Probability:
        """The probability of a logit before calibration.

        Its interval is of slope and offset alone, to first order (delta method).
        """
        calibrated = self(logit)
        gradient = np.array([self.slope * logit, 1.0])  # by the logarithm of the slope, the offset
        spread = _NORMAL_95 * np.sqrt(gradient @ np.array(self.covariance) @ gradient)
        return Probability(*(float(expit(calibrated + k * spread)) for k in (0, -1, 1)))
