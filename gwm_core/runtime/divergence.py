"""How far what came is from what was to be expected, and how far is normal.

What is expected is the scene as it was, each Gaussian carried along with the token nearest to it to
where the world model takes that token. Both sides are scenes as they were lifted, so that what a
VAE cannot show is in neither.
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
# limits are this much above the largest that was normal: by 1.15, 5 of 100 new episodes held for
# nothing
MARGIN = 1.5
# No limit is lower: a term that was always 0 while nothing happened, as in sparse scenes, must not
# hold at any value.
LEAST_IMAGE = 0.02  # of the brightness [0-1]; the shipped world model's limits are 0.87 and more
# depth noise of a D435 at 1 m is 1.2 mm; the shipped world model's limits are 4.5 mm and more
LEAST_MM = 2.0
# [m] from where the gripper is seen: two rings beyond which something new counts
_NEAR, _FAR = 0.06, 0.10
# [m] over the gripper's tokens: what is higher is what the lift left of the arm, and does not count
_ABOVE = 0.05
_MOST = 48  # Gaussians: the worst ones count, about a third of a cube's
_BLOCK = 12  # [pixels] of a block: the worst one counts, so that a cube does not drown in the table


@dataclass(frozen=True)
class ObservedLatent:
    """An observed scene as the world model knows it."""

    stamp: int  # [ns]
    history: np.ndarray  # (context, K, D) latents, the last one is of now
    places: np.ndarray  # (K, 3) [m] of its tokens, those that ride the gripper first
    scene: np.ndarray  # (N, 14)


def carry(
    scene: np.ndarray, before: np.ndarray, after: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """A scene (N, 14) gone along with tokens from places (K, 3) to places (K, 3), and the token
    (N,) of each.
    """
    token = cKDTree(before).query(scene[:, MEANS])[1]
    carried = scene.copy()
    carried[:, MEANS] += (after - before)[token]
    return carried, token


def compare(
    begun: ObservedLatent,
    after: np.ndarray,
    now: ObservedLatent,
    past: Sequence[ObservedLatent],
    riders: int,
    views: Sequence,
) -> dict[str, float]:
    """The terms.

    Args:
        begun: from which on the future was imagined. after: (K, 3) [m], where its tokens should be
            now.
        past: what was seen up to then: what comes out from behind the arm is not new.
        riders: how many tokens ride the gripper. views: cameras to draw both scenes for.

    Returns:
        image: worst block of the difference between both pictures, over the views [0-1].
        unseen_mm, unseen_near_mm: how far the worst Gaussians are from all that was expected or
            seen before, far from the gripper and nearer, and not above it. shifted_mm: the same of
            one in twenty: of a camera that moved, all of it is elsewhere. gone_mm: how far from all
            that is seen the worst are that should be there.
        effector_mm: between where the gripper was expected and where it is.
    """
    expected, token = carry(begun.scene, begun.places, after)
    hand = cKDTree(np.concatenate([m[:riders] for m in (begun.places, after, now.places)]))
    known = cKDTree(
        np.concatenate([expected[:, MEANS], *(moment.scene[:, MEANS] for moment in past)])
    )
    missed = cKDTree(now.scene[:, MEANS]).query(expected[:, MEANS])[0]
    unseen = known.query(now.scene[:, MEANS])[0]
    aside = hand.query(now.scene[:, MEANS])[0]
    aside[now.scene[:, 2] > now.places[:riders, 2].mean() + _ABOVE] = 0.0
    still = (hand.query(expected[:, MEANS])[0] > _NEAR) & (token >= riders)
    return {
        "image": max(
            worst_block(np.abs(view.render(expected) - view.render(now.scene)).mean(-1))
            for view in views
        ),
        "unseen_mm": _worst(unseen[aside > _FAR]),
        "unseen_near_mm": _worst(unseen[aside > _NEAR]),
        "shifted_mm": (
            1e3 * float(np.percentile(unseen[aside > _FAR], 95))
            if (aside > _FAR).sum() > _MOST
            else 0.0
        ),
        "gone_mm": _worst(missed[still]),
        "effector_mm": (
            1e3 * float(np.linalg.norm(after[:riders] - now.places[:riders], axis=1).mean())
        ),
    }


def _worst(distances: np.ndarray) -> float:
    """Mean of the largest ones [m] in mm; fewer than ``_MOST`` count for as many fewer."""
    return 1e3 * float(np.sort(distances)[-_MOST:].sum()) / _MOST


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
    """The most that is normal of every term, by horizon, for one world model."""

    world_sha256: str
    terms: dict[str, dict[str, float]]  # horizon [steps] -> term -> limit
    provenance: str

    def score(self, gaps: dict[int, dict[str, float]]) -> float:
        """The largest share of a limit; above 1 is not normal. NaN where nothing that has a limit
        was compared.
        """
        shares = [
            value / self._limit(h, term)
            for h, terms in gaps.items()
            for term, value in terms.items()
            if term in self.terms.get(str(h), {})
        ]
        return float(max(shares)) if shares else np.nan

    def _limit(self, horizon: int, term: str) -> float:
        return max(
            self.terms[str(horizon)][term], LEAST_MM if term.endswith("_mm") else LEAST_IMAGE
        )

    def save(self, folder: Path) -> None:
        """Write into the folder of the world model."""
        write_json(Path(folder) / LIMITS, asdict(self))


def fit_limits(
    folder: Path, normal: Sequence[dict[int, dict[str, float]]], provenance: str
) -> DivergenceLimits:
    """Limits for the world model in ``folder`` from what was compared while nothing happened."""
    terms: dict[str, dict[str, float]] = {}
    for gaps in normal:
        for horizon, found in gaps.items():
            most = terms.setdefault(str(horizon), dict.fromkeys(found, 0.0))
            most |= {term: max(most[term], MARGIN * value) for term, value in found.items()}
    if not terms:
        raise InputError("nothing was compared: longer episodes are wanted")
    return DivergenceLimits(digest(Path(folder) / "world.safetensors"), terms, provenance)


def load_limits(folder: Path) -> DivergenceLimits | None:
    """The limits in a folder; None where it has none. Raises InputError for those of another world
    model.
    """
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
    if limits.world_sha256 != digest(Path(folder) / "world.safetensors"):
        raise InputError(
            f"{file} is of another world model: make it anew with `gwm bench divergence --fit"
            f" --policy {folder}`"
        )
    return limits


def _whole(terms) -> bool:
    """Whether these are limits: horizons, terms, finite numbers from 0 on."""
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
