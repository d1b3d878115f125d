"""Whatever is asked of the follower, the judge finds nothing wrong with what comes out."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from gwm_core.control.command_checker import check_commands
from gwm_core.control.reference_follower import Follower
from gwm_core.geometry.kinematics import HOME_Q, fk
from gwm_core.geometry.limits import FR3, Workspace


def run(follower, goals):
    return [follower.step(*goal) for goal in goals]


def verdict(references):
    q, dq, ddq = (np.array(part) for part in zip(*references))
    return check_commands(q, dq, ddq, np.zeros(len(q), bool)), q


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([1, 2, 7, 30]), st.sampled_from([0.05, 0.5, 3.0]))
def test_arbitrary_goals_never_break_a_limit(seed, hold, spread):
    rng = np.random.default_rng(seed)
    follower = Follower()
    follower.reset(HOME_Q)
    goals = []
    for _ in range(200 // hold):
        goal = (
            HOME_Q + rng.normal(size=7) * spread,
            rng.normal(size=7) * spread,
            rng.normal(size=7) * 10 * spread,
        )
        goals += [goal] * hold
    found, q = verdict(run(follower, goals))
    assert found.total == 0, found.violations
    box = Workspace()
    tcp = fk(q)[:, :3, 3]
    assert np.all((q >= FR3.q_low - 1e-6) & (q <= FR3.q_high + 1e-6))
    assert np.all((tcp >= np.array(box.low) - 1e-6) & (tcp <= np.array(box.high) + 1e-6))


def test_it_reaches_a_goal_and_stays():
    follower = Follower()
    follower.reset(HOME_Q)
    goal = HOME_Q + np.array([0.3, 0.2, -0.1, -0.1, 0.2, 0.1, 0.4])
    run(follower, [(goal, np.zeros(7), np.zeros(7))] * 600)
    np.testing.assert_allclose(follower.reference.q, goal, atol=1e-4)


def test_it_tracks_a_slow_path_closely():
    follower, t = Follower(), np.arange(0, 6, 0.01)[:, None]
    shape = np.array([0.2, 0.1, 0.1, 0.1, 0.2, 0.1, 0.3])
    w = 1.0
    path = (
        HOME_Q + shape * (1 - np.cos(w * t)),
        shape * w * np.sin(w * t),
        shape * w * w * np.cos(w * t),
    )
    follower.reset(HOME_Q)
    references = [follower.step(*(part[i] for part in path)) for i in range(len(t))]
    error = np.abs(np.array([r.q for r in references]) - path[0])[100:]
    assert error.max() < 0.01


def test_a_stop_comes_to_rest_quickly():
    follower = Follower()
    follower.reset(HOME_Q)
    run(follower, [(HOME_Q + 0.5, np.zeros(7), np.zeros(7))] * 60)
    assert np.abs(follower.reference.dq).max() > 0.1
    steps = 0
    while not follower.at_rest:
        follower.stop()
        steps += 1
    assert steps < 35  # 0.35 s
