import numpy as np

from gwm_core.control import limits


def test_velocity_bounds_are_never_looser_than_either_published_formula():
    q = np.random.default_rng(0).uniform(limits.Q_MIN, limits.Q_MAX, (2000, 7))
    low, high = limits.velocity_bounds(q)
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
    assert np.all(high <= limits.DQ_MAX) and np.all(high >= 0) and np.all(low <= 0)


def test_at_the_usual_home_pose_the_lower_limits_already_bind():
    """Figures of the manufacturer's formula, worked out by hand in the limit tables' source."""
    low, _ = limits.velocity_bounds(np.array([0, -np.pi / 4, 0, -3 * np.pi / 4, 0, np.pi / 2, np.pi / 4]))
    np.testing.assert_allclose(low[[1, 3, 5]], [-2.07, -2.05, -3.02], atol=0.03)


def test_the_margin_lies_inside_the_limits():
    assert np.all(limits.Q_LOW >= limits.Q_MIN + 0.0999) and np.all(limits.Q_HIGH <= limits.Q_MAX - 0.0999)
