import numpy as np
import pytest
import torch

from gwm_core.control.kinematics import HOME_Q, fk, to_rows
from gwm_core.imagination import HORIZONS, Imagination, Moment, View, Watch, _worst_block
from gwm_core.model.checkpoint import load_world, save_vae, save_world
from gwm_core.model.config import VAES, WORLDS
from gwm_core.model.vae import VAE
from gwm_core.model.world import World
from gwm_core.scene.camera import intrinsics, look_at

DT = 100_000_000  # [ns]
VIEWS = [View("front", intrinsics(64, 48, 42.5), look_at((1.1, 0.0, 0.6), (0.5, 0.0, 0.1)), 64, 48)]
ROW = to_rows(fk(HOME_Q), 0.08)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("world")
    torch.manual_seed(0)
    vae = VAE(VAES["tiny"][0])
    vae.riders.copy_(0.05 * torch.randn_like(vae.riders))
    save_vae(folder, vae, {})
    world = World(WORLDS["tiny"][0], vae.config)
    for parameter in world.parameters():
        parameter.data += 0.05 * torch.randn_like(parameter)
    save_world(folder, world, folder, {})
    return folder


@pytest.fixture(scope="module")
def imagination(folder):
    return Imagination(folder, backend="torch")


def scene(seed=0):
    rng = np.random.default_rng(seed)
    low = [0.3, -0.3, 0.0, *[0.01] * 3, 1, 0, 0, 0, 0, 0, 0, 0.9]
    high = [0.7, 0.3, 0.2, *[0.02] * 3, 1, 0, 0, 0, 1, 1, 1, 1]
    return rng.uniform(low, high, (128, 14)).astype(np.float32)


def poses(away=0.02):
    before = fk(HOME_Q)
    before[:3, 3] -= away
    return np.stack([before, fk(HOME_Q)])


def test_what_rides_the_gripper_was_where_the_gripper_was(imagination):
    history = imagination.encode(scene(), poses())
    places = imagination.places(history)
    np.testing.assert_allclose(places[1] - places[0], 0.02, atol=1e-6)
    riders = len(imagination.riders)
    np.testing.assert_array_equal(history[0, riders:], history[1, riders:])
    np.testing.assert_array_equal(history[0, :, 3:], history[1, :, 3:])


def test_rolling_step_by_step_is_the_world_models_rollout(imagination, folder):
    world, _ = load_world(folder)
    history, rows = imagination.encode(scene(), poses()), np.stack([ROW] * 5).astype(np.float32)
    rows[:, 2] -= 0.01 * np.arange(5)
    with torch.no_grad():
        known, heads = world.rollout(torch.from_numpy(history[None]), torch.from_numpy(rows[None]))
    made, made_heads = imagination.roll(history, rows)
    np.testing.assert_allclose(made, known[0].numpy(), atol=1e-5)
    np.testing.assert_allclose(made_heads, heads[0].numpy(), atol=1e-5)


def observed(imagination, watch, history, stamp):
    return watch.observe(Moment(stamp, history), lambda at: ROW, VIEWS)


def test_nothing_diverges_when_what_was_expected_comes_and_something_does_when_it_does_not(imagination):
    start, (h, _) = imagination.encode(scene(), poses()), HORIZONS
    expected = imagination.roll(start, np.stack([ROW] * (h + 1)))[0]
    for came, limit in ((expected[-2:], 1e-6), (start, None)):
        watch = Watch(imagination)
        assert observed(imagination, watch, start, 0) == {}
        gaps = observed(imagination, watch, came, h * DT)
        assert list(gaps) == [h]
        for value in gaps[h].values():
            assert value <= limit if limit else value > 1e-3


def test_without_commands_or_a_moment_long_enough_ago_nothing_is_said(imagination):
    history = imagination.encode(scene(), poses())
    watch = Watch(imagination)
    assert observed(imagination, watch, history, 0) == {}
    assert observed(imagination, watch, history, 2 * DT) == {}  # not as long ago as any horizon
    assert watch.observe(Moment(4 * DT, history), lambda at: ROW if at > DT else None, VIEWS) == {}
    assert list(watch.observe(Moment(8 * DT, history), lambda at: ROW, VIEWS, HORIZONS[:1])) == [HORIZONS[0]]


def test_the_worst_block_is_the_one_a_search_finds():
    error = np.random.default_rng(0).random((40, 40))
    known = max(error[i : i + 12, j : j + 12].mean() for i in range(29) for j in range(29))
    assert _worst_block(error) == pytest.approx(known)
