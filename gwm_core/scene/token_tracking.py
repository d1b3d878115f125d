"""Anchor positions of tokens over a sequence of scenes.

A token stands for the same part of the world in every scene of its sequence. Gripper tokens have
fixed positions in the gripper's frame. The others begin at the Gaussians that are farthest from
these and from each other; then each stays, or moves with the gripper. No position depends on later
scenes, so a world model can predict all changes of the positions.
"""

from __future__ import annotations

import numpy as np
from scipy.cluster.vq import kmeans2
from scipy.spatial import cKDTree

from gwm_core.errors import InputError
from gwm_core.scene.gaussians import COLORS, MEANS

COLOR_METRES = 0.05  # [m] the distance that a full unit of colour counts as
CARRIED = 0.25  # [m] from the gripper: tokens within may move with it
RESTS, WITH_GRIPPER, FREELY = range(3)  # how a token moves between two scenes
MOVED = 0.005  # [m] that a token moves by: less is noise of the observation
HAND = 0.2  # [m] from between the fingertips: gripper tokens lie within
_MAXIMUM_POINTS = 20_000  # of ``find_gripper_tokens``


def track_tokens(
    scenes: np.ndarray, poses: np.ndarray, gripper_tokens: np.ndarray, count: int
) -> np.ndarray:
    """Positions (T, count, 3) float32 [m] of all tokens, the gripper's first.

    Args:
        scenes: (T, N, 14), in order of time.
        poses: (T, 4, 4) of the gripper in the base frame.
        gripper_tokens: (A, 3) [m] in the gripper's frame, A < count.
        count: of all tokens.
    """
    on_gripper = (
        gripper_tokens @ poses[:, :3, :3].transpose(0, 2, 1) + poses[:, None, :3, 3]
    )  # (T, A, 3)
    chosen = _farthest(scenes[0][:, MEANS], on_gripper[0], count - len(gripper_tokens))
    positions = [scenes[0][chosen, MEANS]]
    colors = scenes[0][chosen, COLORS]
    for k in range(1, len(scenes)):
        positions.append(move_tokens(positions[-1], colors, poses[k - 1], scenes[k], poses[k]))
    return np.concatenate([on_gripper, np.stack(positions)], axis=1).astype(np.float32)


def move_tokens(
    positions: np.ndarray,
    colors: np.ndarray,
    T_before: np.ndarray,
    scene: np.ndarray,
    T_after: np.ndarray,
) -> np.ndarray:
    """Positions (K, 3) of tokens in the next scene (N, 14).

    Each stays or moves with the gripper, whichever is nearer to a Gaussian in position and colour.

    Args:
        positions: (K, 3) [m] in the scene before.
        colors: (K, 3) of the tokens.
        T_before: (4, 4) pose of the gripper in the base frame, in the scene before.
        scene: the next one (N, 14).
        T_after: (4, 4) pose of the gripper in the next scene.
    """
    motion = T_after @ np.linalg.inv(T_before)
    moved = positions @ motion[:3, :3].T + motion[:3, 3]
    tree = cKDTree(_described(scene[:, MEANS], scene[:, COLORS]))
    if_still, if_moved = (tree.query(_described(p, colors))[0] for p in (positions, moved))
    near = np.linalg.norm(positions - T_before[:3, 3], axis=1) < CARRIED
    return np.where((near & (if_moved < if_still))[:, None], moved, positions)


def token_motions(before: np.ndarray, after: np.ndarray, motion: np.ndarray) -> np.ndarray:
    """How tokens at ``before`` (K, 3) came to be at ``after`` (K, 3) [m]: (K,) int8.

    Args:
        motion: (4, 4) of the gripper meanwhile, in the base frame.
    """
    carried = before @ motion[:3, :3].T + motion[:3, 3]
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


def _described(points: np.ndarray, colors: np.ndarray) -> np.ndarray:
    return np.concatenate([points, COLOR_METRES * colors], axis=1).astype(np.float64)
