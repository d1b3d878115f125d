"""The Gaussian array: column names and sampling to a fixed count."""

from __future__ import annotations

import fpsample
import numpy as np

from gwm_core.errors import one_of

COLUMNS = ("x", "y", "z", "sx", "sy", "sz", "qw", "qx", "qy", "qz", "r", "g", "b", "opacity")
MEANS, SCALES, QUATS, COLORS, OPACITY = slice(0, 3), slice(3, 6), slice(6, 10), slice(10, 13), 13
SAMPLING = ("farthest", "importance")
_TREE_HEIGHT = 5  # of fpsample's bucket tree: best for a few thousand points


def farthest_points(points: np.ndarray, count: int) -> np.ndarray:
    """Indices (count,) of farthest-point sampling, in the order they were chosen, from points (N,
    3), N >= 1.

    When there are fewer points than wanted the order starts again from its beginning.
    """
    some = min(count, len(points))
    points = np.ascontiguousarray(points, np.float32)
    if len(points) < 2**_TREE_HEIGHT:
        chosen = fpsample.fps_sampling(points, some, start_idx=0)
    else:
        chosen = fpsample.bucket_fps_kdline_sampling(points, some, h=_TREE_HEIGHT, start_idx=0)
    return np.resize(chosen.astype(np.int64), count)


def important_points(gaussians: np.ndarray, count: int) -> np.ndarray:
    """Indices (count,) drawn evenly over surface: the chance of a Gaussian is its area times its
    opacity.

    Systematic resampling (Kitagawa 1996) at the middle of each of ``count`` equal shares: no
    randomness, one pass.
    """
    weight = gaussians[:, 3].astype(np.float64) * gaussians[:, 4] * gaussians[:, OPACITY]
    share = np.cumsum(weight)
    return np.searchsorted(share, (np.arange(count) + 0.5) / count * share[-1])


def sample(gaussians: np.ndarray, count: int, how: str = "farthest") -> np.ndarray:
    """Exactly ``count`` Gaussians (count, 14), farthest points first; an empty scene stays empty of
    meaning: zeros.

    Of farthest points those that stay grow, so that they cover the area of those that go.
    """
    one_of("sampling", how, SAMPLING)
    if len(gaussians) == 0:
        return np.zeros((count, len(COLUMNS)), np.float32)
    if how == "importance":
        return gaussians[important_points(gaussians, count)]
    chosen = gaussians[farthest_points(gaussians[:, MEANS], count)]
    chosen[:, SCALES] *= max(1.0, len(gaussians) / count) ** 0.5
    return chosen
