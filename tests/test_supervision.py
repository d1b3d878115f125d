"""Modes of the gate: approval of one plan, holding on surprise, and what may change when."""

from dataclasses import replace

import numpy as np
import pytest
from test_gate_stops import AWAY, ready, violations

from gwm_core.control.gate.config import GateConfig
from gwm_core.control.gate.supervision import LONGEST_VALIDITY, MODES, Approval, DivergenceMonitor
from gwm_core.errors import InputError
from gwm_core.gate_status import State

HASH = "ab" * 32


def waiting(**config):
    """A gate in mode approve with one plan that waits."""
    arm = ready(GateConfig(mode="approve", **config))
    assert arm.gate.accept(arm.chunk(AWAY), 0.1, arm.now, HASH) == ""
    return arm, Approval(arm.gate.waiting.chunk.stamp, HASH, 0)


def approve(arm, approval, left=2.0):
    return arm.gate.approve(approval, left, arm.now)


def test_a_plan_waits_and_only_the_approved_one_is_followed_to_its_end():
    arm, approval = waiting()
    for _ in range(8):
        arm.run(0.4)
        assert "a plan waits" in arm.offer(arm.chunk(AWAY))
    assert arm.gate.state is State.HOLD and np.allclose(arm.q, arm.log[-1].reference.q)
    assert approve(arm, approval) == "" and arm.gate.state is State.RUNNING
    begun = arm.now
    arm.run(0.4)
    assert "approved plan is followed" in arm.offer(arm.chunk(AWAY))
    arm.run_until(lambda: arm.gate.state is State.HOLD, limit=4.0)
    assert (
        1.4 < arm.now - begun < 2.5
        and arm.gate.cause == "plan done"
        and arm.gate.counts.accepted == 1
    )
    # the next one waits in its turn
    assert arm.offer(arm.chunk(AWAY)) == "" and arm.gate.waiting is not None
    assert violations(arm) == 0


def test_an_approval_that_waited_while_the_gate_was_held_up_counts():
    arm, approval = waiting()
    arm.stall(0.5)
    assert arm.gate.is_late(arm.now)
    arm.tick(0.0)  # then the node takes the messages of that time
    assert not arm.gate.is_late(arm.now)
    arm.measure(arm.q)
    arm.gate.receive_policy_heartbeat(1, arm.now)
    assert approve(arm, approval) == ""
    arm.run(0.1)
    assert arm.gate.state is State.RUNNING and "gate late" not in arm.gate.counts.stops
    assert violations(arm) == 0


@pytest.mark.parametrize(
    "wrong, left, why",
    [
        ({"chunk_id": 7}, 2.0, "of plan 7"),
        ({"sha256": "cd" * 32}, 2.0, "hash"),
        ({"sha256": ""}, 2.0, "hash"),
        ({"sha256": "é"}, 2.0, "hash"),
        ({}, 0.0, "expires"),
        ({}, -1.0, "expires"),
        ({}, LONGEST_VALIDITY + 0.1, "expires"),
        ({}, float("nan"), "expires"),
    ],
)
def test_an_approval_of_something_else_or_from_another_time_is_refused(wrong, left, why):
    arm, approval = waiting()
    assert why in approve(arm, replace(approval, **wrong), left)
    assert (
        arm.gate.state is State.HOLD
        and arm.gate.waiting
        and arm.gate.counts.refused == {"approval": 1}
    )
    assert approve(arm, approval) == ""


def test_an_approval_counts_once():
    arm, approval = waiting()
    assert approve(arm, approval) == ""
    assert approve(arm, approval) == "approval: no plan waits"
    arm.run_until(lambda: arm.gate.state is State.HOLD, limit=4.0)
    assert arm.gate.accept(arm.chunk(AWAY), 0.1, arm.now, HASH) == ""
    assert "of plan" in approve(arm, approval)


def test_a_plan_that_is_declined_makes_room_for_the_next_one():
    arm, approval = waiting()
    assert "does not wait" in arm.gate.decline(approval.chunk_id + 1) and arm.gate.waiting
    assert arm.gate.decline(approval.chunk_id) == ""
    assert arm.gate.waiting is None and arm.gate.state is State.HOLD and arm.gate.armed
    assert approve(arm, approval) == "approval: no plan waits"
    assert "does not wait" in arm.gate.decline(approval.chunk_id)
    assert arm.gate.counts.refused["declined"] == 1 and arm.gate.counts.accepted == 0
    arm.run(0.5)
    assert arm.offer(arm.chunk(AWAY)) == "" and arm.gate.waiting is not None
    assert violations(arm) == 0


def test_a_plan_that_nobody_approves_expires():
    arm, approval = waiting(approval_time=1.0)
    arm.run(1.1)
    assert arm.gate.waiting is None and approve(arm, approval) == "approval: no plan waits"
    assert arm.offer(arm.chunk(AWAY)) == ""


def test_what_waits_is_void_once_the_arm_is_held_the_policy_dies_or_the_arm_is_moved():
    for change in ("hold", "death", "moved"):
        arm, approval = waiting()
        if change == "hold":
            arm.gate.hold()
        elif change == "death":
            arm.sends_heartbeats = False
            arm.run(1.2)
        else:
            arm.follows, arm.q = False, arm.q + 0.03
        arm.run(0.05)
        assert approve(arm, approval).startswith(
            "moved" if change == "moved" else "approval: no plan waits"
        ), change
        assert arm.gate.state is State.HOLD


def test_a_surprise_that_lasts_holds_in_watch_and_needs_the_operator_even_in_simulation():
    arm = ready(GateConfig(mode="watch", auto_arm=True, divergence_time=0.3))
    assert arm.offer(arm.chunk(AWAY)) == ""
    arm.run(0.1)
    arm.gate.receive_divergence(1.3, arm.now)
    arm.run(0.2)
    arm.gate.receive_divergence(0.9, arm.now)  # it was a moment
    arm.gate.receive_divergence(1.3, arm.now)
    arm.run(0.2)
    assert arm.gate.state is State.RUNNING
    assert arm.offer(arm.chunk(AWAY)) == ""
    arm.run(0.2)
    arm.gate.receive_divergence(float("nan"), arm.now)
    assert arm.gate.state is State.STOPPING and arm.gate.cause == "diverged"
    arm.run_until(lambda: arm.gate.state is State.HOLD)
    assert "not armed" in arm.offer(arm.chunk(AWAY)) and violations(arm) == 0
    assert arm.gate.arm(arm.now) == "" and arm.offer(arm.chunk(AWAY)) == ""


def test_by_default_the_first_score_above_what_is_normal_holds():
    arm = ready(GateConfig(mode="watch", auto_arm=True))
    assert arm.offer(arm.chunk(AWAY)) == ""
    arm.run(0.1)
    arm.gate.receive_divergence(1.0, arm.now)
    assert arm.gate.state is State.RUNNING
    arm.gate.receive_divergence(1.01, arm.now)
    assert arm.gate.state is State.STOPPING and arm.gate.cause == "diverged"


def test_a_surprise_voids_what_waits_and_changes_nothing_in_auto():
    arm, approval = waiting()
    for _ in range(2):
        arm.gate.receive_divergence(2.0, arm.now)
        arm.run(0.4)
    assert approve(arm, approval) == "approval: no plan waits" and not arm.gate.armed
    arm = ready(GateConfig())
    assert arm.offer(arm.chunk(AWAY)) == ""
    for _ in range(3):
        arm.gate.receive_divergence(9.0, arm.now)
        arm.run(0.2)
    assert arm.gate.state is State.RUNNING and arm.gate.divergence.score == 9.0


def test_surprise_lasts_from_the_first_score_above():
    surprise = DivergenceMonitor()
    assert [surprise.update(s, t) for t, s in enumerate((1.0, 1.1, 5.0, 0.2, 2.0))] == [
        None,
        0,
        1,
        None,
        0,
    ]


def test_modes_change_at_rest_and_shadow_disarmed():
    arm = ready(GateConfig())
    for mode in MODES:
        refused = arm.gate.set_mode(mode)
        assert ("disarmed" in refused) == (mode == "shadow") and (refused or arm.gate.mode == mode)
    assert arm.gate.set_mode("auto") == ""
    assert arm.offer(arm.chunk(AWAY)) == "" and "at rest" in arm.gate.set_mode("approve")
    arm.gate.stop()
    arm.run_until(lambda: arm.gate.state is State.DISARMED)
    assert arm.gate.set_mode("shadow") == ""
    with pytest.raises(InputError, match="valid are approve, auto, hold_to_run, shadow, watch"):
        arm.gate.set_mode("careless")
    with pytest.raises(InputError, match="unknown mode"):
        GateConfig(mode="careless")


def test_a_new_mode_voids_what_waits():
    arm, approval = waiting()
    assert arm.gate.set_mode("approve") == ""
    assert approve(arm, approval) == "approval: no plan waits"
