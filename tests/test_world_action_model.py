"""One network that plans and predicts: what each part sees, what it learns from, and what it is
refused.
"""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace

import numpy as np
import onnxruntime
import pytest
import torch
from gwm.cli.main import main

from gwm_core.data.episode import read_episode, synced_observations
from gwm_core.data.episode_info import list_episodes, read_info, same_starts
from gwm_core.data.time_grid import on_grid
from gwm_core.errors import InputError
from gwm_core.evaluation import gripper_probe
from gwm_core.evaluation.policy_eval_in_world_model import WorldModelEnvironment
from gwm_core.evaluation.replayed_outcomes import OutcomeReplay, ReplayedOutcome, replay_outcomes
from gwm_core.geometry.kinematics import HOME_Q, fk, to_rows
from gwm_core.model.checkpoint import load_policy, load_predicting_policy, load_vae, save_vae
from gwm_core.model.config import VAES, named_config
from gwm_core.model.future_decoder import Future, Tokens
from gwm_core.model.vae import VAE
from gwm_core.model.weights_file import digest
from gwm_core.model.world_action_model import WorldActionModel
from gwm_core.runtime.graphs.compile import onnx_file
from gwm_core.runtime.graphs.onnx_export import torch_graph
from gwm_core.runtime.imagined_world import ImaginedWorld, imagined_world, load_imagined_world
from gwm_core.runtime.policy_runner import PolicyRunner
from gwm_core.scene.gaussians import moved
from gwm_core.scene.token_tracking import FREELY, RESTS, WITH_GRIPPER
from gwm_core.training.datasets import future_samples, joint_samples
from gwm_core.training.datasets.clips import episode_clips
from gwm_core.training.datasets.future_samples import (
    STRIDE,
    UNKNOWN,
    load_future_samples,
    task_labels,
)
from gwm_core.training.datasets.policy_samples import load_samples
from gwm_core.training.future_batches import FutureBatches, future_losses
from gwm_core.training.policy_batches import PolicyBatches
from gwm_core.training.success.fit_success import _chosen, fit_success
from gwm_core.training.train_world_action_model import train_world_action_model, validate
from gwm_core.training.training_run import TrainingRun
from gwm_core.types import Observation

NETWORK, TRAIN = named_config("tiny")
CONFIG = replace(NETWORK, vae=VAES["tiny"][0])
TASKS = CONFIG.tasks


@pytest.fixture(scope="module")
def vae_folder(tiny_vae):
    return tiny_vae


@pytest.fixture(scope="module")
def futures(episodes, vae_folder):
    return load_future_samples([episodes], CONFIG, vae_folder, processes=1)


@pytest.fixture(scope="module")
def demonstrations(episodes):
    return load_samples([episodes], TASKS, CONFIG.lift, processes=1)


@pytest.fixture(scope="module")
def trained(demonstrations, futures, vae_folder, tmp_path_factory):
    folder = tmp_path_factory.mktemp("joint")
    run = TrainingRun(TRAIN, folder)
    train_world_action_model(demonstrations, CONFIG, run, futures, vae_folder)
    return folder


def random_model(seed=0):
    """Random weights everywhere, also where training begins at zero."""
    torch.manual_seed(seed)
    model = WorldActionModel(CONFIG).eval()
    for parameter in model.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    return model


def inputs(count=3):
    scene = torch.rand(count, 128, 3) * 0.3
    proprio = torch.cat([torch.rand(count, 9), 0.08 * torch.rand(count, 2)], dim=-1)
    latent = torch.randn(count, CONFIG.vae.tokens, CONFIG.vae.latent)
    tokens = Tokens(latent, torch.rand(count, CONFIG.vae.tokens, 3) * 0.3)
    return scene, torch.rand(count, 128, 3), proprio, tokens, torch.rand(count, 16, 10)


@torch.no_grad()
def test_a_future_depends_on_the_rows_until_its_jump_and_on_no_later_ones():
    model = random_model()
    points, colors, proprio, tokens, rows = inputs()
    scene = model.encoder(model.gather(points, colors), proprio)
    for number, jump in enumerate(CONFIG.jumps):
        numbers = torch.full((3,), number)
        known = model.future(scene, proprio, tokens, rows, numbers)
        for row in {0, jump - 1, jump, 15} - {16}:
            other = rows.clone()
            other[:, row] += 0.1
            made = model.future(scene, proprio, tokens, other, numbers)
            same = all(torch.equal(a, b) for a, b in zip(made.tokens, known.tokens))
            assert same == (row >= jump), (jump, row)


def test_plans_see_no_future_and_futures_see_no_task():
    model = random_model()
    points, colors, proprio, tokens, rows = inputs()
    scene = model.training_tokens(points, colors, proprio)
    valid, noise = torch.ones(3, 16, dtype=torch.bool), torch.randn(3, 1, 16, 10)
    task = torch.tensor([0, 1, 2])
    model.plan_loss(scene, proprio, task, rows, valid, noise, torch.rand(3, 1, 1, 1)).backward()
    assert all(p.grad is None for p in model.future_decoder.parameters())
    assert all(p.grad is None for p in model.success_head.parameters())
    model.zero_grad()
    scene = model.training_tokens(points, colors, proprio)
    later = Future(
        Tokens(tokens.latent + 1, tokens.anchors + 1), torch.randint(3, tokens.anchors.shape[:2])
    )
    noise = torch.randn(3, *model.future_decoder.noise.shape)
    model.future_loss(
        scene, proprio, tokens, rows, task, later, noise, torch.rand(3, 1, 1)
    ).sum().backward()
    assert all(p.grad is None for p in model.plan_decoder.parameters())
    assert all(p.grad is not None and p.grad.any() for p in model.encoder.parameters())


def test_samples_hold_what_is_there_after_each_jump(episodes, vae_folder, futures):
    """A latent begins with its token's anchor, and gripper tokens are where the gripper is."""
    episode = read_episode(list_episodes(episodes)[0])
    found = list(synced_observations(episode))
    grid = on_grid(np.array([stamp for stamp, _, _ in found], np.int64))
    poses = np.stack([fk(found[k][2].q) for k in grid])
    on_gripper = load_vae(vae_folder).gripper_tokens.numpy()
    low, high = np.array(CONFIG.vae.lift.low), np.array(CONFIG.vae.lift.high)
    for sample in (0, 1, 3):
        assert futures.episode[sample] == 0 and futures.valid[sample].all()
        latents = futures.latents[sample, :, : len(on_gripper), :3].astype(np.float32)
        for anchors, after in zip(
            latents * (high - low) / 2 + (low + high) / 2, (0, *CONFIG.jumps)
        ):
            pose = poses[sample * STRIDE + after]
            expected = on_gripper @ pose[:3, :3].T + pose[:3, 3]
            np.testing.assert_allclose(anchors, expected, atol=1e-3)
    rows = futures.rows[3]  # what was commanded is soon where the gripper is
    reached = poses[3 * STRIDE + np.arange(1, 17), :3, 3]
    assert np.linalg.norm(rows[:, :3] - reached, axis=1).max() < 0.05


def test_the_end_of_an_episode_trains_success_and_no_jump_beyond_it(episodes, futures):
    end = np.flatnonzero(np.append(np.diff(futures.episode), 1))
    assert not futures.valid[end].any()
    lift = TASKS.index("lift")
    assert (futures.done[end, lift] == 1).all()
    blue = futures.done[:, TASKS.index("stack")]  # the last layout alone has a blue cube
    assert (np.where(futures.episode == 3, 0, UNKNOWN) == blue).all()
    assert (futures.done[:, TASKS.index("pick_place")] == 0).all()
    np.testing.assert_array_equal(  # what lies beyond is the present
        futures.latents[end, 1:], np.repeat(futures.latents[end, :1], len(CONFIG.jumps), 1)
    )


def test_labels_come_from_rules_or_the_verdict_and_are_unknown_otherwise():
    stamps = np.arange(0, 3_000_000_000, 100_000_000)
    tasks = ("lift", "stack", "sort")
    by_verdict = task_labels({"task": "sort", "success": True}, tasks, stamps)
    assert (by_verdict[:, :2] == UNKNOWN).all() and by_verdict[:, 2].tolist() == [0] * 25 + [1] * 5
    assert (task_labels({"task": "sort", "success": False}, tasks, stamps)[:, 2] == 0).all()
    assert (task_labels({"task": "sort", "success": None}, tasks, stamps) == UNKNOWN).all()
    by_rule = {"task": "stack", "success": False, "reached": {"lift": [[0, 200_000_000]]}}
    labels = task_labels(by_rule, tasks, stamps)
    assert labels[:, 0].sum() == 3 and (labels[:, 1] == 0).all() and (labels[:, 2] == -1).all()


def test_demonstrations_that_are_held_out_teach_no_futures(demonstrations, futures):
    device = torch.device("cpu")
    plans = PolicyBatches(demonstrations, device, TRAIN, 16)
    held = {demonstrations.starts[k] for k in plans.held_episodes()}
    assert held and held < set(demonstrations.starts) == set(futures.starts)
    for trained in (set(), set(futures.starts) - held):  # whether plans train on the others
        batches = FutureBatches(futures, device, replace(TRAIN, held_out=0.5), held, trained)
        used, kept = (
            {futures.starts[k] for k in futures.episode[part.numpy()]}
            for part in (batches.training, batches.validation)
        )
        assert used and held <= kept and not used & kept and not kept & trained


def test_it_learns_plans_and_futures_of_a_few_samples(
    demonstrations, futures, vae_folder, tmp_path
):
    config = replace(TRAIN.as_recorded(), iterations=400, validate_every=400, learning_rate=5e-3)
    run = TrainingRun(config, tmp_path)
    train_world_action_model(demonstrations, CONFIG, run, futures, vae_folder)
    plans = PolicyBatches(demonstrations, torch.device("cpu"), config, 16)
    worlds = FutureBatches(futures, torch.device("cpu"), config, set(), set())
    plans.validation, worlds.validation = plans.training, worlds.training
    figures = validate(load_policy(tmp_path), plans, worlds)
    assert figures["position_mm"] < 20
    assert figures["missed_8"] < 0.65 and figures["missed_16"] < 0.65  # 1: nothing moves


def test_success_is_seen_in_observed_and_in_predicted_scenes(trained, futures):
    """Also where the head was fitted on few moments at which the task is done."""
    model, vae = load_policy(trained), load_vae(trained)
    encoder = {name: value.clone() for name, value in model.encoder.state_dict().items()}
    held = futures.episode == 0
    config = replace(TRAIN, success_iterations=600, learning_rate=5e-3)
    figures = fit_success(model, vae, futures, held, config)
    assert figures["done"] > 0.95 and figures["done_missed"] < 0.25, figures
    assert figures["predicted_done"] > 0.9, figures
    assert all(torch.equal(encoder[k], value) for k, value in model.encoder.state_dict().items())
    again = load_policy(trained)
    assert fit_success(again, vae, futures, held, config) == figures
    unknown = replace(
        futures,
        **{
            name: np.full_like(getattr(futures, name), UNKNOWN)
            for name in ("done", "later_done", "outcome")
        },
    )
    assert fit_success(model, vae, unknown, held, config) == {}
    short = replace(futures, valid=futures.valid & ~held[:, None])  # no jump is held out
    figures = fit_success(model, vae, short, held, config)
    assert "done" in figures and "predicted_done" not in figures
    none = fit_success(model, vae, futures, np.zeros_like(held), config)
    assert none == {}


def test_few_of_many_samples_hold_every_task_and_label():
    done = np.zeros((5000, 3), np.int8)
    done[:4900, 0], done[4990:, 1], done[:, 2] = 1, 1, UNKNOWN
    chosen = done[_chosen(done, np.ones(5000, bool), 600)]
    assert len(chosen) <= 600 and (chosen[:, 1] == 1).sum() == 10
    assert min((chosen[:, 0] == label).sum() for label in (0, 1)) >= 100


@torch.no_grad()
def test_what_rests_keeps_its_latent_and_the_gripper_moves():
    model = random_model()
    points, colors, proprio, tokens, rows = inputs()
    scene, jump = model.encoder(model.gather(points, colors), proprio), torch.tensor([0, 1, 2])
    decoder, grip = model.future_decoder, CONFIG.vae.gripper_tokens
    for motion in (RESTS, WITH_GRIPPER, FREELY):
        decoder.motion_out.bias.fill_(-1e4)
        decoder.motion_out.bias[motion] = 1e4
        after, motions = model.future(scene, proprio, tokens, rows, jump)
        assert (motions == motion).all()
        for now, later in zip(tokens, after):
            same = (now == later).all(-1)
            assert not same[:, :grip].any() and (same[:, grip:] == (motion == RESTS)).all()


@pytest.mark.parametrize("motion", [RESTS, WITH_GRIPPER])
def test_objects_rest_or_move_with_the_gripper_and_keep_their_shape(motion, vae_folder):
    """Also where they leave the workspace meanwhile."""
    model, rng = random_model(), np.random.default_rng(0)
    model.future_decoder.motion_out.bias.data.fill_(-1e4)
    model.future_decoder.motion_out.bias.data[motion] = 1e4
    world = imagined_world(model, load_vae(vae_folder))
    scene = np.zeros((128, 14), np.float32)
    scene[:, :3] = rng.uniform(CONFIG.vae.lift.low, CONFIG.vae.lift.high, (128, 3))
    scene[:, 3:6], scene[:, 6:10], scene[:, 13] = 0.005, rng.normal(size=(128, 4)), 0.9
    scene[:, 6:10] *= np.sign(scene[:, 6:7]) / np.linalg.norm(scene[:, 6:10], axis=1, keepdims=True)
    poses = np.stack([fk(HOME_Q)] * 2)
    poses[1, :3, :3] = poses[0, :3, :3] @ [[0, -1, 0], [1, 0, 0], [0, 0, 1]]
    poses[1, :3, 3] += [0.2, 0.3, 0.5]
    there, back = (np.repeat(to_rows(pose, 0.08)[None], 8, axis=0) for pose in poses[::-1])
    gripper_tokens = load_vae(vae_folder).gripper_tokens.numpy()
    scene[:4, :3] = gripper_tokens @ poses[0, :3, :3].T + poses[0, :3, 3]
    first = world.observe(scene, np.append(back[0], 0.08))
    assert len(first.objects) == 124
    away = world.after(first, there)
    expected = first.objects
    if motion == WITH_GRIPPER:
        expected = moved(expected, poses[1] @ np.linalg.inv(poses[0]))
    np.testing.assert_allclose(away.objects, expected, atol=1e-5)
    np.testing.assert_allclose(world.after(away, back).objects, first.objects, atol=1e-5)


def test_a_part_moves_as_most_of_it_does():
    """Two cubes that touch. Of the red one two tokens in three move with the gripper."""
    tokens, rng = CONFIG.vae.tokens, np.random.default_rng(0)
    cube = rng.uniform(-0.015, 0.015, (60, 3))
    scene = np.zeros((120, 14), np.float32)
    scene[:60, :3], scene[60:, :3] = np.add(cube, [0.5, 0, 0.05]), np.add(cube, [0.53, 0, 0.05])
    scene[:, 6], scene[:, 13] = 1.0, 0.9
    scene[:60, 10], scene[60:, 12] = 1.0, 1.0
    # tokens 10 to 12 at the red cube, 13 at the blue one, the others far away
    anchors = np.full((tokens, 3), 5.0, np.float32)
    anchors[10:13] = [[0.49, 0, 0.042], [0.492, 0, 0.058], [0.512, 0.014, 0.05]]
    anchors[13] = [0.54, 0, 0.05]
    motions = np.zeros((1, tokens), np.int64)
    motions[0, 10:12] = WITH_GRIPPER
    latent = np.zeros((tokens, CONFIG.vae.latent), np.float32)
    given = {
        "scene": {"tokens": np.zeros((1, 33, 32), np.float32)},
        "future": {
            "motions": motions,
            "later_anchors": anchors[None],
            "later_latent": latent[None],
        },
        "decode": {"gaussians": np.zeros((1, 128, 14), np.float32)},
        "latent": {"latent": latent[None]},
        "success": {},
    }
    world = ImaginedWorld(lambda name: lambda inputs: given[name], CONFIG, np.zeros((4, 3)))
    T = fk(HOME_Q)
    state = world.state(scene, np.append(to_rows(T, 0.04), 0.04), latent, anchors)
    T[2, 3] += 0.1
    after = world.after(state, np.repeat(to_rows(T, 0.04)[None], 4, axis=0))
    moved_by = after.objects[:, :3] - state.objects[:, :3]
    expected = np.where(np.arange(120) < 60, 0.1, 0.0)[:, None] * [0, 0, 1]
    np.testing.assert_allclose(moved_by, expected, atol=1e-6)
    np.testing.assert_allclose(
        after.anchors[10:14] - anchors[10:14], expected[[0, 1, 2, 99]], atol=1e-6
    )


def test_what_the_gripper_holds_is_no_part_of_the_gripper(vae_folder):
    """A red cube between two black fingers, all of it nearest to tokens of the gripper."""
    world, rng = imagined_world(random_model(), load_vae(vae_folder)), np.random.default_rng(0)
    box = rng.uniform(-1, 1, (3, 120, 3)) * [[[0.015, 0.015, 0.015]], *[[[0.01, 0.004, 0.02]]] * 2]
    box[1:, :, 1] += [[-0.025], [0.025]]
    scene = np.zeros((360, 14), np.float32)
    T = fk(HOME_Q)
    scene[:, :3] = box.reshape(-1, 3) @ T[:3, :3].T + T[:3, 3]
    scene[:, 6], scene[:, 13], scene[:120, 10], scene[120:, 10:13] = 1.0, 0.9, 0.8, 0.1
    anchors = np.full((CONFIG.vae.tokens, 3), 5.0, np.float32)
    anchors[:4] = T[:3, 3] + [[-0.025], [-0.025], [0.025], [0.025]] * T[:3, 1]
    latent = np.zeros((CONFIG.vae.tokens, CONFIG.vae.latent), np.float32)
    state = world.state(scene, np.append(to_rows(T, 0.03), 0.0), latent, anchors)
    assert len(state.objects) == 120 and (state.objects[:, 10] > 0.5).all()
    assert (state.owners >= 4).all()


def test_a_plain_network_needs_no_vae(demonstrations, tmp_path):
    figures = train_world_action_model(demonstrations, NETWORK, TrainingRun(TRAIN, tmp_path))
    assert set(figures) == {"loss", "position_mm", "minutes"}
    assert not hasattr(load_policy(tmp_path), "future_decoder") and not list(tmp_path.glob("vae*"))


def test_it_goes_on_from_another_and_from_no_other_kind(
    demonstrations, futures, vae_folder, trained, tmp_path
):
    run = TrainingRun(replace(TRAIN, iterations=0), tmp_path / "more")
    train_world_action_model(demonstrations, CONFIG, run, futures, vae_folder, begin=trained)
    begun, more = load_policy(trained).state_dict(), load_policy(tmp_path / "more").state_dict()
    shared = [name for name in begun if not name.startswith("success_head")]  # is fitted anew
    assert shared and all(torch.equal(begun[name], more[name]) for name in shared)
    other = replace(CONFIG, width=48)
    with pytest.raises(InputError, match="another configuration"):
        train_world_action_model(
            demonstrations, other, TrainingRun(TRAIN, tmp_path / "no"), futures, vae_folder, trained
        )


def test_it_drives_the_arm_as_any_policy(trained, episodes):
    runner = PolicyRunner(trained)
    episode = read_episode(list_episodes(episodes)[0])
    scene = np.random.default_rng(0).uniform(0.01, 0.3, (128, 14)).astype(np.float32)
    observation = Observation(0, (), episode.states[0], "lift")
    rows = runner.act(scene, observation)
    assert rows.shape == (16, 10) and np.isfinite(rows).all() and runner.tasks == TASKS
    session = onnxruntime.InferenceSession(
        str(onnx_file(trained, "chunk")), providers=["CPUExecutionProvider"]
    )
    graph = torch_graph(trained, "chunk")
    given = {name: value.numpy() for name, value in graph.inputs.items()}
    with torch.no_grad():
        known = graph.module(*graph.inputs.values()).numpy()
    np.testing.assert_allclose(session.run(None, given)[0], known, atol=2e-4, rtol=2e-4)


def test_a_replay_takes_the_recorded_commands_by_jumps(trained, episodes, tmp_path):
    path = list_episodes(episodes)[0]
    shutil.copytree(path, tmp_path / path.name)
    world = load_imagined_world(trained)
    replay = OutcomeReplay(world)
    (outcome,) = replay_outcomes(replay, tmp_path)
    clips = episode_clips(read_episode(path), world.lift_config)
    moments = len(clips["stamps"])
    assert outcome.success and len(outcome.observed) == moments
    assert len(outcome.imagined) == (moments - 1) // 4
    first = world.observe(clips["scenes"][0], np.append(clips["poses"][0], clips["actions"][0, 9]))
    one = world.after(first, clips["actions"][1:5])
    assert outcome.imagined[0] == pytest.approx(world.success(one, "lift"))
    two = world.after(first, clips["actions"][1:9])  # from the same base state
    three = world.after(two, clips["actions"][9:13])
    for k, state in ((1, two), (2, three)):
        assert outcome.imagined[k] == pytest.approx(world.success(state, "lift"))
    # the arm is where the rows end, and the scene as a lifted one
    np.testing.assert_allclose(one.proprio[:9], clips["actions"][4, :9])
    assert one.proprio[9] >= one.proprio[10] == clips["actions"][4, 9]
    assert one.latent.shape == first.latent.shape and one.scene.shape[1] == 14
    assert ReplayedOutcome("a", True, 1.0, [0.9] * 3, [0.9] * 2).called == (True, False)
    with pytest.raises(InputError, match="sort"):
        replay(clips, "sort")


def test_a_policy_acts_on_what_it_imagines(trained, renderer):
    environment = WorldModelEnvironment(trained, renderer, seconds=2.0)
    planner = environment.planner(str(trained))
    seen, act = [], planner.policy.act

    def watched(scene, observation):
        seen.append(scene.copy())
        return act(scene, observation)

    planner.policy.act = watched
    trial = environment.trial(planner, "lift", 4000, "nominal")
    assert trial == environment.trial(planner, "lift", 4000, "nominal")
    assert len(trial.probabilities) == len(seen) // 2 and not trial.violations
    assert trial.seconds == pytest.approx(0.4 * len(trial.probabilities))
    assert not np.array_equal(seen[0], seen[1])  # the second scene is a predicted one
    with pytest.raises(InputError, match="expert"):
        environment.planner("expert")


def test_what_predicts_nothing_imagines_nothing(demonstrations, tmp_path):
    run = TrainingRun(replace(TRAIN, iterations=1), tmp_path)
    train_world_action_model(demonstrations, NETWORK, run)
    with pytest.raises(InputError, match=r"predicts nothing.*--futures"):
        load_imagined_world(tmp_path)


def test_another_vae_beside_it_is_refused(trained, tmp_path):
    folder = shutil.copytree(trained, tmp_path / "copy")
    torch.manual_seed(1)
    save_vae(folder, VAE(CONFIG.vae), {})
    with pytest.raises(InputError, match="latents of another VAE"):
        load_policy(folder)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--config", "tiny", "--futures", "."], "--futures and --vae go together"),
        (["--config", "tiny", "--vae", "."], "--futures and --vae go together"),
        (["--config", "tiny", "--vae", ".", "--futures", "/nowhere"], "/nowhere does not exist"),
        (["--config", "tiny", "--tasks", "lift", "stakc"], "unknown task 'stakc'"),
        (["--config", "tiny", "--tasks", "lift", "lift"], "named twice"),
    ],
)
def test_what_does_not_go_together_is_refused(words, said, episodes, tmp_path, monkeypatch, capsys):
    command = ["gwm", "train", "policy", "--data", str(episodes), "--out", str(tmp_path / "o")]
    monkeypatch.setattr("sys.argv", [*command, *words])
    assert main() == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1


def test_a_network_that_predicts_goes_on_to_do_so_where_it_learns_plans_alone(
    trained, episodes, tmp_path, monkeypatch, capsys
):
    words = ["gwm", "train", "policy", "--config", "tiny", "--data", episodes, "--begin", trained]
    words += ["--tasks", *load_policy(trained).config.tasks, "--iterations", 4, "--out", tmp_path]
    monkeypatch.setattr("sys.argv", [str(word) for word in [*words, "--processes", 1]])
    assert main() == 0, capsys.readouterr().err
    before, after = (load_predicting_policy(folder).state_dict() for folder in (trained, tmp_path))
    changed = {name.partition(".")[0] for name in before if not before[name].equal(after[name])}
    assert changed == {"encoder", "plan_decoder"}
    assert digest(tmp_path / "vae.safetensors") == digest(trained / "vae.safetensors")


def test_another_vae_in_out_is_refused_before_the_work(
    episodes, vae_folder, tmp_path, monkeypatch, capsys
):
    torch.manual_seed(1)
    save_vae(tmp_path, VAE(CONFIG.vae), {})
    words = ["gwm", "train", "policy", "--config", "tiny", "--data", episodes]
    words += ["--futures", episodes, "--vae", vae_folder, "--out", tmp_path]
    monkeypatch.setattr("sys.argv", [str(word) for word in words])
    monkeypatch.setattr(joint_samples, "load_joint_samples", None)
    assert main() == 2 and "would be lost" in capsys.readouterr().err


def test_episodes_count_once_and_by_their_content(episodes, vae_folder, tmp_path):
    """The same episode below two folders, and the same recording of a robot in two places."""
    both = load_future_samples([episodes, list_episodes(episodes)[0]], CONFIG, vae_folder, 1)
    assert len(both) == len(load_future_samples([episodes], CONFIG, vae_folder, 1))
    infos = {}
    for place in ("a", "b"):
        path = shutil.copytree(list_episodes(episodes)[0], tmp_path / place / "episode")
        infos[path] = read_info(path) | {"robot": "fr3", "seed": None}
    assert same_starts(infos) == [0, 0]
    infos[path] = infos[path] | {"sha256": {"bag": "other"}}
    assert same_starts(infos) == [0, 1]


def test_what_nothing_commanded_is_no_future(episodes, vae_folder):
    """The cameras go on for a second after the last command."""
    episode = read_episode(list_episodes(episodes)[0])
    encode, gripper_tokens = future_samples._encoder(vae_folder)
    whole, cut = [], []
    for rows in (whole, cut):
        rows += future_samples.future_rows(episode, CONFIG, encode, gripper_tokens)
        episode.command_stamps = episode.command_stamps[:-100]
        episode.commands = episode.commands[:-100]
    lost = [sum(row["valid"].sum() for row in rows) for rows in (whole, cut)]
    assert 0 < lost[1] < lost[0]
    np.testing.assert_array_equal([row["done"] for row in whole], [row["done"] for row in cut])


def test_the_loss_of_a_batch_is_the_mean_of_those_of_its_parts(futures):
    """Processes that share a batch each take a part, and average."""
    torch.manual_seed(0)
    model = random_model()
    batches = FutureBatches(futures, torch.device("cpu"), TRAIN, set(), set())
    batch = batches.sample_batch(200, model)
    assert not batch["weight"].all()

    def loss(part):
        tokens = model.encoder(model.gather(part["points"], part["colors"]), part["proprio"])
        seen = ("points", "colors")
        kept = {name: tensor for name, tensor in part.items() if name not in seen}
        return future_losses(model, tokens, **kept).mean()

    parts = [loss({name: tensor[rank::2] for name, tensor in batch.items()}) for rank in (0, 1)]
    torch.testing.assert_close(sum(parts) / 2, loss(batch))


def test_the_verb_trains_and_resumes(episodes, vae_folder, tmp_path, monkeypatch, capsys):
    words = ["gwm", "train", "policy", "--config", "tiny", "--iterations", "20"]
    words += ["--data", episodes, "--futures", episodes, "--vae", vae_folder, "--processes", 1]
    words += ["--tasks", "lift", "stack", "--out", tmp_path]
    monkeypatch.setattr("sys.argv", [str(word) for word in words])
    assert main() == 0
    said = capsys.readouterr().out
    assert "held-out position error" in said and "after 1.6 s" in said
    assert load_policy(tmp_path).config.tasks == ("lift", "stack")


def test_its_futures_are_measured_and_shown_by_jumps(
    trained, episodes, tmp_path, monkeypatch, capsys
):
    def gwm(*words):
        monkeypatch.setattr("sys.argv", ["gwm", *(str(word) for word in words)])
        return main()

    measured = ["eval", "world", "--model", trained, "--data", episodes, "--stride", 40]
    measured += ["--processes", 1]
    assert gwm(*measured, "--horizon", 16) == 2
    assert "has seen 4 of these episodes" in capsys.readouterr().err
    older = shutil.copytree(trained, tmp_path / "older")  # does not say what it has seen
    manifest = json.loads((older / "manifest.json").read_text())
    del manifest["provenance"]["trained_on"]
    (older / "manifest.json").write_text(json.dumps(manifest))
    measured[measured.index(trained)] = older
    file = tmp_path / "world.json"
    assert gwm(*measured, "--horizon", 16, "--json", file) == 0
    assert "policy in" in (said := capsys.readouterr().err) and "does not say which" in said
    figures = json.loads(file.read_text())
    assert figures["steps"] == [4, 8, 16] and len(figures["chamfer_mm"]) == 3
    for region in ("whole", "moving"):
        assert np.isfinite(figures[region]["psnr"]).all()
        assert len(figures[region]["psnr_repeat_last"]) == 3
    assert gwm("imagine", list_episodes(episodes)[0], "--model", trained, "--out", tmp_path) == 0
    assert (tmp_path / "imagine.png").stat().st_size > 10_000
    assert json.loads((tmp_path / "imagine.json").read_text())["seconds"] == [0.4, 0.8, 1.6]
    capsys.readouterr()
    assert gwm(*measured, "--horizon", 3) == 2
    assert "takes 4 or more" in capsys.readouterr().err


@pytest.mark.long
@pytest.mark.slow
def test_the_probe_reads_whether_predicted_latents_follow_commands(
    trained, episodes, tmp_path, monkeypatch, capsys
):
    older = shutil.copytree(trained, tmp_path / "older")  # does not say what it has seen
    manifest = json.loads((older / "manifest.json").read_text())
    del manifest["provenance"]["trained_on"]
    (older / "manifest.json").write_text(json.dumps(manifest))
    monkeypatch.setattr(gripper_probe, "_WINDOWS", 20)
    file = tmp_path / "world.json"
    words = ["gwm", "eval", "world", "--model", older, "--data", episodes, "--stride", 60]
    words += ["--horizon", 16, "--processes", 1, "--actions", "--probe-data", episodes]
    monkeypatch.setattr("sys.argv", [str(word) for word in (*words, "--json", file)])
    assert main() == 0
    assert "gripper [mm], other actions" in capsys.readouterr().out
    actions = json.loads(file.read_text())["actions"]
    assert actions["probe_mm"] > 0
    for name in ("imagined_mm", "excess_mm", "shuffled_mm", "ratio"):
        assert len(actions[name]) == 3 and np.isfinite(actions[name]).all()


def test_samples_do_not_depend_on_how_many_moments_are_held_in_memory(
    episodes, vae_folder, monkeypatch
):
    encode, gripper_tokens = future_samples._encoder(vae_folder)
    held, found = [], []

    def counted(moments, *arguments):
        for window in windows(moments, *arguments):
            held.append(len(window[0]))
            yield window

    windows = future_samples._windows
    monkeypatch.setattr(future_samples, "_windows", counted)
    for count in (future_samples._WINDOW, STRIDE, 4 * STRIDE):
        monkeypatch.setattr(future_samples, "_WINDOW", count)
        held.clear()
        episode = read_episode(list_episodes(episodes)[0])
        found.append(list(future_samples.future_rows(episode, CONFIG, encode, gripper_tokens)))
        assert max(held) <= count + max(CONFIG.jumps)
    assert len(held) > 2 and len(found[0]) == len(found[1]) == len(found[2])
    for known, *others in zip(*found):
        for other in others:
            for name, value in known.items():
                np.testing.assert_allclose(other[name], value, atol=2e-3, err_msg=name)


@pytest.mark.long
@pytest.mark.timeout(300)
def test_two_processes_train_the_policy_that_one_does(episodes, vae_folder, tmp_path):
    words = ["-m", "gwm", "train", "policy", "--config", "tiny", "--iterations", "20"]
    words += ["--data", episodes, "--futures", episodes, "--vae", vae_folder, "--out"]
    shared = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    environment = {**os.environ, "GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1"}
    environment["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    found = []
    for name, run in (("one", []), ("two", shared)):
        command = [sys.executable, *run, *words, tmp_path / name]
        done = subprocess.run(
            list(map(str, command)), env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr[-3000:]
        found.append(json.loads((tmp_path / name / "manifest.json").read_text())["provenance"])
    for figure in ("loss", "position_mm", "missed_4"):
        assert found[1][figure] == pytest.approx(found[0][figure], rel=2e-2), figure
