"""What the recorder has at hand of the past."""

import numpy as np
import pytest

from gwm_core.recording.ring_buffer import RingBuffer


@pytest.mark.parametrize("most", [1000, 10**9])
def test_it_holds_the_newest_that_fit_and_nothing_older(most):
    rng, now, everything = np.random.default_rng(0), 0.0, []
    ring = RingBuffer(3.0, most)
    for number in range(500):
        now += rng.exponential(0.1)
        size = int(rng.integers(1, 200))
        ring.add(now, (number,), size)
        everything.append((now, size))
        kept = [n for (n,) in ring]
        assert kept == list(range(kept[0], number + 1)) and len(ring) == len(kept)
        assert sum(everything[n][1] for n in kept) <= most
        young = [n for n, (t, _) in enumerate(everything) if now - t <= 3.0]
        assert kept == young[-len(kept) :] and ring.seconds == now - everything[kept[0]][0]
        assert most < 10**9 or kept == young


def test_what_is_larger_than_all_of_it_is_not_kept():
    ring = RingBuffer(3.0, 10)
    ring.add(0.0, ("a",), 5)
    ring.add(0.1, ("b",), 11)
    assert list(ring) == [] and ring.seconds == 0.0
