"""Test whether the predicted gripper follows commands, by a linear probe from latents to positions.

Tokens are a set without an order. Each is described by fixed random features, which are summed over
the tokens, alone and times the anchor, and go into a ridge regression. The probe learns from
observed latents and is then frozen.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from gwm_core.errors import InputError
from gwm_core.evaluation.future_predictor import FuturePredictor
from gwm_core.evaluation.world_model_eval import windows
from gwm_core.model.vae import VAE
from gwm_core.scene.lift import LiftConfig
from gwm_core.training.datasets.clips import SceneClips
from gwm_core.training.datasets.latents import encode_clips

_FEATURES = 256  # of a token; four times as many of a scene
_PENALTIES = 10.0 ** np.arange(-2, 4)  # of the ridge, tried on every fifth episode
_WINDOWS = 600  # of training


class GripperProbe:
    """Position of the gripper (..., 3) [m] from latents (..., K, D)."""

    def __init__(self, z: np.ndarray, positions: np.ndarray, episode: np.ndarray):
        """Learn from latents (S, K, D), positions (S, 3) [m] and the episode (S,) of each."""
        rng = np.random.default_rng(0)
        self._mean, self._std = z.mean((0, 1)), z.std((0, 1)) + 1e-6
        self._directions = rng.normal(size=(z.shape[-1], _FEATURES)).astype(np.float32) / np.sqrt(
            z.shape[-1]
        )
        self._offsets = rng.normal(size=_FEATURES).astype(np.float32)
        self._center, self._spread, self._weights = 0.0, 1.0, None
        features = self._features(z)[:, :-1]
        self._center, self._spread = features.mean(0), features.std(0) + 1e-9
        features = self._features(z)
        held = episode % 5 == 0
        if held.all() or not held.any():
            raise InputError(
                "the probe needs episodes to learn from and others to choose its penalty: two at"
                " least"
            )
        misses = [
            np.linalg.norm(
                features[held] @ _ridge(features[~held], positions[~held], penalty)
                - positions[held],
                axis=1,
            )
            for penalty in _PENALTIES
        ]
        self._weights = _ridge(
            features, positions, _PENALTIES[np.argmin([np.median(miss) for miss in misses])]
        )

    def __call__(self, z: np.ndarray) -> np.ndarray:
        """Positions (..., 3) [m] for latents (..., K, D)."""
        return self._features(z) @ self._weights

    def _features(self, z: np.ndarray) -> np.ndarray:
        """(..., 4 * _FEATURES + 1), the last is one."""
        hidden = np.tanh((z - self._mean) / self._std @ self._directions + self._offsets)
        anchor = np.concatenate([np.ones_like(z[..., :1]), z[..., :3]], axis=-1)
        sums = (
            (np.swapaxes(hidden, -1, -2) @ anchor / z.shape[-2])
            .reshape(*z.shape[:-2], -1)
            .astype(np.float64)
        )
        sums = (sums - self._center) / self._spread
        return np.concatenate([sums, np.ones_like(sums[..., :1])], axis=-1)


def _ridge(x: np.ndarray, y: np.ndarray, penalty: float) -> np.ndarray:
    """Weights (F, 3) that minimise |x w - y|^2 + penalty |w|^2, the constant term unpenalised."""
    penalties = np.full(x.shape[1], penalty)
    penalties[-1] = 0.0
    return np.linalg.lstsq(x.T @ x + np.diag(penalties), x.T @ y, rcond=None)[0]


def shuffle(count: int) -> np.ndarray:
    """A permutation (count,) without fixed points, count > 1."""
    order = np.random.default_rng(0).permutation(count)
    others = np.empty(count, np.int64)
    others[order] = np.roll(order, 1)
    return others


def action_test(
    world: FuturePredictor,
    vae: VAE,
    clips: SceneClips,
    training: SceneClips,
    stride: int = 1,
    progress: Callable[[int, int], None] = lambda *_: None,
) -> dict:
    """Medians over windows of the distance [mm] from the probed to the measured gripper.

    Only moments with the gripper in the workspace count: no scene shows it elsewhere. The probe
    reads predicted latents, not where ``ImaginedWorld`` then moves the gripper to.

    Args:
        clips: to test on. training: clips of the training episodes, which the probe learns from.

    Returns:
        probe_mm of observed latents; and for each step of ``world`` imagined_mm, excess_mm over
        probe_mm, shuffled_mm with the actions of another window, and ratio = shuffled / imagined.
    """
    probe = _learned_probe(vae, training, world.steps[-1], progress)
    now = windows(clips, 1, world.steps[-1], stride)
    if len(now) < 2:
        raise InputError(
            "two windows or more are wanted to shuffle actions: a smaller --stride, or more"
            " episodes"
        )
    index = now[:, None] + np.array(world.steps)
    visible, truth = shows_gripper(clips, index, vae.config.lift), clips.poses[index, :3]

    def errors(latents: np.ndarray) -> np.ma.MaskedArray:
        return np.ma.array(np.linalg.norm(probe(latents) - truth, axis=-1), mask=~visible)  # (S, H)

    def medians(rows: np.ndarray) -> np.ndarray:
        return 1e3 * np.ma.median(errors(world.latents(clips, now, rows)), axis=0).filled(np.nan)

    observed = encode_clips(vae, clips, now, 1 + world.steps[-1])[:, list(world.steps)]
    own = 1e3 * float(np.median(errors(observed.float().numpy()).compressed()))
    rows = world.commanded(clips, now)
    imagined, shuffled = medians(rows), medians(rows[shuffle(len(now))])
    lists = {
        "imagined_mm": imagined,
        "excess_mm": imagined - own,
        "shuffled_mm": shuffled,
        "ratio": shuffled / imagined,
    }
    return {"probe_mm": own} | {name: values.tolist() for name, values in lists.items()}


def _learned_probe(
    vae: VAE, training: SceneClips, horizon: int, progress: Callable[[int, int], None]
) -> GripperProbe:
    """The probe of windows of training episodes, whose tokens are tracked as in a prediction."""
    starts = windows(training, 1, horizon, 1)
    starts = starts[:: -(-len(starts) // _WINDOWS)]
    index = starts[:, None] + np.arange(1 + horizon)
    visible = shows_gripper(training, index, vae.config.lift)
    z = encode_clips(vae, training, starts, 1 + horizon, progress).float().numpy()
    return GripperProbe(
        z[visible], training.poses[index][visible, :3], training.episode[index][visible]
    )


def shows_gripper(clips: SceneClips, index: np.ndarray, config: LiftConfig) -> np.ndarray:
    """Whether the tool centre point lies in the workspace at moments ``index`` of any shape."""
    points = clips.poses[index, :3]
    return np.all((points > config.low) & (points < config.high), axis=-1)
