"""Anchor positions of tokens over a sequence of scenes.

A token stands for the same part of the world in every scene of its sequence. Gripper tokens have
fixed positions in the gripper's frame. The others begin at the Gaussians that are farthest from
these and from each other; then each moves as the rigid part does that it lies on. A part rests,
moves with the gripper, or falls. No position depends on later scenes, so a network can predict all
changes of the positions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.cluster.vq import kmeans2
from scipy.spatial import cKDTree

from gwm_core.errors import InputError
from gwm_core.scene.gaussians import COLORS, MEANS, rigid_parts

COLOR_METRES = 0.05  # [m] the distance that a full unit of colour counts as
CARRIED = 0.25  # [m] from the gripper: parts within may move
MOTIONS = RESTS, WITH_GRIPPER, FREELY = range(3)  # how a token moves between two scenes
MOVED = 0.005  # [m] that a token moves by: less is noise of the observation
HAND = 0.2  # [m] from between the fingertips: gripper tokens lie within
_HIDDEN = 0.03  # [m] from the nearest Gaussian: a token farther away rests
_UNLIKE = 0.015  # [m] distance of a Gaussian from its like, where it has none
_LOST = 0.006  # [m] mean distance of a part from its like, above which it may have fallen
_FALL = 0.005  # [m] between depths of a fall that are tried
_MAXIMUM_POINTS = 20_000  # of ``find_gripper_tokens``


def track_tokens(
    scenes: np.ndarray,
    poses: np.ndarray,
    gripper_tokens: np.ndarray,
    count: int,
    steps: Sequence[PartSteps] | None = None,
) -> np.ndarray:
    """Positions (T, count, 3) float32 [m] of all tokens, the gripper's first.

    Args:
        scenes: (T, N, 14), in order of time.
        poses: (T, 4, 4) of the gripper in the base frame.
        gripper_tokens: (A, 3) [m] in the gripper's frame, A < count.
        count: of all tokens.
        steps: (T - 1) of ``part_steps``, where they are known.
    """
    on_gripper = (
        gripper_tokens @ poses[:, :3, :3].transpose(0, 2, 1) + poses[:, None, :3, 3]
    )  # (T, A, 3)
    chosen = _farthest(scenes[0][:, MEANS], on_gripper[0], count - len(gripper_tokens))
    positions = [scenes[0][chosen, MEANS]]
    colors = scenes[0][chosen, COLORS]
    steps = part_steps(scenes, poses) if steps is None else steps
    for k, step in enumerate(steps):
        nearest, distance = _nearest(scenes[k], positions[-1], colors)
        moved = step.of(positions[-1], nearest)
        positions.append(np.where((distance < _HIDDEN)[:, None], moved, positions[-1]))
    return np.concatenate([on_gripper, np.stack(positions)], axis=1).astype(np.float32)


@dataclass(frozen=True)
class PartSteps:
    """How each Gaussian of a scene moves to the next scene, with the part that it belongs to."""

    carried: np.ndarray  # (N,) bool: with the gripper
    fall: np.ndarray  # (N,) [m] downwards; 0: it does not fall
    motion: np.ndarray  # (4, 4) of the gripper, in the base frame

    def of(self, points: np.ndarray, gaussians: np.ndarray) -> np.ndarray:
        """Where points (K, 3) [m] move that belong to the ``gaussians`` (K,) by number."""
        carried = self.carried[gaussians, None]
        fallen = points - self.fall[gaussians, None] * [0.0, 0.0, 1.0]
        return np.where(carried, _moved(points, self.motion), fallen)


def part_steps(scenes: np.ndarray, poses: np.ndarray) -> list[PartSteps]:
    """The steps between consecutive scenes (T, N, 14), the gripper at poses (T, 4, 4)."""
    pairs = zip(scenes[:-1], poses[:-1], scenes[1:], poses[1:])
    return [_part_step(scene, T, later, T_later) for scene, T, later, T_later in pairs]


def _part_step(
    scene: np.ndarray, T: np.ndarray, later: np.ndarray, T_later: np.ndarray
) -> PartSteps:
    """Each part rests, moves with the gripper or falls, whichever takes its Gaussians nearest to
    those of the later scene, in position and colour.
    """
    motion = T_later @ np.linalg.inv(T)
    points, colors = scene[:, MEANS], scene[:, COLORS]
    tree = cKDTree(_described(later[:, MEANS], later[:, COLORS]))

    def unlike(moved: np.ndarray, some=slice(None)) -> np.ndarray:
        found = tree.query(_described(moved, colors[some]), distance_upper_bound=_UNLIKE)[0]
        return np.minimum(found, _UNLIKE)

    parts = rigid_parts(scene)
    sizes = np.bincount(parts)
    rests, carried = (
        np.bincount(parts, unlike(p)) / sizes for p in (points, _moved(points, motion))
    )
    near = np.bincount(parts, np.linalg.norm(points - T[:3, 3], axis=1) < CARRIED) > 0
    fall = np.zeros(len(sizes))
    for part in np.flatnonzero(near & (np.minimum(rests, carried) > _LOST)):
        some = np.flatnonzero(parts == part)
        depths = np.arange(_FALL, points[some, 2].min(), _FALL)
        means = [unlike(points[some] - [0.0, 0.0, depth], some).mean() for depth in depths]
        if means and min(means) < min(rests[part], carried[part], _LOST):
            fall[part] = depths[np.argmin(means)]
    moves = near & (carried < rests) & (fall == 0)
    return PartSteps(moves[parts], fall[parts], motion)


def _nearest(
    scene: np.ndarray, points: np.ndarray, colors: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Numbers (K,) of the Gaussians nearest to points (K, 3) in position and colour, and their
    distances [m].
    """
    tree = cKDTree(_described(scene[:, MEANS], scene[:, COLORS]))
    distance, number = tree.query(_described(points, colors))
    return number, distance


def token_motions(before: np.ndarray, after: np.ndarray, motion: np.ndarray) -> np.ndarray:
    """How tokens at ``before`` (K, 3) came to be at ``after`` (K, 3) [m]: (K,) int8.

    Args:
        motion: (4, 4) of the gripper meanwhile, in the base frame.
    """
    carried = _moved(before, motion)
    with_gripper = np.linalg.norm(after - carried, axis=1) < MOVED
    rests = np.linalg.norm(after - before, axis=1) < MOVED
    return np.where(rests, RESTS, np.where(with_gripper, WITH_GRIPPER, FREELY)).astype(np.int8)


def find_gripper_tokens(scenes: np.ndarray, poses: np.ndarray, count: int) -> np.ndarray:
    """Positions (count, 3) [m] of gripper tokens: k-means over the Gaussians of the hand.

    Args:
        scenes: (S, N, 14).
        poses: (S, 4, 4) of the gripper; z points from the hand to its fingertips.
        count: of tokens.

    Raises:
        InputError: fewer Gaussians of the hand than tokens.
    """
    points = np.einsum("sni,sij->snj", scenes[..., MEANS] - poses[:, None, :3, 3], poses[:, :3, :3])
    # a hand widens behind its fingertips
    aside = np.linalg.norm(points[..., :2], axis=-1)
    behind = -points[..., 2]
    hand = points[(behind > 0) & (aside < 0.05 + behind) & (np.hypot(aside, behind) < HAND)]
    if len(hand) < count:
        raise InputError(
            f"the hand is seen at {len(hand)} points in {len(scenes)} scenes: {count} or more are"
            " wanted"
        )
    some = hand[np.random.default_rng(0).permutation(len(hand))[:_MAXIMUM_POINTS]]
    return kmeans2(some.astype(np.float64), count, minit="++", seed=0)[0].astype(np.float32)


def _farthest(points: np.ndarray, taken: np.ndarray, count: int) -> np.ndarray:
    """Indices (count,) of points (N, 3), each farthest from the earlier ones and ``taken``."""
    distances = cKDTree(taken).query(points)[0]
    chosen = np.empty(count, np.int64)
    for k in range(count):
        chosen[k] = distances.argmax()
        distances = np.minimum(distances, np.linalg.norm(points - points[chosen[k]], axis=1))
    return chosen


def _moved(points: np.ndarray, motion: np.ndarray) -> np.ndarray:
    """Points (K, 3) after a rigid motion (4, 4)."""
    return points @ motion[:3, :3].T + motion[:3, 3]


def _described(points: np.ndarray, colors: np.ndarray) -> np.ndarray:
    return np.concatenate([points, COLOR_METRES * colors], axis=1).astype(np.float64)
