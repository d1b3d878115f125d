import os
import subprocess
import sys

import numpy as np
import pytest

from gwm_core.errors import InputError
from gwm_core.geometry.camera import intrinsics
from gwm_core.geometry.kinematics import HOME_Q
from gwm_core.runtime.planner import Planner
from gwm_core.sim.cameras import SimCameras, by_clock, sensor_depth
from gwm_core.sim.expert import Expert
from gwm_core.sim.rollout import SimEnvironment, rollout
from gwm_core.sim.scene import CAMERAS
from gwm_core.sim.simulator import GRIPPER_SPEED, Simulator
from gwm_core.sim.tasks import TASKS, Success, reached, sample_layout


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("difficulty", ["nominal", "hard"])
def test_layouts_are_a_function_of_the_seed_and_keep_their_distances(task, difficulty):
    for seed in range(30):
        a, b = sample_layout(task, seed, difficulty), sample_layout(task, seed, difficulty)
        assert str(a) == str(b)
        spots = np.array([c[:2] for c in a.cubes.values()])
        gaps = np.linalg.norm(spots[:, None] - spots[None], axis=-1)[np.triu_indices(len(spots), 1)]
        assert gaps.min() > 0.095 and "red" in a.cubes and (task != "stack" or "blue" in a.cubes)
    assert str(sample_layout(task, 1, difficulty)) != str(sample_layout(task, 2, difficulty))


def test_hard_errs_by_what_it_says():
    layout = sample_layout("pick_place", 3, "hard")
    for twist in layout.camera_error.values():
        np.testing.assert_allclose(
            [np.linalg.norm(twist[:3]), np.linalg.norm(twist[3:])], [np.deg2rad(0.5), 0.010]
        )
    assert len(layout.cubes) > len(sample_layout("pick_place", 3).cubes) and layout.noise > 1


def test_unknown_names_say_what_is_valid():
    with pytest.raises(InputError, match="lift, pick_place, stack"):
        sample_layout("juggle", 0)
    with pytest.raises(InputError, match="0 or more"):
        sample_layout("lift", -1)
    with pytest.raises(InputError, match="hard, nominal"):
        sample_layout("lift", 0, "impossible")


def test_objects_rest_where_they_were_laid(simulator):
    simulator.teleport(HOME_Q)
    layout = sample_layout("stack", 5, "hard")
    simulator.reset(layout)
    simulator.step(0.5)
    for name, (x, y, _, size) in layout.cubes.items():
        pose = simulator.objects()[name]
        np.testing.assert_allclose(pose[:3], [x, y, size / 2], atol=2e-3)


def test_the_arm_holds_its_last_target_when_commands_stop(simulator):
    simulator.reset(sample_layout("lift", 0))
    simulator.teleport(HOME_Q)
    goal = HOME_Q + 0.02
    simulator.command(goal, np.full(7, 0.1))
    simulator.step(2.0)
    np.testing.assert_allclose(simulator.q, goal, atol=3e-3)
    np.testing.assert_allclose(simulator.dq, 0, atol=1e-3)


def test_the_gripper_is_slow_and_obeys_one_command_at_a_time(simulator):
    simulator.reset(sample_layout("lift", 0))
    simulator.teleport(HOME_Q)
    simulator.grip(0.0)
    simulator.step(0.2)
    assert simulator.width > 0.08 - 0.25 * GRIPPER_SPEED - 0.005
    simulator.grip(0.08)
    simulator.step(0.3)
    assert simulator.width < 0.045  # still closing
    simulator.step(1.5)
    np.testing.assert_allclose(simulator.width, 0.08, atol=2e-3)


def test_success_must_last():
    objects = {"red": np.array([0.5, 0, 0.2, 0, 0.04])}
    success = Success("lift")
    assert not success.update(0.0, objects, np.zeros(3), 0.0)
    assert not success.update(0.3, {"red": np.array([0.5, 0, 0.02, 0, 0.04])}, np.zeros(3), 0.0)
    assert not success.update(0.4, objects, np.zeros(3), 0.0)
    assert success.update(0.91, objects, np.zeros(3), 0.0)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, True),
        ({"width": 0.03}, False),
        ({"z": 0.05}, False),
        ({"x": 0.57}, False),
        ({"tcp": 0.06}, False),
    ],
)
def test_the_rule_of_pick_place(change, expected):
    red = np.array([change.get("x", 0.5), 0.1, change.get("z", 0.04), 0.3, 0.04])
    objects = {"red": red, "plate": np.array([0.5, 0.1, 0.01, 0, 0.15])}
    tcp = np.array([0.5, 0.1, change.get("tcp", 0.2)])
    assert reached("pick_place", objects, tcp, change.get("width", 0.08)) is expected


def test_the_renderer_agrees_with_exact_rays(simulator, renderer):
    """GL depth and ray-cast depth of the same moment, before sensor noise."""
    if renderer == "raycast":
        pytest.skip("no GL here")
    simulator.reset(sample_layout("pick_place", 1))
    simulator.teleport(HOME_Q)
    snapshot = simulator.snapshot()
    depths = []
    for name in (renderer, "raycast"):
        rig = SimCameras(212, 120, name)
        rig(snapshot)
        depths.append([rig._renderer(rig._data, camera)[1] for camera in CAMERAS])
        rig.close()
    for gl, rays in zip(*depths):
        seen = (rays > 0) & (rays < 5)
        difference = np.abs(gl - rays)[seen]
        assert np.median(difference) < 1e-3 and np.mean(difference > 0.01) < 0.02


def test_the_same_snapshot_gives_the_same_images(simulator, renderer):
    simulator.reset(sample_layout("pick_place", 2, "hard"))
    rig = SimCameras(212, 120, renderer)
    first, second = rig(simulator.snapshot()), rig(simulator.snapshot())
    for a, b in zip(first, second):
        assert np.array_equal(a.color, b.color) and np.array_equal(a.depth_mm, b.depth_mm)
    rig.close()


def test_sensor_noise_grows_with_distance_squared_and_holes_sit_at_edges():
    K, rng = intrinsics(424, 240, 42.5), np.random.default_rng(0)
    spread = []
    for z in (0.6, 1.2):
        mm = sensor_depth(np.full((240, 424), z, np.float32), K, 1.0, rng)
        spread.append(np.std(mm[mm > 0] / 1000 - z))
    assert 2.5 < spread[1] / spread[0] < 6
    step = np.full((240, 424), 1.0, np.float32)
    step[:, 200:] = 0.7
    holes = sensor_depth(step, K, 1.0, rng) == 0
    assert holes[:, 198:202].mean() > 0.2 and holes[:, :150].mean() < 0.01
    near = sensor_depth(np.full((240, 424), 0.2, np.float32), K, 1.0, rng)
    assert not near.any()  # nearer than the sensor can see


def test_physics_does_not_depend_on_how_it_is_stepped():
    results = []
    for chunks in ([1.0], [0.01] * 100):
        sim = Simulator()
        sim.reset(sample_layout("lift", 3))
        sim.command(HOME_Q + 0.05, np.zeros(7))
        for duration in chunks:
            sim.step(duration)
        results.append(sim.q)
    np.testing.assert_allclose(*results, atol=1e-9)


def test_a_rollout_that_cannot_begin_says_why_and_is_no_failed_trial():
    world = SimEnvironment(cameras=False)
    layout = sample_layout("lift", 7)
    away = HOME_Q + np.array([1.2, 0, 0, 0, 0, 0, 0])
    with pytest.raises(InputError, match=r"episode 7 .*the tool is outside the workspace"):
        rollout(world, Planner(Expert()), layout, start=lambda sim: sim.teleport(away))


def test_a_simulated_camera_clock_is_ahead_and_drifts_as_it_is_told_to():
    assert by_clock(10**18, 3600.0, 0.0, 0.0) == 10**18
    # a RealSense's quartz: 0.27 s an hour
    assert by_clock(10**18, 3600.0, 0.0, 75.0) == 10**18 + 270_000_000
    assert by_clock(10**18, 0.0, -135.0, 75.0) == 10**18 - 135_000_000


@pytest.mark.parametrize("wish", ["osmesa", "egl", "nonsense"])
def test_what_others_have_set_for_mujoco_neither_stops_the_simulation_nor_hides_a_renderer(wish):
    """MUJOCO_GL and PYOPENGL_PLATFORM as robosuite #409 and Gymnasium #726 advise, where either may
    be missing.
    """
    found = [
        subprocess.run(
            [
                sys.executable,
                "-c",
                "from gwm_core.sim.cameras import choose_renderer; print(choose_renderer())",
            ],
            env=os.environ | told,
            capture_output=True,
            text=True,
            check=False,
        ).stdout
        for told in (
            {"MUJOCO_GL": wish, "PYOPENGL_PLATFORM": wish},
            {"MUJOCO_GL": "", "PYOPENGL_PLATFORM": ""},
        )
    ]
    assert found[0] == found[1] and found[0].strip()
