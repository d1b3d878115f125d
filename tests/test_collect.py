"""Episodes of others than the expert: of a policy and of perturbed demonstrations, kept however
they end, with the truth about their tasks.
"""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from gwm_core.data.episode import read_episode
from gwm_core.data.episode_info import list_episodes, read_infos, same_starts
from gwm_core.data.resampled_episode import resample
from gwm_core.errors import InputError
from gwm_core.geometry.kinematics import fk
from gwm_core.model.config import named_config
from gwm_core.runtime.planner import Planner
from gwm_core.scene.lift import LiftConfig
from gwm_core.sim.rollout import Observer, RolloutConfig, SimEnvironment, rollout
from gwm_core.sim.tasks import HOLD_TIME, sample_layout
from gwm_core.training.collection.collect import CollectConfig, collect
from gwm_core.training.collection.episode_sources import AFTER_SUCCESS, LATENCY
from gwm_core.training.collection.perturbed_replay import (
    Perturbation,
    PerturbedReplay,
    sample_perturbation,
)
from gwm_core.training.datasets.clips import done_at, load_clips
from gwm_core.training.datasets.policy_samples import demonstrations, load_samples
from gwm_core.training.train_world_action_model import train_world_action_model
from gwm_core.training.training_run import TrainingRun
from gwm_core.types import ArmState, Observation

POLICY, TRAIN = named_config("tiny")


@pytest.fixture(scope="module")
def weak(episodes, tmp_path_factory) -> Path:
    """A policy of 20 iterations, which lifts nothing."""
    folder = tmp_path_factory.mktemp("weak")
    samples = load_samples([episodes], POLICY.tasks, POLICY.lift, processes=1)
    train_world_action_model(samples, POLICY, TrainingRun(replace(TRAIN, iterations=20), folder))
    return folder


def test_a_policys_failures_are_kept_and_nothing_imitates_them(weak, tmp_path, renderer):
    config = CollectConfig("lift", tmp_path, 1, seed=30, renderer=renderer, policy=str(weak))
    assert collect(config, processes=1) == {"failure": 1}
    infos = read_infos(list_episodes(tmp_path))
    assert [info["seed"] for info in infos.values()] == [30]
    assert all(info["success"] is False and info["policy"] == str(weak) for info in infos.values())
    assert all(info["trial"]["violations"] == 0 for info in infos.values())
    with pytest.raises(InputError, match="no demonstrations"):
        demonstrations([tmp_path])
    clips = load_clips([tmp_path], LiftConfig(count=128), 1)
    assert len(clips) > 200
    # resumed: nothing is run again
    (before,) = list_episodes(tmp_path)
    made = before.stat().st_mtime_ns
    assert collect(config, processes=1) == {"failure": 1} and before.stat().st_mtime_ns == made


def test_the_episode_says_when_each_task_holds(episodes):
    """The rule of the episode's own task holds until the end of a success, that of another task
    does not. Recording goes on after it.
    """
    for path, info in read_infos(list_episodes(episodes)).items():
        stamps = read_episode(path).command_stamps
        begin, end = info["reached"]["lift"][-1]
        assert (end - begin) * 1e-9 == pytest.approx(HOLD_TIME + AFTER_SUCCESS, abs=0.03)
        assert (stamps[-1] - stamps[0]) * 1e-9 == pytest.approx(
            info["seconds"] + AFTER_SUCCESS, abs=0.03
        )
        assert stamps[-1] - end < 0.03e9
        assert info["reached"]["pick_place"] == []
        done = done_at(info, stamps)
        np.testing.assert_array_equal(done, done_at(info | {"reached": {}}, stamps) | done)
        assert 245 <= done.sum() <= 255 and done[-1]


def test_without_a_rule_the_end_of_a_success_is_done():
    """As on a robot, whose verdict comes for the whole episode."""
    stamps = np.arange(0, 3_000_000_000, 100_000_000)
    info = {"task": "sort_screws", "success": True}
    assert done_at(info, stamps).tolist() == [False] * 25 + [True] * 5
    for failed in (info | {"success": False}, info | {"success": None}, {"task": "sort_screws"}):
        assert not done_at(failed, stamps).any()
    assert done_at(info, stamps[:0]).shape == (0,)
    twice = info | {"reached": {"sort_screws": [[0, 100_000_000], [500_000_000, 500_000_000]]}}
    assert np.flatnonzero(done_at(twice, stamps)).tolist() == [0, 1, 5]
    assert not done_at(info | {"reached": {"sort_screws": []}}, stamps).any()


def test_perturbed_demonstrations_repeat_their_layout_and_leave_their_path(
    episodes, tmp_path, renderer
):
    config = CollectConfig("", tmp_path, 5, seed=70, renderer=renderer, perturb=episodes)
    outcomes = collect(config, processes=2)
    assert sum(outcomes.values()) == 5
    originals = read_infos(list_episodes(episodes))
    for path, info in read_infos(list_episodes(tmp_path)).items():
        (original,) = (o for o in originals if o.name == info["demonstration"])
        assert info["seed"] == originals[original]["seed"] and info["policy"] == "perturbed"
        assert info["trial"]["violations"] == 0
        assert len(info["unusable"]) == 1 + len(originals[original]["unusable"])
        assert info["success"] == (info["trial"]["success"] is True)
        now, before = read_episode(path), read_episode(original)
        np.testing.assert_allclose(now.states[0].q, before.states[0].q, atol=1e-6)
        # the same cubes in the same places, seen before anything moves
        first, then = (
            e.frame("front", *e.images["front", "color"][0], e.images["front", "depth"][0][1])
            for e in (now, before)
        )
        assert np.median(np.abs(first.depth - then.depth)) < 1e-3
        assert np.mean(np.abs(first.color.astype(int) - then.color)) < 2
    # resumed, nothing is run again; another demonstration of the same name gets other folders
    assert collect(config, processes=1) == outcomes
    assert len(list_episodes(tmp_path)) == 5
    with pytest.raises(InputError, match="which is read"):
        collect(replace(config, out=episodes / "perturbed"), 1)


def test_a_replay_without_a_change_does_what_the_demonstration_did(episodes, renderer, tmp_path):
    """The arm stays on the demonstration's path, and the task's rule holds at the end."""
    demonstration = read_episode(list_episodes(episodes)[0])
    info, first = demonstration.info, demonstration.states[0]
    layout, world = sample_layout("lift", info["seed"]), SimEnvironment(cameras=False)
    ways = {}
    for shift in (0.0, 0.04):
        change = Perturbation("shift", 1.0, 1.0, np.array([shift, 0, 0]))
        way: list[np.ndarray] = []

        class Watch(Observer):
            def tick(self, state, command):
                way.append(fk(state.q)[:3, 3])  # noqa: B023

        trial = rollout(
            world,
            Planner(PerturbedReplay(demonstration, change)),
            layout,
            RolloutConfig(latency=LATENCY, replan_every=2),
            Watch(),
            lambda sim: sim.teleport(first.q, first.width),
        )
        ways[shift] = trial.success, np.array(way[:200])
    measured = np.array([fk(s.q)[:3, 3] for s in demonstration.states[:200]])
    off = {shift: np.linalg.norm(way - measured, axis=1).max() for shift, (_, way) in ways.items()}
    assert ways[0.0][0] and off[0.0] < 0.03 < off[0.04]


def replayed(demonstration, perturbation: Perturbation) -> PerturbedReplay:
    return PerturbedReplay(demonstration, perturbation)


def rows_at(replay: PerturbedReplay, seconds: float) -> np.ndarray:
    state = ArmState(1 + int(seconds * 1e9), np.zeros(7), np.zeros(7), 0.08, 0.08)
    return replay.act(None, Observation(state.stamp, (), state, "lift", {}))


def test_a_perturbation_does_what_it_says(episodes):
    demonstration = read_episode(list_episodes(episodes)[0])
    same = replayed(demonstration, Perturbation("shift", 0.5, 1.0, np.zeros(3)))
    plain = rows_at(same, 0.5)
    sent = demonstration.next_commands(
        demonstration.command_stamps[0] + np.arange(6, 22) * 100_000_000
    ).commands
    np.testing.assert_allclose(plain[:, :3], fk(sent[:, :7])[:, :3, 3], atol=1e-6)
    shift = np.array([0.03, 0.0, 0.02])
    moved = rows_at(replayed(demonstration, Perturbation("shift", 0.5, 1.0, shift)), 0.5)
    offset = moved[:, :3] - plain[:, :3]
    np.testing.assert_allclose(offset[4], shift, atol=1e-9)  # 0.5 s after its begin: the middle
    np.testing.assert_allclose(offset[9:], 0, atol=1e-9)  # back on the path
    down = Perturbation("shift", 0.5, 1.0, np.array([0, 0, -0.5]))
    assert rows_at(replayed(demonstration, down), 0.5)[:, 2].min() >= 0.0159  # not into the table
    drop = rows_at(replayed(demonstration, Perturbation("drop", 0.5, 0.6, shift)), 0.5)
    np.testing.assert_array_equal(drop[:5, 9], 0.08)
    np.testing.assert_array_equal(drop[:, :9], plain[:, :9])
    closes = 1e-9 * float(
        demonstration.command_stamps[np.argmax(demonstration.commands[:, 7] < 0.04)]
    )
    late = Perturbation("gripper", 0.0, 1.0, shift, delay=0.5)
    assert rows_at(same, closes - 0.1)[2, 9] < 0.04
    assert rows_at(replayed(demonstration, late), closes - 0.1)[2, 9] > 0.04
    assert rows_at(replayed(demonstration, late), closes + 0.4)[2, 9] < 0.04


def test_what_leads_away_is_no_label_and_the_way_back_is(episodes):
    demonstration = read_episode(list_episodes(episodes)[0])
    seconds = 1e-9 * float(demonstration.command_stamps[-1] - demonstration.command_stamps[0])
    rng = np.random.default_rng(0)
    kinds = set()
    demonstration.info["unusable"] = []
    for _ in range(50):
        p = sample_perturbation(rng, seconds)
        ((begin, end),) = replayed(demonstration, p).unusable
        kinds.add(p.kind)
        assert 0 < begin < end and 0.005 <= np.linalg.norm(p.shift) <= 0.05
        if p.kind == "shift":
            assert (end - begin) * 1e-9 == pytest.approx(p.seconds / 2, abs=1e-6)
        if p.kind == "gripper":
            assert end * 1e-9 > seconds
    assert kinds == {"shift", "gripper", "drop"}
    # a push of the demonstration is repeated, and is no label of the replay either
    begun = int(demonstration.command_stamps[0])
    demonstration.info["unusable"] = [[begun + 500, begun + 900]]
    assert [501, 901] in replayed(demonstration, p).unusable


def test_episodes_that_began_alike_are_held_out_together(episodes, tmp_path):
    """A replay repeats its demonstration's layout and path: neither measures the other."""
    own = tmp_path / "own"
    shutil.copytree(episodes, own)
    first, second = list_episodes(own)[:2]
    info = json.loads((first / "episode.json").read_text())
    file = second / "episode.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"seed": info["seed"]}))
    infos = read_infos(list_episodes(own))
    assert same_starts(infos) == [0, 0, 2, 3]
    assert same_starts({p: i | {"robot": "fr3"} for p, i in infos.items()}) == [0, 1, 2, 3]
    samples = load_samples([own], POLICY.tasks, POLICY.lift, processes=1)
    clips = load_clips([own], LiftConfig(count=128), 1)
    assert samples.episode.max() == clips.episode.max() == 2
    # no window reaches from one into the other
    ends = np.flatnonzero(np.diff(clips.stamps) < 0)
    assert len(ends) == 3 and not set(clips.starts(2)) & set(ends)


def test_rows_at_other_stamps_say_nothing_of_when_the_rule_held(episodes):
    episode = read_episode(list_episodes(episodes)[0])
    assert episode.info["reached"]["lift"]
    assert all("reached" not in table.info for table in resample(episode))


def test_what_cannot_be_perturbed_is_refused(episodes, tmp_path):
    own = tmp_path / "own"
    shutil.copytree(list_episodes(episodes)[0], own / "one")
    file = own / "one" / "episode.json"
    info = json.loads(file.read_text())

    def refused(**changes) -> str:
        file.write_text(json.dumps(info | changes))
        with pytest.raises(InputError) as caught:
            collect(CollectConfig("", tmp_path / "out", 1, perturb=own), 1)
        return str(caught.value)

    assert "nothing to perturb" in refused(robot="fr3")
    assert "nothing to perturb" in refused(success=False)
    assert "nothing to perturb" in refused(policy="perturbed")
    assert "nothing to perturb" in refused(difficulty=None)
    assert "nothing to perturb" in refused(seed=None)
    assert "nothing to perturb" in refused(task="sort_screws")
    assert "has a seed from 4000 on" in refused(seed=5000)
    assert "'reached' is" in refused(reached={"lift": [[3]]})
