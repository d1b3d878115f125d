"""What the arm is left with when the gate is gone, the hand's edges, and the order of recovery."""

import numpy as np
import pytest

from gwm_core.control.brake import Brake, Reference
from gwm_core.control.controller import Follower
from gwm_core.control.hand import PATIENCE, Hand
from gwm_core.control.judge import judge
from gwm_core.control.kinematics import HOME_Q
from gwm_core.control.limits import DESK, FR3, PANDA
from gwm_core.control.recovery import HUMBLE_STEPS, MODES, STEPS, Recovery, needed, trouble
from gwm_core.sim.trajectory import Quintic

DT = 0.01


def motion(seed=0, ticks=400):
    """References of a follower that chases a swinging goal."""
    rng = np.random.default_rng(seed)
    follower, phase = Follower(DT), rng.uniform(0, 2 * np.pi, 7)
    follower.reset(HOME_Q)
    for k in range(ticks):
        wave = np.sin(1.5 * k * DT + phase) - np.sin(phase)
        swing = 0.3 * 1.5 * np.cos(1.5 * k * DT + phase)
        yield follower.step(HOME_Q + 0.3 * wave, swing, np.zeros(7))


@pytest.mark.parametrize("arm", [FR3, PANDA], ids=lambda arm: arm.name)
def test_the_tail_is_the_stop_the_follower_would_make(arm):
    follower, brake = Follower(DT, arm=arm), Brake(DT, arm=arm)
    for reference in list(motion())[50::37]:
        tail = brake.tail(reference)
        assert len(tail) > 1 and not tail[-1].dq.any() and not tail[-1].ddq.any()
        follower.reference = reference
        for state in tail:
            np.testing.assert_allclose(follower.stop().q, state.q, atol=1e-6)
    assert brake.tail(Reference(HOME_Q, np.zeros(7), np.zeros(7))) == []


def test_a_gate_that_dies_under_a_trajectory_controller_means_a_stop_and_no_step():
    """200 random phases: the last message is carried out to its end, as the controller interpolates it."""
    rng, brake = np.random.default_rng(7), Brake(DT)
    references = [r for seed in range(4) for r in motion(seed)]
    travels = []
    for k in rng.choice(np.arange(20, len(references)), 200, replace=False):
        before, last = references[k - 1], references[k]
        states = [last, *brake.tail(last)]
        path = Quintic(DT * np.arange(1, len(states) + 1), *(np.array(p) for p in zip(*states)), np.stack(before))
        fine = np.array([path.at(t) for t in np.arange(0, DT * len(states) + 0.05, 1e-3)])  # (S, 3, 7)
        assert np.abs(np.diff(fine[:, 0], axis=0)).max() <= 1.01e-3 * np.abs(fine[:, 1]).max() + 1e-9  # no step
        assert np.all(np.abs(fine[:, 2]) <= FR3.ddq_max) and not fine[-1, 1].any()
        verdict = judge(*(np.array([before, *states])[:, i] for i in range(3)), np.zeros(len(states) + 1, bool))
        assert verdict.total == 0, verdict.violations
        assert np.all(
            np.abs(fine[-1, 0] - before.q)
            <= DT * np.abs(before.dq) * 2 + before.dq**2 / (FR3.ddq_max * DESK.acceleration) + 0.005
        )
        travels.append(np.abs(fine[-1, 0] - last.q).max())
    assert max(travels) > 0.001  # they were moving


def test_crisp_is_left_with_a_target_within_one_stopping_distance():
    """What stays behind is the last reference, and the arm was at the one before it: a period's travel away."""
    brake, previous = Brake(DT), None
    for reference in motion():
        if previous is not None:
            tail = brake.tail(previous)
            stop = tail[-1].q if tail else previous.q
            jerk_phase = DT * np.abs(previous.dq) + DT**2 * FR3.ddq_max + DT**3 * FR3.dddq_max
            assert np.all(np.abs(reference.q - previous.q) <= np.abs(stop - previous.q) + jerk_phase)
        previous = reference


def test_a_quintic_meets_its_points_and_refuses_nonsense():
    rng = np.random.default_rng(0)
    times, states = np.array([0.1, 0.25, 0.3]), rng.normal(size=(4, 3, 7))
    path = Quintic(times, *states[1:].swapaxes(0, 1), states[0])
    for t, state in zip([0.0, *times[:-1]], states):
        np.testing.assert_allclose(path.at(t), state, atol=1e-9)
    np.testing.assert_allclose(path.at(0.3 - 1e-9)[0], states[3, 0], atol=1e-6)
    np.testing.assert_array_equal(path.at(5.0), [states[3, 0], np.zeros(7), np.zeros(7)])
    step = 1e-6
    numeric = (path.at(0.2 + step) - path.at(0.2 - step)) / (2 * step)
    np.testing.assert_allclose(path.at(0.2)[1:], numeric[:2], rtol=1e-4, atol=1e-4)
    for bad in (np.array([0.0, 0.1, 0.2]), np.array([0.2, 0.1, 0.3]), np.array([0.1, 0.2, np.nan])):
        with pytest.raises(ValueError, match="increase"):
            Quintic(bad, *states[1:].swapaxes(0, 1), states[0])


def test_the_hand_gets_one_goal_an_edge_and_one_at_a_time():
    hand = Hand()
    assert hand.wish(0.08, 0.0) is None and hand.told == 0.08  # as found: nothing moves
    goal = hand.wish(0.0, 0.1)
    assert goal.grasp and goal.width == 0.0
    assert all(hand.wish(width, 0.2) is None for width in (0.0, 0.08, 0.0, 0.08))  # still under way
    hand.answered(True)
    goal = hand.wish(0.08, 0.9)
    assert not goal.grasp and goal.width == 0.08
    hand.answered(True)
    assert hand.wish(0.08, 1.0) is None and hand.trouble == ""


def test_a_hand_that_fails_or_never_answers_is_named():
    hand = Hand()
    hand.wish(0.08, 0.0)
    hand.wish(0.0, 0.0)
    hand.answered(False, "command failed")
    assert hand.trouble == "gripper: command failed"
    hand.wish(0.08, 1.0)
    assert hand.wish(0.08, 1.0 + PATIENCE - 0.1) is None and hand.trouble.endswith("failed")
    assert hand.wish(0.0, 1.1 + PATIENCE).grasp and "no answer" in hand.trouble
    hand.answered(True)
    assert hand.trouble == ""


def test_modes_that_follow_no_command_are_named():
    assert [trouble(mode) for mode in (None, 0, 1, 2)] == [""] * 4
    assert trouble(MODES.index("reflex")) == "robot: reflex"
    assert trouble(9) and trouble(-1)
    assert not needed(None, 100.0) and not needed(2, 0.1) and needed(2, 5.0) and needed(4, 0.0)


@pytest.mark.parametrize("steps", [STEPS, HUMBLE_STEPS])
def test_recovery_keeps_its_order_and_tries_nothing_twice(steps):
    recovery = Recovery(steps)
    assert recovery.next is None
    assert "release it" in recovery.begin(MODES.index("user stopped"))
    assert recovery.begin(MODES.index("reflex")) == ""
    with pytest.raises(ValueError, match="out of order"):
        recovery.ended("activate the controller")
    for step in steps:
        assert recovery.next == step
        assert "still at" in recovery.begin(4)
        recovery.ended(step)
    assert recovery.next is None and recovery.failure == ""
    recovery.begin(4)
    recovery.ended(steps[0], "refused by the robot")
    assert recovery.next is None and "gate/reset again" in recovery.failure
    assert recovery.begin(4) == "" and recovery.failure == "" and recovery.next == steps[0]


def test_a_goal_that_was_not_taken_is_asked_for_again():
    """Else the hand would count as closed for ever, and stay open."""
    hand = Hand()
    hand.wish(0.08, 0.0)
    assert hand.wish(0.0, 0.0).grasp
    hand.refused("no action server for Grasp.Goal")
    assert hand.told == 0.08 and hand.wish(0.0, 0.1) is None and "no action server" in hand.trouble
    assert hand.wish(0.0, PATIENCE + 0.1).grasp and hand.told == 0.0
    hand.answered(True)
    assert hand.trouble == "" and hand.wish(0.0, PATIENCE + 0.2) is None
