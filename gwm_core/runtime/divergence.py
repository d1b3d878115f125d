"""Divergence between predicted and observed scenes, and its limits.

The predicted scene is an earlier observed scene whose Gaussians moved as the policy predicts.
Both scenes are lifted from images, so reconstruction errors of the VAE are in neither.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from scipy.spatial import cKDTree

from gwm_core.errors import InputError
from gwm_core.files.json_files import write_json
from gwm_core.model.weights_file import digest
from gwm_core.scene.gaussians import MEANS

LIMITS = "divergence.json"
# limits over the largest normal value; with 1.15, 5 of 100 new episodes held without a cause
MARGIN = 1.5
# What the arm hides is not observed either, and how much it hides varies more than all else: with
# 1.5, two of 100 new episodes held because of this term alone. A cube moved by 5 cm is above both.
MARGIN_GONE = 2.0
# The smallest limits: a term that was always 0 in normal episodes, as in sparse scenes, must not
# hold the arm at any value.
LEAST_IMAGE = 0.02  # of the brightness [0-1]; the shipped policy's limits are 0.95 and more
# depth noise of a D435 at 1 m is 1.2 mm; the shipped policy's limits are 4.6 mm and more
LEAST_MM = 2.0
LEAST_EFFECTOR = 5.0  # [mm] that an arm may lag behind its command; normal ones are up to 3.6
# [m] from the gripper: new Gaussians count beyond these distances
_NEAR, _FAR = 0.06, 0.10
# [m] over the gripper's tokens: higher Gaussians are remains of the arm, and do not count
_ABOVE = 0.05
_WORST = 48  # Gaussians with the largest distances that count: about a third of a cube's
_BLOCK = (
    12  # [pixels] side of the blocks of which the worst counts: the table is larger than a cube
)


@dataclass(frozen=True)
class ObservedScene:
    """An observed scene."""

    stamp: int  # [ns]
    scene: np.ndarray  # (N, 14)
    gripper_tokens: np.ndarray  # (A, 3) [m] anchors of the tokens that move with the gripper
    width: float  # [m] of the gripper, measured


@dataclass(frozen=True)
class ExpectedScene:
    """An earlier observed scene, moved to where its objects and the gripper are predicted."""

    scene: np.ndarray  # (N, 14)
    of_gripper: np.ndarray  # (N,) bool: Gaussians of the gripper
    gripper_tokens: np.ndarray  # (A, 3) [m]
    held: float  # [m] width of what the gripper holds, 0 where it may hold nothing


def compare(
    start: ObservedScene,
    expected: ExpectedScene,
    now: ObservedScene,
    past: Sequence[ObservedScene],
    views: Sequence,
) -> dict[str, float]:
    """Terms of the divergence of an observed scene from a prediction.

    Args:
        start: from which ``expected`` was predicted.
        past: observed scenes up to ``start``: what the arm uncovers is not new.
        views: cameras to render both scenes for.

    Returns:
        image: worst block of the difference between the two images, over the views [0-1].
        unseen_mm, unseen_near_mm: distance of the farthest observed Gaussians from all predicted
            and earlier ones; far from the gripper and near it, not above it.
        shifted_mm: its 95 % quantile: a camera that moved shifts all of them.
        gone_mm: distance of the farthest predicted Gaussians from all observed ones.
        effector_mm: between the predicted and the observed gripper.
        held_mm: how much narrower the gripper is than what it should hold.
    """
    points, observed = expected.scene[:, MEANS], now.scene[:, MEANS]
    gripper = cKDTree(np.concatenate([s.gripper_tokens for s in (start, expected, now)]))
    earlier = cKDTree(np.concatenate([points, *(p.scene[:, MEANS] for p in past)]))
    missing = cKDTree(observed).query(points)[0]
    new = earlier.query(observed)[0]
    from_gripper = gripper.query(observed)[0]
    from_gripper[observed[:, 2] >= _arm_height(now)] = 0.0
    far = from_gripper > _FAR
    static = (gripper.query(points)[0] > _NEAR) & ~expected.of_gripper
    static &= points[:, 2] < _arm_height(start, expected)
    scenes = expected.scene, now.scene
    images = (np.abs(np.subtract(*map(view.render, scenes))).mean(-1) for view in views)
    gripper_error = np.linalg.norm(expected.gripper_tokens - now.gripper_tokens, axis=1).mean()
    return {
        "image": max(worst_block(image) for image in images),
        "unseen_mm": _worst(new[far]),
        "unseen_near_mm": _worst(new[from_gripper > _NEAR]),
        "shifted_mm": 1e3 * float(np.percentile(new[far], 95)) if far.sum() > _WORST else 0.0,
        "gone_mm": _worst(missing[static]),
        "effector_mm": 1e3 * float(gripper_error),
        "held_mm": 1e3 * max(0.0, expected.held - now.width),
    }


def _arm_height(*scenes: ObservedScene | ExpectedScene) -> float:
    """Height [m] from which on Gaussians of any of these scenes may be remains of the arm."""
    return min(scene.gripper_tokens[:, 2].mean() for scene in scenes) + _ABOVE


def _worst(distances: np.ndarray) -> float:
    """Mean [mm] of the ``_WORST`` largest distances [m]; missing ones count as 0."""
    return 1e3 * float(np.sort(distances)[-_WORST:].sum()) / _WORST


def worst_block(error: np.ndarray) -> float:
    """Largest mean over a block of an error image (S, S)."""
    sums = np.pad(error.cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    blocks = (
        sums[_BLOCK:, _BLOCK:]
        - sums[:-_BLOCK, _BLOCK:]
        - sums[_BLOCK:, :-_BLOCK]
        + sums[:-_BLOCK, :-_BLOCK]
    )
    return float(blocks.max()) / _BLOCK**2


@dataclass(frozen=True)
class DivergenceLimits:
    """Limits of every term, by horizon, for one policy."""

    world_sha256: str
    terms: dict[str, dict[str, float]]  # horizon [steps] -> term -> limit
    provenance: str

    def score(self, gaps: dict[int, dict[str, float]]) -> float:
        """The largest term as a fraction of its limit; above 1 is not normal.

        NaN where no term has a limit.
        """
        fractions = [
            value / self._limit(h, term)
            for h, terms in gaps.items()
            for term, value in terms.items()
            if term in self.terms.get(str(h), {})
        ]
        return float(max(fractions)) if fractions else np.nan

    def _limit(self, horizon: int, term: str) -> float:
        return max(self.terms[str(horizon)][term], _least(term))

    def save(self, folder: Path) -> None:
        """Write into the folder of the policy."""
        write_json(Path(folder) / LIMITS, asdict(self))


def _margin(term: str) -> float:
    return MARGIN_GONE if term == "gone_mm" else MARGIN


def _least(term: str) -> float:
    """The smallest limit of a term."""
    if term == "effector_mm":
        return LEAST_EFFECTOR
    return LEAST_MM if term.endswith("_mm") else LEAST_IMAGE


def fit_limits(
    folder: Path, normal: Sequence[dict[int, dict[str, float]]], provenance: str
) -> DivergenceLimits:
    """Limits for the policy in ``folder``: its largest terms in normal episodes, times a margin."""
    terms: dict[str, dict[str, float]] = {}
    for gaps in normal:
        for horizon, found in gaps.items():
            limits = terms.setdefault(str(horizon), dict.fromkeys(found, 0.0))
            limits |= {t: max(limits[t], _margin(t) * value) for t, value in found.items()}
    if not terms:
        raise InputError("nothing was compared: longer episodes are wanted")
    return DivergenceLimits(_model_digest(folder), terms, provenance)


def load_limits(folder: Path) -> DivergenceLimits | None:
    """The limits in a folder, or None. Raises InputError for those of another policy."""
    file = Path(folder) / LIMITS
    if not file.is_file():
        return None
    try:
        limits = DivergenceLimits(**json.loads(file.read_text()))
    except (OSError, ValueError, TypeError) as error:
        raise InputError(f"{file} cannot be read: {error}") from None
    if not _whole(limits.terms):
        raise InputError(
            f"{file}: terms is not a positive number for each term of each horizon [steps]"
        )
    if limits.world_sha256 != _model_digest(folder):
        raise InputError(
            f"{file} is of another policy: make it anew with `gwm bench divergence --fit"
            f" --policy {folder}`"
        )
    return limits


def _model_digest(folder: Path) -> str:
    """Hash of the network that predicts."""
    return digest(Path(folder) / "policy.safetensors")


def _whole(terms) -> bool:
    """Whether these are limits: horizons, terms, finite numbers from 0."""
    if (
        not isinstance(terms, dict)
        or not terms
        or not all(isinstance(found, dict) for found in terms.values())
    ):
        return False
    values = [value for found in terms.values() for value in found.values()]
    return all(
        type(value) in (int, float) and np.isfinite(value) and value >= 0 for value in values
    )
