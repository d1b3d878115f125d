import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from gwm_core.scene.camera import back_project, intrinsics
from gwm_core.scene.gaussians import farthest_points, sample
from gwm_core.scene.lift import LiftConfig, lift, lift_frame
from gwm_core.sim.scene import look_at
from gwm_core.types import Frame

K = intrinsics(424, 240, 42.5)


def plane_frame(eye=(1.1, 0.2, 0.7), height=0.05, hole=None):
    """What a camera sees of the horizontal plane at ``height``."""
    T = look_at(eye, (0.5, 0.0, 0.05))
    rays = back_project(np.ones((240, 424), np.float32), K) @ T[:3, :3].T
    depth = ((height - eye[2]) / rays[..., 2]).astype(np.float32)
    depth[(depth < 0) | (depth > 3)] = 0
    if hole is not None:
        depth[hole] = 0
    color = np.zeros((240, 424, 3), np.uint8)
    color[..., 1] = 200
    return Frame("a", 1, color, depth, K, T)


def test_a_plane_becomes_flat_gaussians_on_it_inside_the_crop():
    config = LiftConfig()
    g = lift_frame(plane_frame(), config)
    assert len(g) > 3000
    np.testing.assert_allclose(g[:, 2], 0.05, atol=1e-5)
    assert np.all((g[:, :3] > config.low) & (g[:, :3] < config.high))
    normal = Rotation.from_quat(g[:, 6:10], scalar_first=True).apply([0, 0, 1])
    np.testing.assert_allclose(normal, np.tile([0, 0, 1], (len(g), 1)), atol=1e-2)
    np.testing.assert_allclose(np.linalg.norm(g[:, 6:10], axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(g[:, 10:13], np.tile([0, 200 / 255, 0], (len(g), 1)), atol=1e-6)
    assert np.all(g[:, 3:6] > 0) and np.all(g[:, 5] < g[:, 3])


def test_two_cameras_agree_on_where_the_plane_is():
    frames = plane_frame(), plane_frame(eye=(0.7, -0.8, 0.6))
    scene = lift(frames)
    assert scene.shape == (1024, 14) and scene.dtype == np.float32
    np.testing.assert_allclose(scene[:, 2], 0.05, atol=1e-5)


def test_flying_pixels_at_a_depth_edge_and_holes_are_dropped():
    frame = plane_frame()
    frame.depth[100:140, 150:200] *= 0.8  # something nearer, with edges all around
    g = lift_frame(frame, LiftConfig(high=(0.76, 0.38, 0.60)))
    near = (g[:, 2] > 0.06) & (g[:, 2] < 0.10)
    assert not near.any()
    assert len(lift_frame(plane_frame(hole=np.s_[:, :]), LiftConfig())) == 0


def test_an_empty_scene_is_zeros_not_an_error():
    scene = lift((plane_frame(hole=np.s_[:, :]),))
    assert scene.shape == (1024, 14) and not scene.any()


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 400), st.integers(1, 200), st.integers(0, 1000))
def test_farthest_points_are_distinct_and_each_is_the_farthest(n, count, seed):
    points = np.random.default_rng(seed).normal(size=(n, 3)).astype(np.float32)
    order = farthest_points(points, count)
    assert len(order) == count
    first = order[: min(n, count)]
    assert len(set(first)) == len(first)
    for k in range(1, min(len(first), 12)):
        distance = np.linalg.norm(points[:, None] - points[first[:k]][None], axis=-1).min(axis=1)
        assert distance[first[k]] >= distance.max() - 1e-4


def test_sampling_fewer_than_wanted_repeats():
    g = np.random.default_rng(0).random((5, 14), np.float32)
    assert sample(g, 12).shape == (12, 14)
