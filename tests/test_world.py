"""3D VAE, world model and tracking: laws that hold whatever the weights are, and what training must
keep.
"""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from gwm_core.errors import InputError
from gwm_core.geometry.kinematics import from_rows
from gwm_core.model.config import VAES, WORLDS, named_config
from gwm_core.model.transformer import rotary, rotate
from gwm_core.model.vae import VAE
from gwm_core.model.world_model import WorldModel
from gwm_core.scene.gaussians import MEANS, sample
from gwm_core.scene.token_tracking import (
    FREELY,
    MOVED,
    RESTS,
    WITH_GRIPPER,
    find_gripper_tokens,
    part_steps,
    token_motions,
    track_tokens,
)
from gwm_core.training.training_loop import make_optimizers
from gwm_core.training.training_run import count_parameters

VAE_CONFIG, WORLD_CONFIG = named_config("tiny", VAES)[0], named_config("tiny", WORLDS)[0]


@pytest.fixture(scope="module")
def vae() -> VAE:
    torch.manual_seed(0)
    return VAE(VAE_CONFIG).eval()


@pytest.fixture
def world() -> WorldModel:
    torch.manual_seed(1)
    world = WorldModel(WORLD_CONFIG, VAE_CONFIG)
    with torch.no_grad():  # zero-initialised layers would hide everything
        for parameter in world.parameters():
            parameter += 0.05 * torch.randn_like(parameter)
    return world.eval()


def scenes(count: int = 2, seed: int = 0, n: int = VAE_CONFIG.lift.count) -> torch.Tensor:
    """Gaussians (count, n, 14) spread over the workspace."""
    rng = np.random.default_rng(seed)
    g = rng.normal(size=(count, n, 14)).astype(np.float32)
    g[..., :3] = rng.uniform(VAE_CONFIG.lift.low, VAE_CONFIG.lift.high, (count, n, 3))
    g[..., 3:6] = np.exp(g[..., 3:6]) * 0.005
    g[..., 10:] = rng.uniform(0, 1, (count, n, 4))
    return torch.from_numpy(g)


def places(g: torch.Tensor, count: int = VAE_CONFIG.tokens) -> torch.Tensor:
    """Of the first Gaussians, for as many tokens."""
    return g[:, :count, :3].clone()


def history(seed: int = 2) -> torch.Tensor:
    return (
        torch.randn(
            2,
            WORLD_CONFIG.context,
            VAE_CONFIG.tokens,
            VAE_CONFIG.latent,
            generator=torch.Generator().manual_seed(seed),
        )
        * 0.3
    )


def rows(count: int, seed: int = 3) -> torch.Tensor:
    return torch.randn(2, count, 10, generator=torch.Generator().manual_seed(seed)) * 0.1 + 0.3


@torch.no_grad()
def test_the_decoder_sees_nothing_but_the_latent(vae):
    a, b = scenes(1, 0), scenes(1, 1)
    z = vae.encode(a, places(a))[0]
    vae.encode(b, places(b))
    torch.testing.assert_close(vae.decode(z), vae.decode(z.clone()))
    assert vae.decode(z).shape == a.shape


@torch.no_grad()
def test_a_scene_is_a_set(vae):
    """What order the Gaussians come in does not matter, but for the farthest, which are the
    context.
    """
    g, k = scenes(1), VAE_CONFIG.context
    order = torch.cat([torch.arange(k), k + torch.randperm(g.shape[1] - k)])
    torch.testing.assert_close(
        vae.encode(g, places(g))[0], vae.encode(g[:, order], places(g))[0], atol=1e-4, rtol=1e-4
    )


@torch.no_grad()
def test_a_quaternion_and_its_negative_are_the_same_scene(vae):
    g = scenes(1)
    turned = g.clone()
    turned[..., 6:10] *= -1
    torch.testing.assert_close(vae.encode(g, places(g))[0], vae.encode(turned, places(g))[0])


@torch.no_grad()
def test_metric_values_are_neither_clamped_nor_quantised():
    """Two metres away is two metres away (the published code clamps to one)."""
    lift = replace(VAE_CONFIG.lift, low=(1.5, 1.5, 1.5), high=(2.5, 2.5, 2.5))
    vae = VAE(replace(VAE_CONFIG, lift=lift))
    z = torch.zeros(1, VAE_CONFIG.tokens, VAE_CONFIG.latent)
    z[..., 0] = 1.0
    np.testing.assert_allclose(vae.anchors(z)[0, 0], [2.5, 2.0, 2.0])
    step = z.clone()
    step[..., 0] += 1e-4
    moved = (vae.decode(step) - vae.decode(z))[..., 0].mean()
    assert 0 < moved < 1e-3


@torch.no_grad()
def test_attention_depends_on_how_places_differ():
    """Rotary embedding: moving everything by the same amount changes no product of a query and a
    key.
    """
    torch.manual_seed(0)
    places, q, k = torch.rand(1, 5, 3), torch.randn(1, 2, 5, 24), torch.randn(1, 2, 5, 24)
    products = []
    for shift in (0.0, 0.37):
        rotation = rotary(places + shift, 24)
        products.append(rotate(q, rotation) @ rotate(k, rotation).transpose(-1, -2))
    torch.testing.assert_close(*products, atol=1e-4, rtol=1e-4)
    still = rotate(q, rotary(places, 24))
    torch.testing.assert_close(still.norm(dim=-1), q.norm(dim=-1))


@torch.no_grad()
def test_preconditioning_is_that_of_edm(world):
    """Without noise the network has no say; with nothing but noise it alone speaks."""
    described = world.condition(history(), rows(2))
    x = torch.randn(2, VAE_CONFIG.tokens, VAE_CONFIG.latent)
    clean, _ = world.denoise(x, torch.full((2, 1, 1), 1e-6), described)
    torch.testing.assert_close(clean, x, atol=1e-4, rtol=1e-4)
    sigma = torch.full((2, 1, 1), 1e4)
    loud, _ = world.denoise(sigma * x, sigma, described)
    network, _ = world.network(sigma * x / (sigma**2 + 0.25) ** 0.5, sigma.log() / 4, described)
    torch.testing.assert_close(loud, 0.5 * network, atol=1e-3, rtol=1e-3)


@torch.no_grad()
def test_what_never_changed_in_training_stands_still(world):
    """Changes are normalised by their spread in the data: a channel without any keeps its value to
    the last bit.
    """
    world.change_std[3:] = 0.0
    z = history()
    future, done = world.rollout(z, rows(4))
    assert future.shape == (2, 3, VAE_CONFIG.tokens, VAE_CONFIG.latent) and done.shape == (2, 3)
    assert torch.equal(future[..., 3:], z[:, -1:, :, 3:].expand_as(future[..., 3:]))
    assert not torch.equal(future[..., :3], z[:, -1:, :, :3].expand_as(future[..., :3]))


@torch.no_grad()
def test_a_rollout_is_its_steps(world):
    z, actions = history(), rows(3)
    future, _ = world.rollout(z, actions)
    first, _ = world.step(z, actions[:, :2])
    second, _ = world.step(torch.stack([z[:, 1], first], dim=1), actions[:, 1:])
    torch.testing.assert_close(future, torch.stack([first, second], dim=1))


@pytest.mark.parametrize("sixteen", [False, True])
def test_what_is_imagined_on_the_way_leaves_every_weight_its_gradient(world, sixteen):
    """And counts: the loss is that of a step from the model's own futures, not from what was
    seen.
    """
    z = torch.cat([history(), history(7)], dim=1)  # context, one to be imagined, target
    torch.manual_seed(0)
    batch = world.sample_noise(2) | {
        "hidden": torch.tensor([False, True]),
        "hidden_past": torch.tensor([False, False]),
    }
    with torch.autocast("cpu", torch.bfloat16, enabled=sixteen):
        value = world.loss(z, rows(3), torch.zeros(2), **batch)
        other = world.loss(
            torch.cat([z[:, :2], z[:, 2:3] + 1, z[:, 3:]], dim=1), rows(3), torch.zeros(2), **batch
        )
    assert torch.equal(value, other)
    value.backward()
    assert all(p.grad is not None and bool(p.grad.any()) for p in world.parameters())


@torch.no_grad()
def test_a_hidden_action_is_not_seen_and_a_shown_one_is(world):
    z, x, sigma = (
        history(),
        torch.randn(2, VAE_CONFIG.tokens, VAE_CONFIG.latent),
        torch.ones(2, 1, 1),
    )
    for hidden, same in ((True, True), (False, False)):
        mask = torch.full((2,), hidden)
        a, b = (
            world.denoise(x, sigma, world.condition(z, rows(2, seed), mask))[0] for seed in (4, 5)
        )
        assert torch.equal(a, b) == same


@torch.no_grad()
def test_features_are_the_same_every_time_and_know_no_action(world):
    z = history()[:, -1]
    assert torch.equal(world.features(z), world.features(z))
    assert world.features(z).shape == (
        2,
        VAE_CONFIG.tokens,
        WORLD_CONFIG.layers // 2 * WORLD_CONFIG.width,
    )


def test_features_that_look_ahead_are_asked_for_by_a_token_of_their_own():
    """They stand where an action would: training them leaves what a hidden action means, and the
    other way round.
    """
    torch.manual_seed(1)
    world = WorldModel(replace(WORLD_CONFIG, lookahead=3), VAE_CONFIG)
    with torch.no_grad():
        for parameter in world.parameters():
            parameter += 0.05 * torch.randn_like(parameter)
    now, later = history().unbind(1)
    before = world.features(now)
    assert before.shape == now.shape and torch.equal(before, world.features(now))
    world.lookahead_loss(now, later).backward()
    assert bool(world.lookahead_action.grad.any()) and world.hidden_action.grad is None
    with torch.no_grad():
        world.hidden_action += 1
        assert torch.equal(world.features(now), before)
        world.lookahead_action += 1
        assert not torch.equal(world.features(now), before)
        # metric, not normalised
        assert world.lookahead_loss(now, now + world.features(now) * world.lookahead_std) < 1e-9


@torch.no_grad()
def test_tokens_are_a_set(world):
    """Their order does not matter, but for that of the gripper tokens."""
    z, actions, riders = history(), rows(2), VAE_CONFIG.gripper_tokens
    order = torch.cat([torch.arange(riders), riders + torch.randperm(VAE_CONFIG.tokens - riders)])
    future, _ = world.step(z, actions)
    world.noise.copy_(world.noise[order])
    other, _ = world.step(z[:, :, order], actions)
    torch.testing.assert_close(future[:, order], other, atol=1e-4, rtol=1e-4)


def test_a_still_scene_keeps_its_tokens_and_the_gripper_takes_along_what_it_holds():
    rng = np.random.default_rng(0)
    table = np.zeros((60, 14), np.float32)
    table[:, :3], table[:, 10:13] = (
        rng.uniform([0.3, -0.3, 0.0], [0.4, -0.2, 0.05], (60, 3)),
        [0.2, 0.2, 0.8],
    )
    held = np.zeros((60, 14), np.float32)
    held[:, :3], held[:, 10:13] = (
        np.array([0.5, 0.1, 0.2]) + rng.uniform(-0.03, 0.03, (60, 3)),
        [0.8, 0.1, 0.1],
    )
    before, after = np.eye(4), np.eye(4)
    before[:3, 3], after[:3, 3] = [0.5, 0.1, 0.22], [0.54, 0.1, 0.25]
    scene = np.concatenate([table, held])
    moved = scene.copy()
    moved[60:, :3] += [0.04, 0.0, 0.03]
    shuffled = moved[rng.permutation(120)]
    (step,) = part_steps(np.stack([scene, shuffled]), np.stack([before, after]))
    np.testing.assert_allclose(step.of(scene[:, :3], np.arange(120)), moved[:, :3], atol=1e-6)
    riders = rng.uniform(-0.01, 0.01, (8, 3))
    chain = track_tokens(
        np.stack([scene, moved, moved]), np.stack([before, after, after]), riders, 40
    )
    assert chain.shape == (3, 40, 3)
    np.testing.assert_allclose(
        chain[:, :8], riders + np.stack([before, after, after])[:, None, :3, 3], atol=1e-6
    )
    held = chain[0, 8:, 0] > 0.45
    assert 0 < held.sum() < 32
    np.testing.assert_allclose(
        chain[1, 8:] - chain[0, 8:], held[:, None] * [0.04, 0.0, 0.03], atol=1e-6
    )
    np.testing.assert_array_equal(chain[1], chain[2])


def sampled(corner, size, color, seed, count=400) -> np.ndarray:
    """Gaussians (count, 14) over the top of a box, drawn anew by each seed."""
    made = np.zeros((count, 14), np.float32)
    made[:, :3] = np.random.default_rng(seed).uniform(corner, np.add(corner, size), (count, 3))
    made[:, 10:13] = color
    return made


def test_a_plate_rests_below_a_moving_gripper_and_what_is_dropped_falls():
    """The plate's Gaussians are others in each scene: a token on it finds a like one either way."""
    poses = np.tile(np.eye(4), (3, 1, 1))
    poses[:, :3, 3] = [[0.5, 0.0, 0.1], [0.52, 0.02, 0.12], [0.54, 0.04, 0.16]]
    scenes = []
    for k, height in enumerate((0.08, 0.10, 0.03)):  # lifted, then dropped
        plate = sampled((0.4, -0.1, 0.015), (0.2, 0.2, 0.001), 0.9, 10 + k)
        at = (0.49 + 0.02 * min(k, 1), -0.01 + 0.02 * min(k, 1), height)
        cube = sampled(at, (0.04, 0.04, 0.0), (0.8, 0.1, 0.1), 20 + k, 60)
        scenes.append(np.concatenate([plate, cube]))
    anchors = track_tokens(np.stack(scenes), poses, np.zeros((4, 3)), 44)
    on_cube = anchors[0, :, 2] > 0.05
    on_cube[:4] = False  # of the gripper
    plate = np.flatnonzero(~on_cube)[4:]
    assert 3 <= on_cube.sum() < 20
    assert (anchors[:, plate] == anchors[0, plate]).all()
    step = anchors[1:, on_cube] - anchors[:-1, on_cube]
    np.testing.assert_allclose(
        step[0], np.broadcast_to([0.02, 0.02, 0.02], step[0].shape), atol=1e-6
    )
    np.testing.assert_allclose(step[1, :, :2], 0.0, atol=1e-6)
    np.testing.assert_allclose(step[1, :, 2], -0.07, atol=0.006)


def test_motions_of_tokens_are_told_apart():
    before = np.random.default_rng(0).uniform(-0.2, 0.2, (30, 3))
    motion = np.eye(4)
    motion[:3, :3] = [[0, -1, 0], [1, 0, 0], [0, 0, 1]]
    motion[:3, 3] = [0.1, 0.05, 0.1]
    carried = before @ motion[:3, :3].T + motion[:3, 3]
    noise = [0.0, 0.0, 0.9 * MOVED]
    after = np.concatenate([before[:10] + noise, carried[10:20] + noise, carried[20:] + 0.03])
    expected = [RESTS] * 10 + [WITH_GRIPPER] * 10 + [FREELY] * 10
    assert token_motions(before, after, motion).tolist() == expected
    assert (token_motions(before, before, np.eye(4)) == RESTS).all()  # the gripper rests too


def test_tokens_are_as_far_from_riders_and_each_other_as_they_can_be():
    rng = np.random.default_rng(0)
    scene = np.zeros((500, 14), np.float32)
    scene[:, :3] = rng.uniform(0, 1, (500, 3))
    riders = scene[:5, :3].astype(np.float64)
    found = track_tokens(scene[None], np.eye(4)[None], riders, 25)[0]
    apart = np.linalg.norm(found[:, None] - found[None], axis=-1) + 9 * np.eye(25)
    uncovered = np.linalg.norm(scene[:, None, :3] - found, axis=-1).min(1).max()
    assert apart[5:].min() >= uncovered  # what was chosen last was the farthest there was


def test_riders_are_found_where_the_hand_is_and_not_what_it_passes_over():
    rng = np.random.default_rng(0)
    hand = rng.uniform([-0.02, -0.09, -0.12], [0.02, 0.09, -0.06], (300, 3))  # in its own frame
    table = rng.uniform([0.3, -0.4, 0.0], [0.7, 0.4, 0.05], (300, 3))
    scenes, poses = (
        np.zeros((40, 600, 14), np.float32),
        np.tile(np.diag([1.0, -1.0, -1.0, 1.0]), (40, 1, 1)),
    )
    for scene, T in zip(scenes, poses):
        T[:3, 3] = rng.uniform([0.35, -0.3, 0.06], [0.65, 0.3, 0.2])
        scene[:, :3] = np.concatenate([hand @ T[:3, :3].T + T[:3, 3], table])
    found = find_gripper_tokens(scenes, poses, 12)
    assert found.shape == (12, 3)
    assert np.all((found > [-0.02, -0.09, -0.12]) & (found < [0.02, 0.09, -0.06]))
    poses[:, 2, 3] += 1.0  # above the workspace, of which nothing but the table is seen
    with pytest.raises(InputError, match="the hand is seen at 0 points in 40 scenes: 12 or more"):
        find_gripper_tokens(scenes[:, 300:], poses, 12)


def test_fewer_gaussians_cover_the_same_area():
    rng = np.random.default_rng(0)
    scene = np.zeros((400, 14), np.float32)
    scene[:, :3], scene[:, 3:6] = rng.uniform(0, 1, (400, 3)), 0.01
    few = sample(scene, 100)
    np.testing.assert_allclose(
        (few[:, 3] * few[:, 4]).sum(), (scene[:, 3] * scene[:, 4]).sum(), rtol=1e-4
    )
    assert len(sample(scene, 800)) == 800 and np.all(sample(scene, 800)[:, 3] == np.float32(0.01))
    assert np.isin(few[:, MEANS], scene[:, MEANS]).all()


def test_pose_rows_turn_into_poses_for_tracking():
    T = from_rows(np.array([[0.4, 0, 0.3, 1, 0, 0, 0, 1, 0, 0.08]]))
    np.testing.assert_allclose(T[0, :3, :3], np.eye(3))


@pytest.mark.long
def test_the_paper_sizes_take_a_step_and_roll_out():
    vae_config, world_config, train = named_config("paper", VAES)[0], *named_config("paper", WORLDS)
    vae, world = VAE(vae_config), WorldModel(world_config, vae_config)
    assert 33e6 < count_parameters(world) < 50e6  # the published code's DiT-S has 33.2 million
    g = scenes(3, n=vae_config.lift.count)
    z = vae.encode(g, places(g, 512))[0]
    assert z.shape == (3, 512, 64)
    history, actions, done = z[None, :-1].detach(), rows(4)[:1], torch.zeros(1)
    world.set_normalization(z.detach(), torch.diff(z.detach(), dim=0))
    before = {name: p.clone() for name, p in world.named_parameters()}
    world.loss(z[None].detach(), actions[:, :2], done, **world.sample_noise(1)).backward()
    nn.utils.clip_grad_norm_(world.parameters(), train.clip)
    for optimizer in make_optimizers(world, train):
        optimizer.step()
    assert any(not torch.equal(p, before[name]) for name, p in world.named_parameters())
    with torch.no_grad():
        futures, done = world.eval().rollout(history, actions)
        scene = vae.decode(futures[:, -1])
    assert (
        futures.shape == (1, 3, 512, 64) and done.shape == (1, 3) and scene.shape == (1, 2048, 14)
    )
    assert all(bool(torch.isfinite(x).all()) for x in (futures, done, scene))
