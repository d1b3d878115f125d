import tracemalloc
from collections.abc import Sequence
from dataclasses import replace

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from gwm_core.calibration.coverage import WIDEST, misses
from gwm_core.data.episode import read_episode
from gwm_core.data.episode_info import list_episodes
from gwm_core.data.ros_messages import DEPTH_HEADER
from gwm_core.errors import InputError
from gwm_core.geometry.camera import back_project, intrinsics, look_at
from gwm_core.geometry.kinematics import HOME_Q, fk, solve, tcp_speed, to_rows
from gwm_core.runtime.planner import Planner
from gwm_core.scene.fuse import merge_voxels
from gwm_core.scene.gaussians import farthest_points, moved, rigid_parts, sample
from gwm_core.scene.lift import BlindError, LiftConfig, lift, lift_frame
from gwm_core.sim.rollout import RolloutConfig, SimEnvironment, rollout, stamp_of
from gwm_core.sim.tasks import sample_layout
from gwm_core.site import Camera, Site
from gwm_core.sync import joints_at
from gwm_core.training.datasets.clips import episode_clips
from gwm_core.training.datasets.policy_samples import episode_samples
from gwm_core.types import OPEN_WIDTH, Frame, Observation

K = intrinsics(424, 240, 42.5)


@pytest.fixture(scope="module")
def world(renderer):
    return SimEnvironment(renderer=renderer)


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


def plain_lift(frame, config):
    """The lift in whole-image numpy: the definition the one-pass kernel is held to."""
    depth, R, t = frame.depth.astype(float), frame.T_base_camera[:3, :3], frame.T_base_camera[:3, 3]
    base = back_project(frame.depth, frame.K).astype(float) @ R.T + t
    near = np.min([np.where(shifted > 0, shifted, np.inf) for shifted in neighbours(depth)], axis=0)
    far = np.max(neighbours(depth), axis=0)
    inside = (
        np.all((base > config.low) & (base < config.high), axis=-1)
        & (depth > 0)
        & (far - near < config.edge * depth)
    )
    inside[[0, -1]] = inside[:, [0, -1]] = False
    across, down = (np.roll(base, -1, axis) - np.roll(base, 1, axis) for axis in (1, 0))
    normal, ray = np.cross(down, across), t - base
    ray /= np.linalg.norm(ray, axis=-1, keepdims=True).clip(min=1e-9)
    whole = np.all([neighbours(depth)[k] > 0 for k in (1, 3, 5, 7)], axis=0)
    with np.errstate(invalid="ignore"):
        normal = np.where(
            whole[..., None], normal / np.linalg.norm(normal, axis=-1, keepdims=True), ray
        )
    cosine = np.sum(normal * ray, axis=-1)
    radius = config.footprint * depth / frame.K[0, 0] / np.maximum(np.abs(cosine), 0.3)
    return (
        base[inside],
        (normal * np.sign(cosine)[..., None])[inside],
        radius[inside],
        frame.color[inside] / 255,
    )


def neighbours(image):
    """The image moved by -1, 0, 1 in both directions (9, H, W); 1, 3, 5 and 7 are the direct
    neighbours.
    """
    return np.array([np.roll(image, (i - 1, j - 1), (0, 1)) for i, j in np.ndindex(3, 3)])


@pytest.mark.parametrize("difficulty", ["nominal", "hard"])
def test_the_lift_is_its_definition(difficulty, world):
    world.sim.reset(sample_layout("stack", 7, difficulty))
    for frame in world.frames():
        g = lift_frame(frame, LiftConfig())
        means, normals, radius, colors = plain_lift(frame, LiftConfig())
        assert len(g) > 300
        np.testing.assert_allclose(g[:, 0:3], means, atol=1e-5)
        own = Rotation.from_quat(g[:, 6:10], scalar_first=True).apply([0, 0, 1])
        assert np.quantile(np.abs(own - normals).max(axis=1), 0.999) < 2e-3
        np.testing.assert_allclose(g[:, 3], radius, rtol=1e-3)
        np.testing.assert_allclose(g[:, 10:13], colors, atol=1e-6)


def test_depth_that_is_not_a_number_is_no_reading():
    frame = plane_frame()
    frame.depth[100:140, 150:200] = np.nan
    frame.depth[150:160, 150:200] = np.inf
    g = lift_frame(frame, LiftConfig())
    assert np.isfinite(g).all() and 0 < len(g) < len(lift_frame(plane_frame(), LiftConfig()))


def test_memory_does_not_grow_from_frame_to_frame():
    frames = plane_frame(), plane_frame(eye=(0.7, -0.8, 0.6))
    config = LiftConfig(voxel=0.004, free_space=0.05)
    lift(frames, config)
    tracemalloc.start()
    for _ in range(3):
        lift(frames, config)
    before = tracemalloc.get_traced_memory()[0]
    for _ in range(20):
        lift(frames, config)
    assert tracemalloc.get_traced_memory()[0] - before < 20_000
    tracemalloc.stop()


def test_cells_keep_one_gaussian_each_in_the_middle_of_their_members():
    rng = np.random.default_rng(0)
    g = np.concatenate(
        [rng.uniform(-0.1, 0.1, (500, 3)), rng.uniform(0.01, 1, (500, 11))], axis=1
    ).astype(np.float32)
    merged = merge_voxels(g, 0.02)
    cells = np.floor(g[:, :3] / np.float32(0.02)).astype(int)
    assert len(merged) == len(np.unique(cells, axis=0)) < 500
    for row in merged[::40]:
        members = np.all(cells == np.floor(row[:3] / np.float32(0.02)).astype(int), axis=1)
        np.testing.assert_allclose(row[:6], g[members, :6].mean(axis=0), atol=1e-6)
    assert len(merge_voxels(g, 1e-6)) == 500
    assert merge_voxels(g[:0], 0.02).shape == (0, 14)


def test_what_another_camera_looks_through_is_dropped():
    ghost = plane_frame()
    # a wide flying patch, 70 mm and more above the plane the other camera sees
    ghost.depth[60:120, 150:250] *= 0.9
    frames = ghost, plane_frame(eye=(0.7, -0.8, 0.6))
    config = LiftConfig(high=(0.76, 0.38, 0.60), count=0)
    assert (lift(frames, config)[:, 2] > 0.06).sum() > 500
    kept = lift(frames, replace(config, free_space=0.02))
    assert (kept[:, 2] > 0.06).sum() < 20
    assert (kept[:, 2] < 0.06).sum() > 0.95 * (lift(frames, config)[:, 2] < 0.06).sum()


def test_the_robots_own_body_is_left_out(world):
    """Depth noise apart the capsules hold all of it but the fingers."""
    world.sim.reset(sample_layout("lift", 3))
    frames, q = world.frames(), world.sim.q
    everywhere = LiftConfig(
        low=(-0.3, -0.4, 0.08), high=(0.8, 0.4, 1.0), count=0, least_fraction=0.0
    )
    every, rest = lift(frames, everywhere), lift(frames, replace(everywhere, arm_margin=0.01), q)
    tcp = fk(q)[:3, 3]
    fingers = np.linalg.norm(rest[:, :3] - tcp, axis=1) < 0.08
    assert len(every) > 3000 and (~fingers).sum() < 0.01 * len(every)
    with pytest.raises(ValueError, match="joints are wanted"):
        lift(frames, replace(everywhere, arm_margin=0.01))


def test_a_wrist_camera_on_the_move_sees_a_world_that_stands_still(world):
    """At 0.2 m/s, 50 frames at 15 Hz, each taken between two joint states at 100 Hz: the table
    stays within 5 mm.
    """
    world.sim.reset(sample_layout("lift", 3))
    mount = Camera("camera/wrist", np.eye(4), moving=True)
    mount.T[:3, 3] = [0.07, 0.0, -0.10]
    times = np.arange(0, 3.6, 0.01)
    poses = np.tile(fk(HOME_Q), (len(times), 1, 1))
    poses[:, 1, 3] += 0.15 * np.sin(times * 0.2 / 0.15)  # [m] along y, 0.2 m/s at most
    goals = solve(to_rows(poses, np.full(len(poses), 0.08)), HOME_Q)
    world.sim.teleport(goals[0])
    states, images = [world.state(0.08)], []
    for goal, velocity in zip(goals[1:], np.diff(goals, axis=0) / 0.01):
        world.sim.command(goal, velocity)
        world.sim.step(0.004)
        if world.sim.time > (len(images) + 1) / 15:
            true = fk(world.sim.q)
            image = world.cameras.view(world.sim.snapshot(), true @ mount.T)
            images.append(
                (stamp_of(world.sim.time), image, true, tcp_speed(world.sim.q, world.sim.dq))
            )
        world.sim.step(0.006)
        states.append(world.state(0.08))
    assert len(images) >= 50 and max(speed for *_, speed in images) > 0.19
    # the table's top alone
    config = LiftConfig(low=(0.3, -0.3, -0.02), high=(0.7, 0.3, 0.01), count=0)
    for stamp, image, true, _ in images[:50]:
        place = mount.pose_at(joints_at(states, stamp))
        assert np.linalg.norm(place[:3, 3] - (true @ mount.T)[:3, 3]) < 1e-3
        frame = Frame(
            "wrist", stamp, image.color, image.depth_mm * np.float32(1e-3), world.cameras.K, place
        )
        table = lift_frame(frame, config)
        assert len(table) > 5000 and np.quantile(np.abs(table[:, 2]), 0.99) < 0.005
    late = fk(states[len(states) // 2].q)[:3, 3] - fk(states[len(states) // 2 - 7].q)[:3, 3]
    assert np.linalg.norm(late) > 0.005  # placed one frame late it would not hold


def test_an_empty_scene_is_refused():
    with pytest.raises(BlindError, match="a sees 0 points of the workspace, 102 wanted"):
        lift((plane_frame(hole=np.s_[:, :]),))
    assert sample(np.zeros((0, 14), np.float32), 8).shape == (8, 14)


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


def test_importance_sampling_takes_surface_in_proportion():
    g = np.zeros((100, 14), np.float32)
    g[:, 3:5], g[:, 13] = 0.01, 1.0
    g[:50, 3] = 0.03  # three times the area
    picked = sample(g[np.argsort(np.arange(100) % 50)], 400, "importance")
    assert (picked[:, 3] > 0.02).sum() == pytest.approx(300, abs=4)
    with pytest.raises(InputError, match="farthest, importance"):
        sample(g, 10, "random")


def scene_frames(world):
    world.sim.reset(sample_layout("pick_place", 9000))
    world.sim.teleport(HOME_Q)
    return world.frames(), world.state(OPEN_WIDTH)


def millimetres(T):
    return np.block([[T[:3, :3], 1000 * T[:3, 3:]], [T[3:]]])


def body_axes(T):
    return T @ np.array([[0, -1, 0, 0], [0, 0, -1, 0], [1, 0, 0, 0], [0, 0, 0, 1.0]])


WRONG_POSES = {"inverted": np.linalg.inv, "millimetres": millimetres, "body": body_axes}


class Recorder:
    """A policy that stays where it is, and notes what it was asked."""

    sees = "scene"

    def __init__(self):
        self.scenes = []

    def act(self, scene, observation):
        self.scenes.append(scene)
        return to_rows(np.repeat(fk(observation.state.q)[None], 16, axis=0), OPEN_WIDTH)


@pytest.mark.parametrize("how", [*WRONG_POSES, "no depth"])
def test_a_policy_that_sees_nothing_makes_no_plan_and_one_blind_camera_is_named(world, how):
    frames, state = scene_frames(world)

    def spoil(frame):
        if how == "no depth":
            return replace(frame, depth=np.zeros_like(frame.depth))
        return replace(frame, T_base_camera=WRONG_POSES[how](frame.T_base_camera))

    policy = Recorder()
    planner = Planner(policy)
    decision = planner.decide(Observation(state.stamp, frames, state, "pick_place"))
    assert decision.chunk is not None and decision.blind_cameras == {} and len(policy.scenes) == 1
    planned = planner.plan(decision.scene, Observation(state.stamp, (), state, "pick_place"))
    assert planned.chunk.sha256 == decision.chunk.sha256
    np.testing.assert_array_equal(policy.scenes.pop(), policy.scenes[0])
    assert list(decision.stages_ms) == ["lift", *planned.stages_ms] == ["lift", "act", "solve"]
    decision = planner.decide(
        Observation(state.stamp, (spoil(frames[0]), frames[1]), state, "pick_place")
    )
    assert decision.chunk is not None and list(decision.blind_cameras) == ["front"]
    assert ("its depth is empty" in decision.blind_cameras["front"]) == (how == "no depth")
    decision = planner.decide(
        Observation(state.stamp, tuple(map(spoil, frames)), state, "pick_place")
    )
    assert decision.chunk is None and decision.scene is None and len(policy.scenes) == 2
    assert decision.reason.startswith("blind: front sees ") and "side sees " in decision.reason
    with pytest.raises(BlindError, match="blind: front"):
        lift(tuple(map(spoil, frames)))


def test_what_is_left_counts_without_the_robots_own_body(world):
    frames, state = scene_frames(world)
    everything = lift(frames, LiftConfig(arm_margin=0.01), state.q)
    assert np.isfinite(everything).all() and len(np.unique(everything[:, :3], axis=0)) > 500
    with pytest.raises(BlindError):
        lift(frames, LiftConfig(arm_margin=5.0), state.q)
    with pytest.raises(BlindError, match="no camera"):
        lift(())


def test_a_trial_of_a_blind_policy_says_so(world, monkeypatch):
    frames = SimEnvironment.frames
    monkeypatch.setattr(
        SimEnvironment,
        "frames",
        lambda self: tuple(replace(f, depth=np.zeros_like(f.depth)) for f in frames(self)),
    )
    trial = rollout(
        world, Planner(Recorder()), sample_layout("lift", 9000), RolloutConfig(time_limit=1.0)
    )
    assert not trial.success and trial.refused["blind"] >= 2 and trial.violations == 0


class Emptied(Sequence):
    """A stream of depth images without readings from number ``first`` on."""

    def __init__(self, stream, first):
        empty = cv2.imencode(".png", np.zeros((240, 424), np.uint16))[1]
        self._empty = np.concatenate([np.frombuffer(DEPTH_HEADER, np.uint8), empty.ravel()])
        self._stream, self._first, self.stamps = stream, first, stream.stamps

    def __len__(self):
        return len(self._stream)

    def __getitem__(self, k):
        stamp, data = self._stream[k]
        return stamp, self._empty if k >= self._first else data


def blinded(episode, first=0):
    """The episode without depth from image number ``first`` on."""
    images = {
        (camera, kind): Emptied(stream, first) if kind == "depth" else stream
        for (camera, kind), stream in episode.images.items()
    }
    return replace(episode, images=images)


def test_blind_moments_are_no_training_samples_and_an_episode_of_them_is_refused(episodes):
    episode = read_episode(list_episodes(episodes)[0])
    whole = len(episode_samples(episode, LiftConfig(count=64))["points"])
    with pytest.warns(UserWarning, match=f"{whole - 5} of {whole} moments left out: blind: front"):
        samples = episode_samples(blinded(episode, 5), LiftConfig(count=64))
    assert len(samples["points"]) == 5 and np.abs(samples["points"]).max(axis=(1, 2)).min() > 0.1
    with pytest.warns(UserWarning, match="moments left out"):
        assert len(episode_clips(blinded(episode, 5), LiftConfig(count=64))["scenes"]) == 5
    for make in (episode_samples, episode_clips):
        with pytest.raises(InputError, match=f"none of its {whole} moments"):
            make(blinded(episode), LiftConfig(count=64))


def on_hand():
    """In front of the hand, behind the fingertips, along the fingers; as in
    launch/site.example.yaml.
    """
    return np.array([[0, -1, 0, 0.05], [1, 0, 0, 0], [0, 0, 1, -0.06], [0, 0, 0, 1.0]])


def test_a_view_that_misses_the_workspace_is_named_with_what_would_explain_it():
    eye = look_at((1.15, 0.0, 0.62), (0.47, 0.0, 0.03))
    aside = look_at((1.15, 0.0, 0.62), (3.0, 0.0, 0.6))
    cameras = {
        "good": Camera("a", eye),
        "hand": Camera("b", on_hand(), moving=True),
        "aside": Camera("c", aside),
    }
    cameras |= {name: Camera(name, change(eye)) for name, change in WRONG_POSES.items()}
    site = Site(cameras)
    assert misses(site, "good") == misses(site, "hand") == misses(site, "good", (K, 424, 240)) == ""
    assert misses(site, "aside").startswith(
        "misses the workspace: 0%"
    ) and "is its pose" not in misses(site, "aside")
    guesses = {
        "inverted": "pose inverted?",
        "millimetres": "pose in millimetres?",
        "body": "pose of the camera's body",
    }
    for name, guess in guesses.items():
        for view in (WIDEST, (K, 424, 240)):
            assert guess in misses(site, name, view)


def test_a_rigid_motion_turns_gaussians_as_their_ellipsoids():
    rng = np.random.default_rng(0)
    gaussians = rng.uniform(0.1, 1.0, (50, 14))
    T = np.eye(4)
    T[:3, :3], T[:3, 3] = Rotation.random(random_state=0).as_matrix(), [0.1, -0.2, 0.3]

    def covariances(g):
        axes = Rotation.from_quat(g[:, 6:10], scalar_first=True).as_matrix() * g[:, None, 3:6]
        return axes @ axes.transpose(0, 2, 1)

    after = moved(gaussians, T)
    R = T[:3, :3]
    np.testing.assert_allclose(after[:, :3], gaussians[:, :3] @ R.T + T[:3, 3], atol=1e-12)
    np.testing.assert_allclose(covariances(after), R @ covariances(gaussians) @ R.T, atol=1e-12)
    np.testing.assert_array_equal(after[:, 10:], gaussians[:, 10:])
    assert moved(gaussians[:0], T).shape == (0, 14)


def test_parts_are_near_and_alike_in_colour():
    rng = np.random.default_rng(0)
    cube = rng.uniform(0.0, 0.04, (300, 3))
    scene = np.zeros((900, 14))
    scene[:, :3] = np.concatenate(
        [np.add(cube, step) for step in ([0, 0, 0], [0.04, 0, 0], [0, 0.1, 0])]
    )
    scene[:, 10:13] = np.repeat([[0.9, 0.1, 0.1], [0.1, 0.1, 0.9], [0.9, 0.1, 0.1]], 300, axis=0)
    scene[:, 10:13] += rng.normal(0, 0.03, (900, 3))  # shades
    order = rng.permutation(900)
    parts = rigid_parts(scene[order])
    known = (np.arange(900) // 300)[order]
    assert parts.max() == 2
    for part in range(3):
        assert len(set(known[parts == part])) == 1
    assert rigid_parts(scene[:0]).shape == (0,)
