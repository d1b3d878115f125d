"""What ``gwm bench divergence`` counts."""

import mujoco
import numpy as np
import pytest

from benchmarks.divergence import report
from benchmarks.divergence.disturbances import DisturbedEpisode, DisturbedOutcome, Knock
from gwm_core.geometry.kinematics import fk
from gwm_core.runtime.divergence import DivergenceLimits
from gwm_core.sim.simulator import Simulator
from gwm_core.sim.tasks import sample_layout

LIMITS = DivergenceLimits("", {"4": {"gone_mm": 10.0}}, "test")


def outcome(disturbed, *values, kind="none"):
    """Scores of 0.1 times ``values``, each 0.4 s after the one before."""
    rows = [(0.4 * k, {4: {"gone_mm": value}}) for k, value in enumerate(values)]
    return DisturbedOutcome(DisturbedEpisode("x", kind, 0), disturbed, True, rows)


@pytest.fixture
def sim():
    sim = Simulator()
    sim.reset(sample_layout("pick_place", 5000, "nominal"))
    return sim


def test_an_object_that_moves_away_from_the_gripper_was_knocked(sim):
    name, pose = next(item for item in sim.objects().items() if item[0] != "plate")
    knock = Knock()
    knock(sim, 0.0)
    knock(sim, 0.1)
    sim.put(name, pose[0] + 0.02, pose[1])
    knock(sim, 0.2)
    assert knock.time == np.inf
    sim.put(name, pose[0] + 0.04, pose[1])
    knock(sim, 0.3)
    knock(sim, 0.4)
    assert knock.time == 0.1  # it began then


def test_what_the_gripper_moves_was_not_knocked(sim):
    name = next(name for name in sim.objects() if name != "plate")
    gripper, knock = fk(sim.q)[:3, 3], Knock()
    rest = gripper + np.array([0.0, 0.05, 0.0])
    for step in range(20):  # 2.5 mm each
        at = rest - (0.0, 0.0025 * step, 0.0)
        place(sim, name, at)
        knock(sim, 0.01 * step)
    assert knock.time == np.inf
    place(sim, name, gripper + np.array([0.0, 0.09, 0.0]))
    knock(sim, 1.0)
    assert knock.time == pytest.approx(0.19)  # the last time in the hand


def place(sim, name, position):
    sim.data.joint(name).qpos[:3] = position
    mujoco.mj_forward(sim.model, sim.data)


def test_normal_episodes_count_up_to_the_policys_own_disturbance():
    quiet, knocked = outcome(np.inf, 1, 5, 9), outcome(0.5, 1, 5, 30, 30)
    found = report._figures("none", [quiet, knocked], LIMITS)
    assert found["none"]["hits"] == 0 and found["none"]["cases"] == 2
    assert found["none"]["largest"] == pytest.approx([0.9, 0.5])
    assert found["knock"]["hits"] == 1 and found["knock"]["cases"] == 1
    assert knocked.normal() == [{4: {"gone_mm": 1}}, {4: {"gone_mm": 5}}]
    false = report._figures("none", [outcome(np.inf, 1, 11), quiet], LIMITS)
    assert false["none"]["hits"] == 1 and false["knock"]["cases"] == 0


def test_a_disturbance_is_noticed_by_what_comes_after_it():
    early, late = outcome(0.5, 99, 99, 1, 1), outcome(0.5, 1, 1, 1, 12, 1)
    found = report._figures("cube", [early, late, outcome(np.inf, 99)], LIMITS)["cube"]
    assert found["hits"] == 1 and found["cases"] == 2
    assert found["after_s"] == pytest.approx([None, 1.2 + 0.25 - 0.5])
    assert found["largest"] == pytest.approx([0.1, 1.2])
