"""The Gaussian array: column names and farthest-point sampling."""

from __future__ import annotations

import numba
import numpy as np

COLUMNS = ("x", "y", "z", "sx", "sy", "sz", "qw", "qx", "qy", "qz", "r", "g", "b", "opacity")
MEANS, SCALES, QUATS, COLORS, OPACITY = slice(0, 3), slice(3, 6), slice(6, 10), slice(10, 13), 13


@numba.njit(cache=True, fastmath=True)
def _farthest(x, y, z, count):
    n = x.size
    nearest = np.full(n, np.float32(1e10))
    chosen = np.empty(count, np.int64)
    last = 0
    for k in range(count):
        chosen[k] = last
        best, where = np.float32(-1.0), 0
        px, py, pz = x[last], y[last], z[last]
        for i in range(n):
            dx, dy, dz = x[i] - px, y[i] - py, z[i] - pz
            d = min(nearest[i], dx * dx + dy * dy + dz * dz)
            nearest[i] = d
            if d > best:
                best, where = d, i
        last = where
    return chosen


def farthest_points(points: np.ndarray, count: int) -> np.ndarray:
    """Indices (count,) of farthest-point sampling, in the order they were chosen, from points (N, 3), N >= 1.

    When there are fewer points than wanted the order starts again from its beginning.
    """
    points = np.ascontiguousarray(points.T, np.float32)
    chosen = _farthest(points[0], points[1], points[2], min(count, points.shape[1]))
    return np.resize(chosen, count)


def sample(gaussians: np.ndarray, count: int) -> np.ndarray:
    """Exactly ``count`` Gaussians (count, 14), farthest points first; an empty scene stays empty of meaning: zeros."""
    if len(gaussians) == 0:
        return np.zeros((count, 14), np.float32)
    return gaussians[farthest_points(gaussians[:, MEANS], count)]
