"""Samples with the shapes of recorded ones and random content, to time training with."""

from __future__ import annotations

import numpy as np

from gwm_core.geometry.camera import look_at
from gwm_core.geometry.kinematics import HOME_Q, fk, to_rows
from gwm_core.model.config import WorldActionConfig
from gwm_core.scene.lift import LiftConfig
from gwm_core.training.datasets.clips import CUBE, ROBOT, SEEN, SIDE, WORKSPACE, SceneClips
from gwm_core.training.datasets.future_samples import FutureSamples
from gwm_core.training.datasets.policy_samples import PolicySamples

_EYES = ((1.1, -0.5, 0.6), (1.1, 0.5, 0.6))  # [m]
_IN_EPISODE = 20  # samples of an episode


def plans(count: int, config: WorldActionConfig) -> PolicySamples:
    """``count`` samples of plans."""
    rng = np.random.default_rng(0)
    points, colors = _points(rng, count, config.lift)
    return PolicySamples(
        points=points,
        colors=colors,
        proprio=np.float32(np.append(_rows(rng, count), np.full((count, 1), 0.08), axis=1)),
        rows=_rows(rng, count, config.rows),
        valid=np.ones((count, config.rows), bool),
        task=np.zeros(count, np.int64),
        episode=np.arange(count) // _IN_EPISODE,
        starts=tuple(f"start {k}" for k in range(-(-count // _IN_EPISODE))),
    )


def futures(count: int, config: WorldActionConfig) -> FutureSamples:
    """``count`` samples of futures."""
    rng, some = np.random.default_rng(1), plans(count, config)
    jumps, tokens = len(config.jumps), config.vae.tokens
    anchors = _means(rng, (count, 1 + jumps, tokens), config.vae.lift)
    unknown = np.full((count, len(config.tasks)), -1, np.int8)
    return FutureSamples(
        points=some.points,
        colors=some.colors,
        proprio=some.proprio,
        rows=some.rows,
        latents=rng.normal(size=(*anchors.shape[:3], config.vae.latent)).astype(np.float16),
        anchors=anchors,
        motions=rng.integers(0, 3, (count, jumps, tokens), np.int8),
        valid=np.ones((count, jumps), bool),
        done=unknown,
        later_done=np.repeat(unknown[:, None], jumps, axis=1),
        outcome=unknown,
        episode=some.episode,
        starts=some.starts,
    )


def clips(count: int, lift: LiftConfig) -> SceneClips:
    """``count`` moments of two cameras."""
    rng = np.random.default_rng(2)
    views = np.stack([np.linalg.inv(look_at(eye, (0.5, 0.0, 0.05))) for eye in _EYES])
    K = np.array([[SIDE, 0, SIDE / 2], [0, SIDE, SIDE / 2], [0, 0, 1]], np.float32)
    seen = rng.choice(
        [SEEN, SEEN | WORKSPACE, SEEN | WORKSPACE | ROBOT, SEEN | WORKSPACE | CUBE], 16
    )
    regions = np.kron(seen.reshape(4, 4), np.ones((SIDE // 4, SIDE // 4))).astype(np.uint8)
    return SceneClips(
        scenes=_scenes(rng, count, lift),
        poses=_rows(rng, count),
        actions=_rows(rng, count),
        images=rng.integers(0, 256, (count, 2, SIDE, SIDE, 3), np.uint8),
        regions=np.tile(regions, (count, 2, 1, 1)),
        viewmats=np.tile(np.float32(views), (count, 1, 1, 1)),
        Ks=np.tile(K, (count, 2, 1, 1)),
        stamps=np.arange(count) * 100_000_000,
        episode=np.arange(count) // _IN_EPISODE,
    )


def _means(rng: np.random.Generator, shape: tuple[int, ...], lift: LiftConfig) -> np.ndarray:
    """Points (*shape, 3) [m] in the workspace."""
    return rng.uniform(lift.low, lift.high, (*shape, 3)).astype(np.float32)


def _points(rng: np.random.Generator, count: int, lift: LiftConfig):
    means = _means(rng, (count, lift.count), lift)
    return means.astype(np.float16), rng.integers(0, 256, means.shape, np.uint8)


def _rows(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """Pose rows (*shape, 10) around the home posture."""
    q = HOME_Q + rng.normal(0, 0.1, (*shape, 7))
    return np.float32(to_rows(fk(q.reshape(-1, 7)), np.full(q[..., 0].size, 0.04))).reshape(
        *shape, 10
    )


def _scenes(rng: np.random.Generator, count: int, lift: LiftConfig) -> np.ndarray:
    """Scenes (S, N, 14) of opaque Gaussians of 5 mm."""
    means = _means(rng, (count, lift.count), lift)
    quats = np.tile(np.float32([1, 0, 0, 0]), (*means.shape[:2], 1))
    scales = np.full(means.shape, 0.005, np.float32)
    opacity = np.full((*means.shape[:2], 1), 0.9, np.float32)
    colors = rng.uniform(0, 1, means.shape).astype(np.float32)
    return np.concatenate([means, scales, quats, colors, opacity], axis=-1).astype(np.float16)
