"""Where the tokens of a history are: each stands for the same piece of the world in every scene of
it.

Some ride the gripper at places of its own frame, whatever is seen there. The others begin at the
Gaussians farthest from these and each other, and from then on stay or go along with the gripper. No
place is ever taken from what is seen later, so that how places change is what a world model can
know.
"""

from __future__ import annotations

import numpy as np
from scipy.cluster.vq import kmeans2
from scipy.spatial import cKDTree

from gwm_core.errors import InputError
from gwm_core.scene.gaussians import COLORS, MEANS

COLOR_METRES = 0.05  # [m] a full unit of colour counts as much as this far away
RIDING = 0.25  # [m] from the gripper within which things may move with it
HAND = 0.2  # [m] how far from between the fingertips riders are
_SOME = 20_000  # points that ``find_riders`` looks at


def follow_all(scenes: np.ndarray, poses: np.ndarray, riders: np.ndarray, count: int) -> np.ndarray:
    """Places (T, count, 3) float32 [m], riders first, in scenes (T, N, 14) that follow each other.

    Args:
        poses: (T, 4, 4) of the gripper in the base frame. riders: (A, 3) [m] in the gripper's
            frame, A < count.
    """
    ridden = riders @ poses[:, :3, :3].transpose(0, 2, 1) + poses[:, None, :3, 3]  # (T, A, 3)
    chosen = _farthest(scenes[0][:, MEANS], ridden[0], count - len(riders))
    places, colors = [scenes[0][chosen, MEANS]], scenes[0][chosen, COLORS]
    for k in range(1, len(scenes)):
        places.append(follow(places[-1], colors, poses[k - 1], scenes[k], poses[k]))
    return np.concatenate([ridden, np.stack(places)], axis=1).astype(np.float32)


def follow(
    places: np.ndarray,
    colors: np.ndarray,
    T_before: np.ndarray,
    scene: np.ndarray,
    T_after: np.ndarray,
) -> np.ndarray:
    """Where places (K, 3) of these colours (K, 3) are in the next scene (N, 14).

    Each stays or goes along with the gripper, whichever finds the likelier Gaussian there.

    Args:
        T_before, T_after: (4, 4) pose of the gripper in the base frame at the two moments.
    """
    motion = T_after @ np.linalg.inv(T_before)
    ride = places @ motion[:3, :3].T + motion[:3, 3]
    tree = cKDTree(_described(scene[:, MEANS], scene[:, COLORS]))
    stays, rides = (tree.query(_described(points, colors))[0] for points in (places, ride))
    near = np.linalg.norm(places - T_before[:3, 3], axis=1) < RIDING
    return np.where((near & (rides < stays))[:, None], ride, places)


def find_riders(scenes: np.ndarray, poses: np.ndarray, count: int) -> np.ndarray:
    """Places (count, 3) [m] in the gripper's frame where the hand itself is usually seen, by
    k-means.

    Raises InputError where it is hardly seen at all.

    Args:
        scenes: (S, N, 14). poses: (S, 4, 4), z points from the hand to its fingertips.
    """
    points = np.einsum("sni,sij->snj", scenes[..., MEANS] - poses[:, None, :3, 3], poses[:, :3, :3])
    # a hand widens behind its fingertips
    aside, behind = np.linalg.norm(points[..., :2], axis=-1), -points[..., 2]
    hand = points[(behind > 0) & (aside < 0.05 + behind) & (np.hypot(aside, behind) < HAND)]
    if len(hand) < count:
        raise InputError(
            f"the hand is seen at {len(hand)} points in {len(scenes)} scenes: {count} or more are"
            " wanted"
        )
    some = hand[np.random.default_rng(0).permutation(len(hand))[:_SOME]]
    return kmeans2(some.astype(np.float64), count, minit="++", seed=0)[0].astype(np.float32)


def _farthest(points: np.ndarray, taken: np.ndarray, count: int) -> np.ndarray:
    """Indices (count,) of points (N, 3), each the farthest from those before it and from ``taken``
    (A, 3).
    """
    apart, chosen = cKDTree(taken).query(points)[0], np.empty(count, np.int64)
    for k in range(count):
        chosen[k] = apart.argmax()
        apart = np.minimum(apart, np.linalg.norm(points - points[chosen[k]], axis=1))
    return chosen


def _described(points: np.ndarray, colors: np.ndarray) -> np.ndarray:
    return np.concatenate([points, COLOR_METRES * colors], axis=1).astype(np.float64)
