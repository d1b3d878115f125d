"""Compare the table with its image before the first policy's trial."""

from __future__ import annotations

import cv2
import numpy as np

_SIDE = 240  # [pixels] height at which images are compared
_BLOCK = 16  # [pixels] side of the blocks of which the worst counts: the table is large
_FULL = 0.25  # difference of a block, of 0-1, at which the similarity is 0
_EDGES = 60, 160  # thresholds of cv2.Canny, of 0-255


def alignment(first: np.ndarray, live: np.ndarray) -> tuple[float, np.ndarray]:
    """Similarity (0-1) of two images (H, W, 3) uint8 RGB of a camera, and the second one with the
    outlines of the first.

    Raises ValueError for images of different sizes.
    """
    if first.shape != live.shape:
        raise ValueError(
            f"images of one camera are of one size, not {first.shape} and {live.shape}"
        )
    error = np.abs(_normalized(first) - _normalized(live)).mean(-1)  # (h, w)
    blocks = cv2.blur(error, (_BLOCK, _BLOCK))
    overlay = live.copy()
    overlay[cv2.Canny(cv2.GaussianBlur(first, (5, 5), 0), *_EDGES) > 0] = (255, 40, 40)
    return float(np.clip(1 - blocks.max() / _FULL, 0, 1)), overlay


def _normalized(image: np.ndarray) -> np.ndarray:
    """A small, smooth image of equal mean brightness."""
    small = cv2.resize(
        image, (round(_SIDE * image.shape[1] / image.shape[0]), _SIDE), interpolation=cv2.INTER_AREA
    )
    small = cv2.GaussianBlur(small, (5, 5), 0).astype(np.float32) / 255
    return small / np.maximum(small.mean((0, 1)), 1e-3) * 0.5
