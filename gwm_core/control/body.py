"""The arm's body as capsules: for leaving it out of a scene, and for keeping it off itself and the table."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from gwm_core.control.kinematics import link_frames


class Capsule(NamedTuple):
    """All points within ``radius`` of a line [m], in the frame of ``link`` (1-7; 0 is the base)."""

    link: int
    start: tuple[float, float, float]
    end: tuple[float, float, float]
    radius: float


# Links after the collision geometry of MuJoCo Menagerie's Panda (Apache-2.0; FR3 has the same shape), the hand's box
# as a capsule along its long side, 45 degrees about z from link 7. The fingers are not in: they touch what they hold.
_ALONG = 0.07 * np.sqrt(0.5)
CAPSULES = (
    Capsule(0, (-0.05, 0, 0.06), (0, 0, 0.07), 0.08),
    Capsule(1, (0, 0, -0.19), (0, 0, 0), 0.07),
    Capsule(2, (0, 0, -0.06), (0, 0, 0.06), 0.07),
    Capsule(3, (0, 0, -0.14), (0, 0, -0.05), 0.065),
    Capsule(3, (0.08, 0, 0.06), (0.08, 0, -0.03), 0.06),
    Capsule(4, (0, 0, -0.05), (0, 0, 0.06), 0.06),
    Capsule(4, (-0.08, 0.08, 0), (-0.08, 0.10, 0), 0.055),
    Capsule(5, (0, 0, -0.25), (0, 0, -0.15), 0.06),
    Capsule(5, (0, 0.08, -0.13), (0, 0.08, -0.02), 0.03),
    Capsule(6, (0, 0, -0.07), (0, 0, 0.04), 0.055),
    Capsule(6, (0.08, 0, 0.01), (0.08, 0, 0), 0.055),
    Capsule(7, (0, 0, 0), (0, 0, 0.09), 0.05),
    Capsule(7, (_ALONG, _ALONG, 0.137), (-_ALONG, -_ALONG, 0.137), 0.045),
)


def capsule_ends(q: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Start and end points (C, 3) [m] of ``CAPSULES`` in the base frame at joints ``q`` (7,) [rad]."""
    frames = link_frames(q)[[capsule.link for capsule in CAPSULES]]  # (C, 4, 4)
    R, t = frames[:, :3, :3], frames[:, :3, 3]
    starts, ends = (np.array([getattr(c, end) for c in CAPSULES], float) for end in ("start", "end"))
    return (R @ starts[..., None])[..., 0] + t, (R @ ends[..., None])[..., 0] + t


def distance_to_arm(points: np.ndarray, q: np.ndarray) -> np.ndarray:
    """Distance (M,) [m] of points (M, 3) in the base frame from the arm's surface; negative inside."""
    nearest = np.full(len(points), np.inf)
    for capsule, start, end in zip(CAPSULES, *capsule_ends(q)):
        along = end - start
        share = np.clip((points - start) @ along / (along @ along), 0.0, 1.0)
        gap = points - start - share[:, None] * along
        nearest = np.minimum(nearest, np.sqrt(np.einsum("ij,ij->i", gap, gap)) - capsule.radius)
    return nearest
