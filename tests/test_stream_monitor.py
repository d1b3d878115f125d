from dataclasses import replace

import numpy as np
import pytest

from gwm_core.scene.stream_monitor import (
    Backoff,
    CameraImage,
    DeviceClock,
    StreamConfig,
    StreamMonitor,
)

MS = 1_000_000
CONFIG = StreamConfig(8, 6, 10.0)


def pair(number, stamp=None, late=0):
    rng = np.random.default_rng(number)
    stamp = number * 100 * MS if stamp is None else stamp
    color = CameraImage(number, stamp, "rgb8", rng.integers(0, 256, (6, 8, 3), np.uint8))
    return color, CameraImage(
        number, stamp + late, "16UC1", rng.integers(1, 999, (6, 8)).astype(np.uint16)
    )


def nonzero(monitor):
    return {name: n for name, n in monitor.counts.items() if n}


def test_good_pairs_have_no_faults_and_no_counts():
    monitor = StreamMonitor(CONFIG)
    for n in range(1, 50):
        assert monitor.check(*pair(n, late=20 * MS), n * 0.1) == ()
    assert nonzero(monitor) == {} and monitor.silence(5.0) == pytest.approx(0.1)


def same_number(c, d):
    return replace(c, number=c.number - 1), replace(d, number=d.number - 1)


def old_stamp(c, d):
    return replace(c, stamp=c.stamp - 200 * MS), replace(d, stamp=d.stamp - 200 * MS)


def frozen_depth(c, d):
    return c, replace(d, content=pair(d.number - 1)[1].content)


def apart(c, d):
    return c, replace(d, stamp=d.stamp - 20 * MS - 1)


def empty(c, d):
    return c, replace(d, content=np.zeros_like(d.content))


def other_size(c, d):
    return replace(c, content=c.content[:3]), d


def other_encoding(c, d):
    return replace(c, encoding="bgr8"), replace(d, encoding="32FC1")


def floats(c, d):
    return c, replace(d, content=d.content.astype(np.float32))


@pytest.mark.parametrize(
    ("spoil", "faults"),
    [
        (same_number, ("repeated color", "repeated depth")),
        (old_stamp, ("repeated color", "repeated depth")),
        (frozen_depth, ("repeated depth",)),
        (apart, ("desynchronised",)),
        (empty, ("no depth",)),
        (other_size, ("wrong format color",)),
        (other_encoding, ("wrong format color", "wrong format depth")),
        (floats, ("wrong format depth",)),
    ],
)
def test_each_fault_is_named_and_counted_and_the_next_good_pair_is_good(spoil, faults):
    monitor = StreamMonitor(CONFIG)
    for n in (1, 2):
        assert monitor.check(*pair(n), n * 0.1) == ()
    assert monitor.check(*spoil(*pair(3)), 0.3) == faults
    counts = nonzero(monitor)
    assert counts == dict.fromkeys(faults, 1)
    assert monitor.check(*pair(4), 0.4) == ()


def test_frames_that_never_came_are_counted_but_not_those_of_another_opening():
    monitor = StreamMonitor(CONFIG)
    for n in (1, 2, 5, 6):
        assert monitor.check(*pair(n), n * 0.1) == ()
    assert nonzero(monitor) == {"dropped": 2}
    monitor.restart()
    assert monitor.check(*pair(1), 1.0) == ()
    monitor.restart()
    assert monitor.check(*pair(90), 2.0) == ()
    assert nonzero(monitor) == {"dropped": 2}


def test_a_stall_is_counted_once_and_ends_with_the_next_pair():
    monitor = StreamMonitor(CONFIG)
    assert monitor.silence(10.0) == 0.0  # opened, nothing came yet
    assert monitor.silence(10.5) == 0.5 and not monitor.stalled
    assert monitor.silence(10.6) == pytest.approx(0.6) and monitor.stalled
    monitor.silence(12.0)
    assert nonzero(monitor) == {"stalled": 1}
    monitor.check(*pair(1), 12.1)
    assert not monitor.stalled
    monitor.silence(12.5)
    assert nonzero(monitor) == {"stalled": 1}
    monitor.silence(12.7)
    assert nonzero(monitor) == {"stalled": 2}


def test_every_count_is_there_from_the_start():
    assert set(StreamMonitor(CONFIG).counts) == {
        "wrong format color",
        "wrong format depth",
        "repeated color",
        "repeated depth",
        "desynchronised",
        "no depth",
        "dropped",
        "stalled",
        "lost",
    }


def test_the_device_clock_finds_the_fastest_transfer_and_follows_drift():
    """Device clock 40 ppm fast, from an origin of its own; transfers take 4 ms and an exponential
    rest.
    """
    rng, clock = np.random.default_rng(0), DeviceClock()
    t = np.arange(0, 600 * 1000 * MS, 33 * MS)  # ten minutes at 30 Hz
    true = t + 1_795_000_000 * 1000 * MS
    device = (t * (1 + 40e-6)).astype(np.int64) + 123_456
    arrival = true + 4 * MS + (rng.exponential(6, len(t)) * MS).astype(np.int64)
    steady = arrival - 1_700_000_000 * 1000 * MS
    error = (
        np.array([clock(int(d), int(s), int(a)) for d, s, a in zip(device, steady, arrival)]) - true
    )
    settled = error[100:] / MS
    # jitter went from 6 ms to 0.2
    assert settled.min() > 3.99 and settled.max() < 5.0 and np.std(settled) < 0.2
    assert np.all(np.diff(true + error)[100:] > 30 * MS)


def test_the_device_clock_starts_again_when_the_camera_restarted():
    clock = DeviceClock()
    for k in range(10):
        clock(k * 33 * MS, k * 33 * MS, 10**15 + k * 33 * MS)
    assert clock(5, 5000 * MS, 10**15 + 5000 * MS) == 10**15 + 5000 * MS


@pytest.mark.parametrize(
    "step", [-3600_000, -1500, -900, -300, -100, 100, 300, 900, 1500, 3600_000]
)
def test_a_host_clock_that_is_set_moves_the_stamps_by_as_much_at_once(step):
    """[ms]. Transfers take 4 to 10 ms; after the step as before it, stamps are 4 to 5 ms late."""
    rng, clock = np.random.default_rng(1), DeviceClock()
    for k in range(900):
        now = k * 33 * MS
        true = 10**18 + now + (step * MS if k >= 450 else 0)
        delay = 4 * MS + (int(rng.exponential(2) * MS) if k not in (0, 450) else 3 * MS)
        late = clock(now + 77, 5 * 10**9 + now + delay, true + delay) - true
        if k > 100:
            assert 3.99 * MS < late < 5 * MS, k


def test_waits_grow_to_a_bound_and_start_again():
    backoff = Backoff(0.5, 8.0)
    assert [backoff.wait() for _ in range(7)] == [0.5, 1, 2, 4, 8, 8, 8]
    backoff.reset()
    assert backoff.wait() == 0.5
