"""The training loop: resumes, averages over processes, stops at nonsense; and the networks it
trains, small.
"""

import json
import os
import resource
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from gwm_core.errors import InputError
from gwm_core.model.checkpoint import load_vae
from gwm_core.model.config import VAES, TrainConfig, named_config
from gwm_core.training.datasets.clips import CUBE, ROBOT, SEEN, WORKSPACE, SceneClips, load_clips
from gwm_core.training.tensorboard_log import TensorBoardLog
from gwm_core.training.train_vae import train_vae
from gwm_core.training.training_loop import (
    STATE,
    Trunk,
    decay_begin,
    fit,
    make_optimizers,
    schedule,
)
from gwm_core.training.training_run import TrainingRun

CONFIG = TrainConfig(iterations=30, batch=8, warmup=3, validate_every=10, muon=True, bfloat16=False)
VAE_CONFIG, VAE_TRAIN = named_config("tiny", VAES)


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
    return folder


def small() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(1, 16), nn.Linear(16, 16), nn.Linear(16, 1))  # one matrix


class PartlyUsed(nn.Module):
    """``small`` beside a part that no loss reaches, as a policy's success head."""

    def __init__(self):
        super().__init__()
        self.used, self.unused = small(), nn.Linear(1, 1)

    def forward(self, x):
        return self.used(x)


def slope(network: nn.Module) -> float:
    return (network(torch.ones(1)) - network(torch.zeros(1))).item()


def line(
    out: Path,
    config: TrainConfig = CONFIG,
    progress=lambda *_: None,
    spoil: float = 0.0,
    network=None,
    trunk: Trunk | None = None,
    compiled: bool = False,
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


def test_an_unfinished_run_goes_on_compiled_or_not(tmp_path):
    run = TrainingRun(CONFIG, tmp_path)
    assert run._key("settings", 9) == replace(run, compiled=True)._key("settings", 9)
    assert "compiled" not in run._key("settings", 9)  # as of runs before there was a choice


@pytest.mark.long
def test_a_compiled_training_is_the_same(tmp_path):
    plain, compiled = (
        line(tmp_path / str(c), replace(CONFIG, iterations=5), compiled=c)[1] for c in (False, True)
    )
    for name in ("loss", "slope"):
        assert compiled[name] == pytest.approx(plain[name], rel=1e-4)


PROCESS = """
import json, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from gwm_core.training.training_loop import is_main_process
from gwm_core.training.distributed import joined
from test_fit import CONFIG, PartlyUsed, line, slope
with joined("cpu"):
    network, figures = line(Path(sys.argv[1]), CONFIG, network=PartlyUsed())
    if is_main_process():
        Path(sys.argv[1], "figures.json").write_text(json.dumps([figures["loss"], slope(network)]))
"""


@pytest.mark.slow
def test_two_processes_have_the_losses_of_one(tmp_path):
    network, figures = line(tmp_path / "one", network=PartlyUsed())
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
    assert load_vae(trained).config == VAE_CONFIG
    assert not (trained / STATE).exists()
    assert any(b"rebuilt" in file.read_bytes() for file in (trained / "log").iterdir())
    provenance = json.loads((trained / "vae.json").read_text())["provenance"]
    assert provenance["command"] == "test" and provenance["chamfer_mm"] > 0


def test_an_undefined_figure_is_left_out_of_the_log_without_a_word(tmp_path, caplog, capsys):
    """tensorboardX writes a complaint for every NaN that it is given."""
    with TensorBoardLog(tmp_path) as log:
        log(1, torch.nn.Linear(1, 1), {"cube_mm": float("nan"), "loss": 1.0})
    said = capsys.readouterr()
    assert (said.out, said.err, caplog.text) == ("", "", "")
    content = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert b"loss" in content and b"cube_mm" not in content
