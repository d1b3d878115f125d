"""The training loop: resumes, averages over processes, stops at nonsense; and the networks it
trains, small.
"""

import json
import os
import resource
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from gwm_core.errors import InputError
from gwm_core.geometry.kinematics import HOME_Q, from_rows
from gwm_core.model.checkpoint import load_policy, load_vae, load_world, save_vae, save_world
from gwm_core.model.config import VAES, WORLDS, TrainConfig, named_config
from gwm_core.model.world_model import WorldModel
from gwm_core.runtime.policy_runner import PolicyRunner
from gwm_core.runtime.world_features import WorldFeatures
from gwm_core.training.datasets.clips import CUBE, ROBOT, SEEN, WORKSPACE, SceneClips, load_clips
from gwm_core.training.datasets.latents import LatentSequences, encode_sequences
from gwm_core.training.datasets.policy_samples import PolicySamples
from gwm_core.training.tensorboard_log import TensorBoardLog
from gwm_core.training.train_policy import train_policy
from gwm_core.training.train_vae import train_vae
from gwm_core.training.train_world_model import train_world
from gwm_core.training.training_loop import (
    STATE,
    Trunk,
    decay_begin,
    fit,
    make_optimizers,
    schedule,
)
from gwm_core.training.training_run import TrainingRun
from gwm_core.types import ArmState, Observation

CONFIG = TrainConfig(iterations=30, batch=8, warmup=3, validate_every=10, muon=True, bfloat16=False)
VAE_CONFIG, VAE_TRAIN = named_config("tiny", VAES)
WORLD_CONFIG, WORLD_TRAIN = named_config("tiny", WORLDS)


@pytest.fixture(scope="module")
def clips(episodes) -> SceneClips:
    return load_clips([episodes], VAE_CONFIG.lift, processes=2)


@pytest.fixture(scope="module")
def trained(clips, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    with TensorBoardLog(folder / "log") as log:
        figures = train_vae(
            clips, VAE_CONFIG, TrainingRun(VAE_TRAIN, folder, {"command": "test"}, record=log)
        )
    assert np.isfinite(figures["psnr"])
    train_world(
        *encoded(clips, folder),
        folder,
        WORLD_CONFIG,
        TrainingRun(WORLD_TRAIN, folder, {"command": "test"}),
    )
    return folder


def encoded(clips: SceneClips, folder: Path):
    sequences = encode_sequences(load_vae(folder), clips, 6, 4)
    return sequences, clips.episode[sequences.starts]


def small() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(1, 16), nn.Linear(16, 16), nn.Linear(16, 1))  # one matrix


def slope(network: nn.Module) -> float:
    return (network(torch.ones(1)) - network(torch.zeros(1))).item()


def line(
    out: Path,
    config: TrainConfig = CONFIG,
    progress=lambda *_: None,
    spoil: float = 0.0,
    network=None,
    trunk: Trunk | None = None,
):
    """Fit y = 3 x; returns the averaged network and the last figures."""

    def draw(count: int):
        x = torch.randn(count, 1)
        return {"x": x, "y": 3 * x + spoil}

    def loss(network, x, y):
        return ((network(x) - y) ** 2).mean()

    return fit(
        network or small(),
        loss,
        draw,
        lambda n: {"slope": slope(n)},
        config,
        out,
        f"line {config.iterations}" if trunk else "line",
        progress,
        trunk=trunk,
    )


@pytest.mark.parametrize("muon", [True, False])
def test_a_resumed_run_equals_a_whole_one(tmp_path, muon):
    config = replace(CONFIG, muon=muon)
    whole, figures = line(tmp_path / "whole", config)

    def die(done, total, figures):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        line(tmp_path / "half", config, progress=die)
    resumed, again = line(tmp_path / "half", config)
    torch.testing.assert_close(whole.state_dict(), resumed.state_dict(), atol=0, rtol=0)
    assert figures["loss"] == again["loss"]


@pytest.mark.parametrize("muon", [True, False])
def test_a_longer_run_goes_on_from_a_shorter_one_as_if_it_had_begun_itself(tmp_path, muon):
    trunk = Trunk(tmp_path / "trunk.safetensors", "line")
    config = replace(CONFIG, muon=muon, decay=0.25)
    lengths = [replace(config, iterations=n) for n in (40, 80)]
    for one in lengths:
        seen: list[int] = []
        name = str(one.iterations)
        went_on, _ = line(tmp_path / name, one, lambda done, *_: seen.append(done), trunk=trunk)  # noqa: B023
        whole, _ = line(tmp_path / f"whole{name}", one)
        torch.testing.assert_close(whole.state_dict(), went_on.state_dict(), atol=0, rtol=0)
        assert min(seen) > decay_begin(one) - 40  # the second did not begin anew
    # a shorter one asked for later begins anew, and what it leaves is still right
    shorter = replace(config, iterations=20)
    late, _ = line(tmp_path / "20", shorter, trunk=trunk)
    whole, _ = line(tmp_path / "whole20", shorter)
    torch.testing.assert_close(whole.state_dict(), late.state_dict(), atol=0, rtol=0)
    with pytest.raises(InputError, match="other settings"):
        line(tmp_path / "other", shorter, trunk=Trunk(trunk.file, "another line"))


def test_a_constant_rate_falls_at_the_end_alone():
    config = replace(CONFIG, iterations=100, warmup=10, decay=0.2)
    rates = [schedule(config, k) for k in range(100)]
    assert rates[:10] == pytest.approx(np.arange(1, 11) / 10) and set(rates[10:81]) == {1.0}
    assert all(np.diff(rates[80:]) < 0) and 0.02 <= rates[-1] < 0.06
    longer = replace(config, iterations=200)
    assert [schedule(longer, k) for k in range(81)] == rates[:81]


@pytest.mark.parametrize("share", [0.0, 0.5, 0.99])
def test_a_state_that_was_cut_is_named(tmp_path, share):
    """By a power loss, or a copy that was interrupted: mmdetection #4835."""
    line(tmp_path)
    content = (tmp_path / STATE).read_bytes()
    (tmp_path / STATE).write_bytes(content[: int(share * len(content))])
    with pytest.raises(InputError, match=r"is damaged \(.*\): remove it, and the run begins anew"):
        line(tmp_path)


def test_a_disk_that_fills_up_keeps_the_last_state(tmp_path):
    """Others' checkpoints are spoilt by it: dddd_trainer #36."""
    line(tmp_path)
    before = (tmp_path / STATE).read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(
            InputError, match=r"cannot write .*: make room; called again, the run goes on"
        ):
            line(tmp_path, replace(CONFIG, iterations=40))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert (tmp_path / STATE).read_bytes() == before


def test_every_number_is_stepped_by_one_optimizer():
    network = small()
    muon, adamw = (
        [p for g in o.param_groups for p in g["params"]] for o in make_optimizers(network, CONFIG)
    )
    assert [p.shape for p in muon] == [(16, 16)]
    assert {id(p) for p in [*muon, *adamw]} == {id(p) for p in network.parameters()} and len(
        adamw
    ) == 5


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_last_state(tmp_path):
    line(tmp_path)
    before = (tmp_path / STATE).read_bytes()
    with pytest.raises(
        FloatingPointError, match=r"loss is nan at iteration 30: the last good state is in"
    ):
        line(tmp_path, replace(CONFIG, iterations=40), spoil=float("nan"))
    assert (tmp_path / STATE).read_bytes() == before


def test_the_gradient_is_clipped(tmp_path):
    """What the last step saw is still there, and no longer than it may be."""
    network = small()
    line(tmp_path, spoil=1e6, network=network)
    length = sum(float(p.grad.square().sum()) for p in network.parameters()) ** 0.5
    assert 0.99 * CONFIG.clip < length <= 1.001 * CONFIG.clip


def test_the_schedule_warms_up_and_ends_low():
    rates = [schedule(TrainConfig(iterations=1000, warmup=100), i) for i in range(1000)]
    assert (
        rates[0] == 0.01
        and rates[99] == 1.0
        and rates[-1] < 0.021
        and np.all(np.diff(rates[100:]) <= 0)
    )


PROCESS = """
import json, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from gwm_core.training.training_loop import is_main_process
from gwm_core.training.distributed import joined
from test_fit import CONFIG, line, slope
with joined("cpu"):
    network, figures = line(Path(sys.argv[1]), CONFIG)
    if is_main_process():
        Path(sys.argv[1], "figures.json").write_text(json.dumps([figures["loss"], slope(network)]))
"""


@pytest.mark.slow
def test_two_processes_have_the_losses_of_one(tmp_path):
    network, figures = line(tmp_path / "one")
    (tmp_path / "train.py").write_text(PROCESS)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    done = subprocess.run(
        [*command, str(tmp_path / "train.py"), str(tmp_path / "two"), str(Path(__file__).parent)],
        env={**os.environ, "GLOO_SOCKET_IFNAME": "lo"},
        timeout=150,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    there = json.loads((tmp_path / "two" / "figures.json").read_text())
    np.testing.assert_allclose(there, [figures["loss"], slope(network)], rtol=1e-4)


def test_clips_know_what_stands_where(clips):
    n = len(clips)
    assert clips.scenes.shape == (n, 128, 14) and clips.images.shape == (n, 2, 128, 128, 3)
    bits = clips.regions
    assert not np.any((bits & (ROBOT | CUBE) > 0) & (bits & WORKSPACE == 0))
    assert not np.any((bits & WORKSPACE > 0) & (bits & SEEN == 0))
    red = clips.images[bits & CUBE > 0].mean(0)
    assert red[0] > 2 * red[1:].max()  # small pictures have mixed edges
    assert 0.001 < (bits & ROBOT > 0).mean() < 0.2
    last = clips.episode == clips.episode.max()
    assert clips.done[last][-1] and not clips.done[last][0]
    apart = np.linalg.norm(clips.actions[:, :3] - clips.poses[:, :3], axis=1)
    assert np.median(apart) < 0.03  # where it is and where it was told to be


def test_windows_do_not_cross_episodes(clips):
    for length in (1, 4):
        starts = clips.starts(length)
        assert len(starts) > 0
        for k in range(length):
            np.testing.assert_array_equal(clips.episode[starts], clips.episode[starts + k])
        assert abs(np.diff(clips.stamps)[starts[:5]] - 1e8).max() < 2e7


def test_training_leaves_a_log_with_pictures_and_a_checkpoint(trained):
    world, vae = load_world(trained)
    assert vae.config == VAE_CONFIG and world.config == WORLD_CONFIG
    assert not (trained / STATE).exists()
    assert any(b"rebuilt" in file.read_bytes() for file in (trained / "log").iterdir())
    manifest = json.loads((trained / "world.json").read_text())
    assert manifest["provenance"]["command"] == "test" and manifest["provenance"]["error_last"] > 0


def test_a_world_model_refuses_another_vae(trained, tmp_path):
    vae = load_vae(trained)
    with torch.no_grad():
        vae.emit[1].bias += 1e-3
    save_vae(tmp_path, vae, {})
    with pytest.raises(InputError, match="latents of another VAE"):
        load_world(trained, tmp_path)
    with pytest.raises(InputError, match="would be lost: choose another --out"):
        save_world(tmp_path, load_world(trained)[0], trained, {})
    with pytest.raises(InputError, match="no world in"):
        load_world(tmp_path)


def test_a_world_trained_twice_is_the_same_and_another_seed_is_not(clips, trained, tmp_path):
    for name, seed in (("again", 0), ("other", 1)):
        train_world(
            *encoded(clips, trained),
            trained,
            WORLD_CONFIG,
            TrainingRun(replace(WORLD_TRAIN, seed=seed), tmp_path / name),
        )
    folders = trained, tmp_path / "again", tmp_path / "other"
    first, again, other = (load_world(folder, trained)[0].state_dict() for folder in folders)
    assert all(torch.equal(first[n], again[n]) for n in first)
    assert not all(torch.equal(first[n], other[n]) for n in first)


def test_a_world_model_goes_on_from_another_ones_weights(clips, trained, tmp_path):
    few = replace(WORLD_TRAIN, iterations=1, learning_rate=1e-6)
    train_world(
        *encoded(clips, trained),
        trained,
        WORLD_CONFIG,
        TrainingRun(few, tmp_path / "more"),
        begin=trained,
    )
    # each with its VAE beside it
    first, more = (load_world(folder)[0] for folder in (trained, tmp_path / "more"))
    assert all(
        torch.allclose(a, b, atol=1e-4) for a, b in zip(first.parameters(), more.parameters())
    )
    assert torch.equal(first.latent_std, more.latent_std)
    assert (
        len(json.loads((tmp_path / "more/world.json").read_text())["provenance"]["begun_from"])
        == 64
    )
    other = replace(WORLD_CONFIG, layers=WORLD_CONFIG.layers + 1)
    with pytest.raises(InputError, match="another configuration"):
        train_world(
            *encoded(clips, trained),
            trained,
            other,
            TrainingRun(few, tmp_path / "other"),
            begin=trained,
        )


class Drifting:
    """Sequences in which every token says where it goes: the way its first number points."""

    def __init__(self):
        rng = np.random.default_rng(0)
        z = rng.normal(size=(48, 1, VAE_CONFIG.tokens, VAE_CONFIG.latent)).astype(np.float32) * 0.3
        way = np.sign(z[..., :1]) * np.linspace(0, 1, 6, dtype=np.float32)[None, :, None, None]
        self.latents = torch.from_numpy(z + way)
        self.actions, self.done = torch.zeros(48, 6, 10), torch.zeros(48, 6)

    windows, take = LatentSequences.windows, LatentSequences.take


@pytest.mark.long
@pytest.mark.slow
def test_features_that_look_ahead_learn_what_comes_of_itself(trained, tmp_path):
    config, train = (
        replace(WORLD_CONFIG, lookahead=4),
        replace(WORLD_TRAIN, iterations=300, batch=16, validate_every=300),
    )
    episode = np.arange(48) // 4
    figures = train_world(
        Drifting(), episode, trained, config, TrainingRun(train, tmp_path / "ahead"), begin=trained
    )
    assert figures["lookahead"] < 0.4  # 1 is a world in which nothing is expected to move
    world, _ = load_world(tmp_path / "ahead", trained)
    assert torch.equal(world.latent_std, load_world(trained)[0].latent_std)
    few = replace(train, iterations=1, learning_rate=1e-6)
    train_world(
        Drifting(),
        episode,
        trained,
        config,
        TrainingRun(few, tmp_path / "more"),
        begin=tmp_path / "ahead",
    )
    more, _ = load_world(tmp_path / "more", trained)
    assert torch.allclose(more.lookahead_action, world.lookahead_action, atol=1e-4) and torch.equal(
        more.lookahead_std, world.lookahead_std
    )
    train_world(
        Drifting(),
        episode,
        trained,
        WORLD_CONFIG,
        TrainingRun(few, tmp_path / "back"),
        begin=tmp_path / "ahead",
    )
    assert load_world(tmp_path / "back", trained)[0].config.lookahead == 0


@pytest.mark.parametrize("ahead", [0, 3])
def test_a_policy_may_see_what_the_world_model_foresees(clips, trained, tmp_path, ahead):
    """It trains on the features, carries its world model along, acts, and refuses another."""
    if ahead:
        trained = shutil.copytree(trained, tmp_path / "ahead")
        save_world(
            trained, WorldModel(replace(WORLD_CONFIG, lookahead=ahead), VAE_CONFIG), trained, {}
        )
    world_features = WorldFeatures(trained)
    scene = clips.scenes[0].astype(np.float32)
    poses = from_rows(clips.poses)
    features, anchors = world_features(scene, poses[0])
    assert (
        features.shape == (VAE_CONFIG.tokens, world_features.channels)
        and np.isfinite(features).all()
    )
    config, train = named_config("tiny")
    config = replace(
        config, world_features=world_features.channels, lift=world_features.lift_config, centers=16
    )
    n, rng = 24, np.random.default_rng(0)
    known = [world_features(s.astype(np.float32), T) for s, T in zip(clips.scenes[:n], poses)]
    samples = PolicySamples(
        points=clips.scenes[:n, :, :3],
        colors=np.rint(clips.scenes[:n, :, 10:13] * 255).astype(np.uint8),
        proprio=rng.normal(size=(n, 11)).astype(np.float32),
        rows=rng.normal(size=(n, 16, 10)).astype(np.float32),
        valid=np.ones((n, 16), bool),
        task=np.zeros(n, np.int64),
        episode=np.arange(n) % 3,
        features=np.array([k[0] for k in known], np.float16),
        anchors=np.array([k[1] for k in known], np.float16),
    )
    train_policy(
        samples,
        config,
        TrainingRun(replace(train, iterations=4, validate_every=4), tmp_path),
        world=trained,
    )
    state = ArmState(1, HOME_Q, np.zeros(7), 0.08)
    rows = PolicyRunner(tmp_path).act(scene, Observation(1, (), state, "lift"))
    assert rows.shape == (16, 10) and np.isfinite(rows).all()
    policy = load_policy(tmp_path)
    b = {
        "points": torch.from_numpy(scene[None, :, :3]),
        "colors": torch.from_numpy(scene[None, :, 10:13]),
        "proprio": torch.zeros(1, 11),
        "task": torch.zeros(1, dtype=torch.long),
    }
    with torch.no_grad():
        b["anchors"] = torch.from_numpy(anchors[None])
        seen = [policy(**b, features=sign * torch.from_numpy(features[None])) for sign in (1, -1)]
    assert not torch.equal(*seen)
    world, _ = load_world(tmp_path)
    world.hidden_action.data += 1
    save_world(tmp_path, world, tmp_path, {})
    with pytest.raises(InputError, match="another world model"):
        load_policy(tmp_path)


def test_an_undefined_figure_is_left_out_of_the_log_without_a_word(tmp_path, caplog, capsys):
    """tensorboardX writes a complaint for every NaN that it is given."""
    with TensorBoardLog(tmp_path) as log:
        log(1, torch.nn.Linear(1, 1), {"cube_mm": float("nan"), "loss": 1.0})
    said = capsys.readouterr()
    assert (said.out, said.err, caplog.text) == ("", "", "")
    content = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert b"loss" in content and b"cube_mm" not in content
