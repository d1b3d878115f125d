import mujoco
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from gwm_core.control.command_checker import _tcp
from gwm_core.geometry.kinematics import (
    HOME_Q,
    Unreachable,
    fk,
    fk_jacobian,
    from_rows,
    pose_error,
    rotation_vector,
    solve,
    to_rows,
)
from gwm_core.geometry.limits import FR3


def random_q(count, seed=0):
    return np.random.default_rng(seed).uniform(FR3.q_low, FR3.q_high, (count, 7))


def test_forward_kinematics_agrees_with_the_simulated_arm(simulator):
    data = mujoco.MjData(simulator.model)
    address = [simulator.model.joint(f"arm_panda_joint{i + 1}").qposadr[0] for i in range(7)]
    for q in random_q(20):
        data.qpos[address] = q
        mujoco.mj_kinematics(simulator.model, data)
        tcp = data.site("arm_hand_TCP")
        T = fk(q)
        np.testing.assert_allclose(tcp.xpos, T[:3, 3], atol=1e-6)
        np.testing.assert_allclose(tcp.xmat.reshape(3, 3), T[:3, :3], atol=1e-5)


def test_the_judges_own_kinematics_agree():
    q = random_q(50)
    np.testing.assert_allclose(_tcp(q), fk(q)[:, :3, 3], atol=1e-12)


def test_jacobian_is_the_derivative():
    for q in random_q(10, seed=1):
        T, J = fk_jacobian(q)
        for i in range(7):
            step = np.zeros(7)
            step[i] = 1e-6
            numeric = pose_error(fk(q - step), fk(q + step)) / 2e-6
            np.testing.assert_allclose(J[:, i], numeric, atol=1e-5)
        np.testing.assert_allclose(T, fk(q))


def test_solve_reaches_poses_of_the_workspace_and_neighbours_stay_close():
    rng = np.random.default_rng(0)
    for _ in range(30):
        begin, end = rng.uniform([0.40, -0.25, 0.03], [0.62, 0.25, 0.25], (2, 3))
        end = begin + (end - begin) * min(1.0, 0.3 / np.linalg.norm(end - begin))
        down = fk(HOME_Q)[:3, :3]
        T = np.tile(np.eye(4), (16, 1, 1))
        T[:, :3, :3] = down
        T[:, :3, 3] = begin + np.linspace(0, 1, 16)[:, None] * (end - begin)
        rows = to_rows(T, 0.08)
        q = solve(rows, solve(rows[:1], HOME_Q)[0])
        np.testing.assert_allclose(from_rows(rows)[:, :3, 3], fk(q)[:, :3, 3], atol=3e-4)
        assert np.all((q >= FR3.q_low) & (q <= FR3.q_high))
        assert np.abs(np.diff(q, axis=0)).max() < 0.2


def test_an_unreachable_row_is_named():
    rows = to_rows(np.tile(fk(HOME_Q), (4, 1, 1)), 0.08)
    rows[2, 0] = 1.5
    with pytest.raises(Unreachable, match="row 3"):
        solve(rows, HOME_Q)
    rows[1, 4] = np.nan
    with pytest.raises(Unreachable, match="row 2 has a non-finite"):
        solve(rows, HOME_Q)


X, NOTHING = np.array([1.0, 0, 0]), np.zeros(3)


@pytest.mark.parametrize(
    ("first", "second"), [(NOTHING, X), (X, NOTHING), (X, X), (X, -2 * X), (NOTHING, NOTHING)]
)
def test_a_row_without_a_rotation_is_named_and_gives_no_joints(first, second):
    rows = to_rows(np.tile(fk(HOME_Q), (4, 1, 1)), 0.08)
    rows[2, 3:6], rows[2, 6:9] = first, second
    with pytest.raises(Unreachable, match=r"row 3 has no rotation: .*zero or parallel"):
        solve(rows, HOME_Q)
    with pytest.raises(ValueError, match="row 3 has no rotation"):
        from_rows(rows)


@pytest.mark.parametrize("axis", [*np.eye(3), *-np.eye(3), [1, 1, 0], [-1, 2, -3], [0, -1, 1e-4]])
@pytest.mark.parametrize(
    "angle", [0.0, 1e-9, 1e-4, 1.0, 2.0, 3.1, np.pi - 1e-8, np.pi - 1e-12, np.pi]
)
def test_a_rotation_vector_has_its_axis_and_angle_at_every_angle(axis, angle):
    vector = angle * np.array(axis, float) / np.linalg.norm(axis)
    turn = Rotation.from_rotvec(vector).as_matrix()
    for found in (rotation_vector(turn), rotation_vector(np.tile(turn, (2, 3, 1, 1)))[1, 2]):
        assert np.linalg.norm(found) == pytest.approx(angle, abs=1e-7)
        np.testing.assert_allclose(Rotation.from_rotvec(found).as_matrix(), turn, atol=1e-7)


@pytest.mark.parametrize("axis", range(3))
def test_a_pose_turned_by_exactly_180_degrees_is_not_taken_for_reached(axis):
    T = fk(HOME_Q)
    goal = T.copy()
    goal[:3, :3] = T[:3, :3] @ np.diag(np.where(np.arange(3) == axis, 1.0, -1.0))
    assert np.linalg.norm(pose_error(T, goal)[3:]) == pytest.approx(np.pi)
    try:
        q = solve(to_rows(goal[None], 0.08), HOME_Q)
    except Unreachable:
        return
    np.testing.assert_allclose(fk(q)[0], goal, atol=1e-3)


def test_rows_round_trip_and_scaled_rotations_are_made_orthonormal():
    T = fk(random_q(5))
    rows = to_rows(T, np.linspace(0, 0.08, 5))
    rows[:, 3:9] *= 1.7
    np.testing.assert_allclose(from_rows(rows), T, atol=1e-12)
