"""The interpolator between the gate and libfranka: continuous and within the limits, whatever
arrives.
"""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gwm_core.control.reference_follower import Follower
from gwm_core.control.reference_interpolator import DELAY, MAX_JUMP, ReferenceInterpolator
from gwm_core.control.stop_trajectory import Reference
from gwm_core.errors import InputError
from gwm_core.geometry.kinematics import HOME_Q
from gwm_core.geometry.limits import FR3, FULL, PROFILES

DT, STEP = 0.01, 0.001


def references(seed, count, profile=FULL):
    """References of a follower with targets that jump."""
    rng = np.random.default_rng(seed)
    follower = Follower(DT, profile)
    follower.reset(HOME_Q)
    goal = HOME_Q
    result = []
    for k in range(count):
        if k % 90 == 5:
            goal = HOME_Q + rng.uniform(-0.3, 0.3, 7)
        result.append(follower.step(goal, np.zeros(7), np.zeros(7)))
    return result


def play(arrivals, seconds):
    """The interpolator's states (S, 3, 7) at 1 kHz; ``arrivals``: times [s] and references."""
    interpolator = ReferenceInterpolator(HOME_Q, DT)
    waiting = sorted(arrivals, key=lambda arrival: arrival[0])
    states = []
    for now in np.arange(0.0, seconds, STEP):
        while waiting and waiting[0][0] <= now:
            at, reference = waiting.pop(0)
            interpolator.receive(reference, at)
        states.append(interpolator.at(now))
    return np.array(states)


def assert_smooth(states):
    """Positions, velocities and accelerations belong together and keep FR3's limits."""
    q, dq, ddq = states.swapaxes(0, 1)
    np.testing.assert_allclose(np.diff(q, axis=0) / STEP, (dq[1:] + dq[:-1]) / 2, atol=5e-3)
    np.testing.assert_allclose(np.diff(dq, axis=0) / STEP, (ddq[1:] + ddq[:-1]) / 2, atol=1.0)
    assert np.abs(np.diff(dq, axis=0)).max() / STEP <= FR3.ddq_max.max() * 1.001
    # the gate's references change their jerk between two steps of this test
    assert np.abs(np.diff(ddq, axis=0)).max() / STEP <= FR3.dddq_max.max() * 1.001
    assert np.all(np.abs(dq) <= FR3.dq_max)


@pytest.mark.parametrize("profile", PROFILES.values(), ids=PROFILES)
def test_with_jitter_the_references_come_out_after_a_constant_delay(profile):
    rng = np.random.default_rng(1)
    sent = references(1, 300, profile)
    times = np.maximum.accumulate(DT * np.arange(300) + rng.uniform(0, 0.012, 300))
    arrivals = list(zip(times, sent))
    states = play(arrivals, 3.0)
    assert_smooth(states)
    wanted = np.array([reference.q for reference in sent])
    times = np.arange(0.2, 2.9, STEP)
    errors = []
    for delay in np.arange(0.015, 0.04, STEP):
        expected = [np.interp(times - delay, DT * np.arange(300), wanted[:, j]) for j in range(7)]
        got = states[(times / STEP).round().astype(int), 0]
        errors.append((np.abs(np.stack(expected, 1) - got).max(), delay))
    error, delay = min(errors)
    assert error < 1.5e-3 and DELAY - 0.001 <= delay <= DELAY + 0.012


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    gaps=st.lists(
        st.tuples(st.integers(10, 280), st.integers(1, 25), st.booleans()), min_size=1, max_size=4
    ),
)
@example(seed=0, gaps=[(79, 3, False)])  # several of a burst were squeezed into one period
@example(seed=7205, gaps=[(107, 3, False), (165, 9, False), (61, 5, True)])
@example(seed=490, gaps=[(10, 4, False), (77, 4, False)])
def test_gaps_and_bursts_break_no_limit(seed, gaps):
    """References that are lost, or that come late and all at once."""
    sent = references(seed, 300, PROFILES["desk"])
    arrivals = {k: k * DT + 1e-4 for k in range(300)}
    for start, length, lost in gaps:
        for k in range(start, min(start + length, 300)):
            if lost:
                arrivals.pop(k, None)
            elif k in arrivals:
                arrivals[k] = max(arrivals[k], (start + length) * DT + 1e-6 * k)
    try:
        states = play([(at, sent[k]) for k, at in arrivals.items()], 3.6)
    except InputError as error:  # a gap in which the gate went too far
        assert "jumps" in str(error)
        return
    assert_smooth(states)
    np.testing.assert_allclose(states[-1, 1:], 0.0, atol=1e-9)  # at rest after the last


def test_after_a_short_gap_the_arm_is_led_back_to_the_references():
    sent = references(3, 300, PROFILES["desk"])
    arrivals = [(k * DT, r) for k, r in enumerate(sent) if not 100 <= k < 106]
    states = play(arrivals, 3.0)
    assert_smooth(states)
    late = np.array(
        [np.interp(2.9 - DELAY, DT * np.arange(300), [r.q[j] for r in sent]) for j in range(7)]
    )
    np.testing.assert_allclose(states[2900, 0], late, atol=1e-3)


def test_the_end_of_the_references_is_a_stop():
    sent = references(4, 60, PROFILES["desk"])
    last = max(range(20, 60), key=lambda k: np.abs(sent[k].dq).max())
    states = play([(k * DT, r) for k, r in enumerate(sent[: last + 1])], 1.5)
    assert_smooth(states)
    begin = round((last * DT + DELAY) / STEP)
    assert np.abs(states[begin, 1]).max() > 0.2
    moving = np.flatnonzero(np.abs(states[:, 1]).max(1) > 1e-3)
    assert STEP * (moving[-1] - begin) < 0.15


@pytest.mark.parametrize("row", range(3))
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_is_refused_and_leaves_nothing_behind(row, value):
    interpolator = ReferenceInterpolator(HOME_Q)
    state = np.stack([HOME_Q, np.zeros(7), np.zeros(7)])
    state[row, 3] = value
    with pytest.raises(InputError, match="finite"):
        interpolator.receive(Reference(*state), 0.0)
    assert np.array_equal(interpolator.at(1.0).q, HOME_Q)


def test_a_jump_is_refused():
    interpolator = ReferenceInterpolator(HOME_Q)
    with pytest.raises(InputError, match="jumps"):
        interpolator.receive(Reference(HOME_Q + MAX_JUMP + 0.01, np.zeros(7), np.zeros(7)), 0.0)
