"""The benches find nothing wrong with the gate, and would if there were anything."""

from dataclasses import replace

import numpy as np
import pytest

from benchmarks.gate import trials
from benchmarks.gate.faults import bad_chunks, lost_parts
from benchmarks.gate.faults.gate_killed import rows
from benchmarks.gate.faults.table import ELSEWHERE, HARDWARE, INJECTED, run, scenarios
from benchmarks.gate.fuzz import fuzz
from benchmarks.gate.simulated_arm import SimulatedArm
from gwm_core.control.gate import chunk_intake
from gwm_core.control.gate.chunk_intake import ChunkIntake
from gwm_core.control.gate.config import GateConfig
from gwm_core.control.gate.joint_monitor import JointMonitor
from gwm_core.control.reference_follower import Follower, Reference
from gwm_core.geometry.capsules import Clearance
from gwm_core.geometry.kinematics import HOME_Q
from gwm_core.types import ActionChunk


@pytest.fixture(scope="module")
def plans():
    """As an expert makes them: smooth, from somewhere to somewhere."""
    rng = np.random.default_rng(0)
    ways = HOME_Q + rng.uniform(-0.3, 0.3, (6, 2, 7))
    share = (0.5 - 0.5 * np.cos(np.linspace(0, np.pi, 16)))[:, None]
    return [
        ActionChunk(1, a + share * np.clip(b - a, -0.3, 0.3), np.full(16, 0.08)) for a, b in ways
    ]


def test_fuzzing_finds_nothing_and_is_the_same_twice(plans):
    report = fuzz(5000, 1, plans)
    assert (report.violations, report.nonfinite, report.partial, report.unwatched) == (
        0,
        0,
        0,
        0,
    ), report
    assert report.actions >= 5000 and report.resets > 3 and report.moving > 1200
    assert report.accepted > 50 and len(report.refused) > 8
    assert fuzz(1500, 2, plans) == fuzz(1500, 2, plans)


@pytest.mark.long
@pytest.mark.timeout(900)
def test_fuzzing_for_a_hundred_thousand_actions_finds_nothing(plans):
    report = fuzz(100_000, 7, plans)
    assert (report.violations, report.nonfinite, report.partial, report.unwatched) == (
        0,
        0,
        0,
        0,
    ), report
    assert report.least_clearance < 0.016 and {
        "self-collision",
        "table",
        "workspace",
        "singularity",
    } <= set(report.refused)


def test_fuzzing_finds_a_follower_without_limits(plans, monkeypatch):
    def leap(self, q, dq, ddq):
        self.reference = Reference(q, dq, ddq)
        return self.reference

    monkeypatch.setattr(Follower, "step", leap)
    assert fuzz(2000, 1, plans).broken["stream acceleration"] > 0


def test_fuzzing_finds_a_gate_that_takes_plans_again_and_late(plans, monkeypatch):
    monkeypatch.setattr(
        ChunkIntake,
        "_check_time",
        lambda self, chunk, age, now, max_age, situation: (
            "" if situation.armed and np.isfinite(age) else "age"
        ),
    )
    assert fuzz(4000, 1, plans).partial > 0


def test_fuzzing_finds_a_gate_that_believes_any_joints(plans, monkeypatch):
    monkeypatch.setattr(JointMonitor, "is_settled", JointMonitor.is_fresh)
    monkeypatch.setattr(JointMonitor, "is_this_arm", lambda self, sent: True)
    monkeypatch.setattr(JointMonitor, "rest_position", lambda self, *args: self.measured.q)
    assert fuzz(4000, 1, plans).broken["reset"] > 0


@pytest.mark.long
def test_fuzzing_finds_a_gate_that_does_not_watch(plans, monkeypatch):
    monkeypatch.setattr("benchmarks.gate.fuzz.SCORE_TIMEOUT", 100.0)
    assert fuzz(40_000, 1, plans).unwatched > 0


def test_fuzzing_finds_an_arm_that_may_touch_itself(plans, monkeypatch):
    monkeypatch.setattr(Clearance, "holds", lambda self, q: True)
    monkeypatch.setattr(chunk_intake, "check_path", lambda path, workspace: "")
    assert fuzz(9_000, 1, plans).broken["clearance"] > 0


def test_every_injected_fault_passes(plans):
    for scenario in scenarios(plans):
        row = run(replace(scenario, injections=2), seed=1, least=2)
        assert row["passed"] == row["injected"] == 2, row
        assert row["worst_ms"] <= row["limit_ms"]
    assert {s.id for s in scenarios(plans)} | {24} == INJECTED
    assert (
        not INJECTED & {*HARDWARE, *ELSEWHERE}
        and len(INJECTED) + len(HARDWARE) + len(ELSEWHERE) == 62
    )


def test_a_gate_that_notices_late_fails_its_row(monkeypatch):
    slow = GateConfig(alive_timeout=0.12, state_timeout=0.12)
    monkeypatch.setattr(
        trials, "SimulatedArm", lambda config=None, **more: SimulatedArm(slow, **more)
    )
    late = run(trials.Scenario(12, "late", 0.060, lost_parts.policy_killed), seed=1)
    assert late["passed"] == 0 and not late["ok"] and late["worst_ms"] > 100
    blind = run(trials.Scenario(23, "late", 0.050, lost_parts.joints_lost("stale")), seed=1)
    assert blind["passed"] == 0 and not blind["ok"]


def test_a_gate_that_believes_any_plan_fails_its_row(plans, monkeypatch):
    monkeypatch.setattr(chunk_intake, "check_plausibility", lambda *args: "")
    assert not run(trials.Scenario(19, "spoilt", 0.2, bad_chunks.spoilt(plans)), seed=1)["ok"]


def test_a_killed_gate_leaves_an_arm_that_slows_down():
    for row in rows(seed=1, injections=1):
        assert row["ok"] and 1.0 < row["travel_mm"] < 40 and row["rest_ms"] < 600, row
