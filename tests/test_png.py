"""PNG images of recordings."""

import cv2
import numpy as np
import pytest
from zstandard import ZstdCompressor

from gwm_core.files.png import encode_png

RNG = np.random.default_rng(0)
NOISY = (800 + RNG.normal(0, 2, (48, 64))).astype(np.uint16)
HOLES = np.where(RNG.random((48, 64)) < 0.3, 0, NOISY).astype(np.uint16)
COLOR = RNG.integers(0, 256, (48, 64, 3), dtype=np.uint8)


@pytest.mark.parametrize("image", [NOISY, HOLES, COLOR, np.zeros((48, 64), np.uint16)])
def test_it_comes_back_bit_for_bit_and_takes_no_more_of_a_bag_than_by_the_usual_settings(image):
    data = encode_png(image)
    read = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(read, image)
    usual = cv2.imencode(".png", image, [cv2.IMWRITE_PNG_COMPRESSION, 1])[1]
    in_bag = ZstdCompressor(1).compress(data)  # as of EpisodeWriter
    assert len(in_bag) <= 1.15 * len(usual) + 100


@pytest.mark.parametrize(
    "array",
    [NOISY.astype(np.float64), COLOR[..., 0], NOISY[:0], COLOR.astype(np.uint16)],
    ids=["float", "grey", "empty", "wide"],
)
def test_other_arrays_are_refused(array):
    with pytest.raises(ValueError, match="no PNG of"):
        encode_png(array)
