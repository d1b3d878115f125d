"""Check that a camera looks at the workspace, by its pose and field of view."""

from __future__ import annotations

import numpy as np

from gwm_core.geometry.camera import intrinsics
from gwm_core.scene.lift import LiftConfig
from gwm_core.site import Site
from gwm_core.types import ArmState

# [m] maximum depth; Intel states a range of 0.6 to 6 m for the D455
FARTHEST = 6.0
# fraction of the crop's volume in view; the simulation's cameras have all of it, one on a hand at
# home 0.27
MINIMUM_COVERAGE = 0.1
# K, width, height [pixels]: 91 x 65 degrees, as wide as a D455
WIDEST = intrinsics(1280, 800, 65.0), 1280, 800
_GRID = 12  # points along each edge
# x forward, y left, z up of a camera's body frame -> its optical frame, REP 103
_BODY_TO_OPTICAL = np.array([[0, -1, 0, 0], [0, 0, -1, 0], [1, 0, 0, 0], [0, 0, 0, 1.0]])


def coverage(T: np.ndarray, K: np.ndarray, width: int, height: int, low, high) -> float:
    """Fraction [0-1] of the box ``low`` to ``high`` (3,) [m] in view of a camera at ``T``."""
    axes = [np.linspace(a, b, _GRID) for a, b in zip(low, high)]
    points = np.stack(np.meshgrid(*axes), axis=-1).reshape(-1, 3)
    x, y, z = ((points - T[:3, 3]) @ T[:3, :3]).T
    in_front = (z > 0.01) & (z < FARTHEST)
    z = np.where(in_front, z, 1.0)
    u = K[0, 0] * x / z + K[0, 2]
    v = K[1, 1] * y / z + K[1, 2]
    return float(np.mean(in_front & (u >= 0) & (u < width) & (v >= 0) & (v < height)))


def misses(
    site: Site,
    camera: str,
    view: tuple[np.ndarray, int, int] = WIDEST,
    config: LiftConfig = LiftConfig(),
) -> str:
    """Why a camera of a site sees hardly any of the crop of the lift, or "".

    A camera on the hand is checked at the home posture.

    Args:
        site: of the camera.
        camera: its name.
        view: K (3, 3), width and height [pixels]; by default the widest field of view.
        config: with the crop.
    """
    q = np.array(site.home)
    T = site.cameras[camera].pose_at(ArmState(0, q, np.zeros(7), np.nan))
    fraction = coverage(T, *view, config.low, config.high)
    if fraction >= MINIMUM_COVERAGE:
        return ""
    box = f"{list(config.low)} to {list(config.high)} m"
    likely = [
        text for text, T in _guesses(T).items() if coverage(T, *view, config.low, config.high) > 0.3
    ]
    return f"misses the workspace: {fraction:.0%} of {box} is in view" + (
        f"; is its pose {likely[0]}" if likely else ""
    )


def _guesses(T: np.ndarray) -> dict[str, np.ndarray]:
    """Likely corrections of a wrong pose."""
    guesses = {
        "inverted?": np.linalg.inv(T),
        "of the camera's body (x forward), not of its optical frame (z forward)?": T
        @ np.linalg.inv(_BODY_TO_OPTICAL),
    }
    if np.linalg.norm(T[:3, 3]) > FARTHEST:
        guesses["in millimetres?"] = np.block([[T[:3, :3], T[:3, 3:] / 1000], [T[3:]]])
    return guesses
