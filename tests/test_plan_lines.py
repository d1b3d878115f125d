"""A chunk as lines in an image and as words."""

import numpy as np
import pytest

from gwm_core.geometry.camera import intrinsics, look_at
from gwm_core.geometry.kinematics import HOME_Q, fk, solve, to_rows
from gwm_core.geometry.plan_lines import gripper_outline, in_words, project

DOWN = np.diag([1.0, -1.0, -1.0, 1.0])  # the hand points down


def at(x, y, z):
    """The TCP there [m], the hand down."""
    T = DOWN.copy()
    T[:3, 3] = x, y, z
    return T


def along(*points, rows=16):
    """Poses (1 + rows, 4, 4) that visit points at equal times."""
    where = np.linspace(0, len(points) - 1, rows + 1)
    columns = [np.interp(where, range(len(points)), axis) for axis in np.transpose(points)]
    return np.array([at(*point) for point in np.transpose(columns)])


def test_projection_is_the_pinhole_and_knows_what_lies_behind():
    K = intrinsics(424, 240, 58.0)
    T = look_at((1.0, 0.2, 0.6), (0.4, 0.0, 0.1))
    rng = np.random.default_rng(0)
    in_camera = rng.uniform([-0.3, -0.2, 0.2], [0.3, 0.2, 2.0], (50, 3))
    points = in_camera @ T[:3, :3].T + T[:3, 3]
    pixels = in_camera @ K.T
    expected = pixels[:, :2] / pixels[:, 2:] / [424, 240]
    np.testing.assert_allclose(project(points, K, T, (424, 240)), expected, atol=1e-12)
    behind = (in_camera * [1, 1, -1]) @ T[:3, :3].T + T[:3, 3]
    assert np.isnan(project(behind, K, T, (424, 240))).all()


def test_the_outline_lies_on_the_hand_that_the_simulation_draws(simulator, renderer):
    """The camera's depth at the points of a finger is that of the finger."""
    from gwm_core.sim.cameras import SimCameras
    from gwm_core.sim.tasks import sample_layout

    simulator.reset(sample_layout("lift", 4000))
    pose = to_rows(at(0.5, 0.0, 0.2)[None], 0.06)  # in the middle of both images
    simulator.teleport(solve(pose, HOME_Q)[0], 0.06)
    cameras = SimCameras(renderer=renderer)
    tips = gripper_outline(fk(simulator.q), simulator.width)[[0, -1]]
    seen = {}
    for image in cameras(simulator.snapshot()):
        T = cameras.T_base_camera[image.camera]
        height, width = image.depth_mm.shape
        pixels = (project(tips, cameras.K, T, (width, height)) * [width, height]).astype(int)
        for tip, (u, v) in enumerate(pixels):
            around = 1e-3 * image.depth_mm[v - 2 : v + 3, u - 2 : u + 3]  # some have no reading
            nearer = (tips[tip] - T[:3, 3]) @ T[:3, 2] - around
            # a finger is 20 mm thick: its surface is nearer than its middle
            seen[image.camera, tip] = bool(np.any((nearer > 0.0) & (nearer < 0.025)))
    cameras.close()
    assert seen["front", 0] and seen["front", 1] and seen["side", 0], seen  # one hides another


@pytest.mark.parametrize(
    ("points", "width", "words"),
    [
        ([(0.5, 0.0, 0.2), (0.5, 0.12, 0.17)], (0.08, 0.08), "12 cm left, 3 cm down"),
        ([(0.5, 0.0, 0.2), (0.42, -0.05, 0.2)], (0.04, 0.04), "8 cm back, 5 cm right"),
        ([(0.5, 0.0, 0.2), (0.53, 0.0, 0.3)], (0.08, 0.08), "10 cm up, 3 cm forward"),
        ([(0.5, 0.0, 0.2), (0.504, 0.0, 0.2)], (0.08, 0.08), "stay"),
        ([(0.5, 0.0, 0.2), (0.504, 0.0, 0.2)], (0.08, 0.03), "close"),
        ([(0.5, 0.0, 0.2), (0.5, 0.0, 0.2)], (0.03, 0.08), "open"),
        ([(0.5, 0, 0.2), (0.5, 0.1, 0.2)], (0.08, 0.03), "10 cm left, and close"),
    ],
)
def test_words(points, width, words):
    T = along(*points)
    assert in_words(T, np.linspace(*width, len(T))) == words


def test_words_tell_when_the_gripper_acts_and_how_far_the_hand_turns():
    T = along((0.5, 0.0, 0.2), (0.5, 0.1, 0.2))
    late = np.where(np.arange(17) < 15, 0.08, 0.03)
    early = np.where(np.arange(17) < 1, 0.03, 0.08)
    assert in_words(T, late) == "10 cm left, then close"
    assert in_words(T, early) == "open, then 10 cm left"
    angle = np.deg2rad(40)
    turn = np.eye(4)
    turn[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    T[-1] = T[-1] @ turn
    assert in_words(T, np.full(17, 0.08)) == "10 cm left, turn by 40 degrees"


def test_the_outline_follows_the_fingers():
    T = fk(HOME_Q)
    for width in (0.0, 0.05, 0.08):
        outline = gripper_outline(T, width)
        assert outline.shape == (9, 3)
        assert np.linalg.norm(outline[0] - outline[-1]) == pytest.approx(width)
        np.testing.assert_allclose((outline[0] + outline[-1]) / 2, T[:3, 3], atol=1e-12)
