from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from benchmarks.gate.simulated_arm import SimulatedArm
from gwm_core.control.gate.config import GateConfig
from gwm_core.control.gate.gate import Gate
from gwm_core.errors import InputError
from gwm_core.gate_status import State
from gwm_core.geometry.kinematics import HOME_Q
from gwm_core.geometry.limits import FR3, Workspace
from gwm_core.types import ActionChunk, ArmState

AWAY = HOME_Q + np.array([0.15, 0.1, 0.0, -0.1, 0.0, 0.1, 0.2])


def violations(arm):
    return arm.check_result.total


def start_moving(arm):
    assert arm.offer(arm.chunk(AWAY)) == ""
    arm.run(0.5)
    assert np.abs(arm.log[-1].reference.dq).max() > 0.02


def test_nothing_is_sent_before_it_is_armed():
    arm = SimulatedArm()
    arm.run(0.5)
    assert arm.offer(arm.chunk(AWAY)).startswith("state")
    arm.run(0.5)
    assert all(c is None for c in arm.log)


def test_a_plan_accepted_in_the_period_of_arming_waits_for_the_latch():
    arm = SimulatedArm()
    arm.run(0.2)
    assert arm.gate.arm(arm.now) == "" and arm.offer(arm.chunk(AWAY)) == ""
    arm.run(0.01)
    first = arm.log[-1]
    assert first.reference_reset and not first.reference.dq.any() and not first.reference.ddq.any()
    arm.run(0.5)
    assert np.abs(arm.log[-1].reference.dq).max() > 0.02 and violations(arm) == 0


def test_it_does_not_arm_without_joint_states():
    assert "joint state" in Gate().arm(1.0)


def test_it_follows_a_plan_to_its_end_and_then_stops_by_itself(arm):
    assert arm.offer(arm.chunk(AWAY)) == ""
    arm.run(3.0)
    # the timeout comes a little before its last row
    np.testing.assert_allclose(arm.q, AWAY, atol=0.06)
    assert arm.gate.state is State.HOLD and arm.gate.cause == "plan stale"
    assert violations(arm) == 0


@pytest.mark.parametrize("latency_rows", [0, 1, 2, 3, 4])
def test_new_plans_are_spliced_without_breaking_a_limit(arm, latency_rows):
    """Plans that disagree by 2 cm-like jumps, at different delays."""
    rng = np.random.default_rng(latency_rows)
    for _ in range(8):
        goal = AWAY + rng.normal(size=7) * 0.03
        age = 0.01 + 0.1 * latency_rows
        assert arm.offer(arm.chunk(goal, age), age) == ""
        arm.run(0.4)
    assert violations(arm) == 0


def test_a_silent_policy_means_a_ramp_to_hold_and_a_plan_later_goes_on(arm):
    start_moving(arm)
    arm.sends_heartbeats = False
    arm.run(0.06)
    assert arm.gate.state is State.STOPPING and arm.gate.cause == "policy silent"
    arm.run(0.4)
    assert arm.gate.state is State.HOLD and np.abs(arm.log[-1].reference.dq).max() < 1e-6
    arm.sends_heartbeats = True
    arm.run(0.05)
    assert arm.offer(arm.chunk(AWAY)) == ""  # staleness alone recovers by itself
    assert violations(arm) == 0


def test_a_dead_policy_needs_the_operator(arm):
    start_moving(arm)
    arm.sends_heartbeats = False
    arm.run(1.5)
    arm.sends_heartbeats = True
    arm.run(0.2)
    assert "not armed" in arm.offer(arm.chunk(AWAY))
    assert arm.gate.arm(arm.now) == ""
    assert arm.offer(arm.chunk(AWAY, age=0.05), 0.05) == ""


def test_a_restarted_policy_needs_the_operator(arm):
    start_moving(arm)
    arm.gate.receive_policy_heartbeat(0, arm.now)  # its last id went back
    assert arm.gate.state is State.STOPPING and not arm.gate.armed


def test_only_the_simulation_may_arm_itself():
    arm = SimulatedArm(GateConfig(auto_arm=True))
    arm.run(0.2)
    arm.gate.arm(arm.now)
    arm.run(0.2)
    start_moving(arm)
    arm.sends_heartbeats = False
    arm.run(1.5)
    arm.sends_heartbeats = True
    arm.run(0.2)
    assert arm.offer(arm.chunk(AWAY)) == ""


def test_stale_joints_stop_the_arm(arm):
    start_moving(arm)
    arm.sends_joints = False
    arm.run(0.05)
    assert arm.gate.cause == "joint state stale" and arm.gate.state is State.STOPPING
    arm.run(0.4)
    assert np.abs(arm.log[-1].reference.dq).max() < 1e-6
    assert violations(arm) == 0


def test_non_finite_joints_count_as_stale(arm):
    start_moving(arm)
    arm.sends_joints = False
    for _ in range(15):
        arm.gate.measure(ArmState(arm.stamp(), np.full(7, np.nan), np.zeros(7), 0.08), arm.now)
        arm.run(0.01)
    assert arm.gate.cause == "joint state stale"


def test_the_leash_is_a_latched_fault(arm):
    start_moving(arm)
    arm.sends_joints = False
    arm.follows, held = False, arm.q
    for _ in range(40):
        # something pushes the arm away, at 1 rad/s
        held = held + 0.01 * (arm.gate.state is not State.FAULT)
        arm.q = held
        arm.measure(held)
        arm.run(0.01)
    assert arm.gate.state is State.FAULT and arm.gate.cause.startswith("leash")
    assert arm.log[-1] is None
    # an arm that holds its last target must not push on
    last = next(c for c in reversed(arm.log) if c is not None)
    left = np.abs(last.reference.q - held).max()  # of about 0.25 rad
    assert last.reference_reset and left < 0.13 and not last.reference.dq.any()
    assert "reset first" in arm.gate.arm(arm.now) and violations(arm) == 0
    arm.gate.reset()
    arm.measure(held)
    assert arm.gate.arm(arm.now) == ""
    command = arm.gate.step(arm.now)
    assert command.reference_reset and np.abs(command.reference.q - held).max() < 1e-3


def bad_chunks(arm):
    good = arm.chunk(AWAY)
    nan, inf = good.q.copy(), good.q.copy()
    nan[3, 2], inf[0, 0] = np.nan, np.inf
    jump = good.q.copy()
    jump[8:, 6] += 0.5
    yield "not finite", ActionChunk(good.stamp, nan, good.width)
    yield "not finite", ActionChunk(good.stamp, inf, good.width)
    yield "not finite", ActionChunk(good.stamp, good.q, np.full(16, np.nan))
    yield "shape", ActionChunk(good.stamp, good.q[:, :6], good.width)
    yield "shape", ActionChunk(good.stamp, good.q[:0], good.width[:0])
    yield "joint limit", ActionChunk(good.stamp, good.q * 0 + FR3.q_high + 0.01, good.width)
    yield "jump", ActionChunk(good.stamp, jump, good.width)
    yield "jump", ActionChunk(good.stamp, good.q + np.array([0, 0, 0, 0, 0, 0, 0.5]), good.width)
    yield "row spacing", ActionChunk(good.stamp, good.q, good.width, dt=1e-4)
    yield (
        "workspace",
        ActionChunk(
            good.stamp,
            HOME_Q + np.linspace(0, 1, 16)[:, None] * [0, 0.9, 0, 0, 0, 0, 0],
            good.width,
        ),
    )


def test_bad_chunks_are_refused_whole_with_the_reason(arm):
    for reason, chunk in bad_chunks(arm):
        assert arm.offer(chunk).startswith(reason), reason
        assert arm.gate.state is State.HOLD
    arm.run(0.2)
    np.testing.assert_allclose(arm.q, HOME_Q, atol=1e-9)


def test_old_future_repeated_and_reordered_plans_are_refused(arm):
    chunk = arm.chunk(AWAY)
    assert arm.offer(chunk, age=0.6).startswith("age")
    assert arm.offer(chunk, age=-0.5).startswith("age")
    assert arm.offer(chunk) == ""
    assert arm.offer(chunk).startswith("order")
    assert arm.offer(arm.chunk(AWAY, age=0.3), age=0.3).startswith("order")


def test_from_hold_a_plan_made_before_the_arm_moved_is_refused(arm):
    chunk = arm.chunk(AWAY, age=0.2)
    arm.q = arm.q + 0.03
    arm.gate._motion.follower.reset(arm.q)
    arm.run(0.02)
    assert arm.offer(chunk, age=0.22).startswith("moved")


def test_hold_stop_and_home(arm):
    start_moving(arm)
    arm.gate.hold()
    arm.run(0.6)
    assert arm.gate.state is State.HOLD and arm.gate.cause == "held by operator"
    assert "not armed" in arm.offer(arm.chunk(AWAY, age=0.05), 0.05)
    assert arm.gate.home(arm.now) == ""
    arm.run(4.0)
    assert arm.gate.cause == "at home"
    np.testing.assert_allclose(arm.q, HOME_Q, atol=2e-3)
    arm.gate.stop()
    arm.run(0.1)
    assert arm.gate.state is State.DISARMED and arm.log[-1] is None
    assert violations(arm) == 0


def test_homing_ends_with_plans_refused_until_armed(arm):
    start_moving(arm)
    arm.gate.hold()
    arm.run(0.6)
    arm.gate.arm(arm.now)
    assert arm.gate.home(arm.now) == ""
    arm.run(4.0)
    assert arm.gate.cause == "at home" and "not armed" in arm.offer(arm.chunk(AWAY, age=0.05), 0.05)


def test_home_starts_from_disarmed_too_and_no_plan_moves_the_arm_before_it_is_armed(arm):
    start_moving(arm)
    arm.gate.stop()
    arm.run(0.6)
    assert arm.gate.state is State.DISARMED
    arm.q = arm.q + 0.02  # by hand
    arm.run(0.1)
    assert arm.gate.home(arm.now) == ""
    arm.run(0.02)
    assert (
        next(c for c in arm.log[::-1] if c.reference_reset).reference_reset and violations(arm) == 0
    )
    assert "not armed" in arm.offer(arm.chunk(AWAY, age=0.05), 0.05)
    arm.run(4.0)
    assert arm.gate.cause == "at home" and not arm.gate.armed
    np.testing.assert_allclose(arm.q, HOME_Q, atol=2e-3)


def test_a_home_that_is_refused_leaves_the_arm_disarmed():
    arm = SimulatedArm()
    arm.run(0.2)
    assert arm.gate.set_mode("hold_to_run") == ""
    assert arm.gate.home(arm.now) == "nobody holds the button" and arm.gate.state is State.DISARMED


def test_home_is_refused_where_arming_is():
    arm = SimulatedArm()
    assert arm.gate.home(arm.now) == "no fresh joint state"
    arm.q = HOME_Q + np.array([2.9, 0, 0, 0, 0, 0, 0])
    arm.run(0.2)
    assert (reason := arm.gate.home(arm.now)) and reason == arm.gate.arm(arm.now)
    assert arm.gate.state is State.DISARMED
    arm.q = HOME_Q
    arm.run(0.2)
    assert arm.gate.arm(arm.now) == ""
    arm.gate.fault("tried")
    assert "FAULT" in arm.gate.home(arm.now)


def test_home_that_is_not_reached_says_so():
    arm = SimulatedArm()
    arm.q = HOME_Q + np.array([1.4, 0, 0, 0, 0, 0, 0])
    arm.gate.workspace = Workspace(low=(0.0, -0.6, 0.0), high=(0.8, 0.6, 0.7))
    arm.run(0.2)
    assert arm.gate.arm(arm.now) == ""
    assert arm.gate.home(arm.now) == ""  # the follower's box is smaller: it will not move
    arm.run(6.0)
    assert arm.gate.cause == "home not reached" and arm.gate.state is State.HOLD


def test_outside_the_workspace_or_without_a_gripper_it_does_not_arm():
    arm = SimulatedArm()
    arm.q = HOME_Q + np.array([1.4, 0, 0, 0, 0, 0, 0])
    arm.run(0.2)
    assert "outside the workspace" in arm.gate.arm(arm.now)
    gate = Gate()
    gate.measure(ArmState(1, HOME_Q, np.zeros(7), np.nan), 1.0)
    assert gate.arm(1.0) == "no gripper state"


def test_stop_disarms_whatever_is_wished_during_the_ramp(arm):
    start_moving(arm)
    arm.gate.stop()
    arm.run(0.02)
    arm.gate.hold()
    assert "coming to rest" in arm.gate.arm(arm.now)
    arm.run(0.6)
    assert arm.gate.state is State.DISARMED


def test_a_driver_that_repeats_one_state_counts_as_stale(arm):
    start_moving(arm)
    arm.sends_joints = False
    frozen = ArmState(arm.stamp(), arm.q, np.zeros(7), 0.08)
    for _ in range(15):
        arm.gate.measure(frozen, arm.now)
        arm.run(0.01)
    assert arm.gate.cause == "joint state stale"


def test_after_a_freeze_it_begins_anew_from_the_measured_joints(arm):
    """An arm that holds its last target has stopped by then: to go on at speed would be a jump."""
    start_moving(arm)
    arm.now += 0.3
    arm.run(0.08)
    assert arm.gate.state is State.HOLD and arm.gate.cause == "gate late"
    assert arm.log[-1] is None  # one joint state could be anybody's
    arm.run(0.05)
    first = next(c for c in arm.log[-5:] if c is not None)
    assert first.reference_reset and not first.reference.dq.any()
    arm.run(0.15)
    assert arm.offer(arm.chunk(AWAY)) == ""
    assert violations(arm) == 0


def test_a_flood_of_plans_costs_nothing(arm):
    assert arm.offer(arm.chunk(AWAY)) == ""
    reasons = {arm.offer(replace(arm.chunk(AWAY), stamp=arm.stamp() + i)) for i in range(500)}
    assert {r.split(":")[0] for r in reasons} == {"too soon"}
    arm.run(0.2)
    assert violations(arm) == 0


def test_setting_the_clock_back_does_not_lock_plans_out_for_ever(arm):
    start_moving(arm)
    arm.gate.hold()
    arm.run(0.5)
    arm.clock_offset = 0.0
    arm.run(0.2)
    assert arm.gate.state is State.HOLD
    assert arm.gate.arm(arm.now) == ""
    assert arm.offer(arm.chunk(AWAY, age=0.05), 0.05) == ""


def test_a_plan_that_was_followed_is_not_followed_again_after_arming_anew(arm):
    chunk = arm.chunk(AWAY, age=0.05)
    assert arm.offer(chunk, 0.05) == ""
    arm.run(0.02)
    arm.gate.hold()
    arm.run(0.2)
    assert arm.gate.state is State.HOLD and arm.gate.arm(arm.now) == ""
    assert arm.offer(chunk, 0.27).startswith("order")


@pytest.mark.parametrize("value", [np.nan, np.inf, 0.0, -1.0])
def test_parameters_that_would_disable_a_check_are_refused(value):
    with pytest.raises(InputError, match="alive_timeout"):
        GateConfig(alive_timeout=value)


def test_the_gripper_has_edges_with_hysteresis(arm):
    widths = np.array([0.08] * 4 + [0.045] * 2 + [0.02] * 2 + [0.04] * 4 + [0.06] * 4)
    chunk = arm.chunk(AWAY)
    assert arm.offer(ActionChunk(chunk.stamp, chunk.q, widths)) == ""
    arm.run(1.55)
    seen = [c.width for c in arm.log if c is not None]
    edges = [b for a, b in pairwise(seen) if a != b]
    assert edges == [0.0, 0.08]
