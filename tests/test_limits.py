import numpy as np
import pytest

from gwm_core.errors import InputError
from gwm_core.geometry.limits import DESK, FR3, PANDA


def test_velocity_bounds_are_never_looser_than_either_published_formula():
    q = np.random.default_rng(0).uniform(FR3.q_min, FR3.q_max, (2000, 7))
    low, high = FR3.velocity_bounds(q)
    new = -np.array([0.6599, 0.2517, 0.2, 0.3533, 0.5757, 0.4878, 0.4628]) + np.sqrt(
        2
        * np.array([6.0, 2.585, 3.5, 4.0, 17.0, 5.5, 17.0])
        * (np.array([2.9007, 1.8361, 2.9007, -0.1169, 2.8763, 4.6216, 3.0508]) - q)
    )
    legacy = -np.array([0.3, 0.2, 0.2, 0.3, 0.35, 0.35, 0.35]) + np.sqrt(
        np.array([12.0, 5.17, 7.0, 8.0, 34.0, 11.0, 34.0])
        * (np.array([2.7501, 1.7918, 2.9065, -0.1458, 2.8101, 4.5205, 3.0196]) - q)
    )
    assert np.all(high <= np.maximum(0, new) + 1e-12)
    assert np.all(high <= np.maximum(0, legacy) + 1e-12)
    assert np.all(high <= FR3.dq_max) and np.all(high >= 0) and np.all(low <= 0)
    np.testing.assert_array_equal(FR3.velocity_bounds(q[7]), [low[7], high[7]])


def test_at_the_usual_home_pose_the_lower_limits_already_bind():
    """Figures of the manufacturer's formula, worked out by hand in the limit tables' source."""
    low, _ = FR3.velocity_bounds(
        np.array([0, -np.pi / 4, 0, -3 * np.pi / 4, 0, np.pi / 2, np.pi / 4])
    )
    np.testing.assert_allclose(low[[1, 3, 5]], [-2.07, -2.05, -3.02], atol=0.03)


def test_the_pandas_velocity_limits_do_not_depend_on_the_posture():
    low, high = PANDA.velocity_bounds(
        np.random.default_rng(0).uniform(PANDA.q_min, PANDA.q_max, (9, 7))
    )
    np.testing.assert_array_equal(high, np.tile(PANDA.dq_max, (9, 1)))
    np.testing.assert_array_equal(low, -high)


@pytest.mark.parametrize("arm", [FR3, PANDA])
def test_the_margin_lies_inside_the_limits_and_tables_cannot_be_written(arm):
    assert np.all(arm.q_low >= arm.q_min + 0.0999) and np.all(arm.q_high <= arm.q_max - 0.0999)
    for table in (
        arm.q_min,
        arm.q_max,
        arm.dq_max,
        arm.ddq_max,
        arm.dddq_max,
        arm.q_low,
        arm.q_high,
    ):
        with pytest.raises(ValueError, match="read-only"):
            table[0] = 9.0


def test_limits_may_be_narrowed_and_keep_the_rest():
    slow = FR3.narrowed("site", dq_max=0.5 * FR3.dq_max, q_max=FR3.q_max - 0.2)
    q = np.random.default_rng(1).uniform(FR3.q_min, FR3.q_max, (50, 7))
    assert np.all(slow.velocity_bounds(q)[1] <= 0.5 * FR3.dq_max) and np.all(
        slow.q_high == slow.q_max - 0.1
    )
    assert slow.dddq_max is FR3.dddq_max


@pytest.mark.parametrize(
    ("wished", "message"),
    [
        (
            {"q_max": FR3.q_max + np.eye(7)[1] * 0.1},
            "q_max 1.8837 of joint 2 is wider than the fr3's 1.7837 rad",
        ),
        ({"q_min": FR3.q_min - np.eye(7)[5] * 0.1}, "q_min 0.4445 of joint 6"),
        ({"dddq_max": [6000.0] * 7}, "dddq_max 6000 of joint 1"),
        ({"dq_max": [1.0] * 6}, "dq_max needs seven finite numbers in rad/s"),
        ({"dq_max": [1.0] * 6 + [np.nan]}, "seven finite"),
        ({"dq_max": [1.0] * 6 + [-1.0]}, "seven finite"),
        ({"dq_max": "fast"}, "seven finite"),
        ({"speed": [1.0] * 7}, "no limit is called 'speed'"),
        ({"q_max": FR3.q_min + 0.1}, "no room is left"),
    ],
)
def test_a_widened_or_senseless_limit_is_refused_in_one_line(wished, message):
    with pytest.raises(InputError, match=message) as error:
        FR3.narrowed("site file x.yaml: limits", **wished)
    assert str(error.value).startswith("site file x.yaml: limits: ") and "\n" not in str(
        error.value
    )


def test_a_profile_can_be_slowed_for_the_first_day():
    first = DESK.slowed(0.05)
    assert first.tcp_speed == pytest.approx(0.0125) and first.velocity == pytest.approx(0.045)
    assert first.acceleration == DESK.acceleration
    for fraction in (0.0, 1.01, np.nan, -1.0):
        with pytest.raises(InputError, match="speed fraction"):
            DESK.slowed(fraction)
