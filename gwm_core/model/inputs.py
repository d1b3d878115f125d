"""Inputs of a policy besides the scene."""

from __future__ import annotations

import numpy as np

from gwm_core.geometry.kinematics import fk, to_rows
from gwm_core.types import ArmState


def proprioception(state: ArmState) -> np.ndarray:
    """(11,) float32: TCP xyz [m], rot6d, measured width [m], commanded width [m]."""
    return np.append(to_rows(fk(state.q), state.width), state.width_command).astype(np.float32)
