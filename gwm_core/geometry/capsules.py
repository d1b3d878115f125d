"""The arm's body as capsules.

They remove the arm from a scene, and keep it from colliding with itself and the table.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from gwm_core.geometry.kinematics import A, D, link_frames


class Capsule(NamedTuple):
    """All points within ``radius`` of a line [m], in the frame of ``link`` (1-7; 0 is the base)."""

    link: int
    start: tuple[float, float, float]
    end: tuple[float, float, float]
    radius: float


# Fitted to the vertices of MuJoCo Menagerie's Panda meshes (Apache-2.0; FR3 has the same shape): no
# vertex of a link sticks out of its own capsules by more than 1 mm (tests/test_body.py). The last
# one is the hand.
CAPSULES = (
    Capsule(0, (-0.003, 0.013, 0.059), (-0.005, -0.013, 0.058), 0.101),
    Capsule(0, (-0.114, -0.038, 0.028), (-0.111, 0.036, 0.027), 0.050),
    Capsule(1, (-0.001, -0.017, -0.108), (0, 0, -0.161), 0.063),
    Capsule(1, (0.002, -0.045, -0.023), (0, -0.053, -0.001), 0.076),
    Capsule(2, (0.001, -0.097, 0.013), (0, -0.167, 0), 0.061),
    Capsule(2, (-0.001, -0.003, 0.052), (-0.002, -0.017, 0.047), 0.078),
    Capsule(3, (0, 0, -0.098), (0.010, -0.001, -0.060), 0.061),
    Capsule(3, (0.079, 0.046, -0.003), (0.081, 0.040, -0.001), 0.069),
    Capsule(4, (-0.001, 0.001, 0.034), (-0.006, 0.004, 0.055), 0.066),
    Capsule(4, (-0.083, 0.100, 0), (-0.072, 0.061, 0), 0.060),
    Capsule(5, (-0.001, 0.059, -0.174), (-0.002, 0.090, -0.107), 0.041),
    Capsule(5, (0.002, 0.017, -0.207), (0, 0, -0.232), 0.061),
    Capsule(5, (-0.002, 0.085, -0.017), (0, 0.060, 0), 0.065),
    Capsule(6, (0.022, 0.007, 0.013), (0.003, 0.001, 0.007), 0.055),
    Capsule(6, (0.087, -0.024, 0), (0.076, 0.046, -0.002), 0.053),
    Capsule(7, (-0.005, -0.005, 0.073), (0.032, 0.032, 0.084), 0.049),
    Capsule(7, (-0.053, -0.053, 0.128), (0.043, 0.043, 0.138), 0.049),
)
_HALF_WIDTH = 0.045 * np.sqrt(0.5)
# of the open gripper; they may touch the object they hold
FINGERS = Capsule(
    7, (-_HALF_WIDTH, -_HALF_WIDTH, 0.1925), (_HALF_WIDTH, _HALF_WIDTH, 0.1925), 0.030
)

# Inside the joint limits only these come near each other: base, shoulder and upper arm (links 0-2)
# against forearm, wrist and hand (links 5-7), and the latter against the table (z = 0). Neighbours
# on the chain are left out.
_PROXIMAL = [capsule for capsule in CAPSULES if capsule.link <= 2]  # A = 6
_DISTAL = [*(capsule for capsule in CAPSULES if capsule.link >= 5), FINGERS]  # B = 8
MINIMUM_CLEARANCE = 0.0125  # [m] 10 mm between the meshes if both stick out
# [m] allowed for level fingers at the lowest height of the workspace; tilted ones must stay higher
_FINGERS_TO_TABLE = -0.010


def _ends(capsules, frames: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Start points and directions (..., C, 3) of capsules, from link frames (8, ..., 4, 4)."""
    # (..., C, 4, 4)
    frames = np.moveaxis(frames, 0, -3)[..., [capsule.link for capsule in capsules], :, :]
    R, t = frames[..., :3, :3], frames[..., :3, 3]
    starts, ends = (
        np.array([getattr(c, end) for c in capsules], float) for end in ("start", "end")
    )
    return (R @ starts[..., None])[..., 0] + t, (R @ (ends - starts)[..., None])[..., 0]


def distance_to_arm(points: np.ndarray, q: np.ndarray) -> np.ndarray:
    """Distance (M,) [m] of points (M, 3), base frame, from the arm's surface; negative inside."""
    nearest = np.full(len(points), np.inf)
    for capsule, start, along in zip(CAPSULES, *_ends(CAPSULES, link_frames(q))):
        fraction = np.clip((points - start) @ along / (along @ along), 0.0, 1.0)
        gap = points - start - fraction[:, None] * along
        nearest = np.minimum(nearest, np.sqrt(np.einsum("ij,ij->i", gap, gap)) - capsule.radius)
    return nearest


def clearance(q: np.ndarray) -> np.ndarray:
    """Distances (..., 8, 7) [m] between all parts that may collide, at joints (..., 7).

    The rows are forearm to fingers. The columns are base (2), shoulder (2), upper arm (2) and
    table. The fingers' distance from the table includes their allowance.
    """
    frames = link_frames(q)
    p, u = (part[..., :, None, :] for part in _ends(_DISTAL, frames))  # (..., 8, 1, 3)
    r, v = (part[..., None, :, :] for part in _ends(_PROXIMAL, frames))  # (..., 1, 6, 3)
    height = np.minimum(p[..., 2], (p + u)[..., 2]) - _DISTAL_RADII[:, None]  # (..., 8, 1)
    height[..., -1, 0] += MINIMUM_CLEARANCE - _FINGERS_TO_TABLE
    return np.concatenate(
        [_segment_distance(p, u, r, v) - _DISTAL_RADII[:, None] - _PROXIMAL_RADII, height], axis=-1
    )


def _segment_distance(p, u, r, v) -> np.ndarray:
    """Distance of the segments p + s u and r + t v, s and t in 0..1.

    Ericson, Real-Time Collision Detection, 5.1.
    """

    def dot(a, b):
        return np.einsum("...i,...i->...", a, b)

    w = p - r
    uu, uv, vv, uw, vw = dot(u, u), dot(u, v), dot(v, v), dot(u, w), dot(v, w)
    s = np.clip((uv * vw - vv * uw) / np.maximum(uu * vv - uv * uv, 1e-15), 0.0, 1.0)
    t = np.clip((uv * s + vw) / vv, 0.0, 1.0)
    s = np.clip((uv * t - uw) / uu, 0.0, 1.0)
    gap = w + s[..., None] * u - t[..., None] * v
    return np.sqrt(dot(gap, gap))


def _rate_bounds() -> np.ndarray:
    """Bounds (8, 7, 7) [m/rad] on the change of each distance of ``clearance`` with each joint.

    A joint moves a point no faster than the longest path from its axis to the point: along the
    offsets of the link frames, then to the far end of the capsule. It moves only the links beyond
    it, and joint 1 turns about the vertical.
    """
    offsets = np.hypot(A, D)  # (7,) from frame j to frame j + 1; that of joint 1 is never used
    rates = np.zeros((len(_DISTAL), len(_PROXIMAL) + 1, 7))
    for i, capsule in enumerate(_DISTAL):
        tip = max(np.linalg.norm(end) for end in (capsule.start, capsule.end)) + capsule.radius
        for joint in range(1, capsule.link + 1):
            rate = offsets[joint : capsule.link].sum() + tip
            for k, other in enumerate(_PROXIMAL):
                rates[i, k, joint - 1] = rate * (joint > other.link)
            rates[i, -1, joint - 1] = rate * (joint > 1)
    return rates


_DISTAL_RADII, _PROXIMAL_RADII = (
    np.array([capsule.radius for capsule in part]) for part in (_DISTAL, _PROXIMAL)
)
_RATE_BOUNDS = _rate_bounds()


class Clearance:
    """Checks that postures keep the arm from itself and the table.

    The distances at one posture bound those of all postures near it, so only some postures need a
    computation of their own.
    """

    def __init__(self):
        self._q = np.full(7, np.inf)
        self._margins = np.zeros(_RATE_BOUNDS.shape[:2])

    def holds(self, q: np.ndarray) -> bool:
        """Whether all postures (S, 7) [rad] along a path are clear."""
        if self._within_bounds(q):
            return True
        self._q = q[0].copy()
        self._margins = clearance(q[0]) - MINIMUM_CLEARANCE
        return self._within_bounds(q) or bool(clearance(q).min() >= MINIMUM_CLEARANCE)

    def _within_bounds(self, q: np.ndarray) -> bool:
        # (7,) largest distance of each joint from the computed posture
        moved = np.abs(q - self._q).max(axis=0)
        return bool(
            np.isfinite(moved).all() and (self._margins - _RATE_BOUNDS @ moved).min() >= 0.0
        )
