"""3D VAE and tracking: laws that hold whatever the weights are, and what training must
keep.
"""

from dataclasses import replace

import numpy as np
import pytest
import torch

from gwm_core.errors import InputError
from gwm_core.geometry.kinematics import from_rows
from gwm_core.model.config import VAES, named_config
from gwm_core.model.vae import VAE
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

VAE_CONFIG = named_config("tiny", VAES)[0]


@pytest.fixture(scope="module")
def vae() -> VAE:
    torch.manual_seed(0)
    return VAE(VAE_CONFIG).eval()


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
def test_the_papers_vae_encodes_and_decodes():
    config = named_config("paper", VAES)[0]
    vae, g = VAE(config), scenes(3, n=config.lift.count)
    with torch.no_grad():
        z = vae.encode(g, places(g, 512))[0]
        scene = vae.decode(z)
    assert z.shape == (3, 512, 64) and scene.shape == (3, 2048, 14)
    assert bool(torch.isfinite(scene).all())
