"""Trials inside the world model, and how they are held against real ones."""

import numpy as np
import pytest
from gwm.graph.environment import resource

from gwm_core.evaluation.policy_eval_in_world_model import (
    WorldModelEnvironment,
    run_trials_in_world_model,
)
from gwm_core.evaluation.protocol.report import compare_with_predicted_rates
from gwm_core.geometry.kinematics import HOME_Q, fk
from gwm_core.model.inputs import proprioception
from gwm_core.runtime.imagined_world import load_imagined_world
from gwm_core.runtime.policy_runner import PolicyRunner
from gwm_core.scene.gripped_width import gripped_width, held_width
from gwm_core.scene.lift import LiftConfig, as_lifted, lift
from gwm_core.sim.rollout import SimEnvironment
from gwm_core.sim.tasks import sample_layout
from gwm_core.types import OPEN_WIDTH, Observation


def scene(places):
    made = np.zeros((len(places), 14), np.float32)
    made[:, :3] = places
    return made


@pytest.mark.parametrize(
    "half, commanded, width", [(0.02, 0.0, 0.04), (0.02, 0.06, 0.06), (0.02, 0.04, 0.04)]
)
def test_the_gripper_stops_at_what_is_between_its_fingers(half, commanded, width):
    rows = np.full(16, commanded)
    T, rng = fk(HOME_Q), np.random.default_rng(0)
    cube = rng.uniform([-0.02, -half, -0.02], [0.02, half, 0.02], (300, 3))
    cube[np.arange(300), 1] = half * np.sign(cube[:, 1])  # its two faces
    placed = cube @ T[:3, :3].T + T[:3, 3]
    assert gripped_width(scene(placed), T, 0.08, rows) == pytest.approx(width, abs=1e-6)
    beside = placed + T[:3, 0] * 0.05
    assert gripped_width(scene(beside), T, 0.08, rows) == pytest.approx(commanded, abs=1e-9)
    held = held_width(scene(placed), T, 0.04, np.zeros(4))
    assert held == pytest.approx(min(2 * half, 0.04), abs=1e-6)
    assert held_width(scene(placed), T, 0.03, np.zeros(4)) == 0.03  # what it measured before
    assert held_width(scene(placed), T, 0.04, np.full(4, 0.05)) == 0.0  # it may open
    assert held_width(scene(beside), T, 0.04, np.zeros(4)) == pytest.approx(0.0, abs=1e-9)
    fingers = scene(np.array([[0.0, y, 0.0] for y in (-0.04, 0.04)] * 20) @ T[:3, :3].T + T[:3, 3])
    assert gripped_width(fingers, T, 0.08, np.zeros(16)) == pytest.approx(0.0, abs=1e-9)


def test_the_gripper_needs_time_to_close_and_to_open():
    T, nothing = fk(HOME_Q), scene(np.zeros((0, 3)))
    assert gripped_width(nothing, T, 0.08, np.zeros(4)) == pytest.approx(0.04)
    assert gripped_width(nothing, T, 0.08, np.array([0.08, 0.08, 0.0])) == pytest.approx(0.07)
    assert gripped_width(nothing, T, 0.04, np.full(2, 0.08)) == pytest.approx(0.06)


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


def test_a_policy_plans_the_same_from_a_scene_and_from_its_decoded_latent(renderer):
    """Policies take the first Gaussians of a scene as its tokens, and a decoder emits them token by
    token.
    """
    folder = resource("models/demo")
    policy, world = PolicyRunner(folder, backend="torch"), load_imagined_world(folder)
    environment = SimEnvironment(renderer=renderer)
    for seed in range(4000, 4003):
        environment.sim.reset(sample_layout("pick_place", seed))
        environment.sim.teleport(HOME_Q)
        state = environment.state(OPEN_WIDTH)
        observation = Observation(state.stamp, (), state, "pick_place")
        scene = lift(environment.frames(), world.lift_config, state.q)
        decoded = world.rendered(world.observe(scene, proprioception(state)))
        rows, again = (
            policy.act(seen, observation)[:, :3]
            for seen in (scene, as_lifted(decoded, world.lift_config))
        )
        assert np.linalg.norm(again - rows, axis=1).mean() < 0.01


def test_a_decoded_scene_is_cropped_and_ordered_as_a_lifted_one():
    config = LiftConfig(count=4)
    low, high = np.array(config.low), np.array(config.high)
    middle = (low + high) / 2
    made = scene([middle, low - 0.01, high + 0.01, middle + 0.05, middle + 0.001, middle - 0.05])
    made[:, 13] = config.opacity
    made[3, 13] = 0.1 * config.opacity  # as good as invisible
    seen = as_lifted(made, config)
    assert seen.shape == (4, 14)
    np.testing.assert_allclose(seen[:2, :3], [middle, middle - 0.05], atol=1e-6)
    assert not as_lifted(made[1:3], config).any()  # nothing inside


@pytest.mark.long
@pytest.mark.slow
def test_a_trial_in_the_world_model_is_the_same_twice_and_a_still_arm_does_nothing(renderer):
    demo = str(resource("models/demo"))
    jobs = [(demo, demo, "pick_place", "nominal", seed, renderer) for seed in range(4000, 4004)]
    trials = run_trials_in_world_model(jobs, 2)
    assert trials == run_trials_in_world_model(jobs, 1)

    dream = WorldModelEnvironment(resource("models/demo"), renderer)
    planner = dream.planner(demo)
    planner.policy.act = lambda seen, observation: np.repeat(
        np.append(fk(observation.state.q)[:3, 3], [1, 0, 0, 0, -1, 0, 0.08])[None], 16, axis=0
    )
    still = dream.trial(planner, "pick_place", 4000, "nominal")
    assert not still.success and max(still.probabilities) < 0.5
