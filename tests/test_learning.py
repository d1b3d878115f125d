"""Collect, record, read, train, resume, evaluate: the whole path on a small scale."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from gwm_core.data.episode import read_episode
from gwm_core.data.episode_info import list_episodes
from gwm_core.errors import InputError
from gwm_core.evaluation.policy_eval import EvalConfig, evaluate
from gwm_core.geometry.kinematics import fk
from gwm_core.model.checkpoint import load_policy
from gwm_core.model.config import named_config
from gwm_core.runtime.policy_runner import PolicyRunner
from gwm_core.scene.lift import LiftConfig
from gwm_core.sim.rollout import trials_hash
from gwm_core.training.collection.collect import CollectConfig, collect
from gwm_core.training.datasets.array_cache import stacked
from gwm_core.training.datasets.clips import load_clips
from gwm_core.training.datasets.policy_samples import (
    episode_samples,
    load_samples,
    refuse_reserved,
    sample_rows,
    tasks_of,
)
from gwm_core.training.train_world_action_model import train_world_action_model
from gwm_core.training.training_loop import STATE
from gwm_core.training.training_run import TrainingRun, held_out
from gwm_core.types import Observation

POLICY, TRAIN = named_config("tiny")


@pytest.fixture(scope="module")
def samples(episodes):
    return load_samples([episodes], POLICY.tasks, POLICY.lift, processes=1)


def test_an_episode_holds_what_was_sent_and_seen(episodes):
    paths = list_episodes(episodes)
    assert len(paths) == 4 and not list(episodes.glob("*.partial"))
    episode = read_episode(paths[0])
    assert episode.info["task"] == "lift" and episode.info["success"] is True
    assert np.all(np.diff(episode.command_stamps) == 10_000_000)
    measured = np.array([s.q for s in episode.states])
    assert np.abs(measured[100:] - episode.commands[100 : len(measured), :7]).max() < 0.05
    color = episode.images["front", "color"]
    assert 80e6 < np.median(np.diff([s for s, _ in color])) < 120e6
    stamp, data = color[3]
    frame = episode.frame("front", stamp, data, episode.images["front", "depth"][3][1])
    assert (
        frame.color.shape == (240, 424, 3) and 0.5 < np.median(frame.depth[frame.depth > 0]) < 2.0
    )


def test_labels_are_the_forward_kinematics_of_what_was_sent(episodes):
    episode = read_episode(list_episodes(episodes)[0])
    samples = episode_samples(episode, POLICY.lift)
    first = episode.images["front", "color"][0][0]
    for k in (1, 7, 16):
        index = np.searchsorted(episode.command_stamps, first + k * 100_000_000)
        wanted = fk(episode.commands[index, :7])[:3, 3]
        np.testing.assert_allclose(samples["rows"][0, k - 1, :3], wanted, atol=1e-5)
    assert samples["points"].shape[1:] == (POLICY.lift.count, 3)


def test_rows_beyond_a_push_and_moments_within_are_left_out(episodes):
    episode = read_episode(list_episodes(episodes)[0])
    whole = episode_samples(episode, POLICY.lift)
    stamps = [s for s, _ in episode.images["front", "color"]]
    begin, end = stamps[10] + 1, stamps[14] + 1
    episode.info["unusable"] = [[begin, end]]
    cut = episode_samples(episode, POLICY.lift)
    assert len(cut["rows"]) == len(whole["rows"]) - 4
    assert cut["valid"][9].tolist() == [k <= 1 for k in range(1, 17)]
    assert not cut["valid"][10].any() and cut["valid"][11].all()


def test_corrections_are_what_an_operator_did_in_a_policys_place(episodes):
    episode = read_episode(list_episodes(episodes)[0])
    whole = episode_samples(episode, POLICY.lift)
    stamps = [s for s, _ in episode.images["front", "color"]]
    episode.info["interventions"] = [[stamps[10] - 1, stamps[14] + 1]]
    assert len(episode_samples(episode, POLICY.lift)["rows"]) == len(whole["rows"])
    taken = stacked(sample_rows(episode, POLICY.lift, corrections=True))
    np.testing.assert_array_equal(taken["rows"], whole["rows"][10:15])
    # what follows is the policy's again
    assert [valid.sum() for valid in taken["valid"]] == [4, 3, 2, 1, 0]
    episode.info["interventions"] = []  # the policy led throughout
    assert len(list(sample_rows(episode, POLICY.lift, corrections=True))) == 0
    del episode.info["interventions"]
    demonstration = stacked(sample_rows(episode, POLICY.lift, corrections=True))
    np.testing.assert_array_equal(demonstration["valid"], whole["valid"])


def test_a_resumed_run_equals_a_whole_one(samples, tmp_path):
    config = replace(TRAIN, iterations=20, validate_every=10)
    torch.set_num_threads(1)
    train_world_action_model(samples, POLICY, TrainingRun(config, tmp_path / "whole"))

    class Killed(Exception):
        pass

    def kill(done, total, figures):
        # the state of iteration 10 of a run that dies later
        shutil.copytree(tmp_path / "half", tmp_path / "kept")
        raise Killed

    with pytest.raises(Killed):
        train_world_action_model(
            samples,
            POLICY,
            TrainingRun(replace(config, validate_every=10), tmp_path / "half", progress=kill),
        )
    assert (tmp_path / "kept" / STATE).exists()
    train_world_action_model(samples, POLICY, TrainingRun(config, tmp_path / "kept"))
    whole, resumed = (load_policy(tmp_path / n).state_dict() for n in ("whole", "kept"))
    for name in whole:
        torch.testing.assert_close(whole[name], resumed[name], atol=0, rtol=0, msg=name)
    assert not (tmp_path / "kept" / STATE).exists()


def test_another_configuration_does_not_take_over_an_unfinished_run(samples, tmp_path):
    def stop(done, total, figures):
        raise KeyboardInterrupt

    config = replace(TRAIN, iterations=40, validate_every=10)
    with pytest.raises(KeyboardInterrupt):
        train_world_action_model(samples, POLICY, TrainingRun(config, tmp_path, progress=stop))
    with pytest.raises(InputError, match="other settings"):
        train_world_action_model(
            samples, POLICY, TrainingRun(replace(config, learning_rate=1e-4), tmp_path)
        )


def test_overfitting_a_few_moments_makes_the_plan_right(samples, tmp_path):
    """The loss, the sampler and the normalisation agree: a net that has seen a moment often
    reproduces its rows.
    """
    few = replace(
        samples,
        **{
            n: getattr(samples, n)[:24]
            for n in ("points", "colors", "proprio", "rows", "valid", "task")
        },
        episode=np.arange(24) % 3,
    )
    bigger = replace(POLICY, width=64, steps=8)
    config = replace(
        TRAIN,
        iterations=400,
        batch=16,
        noise_samples=4,
        learning_rate=2e-3,
        validate_every=400,
        ema=0.98,
    )
    figures = train_world_action_model(few, bigger, TrainingRun(config, tmp_path))
    # held-out moments of the same few seconds; untrained it is over 100
    assert figures["position_mm"] < 60


def test_a_damaged_episode_is_named(episodes, tmp_path):
    victim = tmp_path / "episode"
    shutil.copytree(list_episodes(episodes)[0], victim)
    bag = next(victim.rglob("*.mcap"))
    bag.write_bytes(bag.read_bytes()[: bag.stat().st_size // 2])
    with pytest.raises(InputError, match="damaged"):
        read_episode(victim)
    with pytest.raises(InputError, match="no episodes"):
        list_episodes(tmp_path / "nothing")


def test_one_flipped_bit_is_found(episodes, tmp_path):
    victim = tmp_path / "episode"
    shutil.copytree(list_episodes(episodes)[0], victim)
    bag = next(victim.rglob("*.mcap"))
    data = bytearray(bag.read_bytes())
    data[len(data) // 2] ^= 1
    bag.write_bytes(bytes(data))
    with pytest.raises(InputError, match="not the file that was recorded"):
        read_episode(victim)


def test_the_cache_of_samples_knows_its_episodes(episodes, samples, tmp_path):
    """Other episodes under the same names are lifted anew; a cache cut short is, too; failures are
    left out.
    """
    mine = tmp_path / "mine"
    shutil.copytree(episodes, mine, ignore=shutil.ignore_patterns("samples-*"))

    def load():
        return load_samples([mine], POLICY.tasks, POLICY.lift, processes=1)

    assert len(load()) == len(samples)
    (cache,) = mine.glob("samples-*/points.npy")
    cache.write_bytes(cache.read_bytes()[:1000])
    np.testing.assert_array_equal(load().points, samples.points)
    record = list_episodes(mine)[0] / "episode.json"
    record.write_text(json.dumps(json.loads(record.read_text()) | {"success": False}))
    assert len(load()) < len(samples)


def test_training_seeds_end_where_choosing_seeds_begin(episodes, tmp_path):
    with pytest.raises(InputError, match="0-3999"):
        collect(CollectConfig("lift", tmp_path, 10, seed=3995), 1)
    mine = tmp_path / "data"
    shutil.copytree(episodes, mine)
    refuse_reserved([episodes, mine])
    record = list_episodes(mine)[2] / "episode.json"
    record.write_text(json.dumps(json.loads(record.read_text()) | {"seed": 4000}))
    with pytest.raises(InputError, match="its seed is 4000"):
        refuse_reserved([episodes, mine])


def test_evaluation_is_deterministic_in_any_number_of_processes(samples, tmp_path, renderer):
    train = replace(TRAIN, iterations=20, validate_every=20)
    train_world_action_model(samples, POLICY, TrainingRun(train, tmp_path))
    from gwm_core.evaluation import policy_eval as module

    config = EvalConfig("lift", str(tmp_path), trials=2, seed=4000, renderer=renderer)
    first, second = evaluate(config, processes=1), evaluate(config, processes=2)
    assert trials_hash(first) == trials_hash(second)
    assert all(t.violations == 0 for t in first) and not module._worlds


@pytest.mark.parametrize("task", ["lift", "pick_place", "stack"])
def test_the_expert_solves_the_tasks_through_the_gate(task):
    trials = evaluate(EvalConfig(task, "expert", trials=6, seed=200, replan_every=2), processes=2)
    assert sum(t.success for t in trials) == 6
    assert sum(t.violations for t in trials) == 0


def test_the_shipped_weights_are_whole_and_know_all_tasks():
    folder = Path(__file__).parents[1] / "models" / "demo"
    assert load_policy(folder).config.tasks == ("lift", "pick_place", "stack")
    manifest = json.loads((folder / "manifest.json").read_text())
    assert "gwm train policy" in manifest["provenance"]["command"]
    assert sum(f.stat().st_size for f in folder.iterdir()) < 40e6


def test_play_is_for_the_world_model_alone(tmp_path, renderer):
    """It moves, rests and grips within the gate's limits; no policy learns from it."""
    config = CollectConfig("stack", tmp_path, 1, seed=3, renderer=renderer, policy="play")
    assert collect(config, processes=1) == {"play": 1}
    (path,) = list_episodes(tmp_path)
    episode = read_episode(path)
    assert path.name.startswith("play_") and episode.info["trial"]["violations"] == 0
    speeds = np.abs(np.diff(episode.commands[:, :7], axis=0)).max(1)
    assert (speeds < 1e-6).sum() > 20 and (speeds > 1e-4).sum() > 200
    with pytest.raises(InputError, match="no demonstrations"):
        load_samples([tmp_path], ("stack",), LiftConfig(), 1)
    assert len(load_clips([tmp_path], LiftConfig(count=128), 1)) > 100


def test_a_policy_learns_the_tasks_its_episodes_are_of(episodes, tmp_path, monkeypatch, capsys):
    """The names come from what was recorded: a policy that saw ``lift`` alone does not say that it
    can stack.
    """
    from gwm.cli.main import main

    assert POLICY.tasks == ("lift", "pick_place", "stack") and tasks_of(
        [episodes], POLICY.tasks
    ) == ("lift",)
    for path in list_episodes(episodes)[:3]:
        shutil.copytree(path, tmp_path / "own" / path.name)
        info = json.loads((path / "episode.json").read_text()) | {"task": "sort_screws"}
        (tmp_path / "own" / path.name / "episode.json").write_text(json.dumps(info))
    assert tasks_of([tmp_path / "own", episodes], POLICY.tasks) == ("lift", "sort_screws")
    words = [
        "train",
        "policy",
        "--data",
        str(tmp_path / "own"),
        "--out",
        str(tmp_path / "mine"),
        "--config",
        "tiny",
    ]
    monkeypatch.setattr("sys.argv", ["gwm", *words, "--iterations", "2", "--processes", "1"])
    assert main() == 0, capsys.readouterr()
    assert load_policy(tmp_path / "mine").config.tasks == ("sort_screws",)
    with pytest.raises(InputError, match="unknown task 'stack': valid are sort_screws"):
        observation = Observation(1, (), None, "stack")
        PolicyRunner(tmp_path / "mine", backend="torch", trusted=True).act(
            np.zeros((1024, 14)), observation
        )


def test_validation_has_its_share_of_the_episodes_and_at_least_one():
    def held(episodes, share):
        return np.unique(np.flatnonzero(held_out(np.arange(episodes), share))).tolist()

    assert (
        held(66, 0.03) == [32, 65]
        and held(20, 0.03) == [19]
        and held(2, 0.5) == [1]
        and held(6, 0.34) == [2, 5]
    )
    with pytest.raises(InputError, match="one episode is too few"):
        held_out(np.zeros(5, int), 0.03)


def test_policies_of_several_lengths_from_one_command(episodes, tmp_path, monkeypatch, capsys):
    """An interrupted command is called again: what is finished stays, of these settings alone."""
    from gwm.cli.main import main

    out = tmp_path / "out"

    def train(*more: str) -> tuple[int, str, str]:
        words = ["train", "policy", "--data", str(episodes), "--out", str(out), "--config", "tiny"]
        monkeypatch.setattr("sys.argv", ["gwm", *words, "--processes", "1", *more])
        return main(), *capsys.readouterr()

    code, said, _ = train("--lengths", "20", "10")
    assert code == 0 and said.count("held-out position error") == 2
    weights = {n: (out / n / "policy.safetensors").read_bytes() for n in ("10", "20")}
    assert weights["10"] != weights["20"] and (out / "trunk.safetensors").exists()
    assert load_policy(out / "20").config.tasks == ("lift",)
    code, again, _ = train("--lengths", "10", "20", "30")
    assert code == 0 and said.splitlines()[-2] in again
    assert weights["20"] == (out / "20" / "policy.safetensors").read_bytes()
    for more, why in (
        (("--lengths", "10", "--seed", "1"), "of other settings or episodes"),
        (("--lengths", "6"), "7 or more, since the rate rises first"),
        (("--lengths", "10", "--iterations", "10"), "exclude each other"),
        (("--lengths", "0"), "--lengths"),
    ):
        code, _, error = train(*more)
        assert code == 2 and why in error.splitlines()[-1] and "Traceback" not in error
