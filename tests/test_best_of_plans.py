"""The best of several plans: what is chosen, when there is no time, and what is refused."""

import json
import math
from dataclasses import replace
from functools import partial
from itertools import count
from pathlib import Path

import numpy as np
import pytest
from gwm.cli.main import main
from gwm.graph import config as graph_config
from gwm.graph.config import GraphConfig
from gwm.graph.process_list import processes

from gwm_core.errors import InputError
from gwm_core.geometry.kinematics import HOME_Q, fk, solve, to_rows
from gwm_core.model.checkpoint import load_policy, save_policy
from gwm_core.model.config import named_config
from gwm_core.model.inputs import proprioception
from gwm_core.model.weights_file import read_weights
from gwm_core.model.world_action_model import WorldActionModel
from gwm_core.runtime.best_of_plans import (
    JUMP,
    MARGIN,
    MAX_CANDIDATES,
    BestOfPlans,
    PlanSampler,
    best_plan,
)
from gwm_core.runtime.graphs import backends
from gwm_core.runtime.graphs.compile import load
from gwm_core.runtime.imagined_world import load_imagined_world
from gwm_core.runtime.planner import Planner, trained_planner
from gwm_core.runtime.policy_runner import PolicyRunner
from gwm_core.scene.lift import LiftConfig
from gwm_core.sim.planners import make_planner
from gwm_core.types import ArmState, Observation

ROOT = Path(__file__).parents[1]
STATE = ArmState(0, HOME_Q, np.zeros(7), 0.08)


def scene(seed=0):
    low = [0.3, -0.3, 0.0, *[0.003] * 3, 1, 0, 0, 0, 0, 0, 0, 0.9]
    high = [0.7, 0.3, 0.2, *[0.01] * 3, 1, 0, 0, 0, 1, 1, 1, 1]
    return np.random.default_rng(seed).uniform(low, high, (512, 14)).astype(np.float32)


def observation(stamp=7):
    return Observation(stamp, (), STATE, "lift")


class HeightWorld:
    """A world whose states are poses of the gripper, and whose value is its height [m] times
    ``sign``.
    """

    lift_config = LiftConfig(count=512)

    def __init__(self, sign=1.0):
        self.sign = sign
        self.jumps = []

    def observe(self, scene, proprio):
        return proprio[:10]

    def after(self, state, rows, encode):
        self.jumps.append(rows)
        return rows[-1]

    def value(self, state, task):
        return self.sign * float(state[2])


class ShiftedPolicy(PolicyRunner):
    """A policy near home whose plans differ by their noise: rows end higher or lower by some
    centimetres. ``spoil`` maps the number of a plan to what its rows become.
    """

    def __init__(self, folder, spoil=None):
        super().__init__(folder)
        graph, spoil, home = self.graph, spoil or {}, to_rows(fk(HOME_Q), 0.08)

        def load(name):
            if name != "denoise":
                return graph(name)
            step = graph(name)

            def denoise(inputs):
                out = step(inputs)
                rows = np.repeat(home[None], out["rows"].shape[1], axis=0)[None]
                rows = np.repeat(rows, len(out["rows"]), axis=0).astype(np.float32)
                rows[..., 2] += 0.05 * np.tanh(out["rows"].mean((1, 2)))[:, None]
                for number, value in spoil.items():
                    rows[number] = value
                return out | {"rows": rows}

            return denoise

        self.graph = load


@pytest.fixture(scope="module")
def runner(tiny_policy):
    return PolicyRunner(tiny_policy)


@pytest.fixture(scope="module")
def shifted(tiny_policy):
    return ShiftedPolicy(tiny_policy)


def all_plans(policy, candidates, seed=0, stamp=7):
    inputs = policy.inputs(scene(), proprioception(STATE), policy.tasks.index("lift"))
    generator = np.random.default_rng([seed, stamp])
    return np.stack(list(PlanSampler(policy).plans(inputs, candidates, generator)))


def heights(plans):
    return plans[:, JUMP - 1, 2]


def test_one_candidate_is_the_policy(runner):
    policy = BestOfPlans(runner, HeightWorld(), 1)
    acted = policy.act(scene(), observation())
    np.testing.assert_array_equal(acted, runner.act(scene(), observation()))
    assert math.isnan(policy.mean_ranked)


def test_the_first_candidate_is_the_plan_of_the_stored_noise(runner):
    task = runner.tasks.index("lift")
    known = runner.rows(scene(), proprioception(STATE), task)
    plans = all_plans(runner, 5)
    np.testing.assert_allclose(plans[0], known, atol=1e-5)
    np.testing.assert_allclose(
        PlanSampler(runner).rows(scene(), proprioception(STATE), task), known, atol=1e-5
    )
    assert len({plan.tobytes() for plan in plans}) == 5


@pytest.mark.parametrize("batch", [1, 2, 3])
def test_plans_do_not_depend_on_the_batch(runner, monkeypatch, batch):
    known = all_plans(runner, 5)
    monkeypatch.setitem(backends.LARGEST_BATCH, "torch", batch)
    np.testing.assert_allclose(all_plans(runner, 5), known, atol=1e-5)


def test_the_scene_is_encoded_once(tiny_policy):
    policy, encoded = PolicyRunner(tiny_policy), []
    graph = policy.graph

    def counted(name):
        call = graph(name)
        return lambda inputs: (name == "encode" and encoded.append(name), call(inputs))[1]

    policy.graph = counted
    assert len(all_plans(policy, 9)) == 9 and encoded == ["encode"]


def test_the_plan_with_the_largest_value_wins(shifted):
    plans, chosen = all_plans(shifted, 8), set()
    for sign in (1.0, -1.0):
        world = HeightWorld(100 * sign)
        policy = BestOfPlans(shifted, world, 8)
        acted = policy.act(scene(), observation())
        values = 100 * sign * heights(plans)
        assert values.max() > values[0] + MARGIN
        np.testing.assert_allclose(acted, plans[values.argmax()], atol=1e-6)
        assert policy.mean_ranked == 8.0 and {len(rows) for rows in world.jumps} == {JUMP}
        chosen.add(values.argmax())
    assert len(chosen) == 2


def test_the_stored_plan_stays_unless_another_is_better_by_the_margin(shifted):
    plans = all_plans(shifted, 8)
    gain = heights(plans).max() - heights(plans)[0]
    assert gain > 0
    for factor, kept in ((0.9, True), (1.1, False)):
        policy = BestOfPlans(shifted, HeightWorld(factor * MARGIN / gain), 8)
        acted = policy.act(scene(), observation())
        assert np.allclose(acted, plans[0], atol=1e-6) == kept


def test_the_choice_by_values():
    assert best_plan([]) == best_plan([0.2]) == best_plan([0.2, 0.2 + 0.9 * MARGIN, 0.1]) == 0
    assert best_plan([0.2, 0.3, 0.9, 0.8]) == 2
    assert best_plan([-math.inf, 0.1, 0.2]) == 2
    assert best_plan([-math.inf, -math.inf]) == 0


@pytest.mark.parametrize("ranked", [0, 1, 3, 6])
def test_no_plan_is_ranked_after_the_deadline(shifted, ranked):
    """The clock ticks once for every candidate: it is read at the start, and before each one."""
    ticks, plans = count(), all_plans(shifted, 6)
    policy = BestOfPlans(
        shifted, HeightWorld(100.0), 6, deadline=ranked + 0.5, clock=lambda: float(next(ticks))
    )
    acted = policy.act(scene(), observation())
    assert policy.mean_ranked == ranked
    best = int(np.argmax(heights(plans)[:ranked])) if ranked else 0
    np.testing.assert_allclose(acted, plans[best], atol=1e-6)


def test_a_runtime_of_single_plans_makes_none_after_the_deadline(tiny_policy, monkeypatch):
    monkeypatch.setitem(backends.LARGEST_BATCH, "torch", 1)
    policy, made, ticks = PolicyRunner(tiny_policy), [], count()
    graph = policy.graph

    def counted(name):
        call = graph(name)
        return lambda inputs: (made.append(name), call(inputs))[1]

    policy.graph = counted
    best = BestOfPlans(policy, HeightWorld(), 6, deadline=2.5, clock=lambda: float(next(ticks)))
    best.act(scene(), observation())
    assert made.count("denoise") == 2 * load_policy(tiny_policy).config.steps


FAR = to_rows(fk(HOME_Q), 0.08) + np.array([0, 0, 5.0, *[0] * 7])


@pytest.mark.parametrize("value", [np.nan, np.inf, FAR, 0.0], ids=["nan", "inf", "far", "zero"])
def test_a_plan_that_the_arm_cannot_follow_never_wins(tiny_policy, value):
    policy = ShiftedPolicy(tiny_policy, {1: value, 3: value})
    world = HeightWorld(100.0)
    acted = BestOfPlans(policy, world, 6).act(scene(), observation())
    assert len(world.jumps) == 4 and np.isfinite(world.jumps).all()
    solve(acted, HOME_Q)


def test_where_the_stored_plan_cannot_be_followed_the_best_other_one_acts(tiny_policy):
    policy = ShiftedPolicy(tiny_policy, {0: np.nan})
    plans = all_plans(policy, 6)
    acted = BestOfPlans(policy, HeightWorld(1e-6), 6).act(scene(), observation())
    np.testing.assert_allclose(acted, plans[1 + np.argmax(heights(plans)[1:])], atol=1e-6)


def test_without_a_plan_that_can_be_followed_the_planner_says_why(tiny_policy):
    policy = ShiftedPolicy(tiny_policy, dict.fromkeys(range(3), np.nan))
    decision = Planner(BestOfPlans(policy, HeightWorld(), 3)).plan(scene(), observation())
    assert decision.chunk is None and "unreachable: row 1" in decision.reason


def test_a_value_that_is_no_number_never_wins(shifted):
    class Unsure(HeightWorld):
        def value(self, state, task):
            return math.nan if len(self.jumps) > 1 else 0.0

    acted = BestOfPlans(shifted, Unsure(), 4).act(scene(), observation())
    np.testing.assert_allclose(acted, all_plans(shifted, 4)[0], atol=1e-6)


def test_equal_seeds_and_observations_give_equal_plans(shifted):
    def act(seed, stamp, before=()):
        policy = BestOfPlans(shifted, HeightWorld(100.0), 4, seed)
        for other in before:
            policy.act(scene(), observation(other))
        return policy.act(scene(), observation(stamp))

    known = act(0, 7)
    np.testing.assert_array_equal(act(0, 7, before=(1, 2)), known)
    assert not np.array_equal(act(1, 7), known) and not np.array_equal(act(0, 8), known)


def test_an_unknown_task_and_number_are_refused(runner):
    with pytest.raises(InputError, match="lift, pick_place, stack"):
        BestOfPlans(runner, HeightWorld(), 2).act(scene(), replace(observation(), task="juggle"))
    for number in (0, -1, MAX_CANDIDATES + 1):
        with pytest.raises(InputError, match=f"1 to {MAX_CANDIDATES} are possible"):
            BestOfPlans(runner, HeightWorld(), number)


def test_the_networks_own_world_ranks_plans(shifted, tiny_policy):
    """Its values are those of each plan alone, from a state that is observed anew."""
    world, given = load_imagined_world(tiny_policy), []
    value = world.value
    world.value = lambda state, task: given.append(value(state, task)) or given[-1]
    plans = all_plans(shifted, 6)
    acted = BestOfPlans(shifted, world, 6).act(scene(), observation())
    known, values = load_imagined_world(tiny_policy), []
    for plan in plans:
        start = known.observe(scene()[: known.lift_config.count], proprioception(STATE))
        values.append(known.value(known.after(start, plan[:JUMP]), "lift"))
    np.testing.assert_allclose(given, values, atol=1e-4)
    assert len(set(given)) > 1
    np.testing.assert_allclose(acted, plans[best_plan(given)], atol=1e-6)


def test_jumps_from_one_state_encode_it_once(tiny_policy):
    world, start = load_imagined_world(tiny_policy), None
    calls, scene_graph = [], world._scene
    world._scene = lambda inputs: (calls.append(1), scene_graph(inputs))[1]
    start = world.observe(scene(), proprioception(STATE))
    rows = np.repeat(to_rows(fk(HOME_Q), 0.08)[None], JUMP, axis=0)
    first = world.value(world.after(start, rows), "lift")
    world.value(world.after(start, rows + 0.01 * np.eye(10)[2]), "lift")
    assert world.value(world.after(start, rows), "lift") == first
    assert len(calls) == 1 + 3


@pytest.mark.slow
def test_onnxruntime_makes_the_plans_that_torch_makes(tiny_policy, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    compiled = PolicyRunner(tiny_policy)
    compiled.backend = "onnxruntime"
    compiled.graph = partial(load, tiny_policy, backend="onnxruntime", precision="fp32", threads=1)
    wanted = all_plans(PolicyRunner(tiny_policy), 5)
    np.testing.assert_allclose(all_plans(compiled, 5), wanted, atol=1e-4)


def test_a_planner_lifts_what_policy_and_world_take(tiny_policy):
    planner = trained_planner(str(tiny_policy), candidates=3)
    assert planner.policy.sees == "scene" and "lift" in planner.policy.tasks
    world = read_weights(tiny_policy, "policy").config.vae.lift.count
    assert planner.policy.lift_config.count >= world
    decision = planner.plan(scene(), observation())
    assert decision.poses.shape[1] == 10 and planner.policy.mean_ranked == 3


def test_what_predicts_nothing_refuses_candidates(plain_policy):
    with pytest.raises(InputError, match="predicts nothing") as error:
        make_planner(str(plain_policy), candidates=2)
    assert "\n" not in str(error.value)
    with pytest.raises(InputError, match="expert makes one plan"):
        make_planner("expert", candidates=2)


def test_a_model_without_that_jump_is_refused(tmp_path, tiny_vae):
    config = named_config("tiny")[0]
    vae = read_weights(tiny_vae, "vae").config
    save_policy(tmp_path, WorldActionModel(replace(config, vae=vae, jumps=(4,))), {}, tiny_vae)
    with pytest.raises(InputError, match="jumps of 4 rows: candidates need 8"):
        make_planner(str(tmp_path), candidates=2)


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"candidates": 8, "policy": "expert"}, "policy:=expert predicts nothing"),
        ({"candidates": 8, "mode": "teleop"}, "mode:=teleop has no policy"),
        ({"candidates": 0}, "candidates:=0: a number of plans is wanted, 1 to 64"),
        ({"candidates": 65}, "1 to 64"),
    ],
)
def test_the_graph_refuses_candidates_before_anything_starts(wrong, named):
    with pytest.raises(InputError, match=named) as error:
        processes(GraphConfig(**wrong))
    assert "\n" not in str(error.value)


def test_the_graph_refuses_candidates_of_a_policy_that_only_plans(plain_policy):
    with pytest.raises(InputError, match="predicts nothing: `gwm train policy --futures"):
        processes(GraphConfig(policy=str(plain_policy), candidates=8))


def test_the_graph_hands_candidates_to_the_policy(tiny_policy):
    assert graph_config.MAX_CANDIDATES == MAX_CANDIDATES
    nodes = processes(GraphConfig(policy=str(tiny_policy), task="lift", candidates=8))
    (policy,) = (node for node in nodes if node.name == "policy")
    assert policy.parameters["candidates"] == 8
    (policy,) = (node for node in processes(GraphConfig()) if node.name == "policy")
    assert policy.parameters["candidates"] == 1


@pytest.mark.parametrize(
    ("policy", "number", "named"),
    [
        ("", "2", "predicts nothing"),
        ("expert", "2", "expert makes one plan"),
        ("expert", "0", "candidates"),
    ],
)
def test_eval_refuses_candidates_of_what_predicts_nothing(
    plain_policy, monkeypatch, capsys, policy, number, named
):
    policy = policy or plain_policy
    words = f"gwm eval policy --task lift --trials 1 --policy {policy} --candidates {number}"
    monkeypatch.setattr("sys.argv", words.split())
    assert main() == 2
    assert named in capsys.readouterr().err


@pytest.mark.long
@pytest.mark.slow
def test_eval_says_how_many_candidates_there_were(tiny_policy, tmp_path, monkeypatch):
    hashes = set()
    for file in (tmp_path / "a.json", tmp_path / "b.json"):
        words = f"gwm eval policy --task lift --trials 1 --policy {tiny_policy} --backend torch"
        words += f" --candidates 2 --processes 1 --json {file}"
        monkeypatch.setattr("sys.argv", words.split())
        assert main() == 0
        figures = json.loads(file.read_text())
        assert figures["candidates"] == 2
        hashes.add(figures["trials_hash"])
    assert len(hashes) == 1
