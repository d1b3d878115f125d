import numpy as np
import pytest

from gwm_core.sync import MS, Sync
from gwm_core.types import ArmState


def joints(sync, first, last, step=10):
    for t in range(first, last + 1, step):
        sync.joints(ArmState(t * MS, np.full(7, float(t)), np.zeros(7), 0.04))


def images(sync, camera, stamp, skew=0):
    sync.image(camera, "color", stamp * MS, f"{camera} colour {stamp}")
    sync.image(camera, "depth", (stamp + skew) * MS, f"{camera} depth {stamp}")


def test_a_whole_moment_is_given_once_with_interpolated_joints():
    sync = Sync(("a", "b"))
    joints(sync, 0, 200)
    images(sync, "a", 100)
    assert sync.latest() is None
    images(sync, "b", 117)
    stamp, pairs, state = sync.latest()
    assert stamp == 117 * MS and pairs["a"][1] == "a colour 100" and pairs["b"][2] == "b depth 117"
    np.testing.assert_allclose(state.q, 117.0)
    assert sync.latest() is None


@pytest.mark.parametrize(
    ("skew", "whole"), [(0, True), (19, True), (-19, True), (21, False), (100, False)]
)
def test_colour_and_depth_further_apart_than_20_ms_are_never_paired(skew, whole):
    sync = Sync(("a",))
    joints(sync, 0, 300)
    images(sync, "a", 100, skew)
    assert (sync.latest() is not None) == whole


@pytest.mark.parametrize(("apart", "whole"), [(39, True), (41, False)])
def test_cameras_further_apart_than_40_ms_are_never_fused(apart, whole):
    sync = Sync(("a", "b"))
    joints(sync, 0, 300)
    images(sync, "a", 100)
    images(sync, "b", 100 + apart)
    assert (sync.latest() is not None) == whole


def test_order_of_arrival_does_not_matter_and_the_newest_wins():
    sync = Sync(("a",))
    joints(sync, 0, 300)
    for t in (166, 100, 133):
        images(sync, "a", t)
    assert sync.latest()[0] == 166 * MS
    assert sync.latest() is None


def test_no_joints_after_the_image_means_not_yet():
    sync = Sync(("a",))
    joints(sync, 0, 90)
    images(sync, "a", 95)
    assert sync.latest() is None
    joints(sync, 100, 110)
    assert sync.latest()[0] == 95 * MS


def test_a_clock_set_back_begins_anew_and_a_stamp_from_the_future_does_not_block():
    sync = Sync(("a",))
    joints(sync, 10_000, 10_200)
    images(sync, "a", 10_100)
    assert sync.latest()[0] == 10_100 * MS
    joints(sync, 0, 200)  # ten seconds back
    images(sync, "a", 100)
    assert sync.latest()[0] == 100 * MS


def test_joints_are_not_interpolated_over_a_gap():
    sync = Sync(("a",))
    joints(sync, 0, 90)
    joints(sync, 160, 200)
    images(sync, "a", 120)
    assert sync.latest() is None
