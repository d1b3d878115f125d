"""Trials in an imagined world: gate, latency and jumps, with worlds and policies of few lines."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from gwm_core.control.command_checker import check_commands, columns
from gwm_core.control.gate.config import GateConfig
from gwm_core.control.gate.gate import Gate
from gwm_core.errors import InputError
from gwm_core.geometry.kinematics import HOME_Q, fk, tcp_speed, to_rows
from gwm_core.model.config import VAES, named_config
from gwm_core.model.inputs import proprioception
from gwm_core.model.vae import VAE
from gwm_core.model.world_action_model import WorldActionModel
from gwm_core.runtime.imagined_rollout import (
    BASE_ROWS,
    LASTS,
    ROWS,
    PredictedStates,
    called_success,
    imagined_rollout,
)
from gwm_core.runtime.imagined_world import ImaginedState, imagined_world
from gwm_core.runtime.planner import MEASURED_LATENCY, Planner, sampled_latency
from gwm_core.scene.gripped_width import gripped_width
from gwm_core.types import CHUNK_ROWS, OPEN_WIDTH, ArmState, Observation

CONFIG = replace(named_config("tiny")[0], vae=VAES["tiny"][0])
START = ArmState(1, HOME_Q, np.zeros(7), OPEN_WIDTH)
OBSERVATION = Observation(1, (), START, "lift")
DOWN = np.array([0.0, 0.0, -1.0])


class StillWorld:
    """A world whose scene never changes; the arm and the gripper move as in every one.

    ``calls``: base state, rows and the state after, of each prediction.
    """

    config = CONFIG

    def __init__(self, success=lambda count: 0.0):
        self._success, self.calls = success, []

    def observe(self, scene, proprio):
        none = np.zeros(0)
        return ImaginedState(none, none, scene, none, none, none, scene, np.float32(proprio))

    def after(self, state, rows):
        T = np.eye(4)
        T[:3] = np.stack(
            [rows[-1, 3:6], rows[-1, 6:9], np.cross(rows[-1, 3:6], rows[-1, 6:9]), rows[-1, :3]], 1
        )
        width = gripped_width(state.objects, T, float(state.proprio[9]), rows[:, 9])
        later = replace(state, proprio=np.float32([*rows[-1, :9], width, rows[-1, 9]]))
        self.calls.append((state, rows.copy(), later))
        return later

    def success(self, state, task):
        return self._success(len(self.calls))


class Moving:
    """A policy that moves along ``direction`` by ``step`` [m] per row, no farther than ``reach``
    [m] with one chunk, and asks for ``width``. ``observed``: what it saw.
    """

    sees = "scene"

    def __init__(self, step, direction=DOWN, width=OPEN_WIDTH, reach=0.1):
        self._step, self._direction, self._width, self._reach = step, direction, width, reach
        self.observed = []

    def act(self, scene, observation):
        self.observed.append((scene, observation))
        T = np.repeat(fk(observation.state.q)[None], CHUNK_ROWS, axis=0)
        distance = np.minimum(self._step * np.arange(1, CHUNK_ROWS + 1), self._reach)
        T[:, :3, 3] += distance[:, None] * self._direction
        return to_rows(T, self._width)


class SeekingTheMean(Moving):
    """A policy that moves as the mean of the scene says, so that all predictions count."""

    def act(self, scene, observation):
        self._direction = np.tanh(scene[:, :3].mean(0) - fk(observation.state.q)[:3, 3])
        return super().act(scene, observation)


class LoggedGate(Gate):
    """A gate that keeps its commands."""

    def __init__(self):
        super().__init__(GateConfig(auto_arm=True))
        self.commands = []

    def step(self, now):
        command = super().step(now)
        self.commands.append(command)
        return command


def scene(places=((0.5, 0.3, 0.02),) * 8):
    made = np.zeros((len(places), 14), np.float32)
    made[:, :3] = places
    made[:, 6], made[:, 13] = 1.0, 0.9
    return made


def run(policy, world=None, seen=None, seconds=2.0, **more):
    gate = LoggedGate()
    world = world or StillWorld()
    start = world.observe(scene() if seen is None else seen, proprioception(OBSERVATION.state))
    arguments = {"start": start, "observation": OBSERVATION, "seed": 0, "seconds": seconds}
    trial = imagined_rollout(world, Planner(policy), gate, **arguments | more)
    return trial, gate.commands, world


@pytest.mark.parametrize("latency", [0.05, 0.2])
def test_latency_delays_the_first_motion(latency):
    _, commands, _ = run(Moving(0.01), seconds=0.8, latency=(latency,))
    moves = [np.abs(c.reference.q - HOME_Q).max() > 0 for c in commands]
    assert moves.index(True) == round(100 * latency)


def test_what_is_sent_holds_all_limits_whatever_the_policy_asks_for():
    # 0.6 m/s; the profile has 0.25
    policy = Moving(0.06, direction=np.array([0.0, 0.8, -0.6]), reach=0.24)
    trial, commands, _ = run(policy, seconds=4.0)
    q, dq, ddq, resets = columns(commands)
    speed = tcp_speed(q, dq).max()
    assert 0.15 < speed <= 0.25
    assert trial.violations == check_commands(q, dq, ddq, resets).total == 0
    assert check_commands(q, 2 * dq, ddq, resets).total > 0
    assert len(commands) == 400 and trial.seconds == 4.0


def test_an_unreachable_pose_makes_no_chunk_and_the_arm_holds():
    trial, commands, world = run(Moving(0.3, reach=2.0))
    assert trial.refused == {"unreachable": 5} and not trial.stops and not trial.success
    assert all(np.array_equal(c.reference.q, HOME_Q) for c in commands)
    for _, rows, later in world.calls:
        np.testing.assert_array_equal(rows, np.repeat(rows[:1], len(rows), axis=0))
        np.testing.assert_allclose(later.proprio[:9], to_rows(fk(HOME_Q), 0.0)[:9], atol=1e-6)


def test_a_policy_that_falls_silent_is_stopped_and_the_cause_is_counted():
    policy = Moving(0.01)
    act = policy.act

    def once(seen, observation):
        rows = act(seen, observation)
        return rows if len(policy.observed) == 1 else np.full_like(rows, np.nan)

    policy.act = once
    trial, commands, _ = run(policy, seconds=2.4)
    assert trial.stops == {"plan stale": 1} and trial.refused == {"unreachable": 5}
    assert trial.violations == 0 and np.abs(commands[-1].reference.dq).max() == 0


def test_the_world_goes_on_along_the_rows_that_were_sent_from_a_base_state():
    trial, commands, world = run(Moving(0.01), seconds=4.0)
    assert len(world.calls) == len(trial.probabilities) == 10
    sent = commands[9::10]  # the reference after each 0.1 s
    rows = np.array([to_rows(fk(c.reference.q), c.width) for c in sent])
    base, start = world.observe(scene(), np.append(to_rows(fk(HOME_Q), OPEN_WIDTH), OPEN_WIDTH)), 0
    np.testing.assert_array_equal(world.calls[0][0].proprio, base.proprio)
    for k, (before, given, later) in enumerate(world.calls):
        end = ROWS * (k + 1)
        np.testing.assert_array_equal(given, rows[start:end])
        assert len(given) in (ROWS, BASE_ROWS)
        assert k == 0 or before is base or np.array_equal(before.proprio, base.proprio)
        if len(given) == BASE_ROWS:
            base, start = later, end
    assert [len(given) for _, given, _ in world.calls] == [ROWS, BASE_ROWS] * 5
    assert np.ptp(rows[:, 2]) > 0.1  # it moved


def test_the_policy_observes_every_four_rows_where_the_reference_is():
    policy = Moving(0.01)
    _, commands, _ = run(policy, seconds=2.0)
    assert len(policy.observed) == 5
    for k, (seen, observation) in enumerate(policy.observed):
        assert observation.stamp == observation.state.stamp == 1 + k * 400_000_000
        assert observation.task == "lift" and seen.shape == (8, 14)
        if k:
            reference = commands[40 * k - 1].reference
            np.testing.assert_array_equal(observation.state.q, reference.q)
            np.testing.assert_array_equal(observation.state.dq, reference.dq)


@pytest.mark.parametrize("half", [None, 0.02])
def test_the_gripper_needs_its_time_and_stops_at_what_it_holds(half):
    """At its real speed of 0.1 m/s, from the first row on after a latency of 0.1 s."""
    T = fk(HOME_Q)
    places = np.array([[0.0, y, 0.0] for y in (-0.02, 0.02)] * 10) @ T[:3, :3].T + T[:3, 3]
    seen = scene(places if half else ((0.5, 0.3, 0.02),) * 20)
    policy = Moving(0.0, width=0.0)
    run(policy, seconds=2.4, seen=seen, latency=(0.1,))
    widths = [observation.state.width for _, observation in policy.observed]
    commanded = [observation.state.width_command for _, observation in policy.observed]
    expected = [0.08, 0.05, 0.04, 0.04] if half else [0.08, 0.05, 0.01, 0.0]
    np.testing.assert_allclose(widths, [*expected, *expected[-1:] * 2], atol=1e-6)
    assert commanded == [OPEN_WIDTH, *[0.0] * 5]


@pytest.mark.parametrize(
    ("probabilities", "success", "count"),
    [
        ([0.9, 0.9, 0.9], True, 3),
        ([0.1, 0.9, 0.9, 0.4, 0.9, 0.9, 0.9, 0.9], True, 7),
        ([0.9, 0.9, 0.5, 0.9, 0.9, 0.5], False, 6),
    ],
)
def test_a_trial_ends_with_three_probabilities_above_one_half(probabilities, success, count):
    world = StillWorld(lambda calls: probabilities[calls - 1])
    trial, _, _ = run(Moving(0.005), world, seconds=0.4 * len(probabilities))
    assert trial.success is success and trial.probabilities == probabilities[:count]
    assert trial.seconds == pytest.approx(0.4 * count) and LASTS == 3
    assert called_success(probabilities) is success


def tiny_world():
    torch.manual_seed(0)
    model, vae = WorldActionModel(CONFIG).eval(), VAE(CONFIG.vae).eval()
    for parameter in model.parameters():
        parameter.data += 0.05 * torch.randn_like(parameter)
    vae.gripper_tokens.copy_(0.03 * torch.randn_like(vae.gripper_tokens))
    return imagined_world(model, vae)


def test_two_trials_of_a_seed_are_equal():
    rng = np.random.default_rng(0)
    seen = scene(rng.uniform([0.3, -0.3, 0.0], [0.7, 0.3, 0.2], (128, 3)))
    seen[:, 3:6], seen[:, 10:13] = 0.01, rng.uniform(size=(128, 3))
    trials, sent, policies = [], [], []
    for seed in (3, 3, 4):
        policies.append(SeekingTheMean(0.01))
        trial, commands, _ = run(policies[-1], tiny_world(), seen=seen, seed=seed, seconds=2.4)
        trials.append(trial)
        sent.append(columns(commands)[0])
    assert trials[0] == trials[1] and len(trials[0].probabilities) >= 3
    np.testing.assert_array_equal(sent[0], sent[1])
    assert np.abs(sent[0] - sent[2]).max() > 0  # other latencies
    assert trials[0].violations == 0
    seen = [scene for scene, _ in policies[0].observed]
    assert not np.array_equal(seen[0], seen[1])  # the second scene is a predicted one


def test_what_a_model_cannot_predict_is_refused():
    world = StillWorld()
    world.config = replace(CONFIG, jumps=(8, 16))
    with pytest.raises(InputError, match=r"jumps of 8, 16 rows.* need 4, 8"):
        PredictedStates(world, None)
    with pytest.raises(InputError, match="sort"):
        run(Moving(0.0), observation=replace(OBSERVATION, task="sort"))
    low = replace(START, q=np.array([0.0, 0.9, 0.0, -1.6, 0.0, 2.5, 0.8]))  # below the table
    with pytest.raises(InputError, match=r"cannot begin where the arm stands: .*by hand"):
        run(Moving(0.0), observation=replace(OBSERVATION, state=low))


def test_latencies_are_as_measured_and_those_of_a_seed():
    drawn = [list(zip(range(200), sampled_latency(seed))) for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]
    values = np.array([value for _, value in drawn[0]])
    assert values.min() >= MEASURED_LATENCY[0] and values.max() <= MEASURED_LATENCY[-1]
    assert np.median(values) == pytest.approx(np.median(MEASURED_LATENCY), abs=0.005)
    assert [value for _, value in zip(range(3), sampled_latency(1, (0.3,)))] == [0.3] * 3
