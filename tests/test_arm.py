"""What a trajectory controller makes of the stream, what is left when the gate is gone, and the
hand's edges.
"""

import numpy as np
import pytest

from gwm_core.control.command_checker import check_commands
from gwm_core.control.gripper_goals import GOAL_TIMEOUT, GripperGoals
from gwm_core.control.loop_timing import TRAJECTORY_DELAY, CommandSchedule
from gwm_core.control.reference_follower import Follower
from gwm_core.control.stop_trajectory import Reference, StopPlanner
from gwm_core.geometry.kinematics import HOME_Q
from gwm_core.geometry.limits import DESK, FR3, PANDA, Workspace
from gwm_core.geometry.quintic import Quintic
from gwm_core.sim.simulator import Simulator

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
    follower, brake = Follower(DT, arm=arm), StopPlanner(DT, arm=arm)
    for reference in list(motion())[50::37]:
        tail = brake.tail(reference)
        assert len(tail) > 1 and not tail[-1].dq.any() and not tail[-1].ddq.any()
        follower.reference = reference
        for state in tail:
            np.testing.assert_allclose(follower.stop().q, state.q, atol=1e-6)
    assert brake.tail(Reference(HOME_Q, np.zeros(7), np.zeros(7))) == []


def test_a_gate_that_dies_under_a_trajectory_controller_means_a_stop_and_no_step():
    """200 random phases: the last message is carried out to its end, as the controller interpolates
    it.
    """
    rng, brake = np.random.default_rng(7), StopPlanner(DT)
    references = [r for seed in range(4) for r in motion(seed)]
    travels = []
    for k in rng.choice(np.arange(20, len(references)), 200, replace=False):
        before, last = references[k - 1], references[k]
        states = [last, *brake.tail(last)]
        path = Quintic(
            DT * np.arange(1, len(states) + 1),
            *(np.array(p) for p in zip(*states)),
            np.stack(before),
        )
        # (S, 3, 7)
        fine = np.array([path.at(t) for t in np.arange(0, DT * len(states) + 0.05, 1e-3)])
        # no step
        assert (
            np.abs(np.diff(fine[:, 0], axis=0)).max() <= 1.01e-3 * np.abs(fine[:, 1]).max() + 1e-9
        )
        assert np.all(np.abs(fine[:, 2]) <= FR3.ddq_max) and not fine[-1, 1].any()
        verdict = check_commands(
            *(np.array([before, *states])[:, i] for i in range(3)), np.zeros(len(states) + 1, bool)
        )
        assert verdict.total == 0, verdict.violations
        assert np.all(
            np.abs(fine[-1, 0] - before.q)
            <= DT * np.abs(before.dq) * 2 + before.dq**2 / (FR3.ddq_max * DESK.acceleration) + 0.005
        )
        travels.append(np.abs(fine[-1, 0] - last.q).max())
    assert max(travels) > 0.001  # they were moving


def test_crisp_is_left_with_a_target_within_one_stopping_distance():
    """What stays behind is the last reference, and the arm was at the one before it: a period's
    travel away.
    """
    brake, previous = StopPlanner(DT), None
    for reference in motion():
        if previous is not None:
            tail = brake.tail(previous)
            stop = tail[-1].q if tail else previous.q
            jerk_phase = DT * np.abs(previous.dq) + DT**2 * FR3.ddq_max + DT**3 * FR3.dddq_max
            assert np.all(
                np.abs(reference.q - previous.q) <= np.abs(stop - previous.q) + jerk_phase
            )
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
    # it was due 0.1 s ago: on it at once
    past = Quintic(times - 0.2, *states[1:].swapaxes(0, 1), states[0])
    np.testing.assert_allclose(past.at(0.02), path.at(0.22), rtol=1e-12)
    for bad in (times - 0.3, np.array([0.2, 0.1, 0.3]), np.array([0.1, 0.2, np.nan])):
        with pytest.raises(ValueError, match="increase"):
            Quintic(bad, *states[1:].swapaxes(0, 1), states[0])


def streamed(from_desired, lateness, seconds=4.0, seed=3):
    """The targets that the simulated trajectory controller is at, (S, 3, 7) at 500 Hz, and the
    references sent to it.

    The gate's loop is late by ``lateness`` [s] at random, less than a period.
    """
    rng, sim, brake, schedule = (
        np.random.default_rng(seed),
        Simulator(),
        StopPlanner(DT),
        CommandSchedule(DT),
    )
    sent, targets, now = [], [], 0
    steps = round(DT / sim.model.opt.timestep)
    for k, reference in enumerate(motion(seed, round(seconds / DT))):
        now = round(1e9 * (5.0 + DT * k + lateness * rng.uniform()))
        states = [reference, *brake.tail(reference)]
        start = (schedule.next(now) - round(1e9 * (5.0 + DT * k))) * 1e-9
        sim.follow(
            start + DT * np.arange(1, len(states) + 1),
            *(np.array(p) for p in zip(*states)),
            from_desired,
        )
        for _ in range(steps):
            targets.append(np.stack(sim.target))
            sim.step(sim.model.opt.timestep)
        sent.append(reference)
    return np.array(targets), sent


@pytest.mark.parametrize("lateness", [0.0, 0.008])
def test_a_trajectory_controller_makes_of_the_stream_what_the_judge_sees(lateness):
    """Late periods of the gate do not become speed, and no limit of the robot is broken in
    between.
    """
    targets, sent = streamed(True, lateness)
    q, dq, ddq = (np.array(part) for part in zip(*sent))
    assert (
        check_commands(
            q, dq, ddq, np.zeros(len(q), bool), workspace=Workspace((-1, -1, -1), (1, 1, 2))
        ).total
        == 0
    )
    assert np.abs(targets[:, 1]).max() <= 1.02 * np.abs(dq).max()
    assert np.abs(targets[:, 2]).max() <= 1.3 * np.abs(ddq).max() < FR3.ddq_max.min()
    lag = round((TRAJECTORY_DELAY + DT) / 0.002)
    np.testing.assert_allclose(
        targets[lag + 500 :: 5, 0], q[100 : 100 + len(targets[lag + 500 :: 5])], atol=0.01
    )


def test_a_trajectory_controller_that_starts_where_the_arm_is_measured_breaks_limits():
    """What launch/controllers.yaml must prevent: the simulation is no kinder than the real
    controller.
    """
    kept, measured = (np.abs(streamed(flag, 0.0)[0][:, 2]).max() for flag in (True, False))
    assert kept < FR3.ddq_max.min() < measured


def test_a_schedule_keeps_the_period_and_comes_back_to_its_delay():
    schedule, rng = CommandSchedule(DT), np.random.default_rng(0)
    first = schedule.next(10**9)
    assert first == 10**9 + round(1e9 * TRAJECTORY_DELAY)
    stamps = [first] + [
        schedule.next(10**9 + k * 10**7 + int(rng.uniform(0, 8e6))) for k in range(1, 300)
    ]
    assert np.abs(np.diff(stamps) - 10**7).max() < 0.01 * 10**7
    after = schedule.next(stamps[-1] + 10**9)  # the gate stood still for a second
    assert after == stamps[-1] + 10**9 + round(1e9 * TRAJECTORY_DELAY)
    assert schedule.next(10**9) == first  # the clock was set back


def test_the_hand_gets_one_goal_an_edge_and_one_at_a_time():
    hand = GripperGoals()
    assert hand.request(0.08, 0.0) is None and hand.requested == 0.08  # as found: nothing moves
    goal = hand.request(0.0, 0.1)
    assert goal.grasp and goal.width == 0.0
    assert all(
        hand.request(width, 0.2) is None for width in (0.0, 0.08, 0.0, 0.08)
    )  # still under way
    hand.ended(goal, True)
    goal = hand.request(0.08, 0.9)
    assert not goal.grasp and goal.width == 0.08
    hand.ended(goal, True)
    assert hand.request(0.08, 1.0) is None and hand.trouble == ""


def test_a_hand_that_fails_does_not_count_as_closed_and_is_asked_again():
    hand = GripperGoals()
    hand.request(0.08, 0.0)
    hand.ended(hand.request(0.0, 0.0), False, "command failed")
    assert hand.trouble == "gripper: command failed" and hand.requested == 0.08
    assert hand.request(0.0, GOAL_TIMEOUT) is None
    again = hand.request(0.0, GOAL_TIMEOUT + 0.1)
    assert again.grasp and hand.requested == 0.0
    hand.ended(again, False)
    # the fingers may be anywhere: opening is asked for at once
    opening = hand.request(0.08, GOAL_TIMEOUT + 0.2)
    assert not opening.grasp and opening.width == 0.08
    hand.ended(opening, False)
    # closing is a grasp, whatever went before
    assert hand.requested == 0.08 and hand.request(0.0, GOAL_TIMEOUT + 0.3).grasp


def test_a_hand_that_never_answers_is_named_and_its_late_answer_counts_for_nothing():
    hand = GripperGoals()
    hand.request(0.08, 0.0)
    lost = hand.request(0.0, 1.0)
    assert hand.request(0.08, 1.0 + GOAL_TIMEOUT - 0.1) is None
    opening = hand.request(0.08, 1.1 + GOAL_TIMEOUT)
    assert not opening.grasp and "no answer" in hand.trouble
    hand.ended(lost, True)
    assert "no answer" in hand.trouble and hand.request(0.0, 1.2 + GOAL_TIMEOUT) is None
    hand.ended(opening, True)
    assert hand.trouble == ""


def test_a_goal_that_was_not_taken_is_asked_for_again():
    """Else the hand would count as closed for ever, and stay open."""
    hand = GripperGoals()
    hand.request(0.08, 0.0)
    goal = hand.request(0.0, 0.0)
    assert goal.grasp
    hand.refused(goal, "no action server for Grasp.Goal")
    assert (
        hand.requested == 0.08
        and hand.request(0.0, 0.1) is None
        and "no action server" in hand.trouble
    )
    assert hand.request(0.08, 0.2) is None  # as it is
    again = hand.request(0.0, GOAL_TIMEOUT + 0.1)
    assert again.grasp and hand.requested == 0.0
    hand.ended(again, True)
    assert hand.trouble == "" and hand.request(0.0, GOAL_TIMEOUT + 0.2) is None
