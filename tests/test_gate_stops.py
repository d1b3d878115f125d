"""Every way a motion ends early: which state follows, under which one cause it is counted, and who
may go on.
"""

from dataclasses import replace

import numpy as np
import pytest
from test_gate import AWAY, start_moving, violations

from benchmarks.gate.simulated_arm import SimulatedArm
from gwm_core.control.gate.config import GateConfig
from gwm_core.control.gate.gate import Gate
from gwm_core.errors import InputError
from gwm_core.gate_status import State
from gwm_core.geometry.kinematics import HOME_Q, condition, fk_jacobian
from gwm_core.geometry.limits import DESK, Workspace
from gwm_core.types import ActionChunk, ArmState

DT = 0.01


def ready(config=GateConfig(), q=HOME_Q):
    arm = SimulatedArm(config)
    arm.q = np.array(q, float)
    arm.run(0.2)
    arm.gate.receive_deadman(arm.now)
    assert arm.gate.arm(arm.now) == ""
    arm.run(0.4)
    return arm


def silence(arm):
    arm.sends_heartbeats = False


def stale(arm):
    arm.sends_joints = False


def nonsense(arm):
    for _ in range(2):
        arm.offer(ActionChunk(arm.stamp(), np.full((16, 7), 1e3), np.full(16, 0.08)))


def leash(arm):
    arm.follows = False
    for _ in range(50):
        arm.q = arm.q + 0.01 * (arm.gate.state is State.RUNNING)
        arm.run(DT)


def singular(arm):
    arm.gate._motion.follower.into_singularity = True  # how it comes to that: see below


def late(arm):
    arm.now += 0.2


def elsewhere(arm):
    arm.stall(0.2)
    arm.false_joints = lambda q: HOME_Q + 0.4 * np.array([1, 0, 0, 0, 0, 0, 1])


def blind(arm):
    arm.gate.hold()
    arm.run(0.5)
    arm.gate.counts.stops.clear()
    arm.sends_joints = False
    arm.run(1.1)


def unwatched(arm):
    arm.gate.mode = "watch"
    for _ in range(12):
        arm.run(0.3)
        arm.offer(arm.chunk(AWAY))


STOPS = {
    "policy silent": (silence, State.HOLD, True),
    "joint state stale": (stale, State.HOLD, True),
    "plan stale": (lambda arm: arm.run(1.5), State.HOLD, True),
    "gate late": (late, State.HOLD, True),
    "policy restarted": (
        lambda arm: arm.gate.receive_policy_heartbeat(0, arm.now),
        State.HOLD,
        False,
    ),
    "singularity": (singular, State.HOLD, False),
    "bad plans": (nonsense, State.HOLD, False),
    "held by operator": (lambda arm: arm.gate.hold(), State.HOLD, False),
    "stopped by operator": (lambda arm: arm.gate.stop(), State.DISARMED, False),
    "second publisher": (
        lambda arm: arm.gate.fault("second publisher: of target_joint"),
        State.FAULT,
        False,
    ),
    "leash": (leash, State.FAULT, False),
    "no joint states": (blind, State.FAULT, False),
    "no score": (unwatched, State.HOLD, False),
}


@pytest.mark.parametrize("cause", STOPS)
def test_each_stop_has_one_cause_and_only_staleness_goes_on_by_itself(cause):
    happen, after, goes_on = STOPS[cause]
    arm = ready()
    start_moving(arm)
    happen(arm)
    arm.run(0.6)
    assert arm.gate.state is after and arm.gate.counts.stops == {cause: 1}
    assert arm.gate.cause.partition(":")[0] == cause
    assert violations(arm) == 0
    arm.sends_heartbeats = arm.sends_joints = True
    arm.run(0.1)
    assert (arm.offer(arm.chunk(AWAY, age=0.05), 0.05) == "") is goes_on


def test_joints_elsewhere_after_a_stall_are_a_fault_and_move_nothing():
    arm = ready()
    start_moving(arm)
    sent = arm.sent[-1].reference.q
    elsewhere(arm)
    arm.run(0.3)
    assert arm.gate.state is State.FAULT and arm.gate.counts.stops == {
        "gate late": 1,
        "joints elsewhere": 1,
    }
    np.testing.assert_array_equal(arm.sent[-1].reference.q, sent)
    assert violations(arm) == 0


def test_a_fault_told_during_a_stall_does_not_send_the_joints_from_before_it():
    arm = ready()
    start_moving(arm)
    old, sent = arm.q, arm.sent[-1].reference.q
    arm.follows = False
    arm.run(0.05)
    arm.stall(0.28)
    arm.gate.fault("robot: reflex")
    last = arm.tick()
    assert (
        last.reference_reset
        and np.abs(last.reference.q - sent).max() < 0.03
        and np.abs(last.reference.q - old).max() > 0
    )
    np.testing.assert_array_equal(last.reference.q, arm.sent[-2].reference.q)


def test_a_score_keeps_a_watched_motion_going_and_other_modes_need_none():
    watched, free = ready(GateConfig(mode="watch")), ready()
    watched.score = 0.5
    for _ in range(16):
        for arm in (watched, free):
            assert arm.offer(arm.chunk(AWAY)) == ""
            arm.run(0.3)
    assert watched.gate.counts.stops == free.gate.counts.stops == {}


@pytest.mark.parametrize("wrong", ["one state", "in turn", "a pause"])
def test_it_arms_only_after_joint_states_that_are_one_arm_s(wrong):
    arm = SimulatedArm()
    arm.run(0.2)
    if wrong == "one state":
        arm.now += 0.001
        arm.measure(HOME_Q - 0.3)
        arm.run(DT)
    elif wrong == "in turn":
        turn = iter(range(1000))
        arm.false_joints = lambda q: q - 0.3 * (next(turn) % 2)
        arm.run(0.2)
    else:
        arm.now += 0.2
        arm.run(DT)
    assert arm.gate.arm(arm.now).startswith("joint states jump or pause")
    arm.false_joints = None
    arm.run(0.12)
    assert arm.gate.arm(arm.now) == ""


def test_one_bad_plan_costs_nothing_and_a_good_one_in_between_forgives():
    arm = ready()
    start_moving(arm)
    bad = ActionChunk(arm.stamp(), np.full((16, 7), np.nan), np.full(16, 0.08))
    for _ in range(4):
        assert arm.offer(bad).startswith("not finite") and arm.gate.state is State.RUNNING
        arm.run(0.1)
        assert arm.offer(arm.chunk(AWAY)) == ""
    assert arm.gate.counts.refused == {"not finite": 4} and arm.gate.counts.stops == {}


def test_a_plan_of_a_silent_policy_is_refused():
    arm = ready()
    arm.sends_heartbeats = False
    arm.run(0.1)
    assert arm.offer(arm.chunk(AWAY)).startswith("alive")


def test_a_stop_before_arming_does_not_disarm_a_later_motion():
    arm = SimulatedArm()
    arm.run(0.2)
    arm.gate.stop()
    assert arm.gate.arm(arm.now) == ""
    arm.run(0.1)
    start_moving(arm)
    arm.sends_heartbeats = False
    arm.run(0.6)
    assert arm.gate.state is State.HOLD


def test_the_ramp_begins_before_the_last_row():
    arm = ready(GateConfig(plan_timeout=10.0))
    accepted = arm.now
    assert arm.offer(arm.chunk(AWAY)) == ""
    while arm.gate.state is State.RUNNING:
        arm.run(DT)
    assert arm.gate.cause == "plan stale" and accepted + 1.35 < arm.now < accepted + 1.5 + 2 * DT


# ---- hold to run
# ------------------------------------------------------------------------------


def test_letting_go_of_the_button_stops_and_pressing_it_again_is_not_enough():
    arm = ready(GateConfig(mode="hold_to_run"))
    arm.gate.receive_deadman(arm.now)
    assert arm.offer(arm.chunk(AWAY)) == ""
    for _ in range(10):
        arm.gate.receive_deadman(arm.now)
        arm.run(0.05)
    assert arm.gate.state is State.RUNNING
    gone = arm.now
    while arm.gate.state is State.RUNNING:
        arm.run(DT)
    assert arm.now - gone <= 0.25 and arm.gate.counts.stops == {"button let go": 1}
    arm.run(0.5)
    arm.gate.receive_deadman(arm.now)
    assert "not armed" in arm.offer(arm.chunk(AWAY))
    assert violations(arm) == 0


def test_without_a_hand_on_the_button_nothing_begins():
    arm = SimulatedArm(GateConfig(mode="hold_to_run"))
    arm.run(0.2)
    assert arm.gate.arm(arm.now) == ""
    arm.run(0.2)
    assert "nobody holds the button" in arm.offer(arm.chunk(AWAY))
    assert "nobody holds the button" in arm.gate.home(arm.now)


# ---- shadow
# ------------------------------------------------------------------------------


def test_in_shadow_everything_is_judged_and_nothing_is_sent():
    arm = ready(GateConfig(mode="shadow"))
    for turn in range(6):
        assert arm.offer(arm.chunk(AWAY)) == ""
        assert arm.gate.state is State.SHADOW
        arm.run(0.3)
        assert (
            arm.gate.shadow_command.chunk_id > 0
            and np.abs(arm.gate.shadow_command.reference.dq).max() > 0.02
        )
        arm.q = arm.q + 0.001 * turn  # somebody leads the arm by hand
        arm.run(0.15)
    assert all(command is None for command in arm.log) and arm.gate.counts.accepted == 6
    assert arm.offer(replace(arm.chunk(AWAY), q=arm.chunk(AWAY).q * 10)).startswith("joint limit")
    assert "shadow" in arm.gate.home(arm.now)
    arm.sends_heartbeats = False
    arm.run(0.6)
    assert (
        arm.gate.counts.stops == {"policy silent": 1}
        and arm.gate.shadow_command.reference.dq.max() == 0
    )


# ---- places the arm may not go
# ------------------------------------------------------------------------------


def test_it_does_not_arm_where_the_arm_touches_itself():
    arm = SimulatedArm()
    arm.q = np.array([-1.03, -1.29, 2.12, -2.89, -1.17, 1.56, 2.54])
    arm.run(0.2)
    assert "too near" in arm.gate.arm(arm.now)


def test_on_the_way_into_a_singularity_it_slows_down_and_stops_with_that_cause():
    """A plan within bounds whose blend from another leads through the elbow's stretched posture."""
    arm = ready(q=[0.0, 0.5, 0.0, -1.45, 0.0, 1.95, 0.785])
    arm.gate._motion.follower._low[:] = -2.0  # the box is not what is tested
    arm.gate._motion.follower._high[:] = 2.0
    stretched = arm.q + np.array([0.0, 0.35, 0.0, 1.1, 0.0, 0.0, 0.0])
    follower, conditions, speeds = arm.gate._motion.follower, [], []
    for _ in range(1200):
        reference = follower.step(stretched, np.zeros(7), np.zeros(7))
        conditions.append(float(condition(fk_jacobian(reference.q)[1])))
        speeds.append(np.abs(reference.dq).max())
        if follower.into_singularity and speeds[-1] < 1e-4:
            break
    assert follower.into_singularity and 30.0 <= max(conditions) < 34.0
    slow = [s for c, s in zip(conditions, speeds) if 27 < c < 30]
    assert slow and max(slow) < 0.6 * max(speeds)
    away = [follower.step(arm.q, np.zeros(7), np.zeros(7)) for _ in range(200)]
    assert np.abs(away[40].dq).max() > 0.05 and not follower.into_singularity  # out of it it may go


# ---- splices
# ------------------------------------------------------------------------------


@pytest.mark.parametrize("delay", range(0, 21, 2))
def test_plans_that_disagree_are_spliced_smoothly_whatever_their_delay(delay):
    """50 Hz rows, as fine-grained policies send them, arriving ``delay`` rows late."""
    rng, arm = np.random.default_rng(delay), ready()
    goal = AWAY
    for _ in range(8):
        age = delay * 0.02 + 0.01
        goal = AWAY + rng.normal(size=7) * 0.03
        rows = np.linspace(0, 1, 51)[1:, None] * np.clip(goal - arm.q, -0.4, 0.4) + arm.q
        chunk = ActionChunk(arm.stamp(age), rows, np.full(50, 0.08), dt=0.02)
        reason = arm.offer(chunk, age)
        assert reason == "" or reason.startswith("order"), reason
        arm.run(0.25)
    assert violations(arm) == 0 and arm.gate.counts.accepted >= 6
    q = np.array([c.reference.q for c in arm.log if c is not None])
    assert np.abs(np.diff(q, 2, axis=0)).max() <= 1e-3  # [rad] the table's 10 rad/s2 at 100 Hz


def test_from_standstill_no_row_is_skipped_however_late_the_plan():
    for age in (0.05, 0.3, 0.47):
        arm = ready()
        assert arm.offer(arm.chunk(AWAY, age), age) == ""
        arm.run(DT)
        first = arm.gate._motion.target.at(arm.now + 0.2).q  # two rows on, as of now
        np.testing.assert_allclose(first, HOME_Q + 3 / 16 * (AWAY - HOME_Q), atol=0.01)
    assert ready().offer(arm.chunk(AWAY, 0.7), 0.7).startswith("age")


def test_the_gate_takes_a_smaller_workspace_as_its_own():
    arm = SimulatedArm(workspace=Workspace(high=(0.8, 0.02, 0.7)))
    arm.run(0.2)
    assert arm.gate.arm(arm.now) == ""
    arm.run(0.1)
    assert arm.offer(arm.chunk(AWAY)).startswith("workspace")


def test_old_joints_neither_trip_the_leash_nor_become_a_command():
    """Joint states end in fast motion: a ramp to rest and HOLD, however far it goes beyond what was
    measured last.
    """
    arm = ready()
    target = arm.q.copy()
    target[6] += 2.0
    arm.gate.home_q = target
    assert arm.gate.home(arm.now) == ""
    while np.abs(arm.gate.reference.dq).max() < 1.2:
        arm.run(DT)
    arm.sends_joints = False
    arm.run(1.0)
    assert arm.gate.counts.stops == {"joint state stale": 1} and arm.gate.state is State.HOLD
    assert violations(arm) == 0 and not any(command.reference_reset for command in arm.sent[-100:])
    # it would have tripped
    assert np.abs(arm.gate.reference.q - arm.gate._joints.measured.q).max() > 0.15


def test_after_a_gap_nothing_is_sent_before_fresh_joints_tell_where_the_arm_is():
    arm = ready()
    start_moving(arm)
    arm.sends_joints = False
    arm.now += 0.3
    arm.q = arm.q + 0.03  # a trajectory controller has carried out its stop meanwhile
    for _ in range(3):
        arm.now += DT
        assert arm.gate.step(arm.now) is None
    assert "no joints" in arm.gate.home(arm.now) and "no joints" in arm.offer(arm.chunk(AWAY))
    arm.sends_joints, stands = True, arm.q
    arm.run(0.08)
    assert arm.log[-1] is None
    arm.run(0.04)
    command = next(command for command in arm.log[-4:] if command is not None)
    assert command.reference_reset and not command.reference.dq.any()
    np.testing.assert_array_equal(command.reference.q, stands)


@pytest.mark.parametrize("how", ["old", "out of range", "another's"])
def test_a_fault_whose_joints_cannot_be_believed_ends_where_the_arm_was_sent(how):
    arm = ready()
    start_moving(arm)
    sent = arm.q.copy()
    if how != "old":
        wrong = np.array(HOME_Q) + (9.0 if how == "out of range" else 0.4)
        arm.gate.measure(ArmState(arm.stamp(), wrong, np.zeros(7), 0.08), arm.now)
    else:
        arm.sends_joints = False
        arm.run(0.1)
        sent = arm.q.copy()
    arm.gate.fault("second publisher: of the joints", doubtful=how == "another's")
    command = arm.gate.step(arm.now + DT)
    assert command.reference_reset and not command.reference.dq.any()
    np.testing.assert_allclose(command.reference.q, sent, atol=0.01)


def test_a_stop_keeps_the_gripper_as_it_was_told():
    """What it holds may be as wide as open fingers: a latch must not drop it."""
    arm = ready()
    start_moving(arm)
    arm.gate._motion.width = 0.0
    arm.gate.measure(ArmState(arm.stamp(), arm.q, np.zeros(7), 0.06), arm.now)
    arm.gate.fault("robot: reflex")
    assert arm.gate.step(arm.now + DT).width == 0.0


def test_a_singularity_is_left_with_the_next_plan():
    arm = ready()
    start_moving(arm)
    singular(arm)
    arm.run(0.6)
    assert arm.gate.counts.stops == {"singularity": 1}
    assert arm.gate.arm(arm.now) == ""
    assert arm.offer(arm.chunk(AWAY, age=0.05), 0.05) == ""
    arm.run(0.1)
    assert arm.gate.state is State.RUNNING


def test_a_profile_that_could_hardly_stop_is_refused():
    with pytest.raises(InputError, match="a stop would take"):
        Gate(profile=replace(DESK, acceleration=0.03))
