"""Write PNG images fast, as recordings hold them."""

from __future__ import annotations

import cv2
import numpy as np

# Half the time of level 1 alone. Noisy depth takes no more bytes, since no search finds repetitions
# in its noise; runs of one value, as holes, stay short.
_FAST = [
    *(cv2.IMWRITE_PNG_COMPRESSION, 1),
    *(cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_SUB),
    *(cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_RLE),
]


def encode_png(image: np.ndarray) -> bytes:
    """A PNG of (H, W, 3) uint8 BGR or (H, W) uint16. Raises ValueError for other arrays."""
    if (image.ndim, image.dtype) not in ((3, np.uint8), (2, np.uint16)) or not image.size:
        raise ValueError(f"no PNG of {image.dtype} {image.shape}: uint8 colour or uint16 depth")
    return cv2.imencode(".png", image, _FAST)[1].tobytes()
