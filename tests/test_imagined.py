"""Trials inside the world model, and how they are held against real ones."""

import numpy as np
import pytest
from gwm.graph.environment import resource

from gwm_core.evaluation.policy_eval_in_world_model import (
    LASTS,
    WorldModelEnvironment,
    gripped,
    run_trials_in_world_model,
)
from gwm_core.evaluation.protocol.report import compare_with_predicted_rates
from gwm_core.geometry.kinematics import HOME_Q, fk


def scene(places):
    made = np.zeros((len(places), 14), np.float32)
    made[:, :3] = places
    return made


@pytest.mark.parametrize(
    "half, commanded, width", [(0.02, 0.0, 0.04), (0.02, 0.06, 0.06), (0.02, 0.04, 0.04)]
)
def test_the_gripper_stops_at_what_is_between_its_fingers(half, commanded, width):
    T, rng = fk(HOME_Q), np.random.default_rng(0)
    cube = rng.uniform([-0.02, -half, -0.02], [0.02, half, 0.02], (300, 3))
    cube[np.arange(300), 1] = half * np.sign(cube[:, 1])  # its two faces
    placed = cube @ T[:3, :3].T + T[:3, 3]
    assert gripped(scene(placed), T, commanded) == pytest.approx(width, abs=1e-6)
    beside = placed + T[:3, 0] * 0.05
    assert gripped(scene(beside), T, commanded) == commanded
    fingers = scene(np.array([[0.0, y, 0.0] for y in (-0.04, 0.04)] * 20) @ T[:3, :3].T + T[:3, 3])
    assert gripped(fingers, T, 0.0) == 0.0


def test_rates_that_were_imagined_are_held_against_those_that_came():
    real = {
        "lift": {
            name: {"trials": 10, "successes": n} for name, n in zip("abcdef", (0, 2, 4, 6, 8, 10))
        }
    }
    same = {"lift": {name: n / 10 for name, n in zip("abcdef", (0, 2, 4, 6, 8, 10))}}
    found = compare_with_predicted_rates({"tasks": real}, same)
    assert found["pearson"][0] == pytest.approx(1) and found["spearman"][0] == pytest.approx(1)
    turned = {"lift": {name: 1 - rate for name, rate in same["lift"].items()}}
    assert compare_with_predicted_rates({"tasks": real}, turned)["spearman"][0] == pytest.approx(-1)
    flat = {"lift": dict.fromkeys("abcdef", 0.5)}
    assert (
        "pearson" not in compare_with_predicted_rates({"tasks": real}, flat)
        and len(found["points"]) == 6
    )


@pytest.mark.long
@pytest.mark.slow
def test_the_shipped_policy_does_its_task_in_its_world_model_and_a_still_arm_does_not(renderer):
    demo = str(resource("models/demo"))
    jobs = [(demo, demo, "pick_place", "nominal", seed, renderer) for seed in range(4000, 4004)]
    trials = run_trials_in_world_model(jobs, 2)
    assert sum(trial.success for trial in trials) >= 3
    assert trials == run_trials_in_world_model(jobs, 1)
    assert all(min(trial.done[-LASTS:]) > 0.5 for trial in trials if trial.success)

    dream = WorldModelEnvironment(resource("models/demo"), renderer)
    planner = dream.planner(demo)
    planner.policy.act = lambda seen, observation: np.repeat(
        np.append(fk(observation.state.q)[:3, 3], [1, 0, 0, 0, -1, 0, 0.08])[None], 16, axis=0
    )
    still = dream.trial(planner, "pick_place", 4000, "nominal")
    assert not still.success and max(still.done) < 0.5
