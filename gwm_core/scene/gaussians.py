"""The Gaussian array: column names, rigid parts and motions, and sampling to a fixed count."""

from __future__ import annotations

import fpsample
import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

from gwm_core.errors import one_of

COLUMNS = ("x", "y", "z", "sx", "sy", "sz", "qw", "qx", "qy", "qz", "r", "g", "b", "opacity")
MEANS = slice(0, 3)
SCALES = slice(3, 6)
QUATS = slice(6, 10)
COLORS = slice(10, 13)
OPACITY = 13
SAMPLING = ("farthest", "importance")
_NEAR, _ALIKE = 0.012, 0.3  # [m], and distance of colours, of neighbours in one rigid part
_TREE_HEIGHT = 5  # of fpsample's bucket tree: best for a few thousand points


def farthest_points(points: np.ndarray, count: int) -> np.ndarray:
    """Indices (count,) of farthest-point sampling from points (N, 3), N >= 1, in their order.

    For fewer points than ``count`` the order repeats.
    """
    some = min(count, len(points))
    points = np.ascontiguousarray(points, np.float32)
    if len(points) < 2**_TREE_HEIGHT:
        chosen = fpsample.fps_sampling(points, some, start_idx=0)
    else:
        chosen = fpsample.bucket_fps_kdline_sampling(points, some, h=_TREE_HEIGHT, start_idx=0)
    return np.resize(chosen.astype(np.int64), count)


def important_points(gaussians: np.ndarray, count: int) -> np.ndarray:
    """Indices (count,) sampled evenly over the surface: weights are area times opacity.

    Systematic resampling (Kitagawa 1996) at the middle of each of ``count`` equal intervals,
    without randomness.
    """
    weight = gaussians[:, 3].astype(np.float64) * gaussians[:, 4] * gaussians[:, OPACITY]
    total = np.cumsum(weight)
    return np.searchsorted(total, (np.arange(count) + 0.5) / count * total[-1])


def sample(gaussians: np.ndarray, count: int, how: str = "farthest") -> np.ndarray:
    """Exactly ``count`` Gaussians (count, 14), farthest points first; zeros for an empty scene.

    Farthest points grow, so that they cover the area of the points that are left out.
    """
    one_of("sampling", how, SAMPLING)
    if len(gaussians) == 0:
        return np.zeros((count, len(COLUMNS)), np.float32)
    if how == "importance":
        return gaussians[important_points(gaussians, count)]
    chosen = gaussians[farthest_points(gaussians[:, MEANS], count)]
    chosen[:, SCALES] *= max(1.0, len(gaussians) / count) ** 0.5
    return chosen


def moved(gaussians: np.ndarray, T: np.ndarray) -> np.ndarray:
    """Gaussians (N, 14) after a rigid motion T (4, 4)."""
    out = gaussians.copy()
    out[:, MEANS] = gaussians[:, MEANS] @ T[:3, :3].T + T[:3, 3]
    if len(out):
        turned = Rotation.from_matrix(T[:3, :3]) * Rotation.from_quat(
            gaussians[:, QUATS], scalar_first=True
        )
        out[:, QUATS] = turned.as_quat(canonical=True, scalar_first=True)
    return out


def rigid_parts(gaussians: np.ndarray) -> np.ndarray:
    """Numbers (N,) of the parts of a scene (N, 14): Gaussians near to each other and alike in
    colour.
    """
    points, colors = gaussians[:, MEANS], gaussians[:, COLORS]
    a, b = cKDTree(points).query_pairs(_NEAR, output_type="ndarray").T
    alike = np.linalg.norm(colors[a] - colors[b], axis=1) < _ALIKE
    graph = coo_array((np.ones(alike.sum()), (a[alike], b[alike])), shape=[len(points)] * 2)
    return connected_components(graph, directed=False)[1]
