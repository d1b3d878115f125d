"""Rows that stay on disk are read as an array is."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gwm_core.training.datasets.policy_samples import PolicySamples
from gwm_core.training.datasets.stored_rows import StoredRows, joined
from gwm_core.training.sample_arrays import SampleArrays

COUNTS = (3, 0, 5)


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """Stored rows, and the same as an array."""
    rng, parts = np.random.default_rng(0), []
    for number, count in enumerate(COUNTS):
        file = tmp_path_factory.mktemp("rows") / f"{number}.npy"
        np.save(file, rng.normal(size=(count, 4, 2)).astype(np.float16))
        parts.append(np.load(file, mmap_mode="c"))
    return StoredRows(parts), np.concatenate(parts)


KEYS = st.one_of(
    st.integers(-8, 7),
    st.slices(8),
    st.lists(st.integers(-8, 7), max_size=12).map(lambda numbers: np.array(numbers, int)),
    st.lists(st.booleans(), min_size=8, max_size=8).map(np.array),
)


@given(KEYS, KEYS, st.booleans())
def test_every_index_reads_what_it_reads_of_an_array(both, key, further, kept):
    stored, array = both
    if kept and np.ndim(np.arange(8)[further]):
        stored, array = stored.kept(further), array[further]
        key = key if isinstance(key, slice) else np.zeros(0, int)
    for index in (key, (key, 0), (key, slice(None), 1)):
        np.testing.assert_array_equal(stored[index], array[index])
    assert (len(stored), stored.shape, stored.dtype) == (len(array), array.shape, array.dtype)
    np.testing.assert_array_equal(stored, array)


def test_what_is_read_is_a_copy_and_what_is_kept_reads_nothing(both):
    stored, array = both
    rows = stored[:2]
    rows[:] = 0
    np.testing.assert_array_equal(stored, array)
    with pytest.raises(IndexError):
        stored[8]
    with pytest.raises(IndexError):
        stored.kept(np.array([9]))


def test_a_batch_of_stored_samples_is_that_of_the_same_samples_in_memory():
    rng = np.random.default_rng(1)

    def part(count):
        return {
            "points": rng.normal(size=(count, 6, 3)).astype(np.float16),
            "colors": rng.integers(0, 256, (count, 6, 3), np.uint8),
            "proprio": rng.normal(size=(count, 11)).astype(np.float32),
            "rows": rng.normal(size=(count, 16, 10)).astype(np.float32),
            "valid": rng.random((count, 16)) > 0.2,
            "task": rng.integers(0, 3, count),
            "episode": np.arange(count),
        }

    parts = [part(4), part(3)]
    stored = PolicySamples(**joined(parts, ("points", "colors")))
    here = PolicySamples(**joined(parts, ()))
    assert isinstance(stored.points, StoredRows) and isinstance(here.points, np.ndarray)
    index = torch.tensor([6, 0, 3, 3])
    batches = [SampleArrays(s, torch.device("cpu")).take(index) for s in (stored, here)]
    assert batches[0].keys() == batches[1].keys() and "episode" not in batches[0]
    for name, value in batches[0].items():
        assert torch.equal(value, batches[1][name]), name
    assert batches[0]["colors"].max() <= 1 and batches[0]["points"].dtype == torch.float32
