"""Is the table laid as it was for the first policy? The live picture held against the one that was
kept.
"""

from __future__ import annotations

import cv2
import numpy as np

_SIDE = 240  # [pixels] height at which pictures are compared
_BLOCK = 16  # [pixels] of a block: the worst one counts, or a cube would drown in the table
_FULL = 0.25  # difference of a block, of 0-1, at which nothing is alike any more
_EDGES = 60, 160  # thresholds of cv2.Canny, of 0-255


def alignment(first: np.ndarray, live: np.ndarray) -> tuple[float, np.ndarray]:
    """How much alike two pictures (H, W, 3) uint8 RGB of a camera are, 0 to 1; and outlines of the
    first on the second.

    Raises ValueError for pictures of different sizes.
    """
    if first.shape != live.shape:
        raise ValueError(
            f"pictures of one camera are of one size, not {first.shape} and {live.shape}"
        )
    apart = np.abs(_evened(first) - _evened(live)).mean(-1)  # (h, w)
    blocks = cv2.blur(apart, (_BLOCK, _BLOCK))
    overlay = live.copy()
    overlay[cv2.Canny(cv2.GaussianBlur(first, (5, 5), 0), *_EDGES) > 0] = (255, 40, 40)
    return float(np.clip(1 - blocks.max() / _FULL, 0, 1)), overlay


def _evened(picture: np.ndarray) -> np.ndarray:
    """Small, smooth, and without the difference that the light makes to all of it."""
    small = cv2.resize(
        picture,
        (round(_SIDE * picture.shape[1] / picture.shape[0]), _SIDE),
        interpolation=cv2.INTER_AREA,
    )
    small = cv2.GaussianBlur(small, (5, 5), 0).astype(np.float32) / 255
    return small / np.maximum(small.mean((0, 1)), 1e-3) * 0.5
