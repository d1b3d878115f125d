"""Power laws: known exponents are found, intervals hold them, and too little data is refused."""

import numpy as np
import pytest

from gwm_core.errors import InputError
from gwm_core.evaluation.stats.power_law import fit_power_law

SIZES = np.array([50, 150, 450, 1350])


def law(sizes, scale, exponent, floor=0.0):
    return scale * np.asarray(sizes, float) ** -exponent + floor


def study(rng, exponent, seeds, episodes, sizes=SIZES[:3], spread=0.1):
    """Errors (N, S, E) whose seeds, episodes and trainings scatter."""
    shape = len(sizes), seeds, episodes
    noise = rng.normal(0, spread, (1, seeds, 1)) * np.log(sizes / 150)[:, None, None]
    noise = noise + rng.normal(0, spread, (len(sizes), seeds, 1))
    noise = noise + rng.normal(0, 0.5, (1, 1, episodes)) + rng.normal(0, 0.2, shape)
    return law(sizes, 2.0, exponent)[:, None, None] * np.exp(noise)


@pytest.mark.parametrize("scale, exponent", [(3.0, 0.35), (0.02, 1.2), (5.0, -0.1), (1.0, 0.0)])
def test_a_law_is_found_again(scale, exponent):
    errors = np.repeat(law(SIZES, scale, exponent)[:, None], 2, axis=1)
    found = fit_power_law(SIZES, errors)
    assert (found.scale, found.exponent) == pytest.approx((scale, exponent), abs=1e-9)
    assert found.floor == 0 and found.residual < 1e-9
    assert found.ci95 == pytest.approx((exponent, exponent), abs=1e-9)
    np.testing.assert_allclose(found.error(SIZES), errors[:, 0])


@pytest.mark.parametrize("exponent, floor", [(0.5, 0.2), (0.8, 0.05), (1.5, 0.6), (0.5, 0.0)])
def test_a_law_with_a_floor_is_found_again(exponent, floor):
    sizes = np.array([20, 60, 180, 540, 1620])
    errors = np.repeat(law(sizes, 4.0, exponent, floor)[:, None], 2, axis=1)
    found = fit_power_law(sizes, errors, floor=True, samples=10)
    assert (found.scale, found.exponent) == pytest.approx((4.0, exponent), rel=1e-2)
    assert found.floor == pytest.approx(floor, abs=2e-3)
    assert found.ci95 == pytest.approx((exponent, exponent), rel=1e-2)
    # a straight line sees a floor as a smaller exponent
    assert floor == 0 or fit_power_law(sizes, errors).exponent < exponent - 0.05


def test_laws_of_the_exponent():
    errors = study(np.random.default_rng(0), 0.4, 3, 20)
    found = fit_power_law(SIZES[:3], errors)
    order = [2, 0, 1]
    for sizes, same in (
        (SIZES[:3], 7 * errors),  # another unit of the error
        (10 * SIZES[:3], errors),  # or of the size
        (SIZES[:3][order], errors[order]),
    ):
        again = fit_power_law(sizes, same)
        assert again.exponent == pytest.approx(found.exponent)
        assert again.ci95 == pytest.approx(found.ci95)
    inverse = fit_power_law(SIZES[:3], errors.mean(2))
    assert inverse.exponent == pytest.approx(found.exponent)  # of the mean over episodes
    assert fit_power_law(1 / SIZES[:3], errors).exponent == pytest.approx(-found.exponent)
    low, high = found.ci95
    assert low < found.exponent < high


@pytest.mark.parametrize(
    "seeds, episodes, least", [(2, 40, 0.84), (3, 40, 0.88), (5, 40, 0.92), (3, 2, 0.9)]
)
def test_the_interval_of_the_exponent_covers(seeds, episodes, least):
    rng, held = np.random.default_rng(1), []
    for _ in range(200):
        low, high = fit_power_law(SIZES[:3], study(rng, 0.4, seeds, episodes), samples=300).ci95
        held.append(low <= 0.4 <= high)
    assert np.mean(held) >= least


def test_the_interval_shrinks_with_seeds_and_is_of_the_episodes_alone_for_one():
    rng = np.random.default_rng(2)
    errors = study(rng, 0.4, 12, 30)
    widths = [np.ptp(fit_power_law(SIZES[:3], errors[:, :k]).ci95) for k in (3, 6, 12)]
    assert widths == sorted(widths, reverse=True)
    alone = fit_power_law(SIZES[:3], errors[:, :1])
    alike = fit_power_law(SIZES[:3], np.repeat(errors[:, :1], 4, axis=1))
    assert np.ptp(alone.ci95) > 0 and alone.ci95 == pytest.approx(alike.ci95, rel=1e-2)


def test_too_little_data_is_refused_in_one_line():
    two = np.ones((2, 2))
    for call, words in (
        (lambda: fit_power_law([50, 150], two), "3 sizes or more: 2"),
        (lambda: fit_power_law(SIZES[:3], np.ones((3, 2)), floor=True), "4 sizes or more: 3"),
        (lambda: fit_power_law([50, 150, 150], np.ones((3, 2))), "different numbers"),
        (lambda: fit_power_law([0, 50, 150], np.ones((3, 2))), "above 0"),
        (lambda: fit_power_law(SIZES[:3], np.ones(3)), "seeds"),
        (lambda: fit_power_law(SIZES[:3], np.ones((4, 2))), "for 3 sizes"),
        (lambda: fit_power_law(SIZES[:3], np.ones((3, 1))), "two seeds or episodes"),
        (lambda: fit_power_law(SIZES[:3], np.zeros((3, 2))), "above 0"),
        (lambda: fit_power_law(SIZES[:3], np.full((3, 2), np.nan)), "finite"),
    ):
        with pytest.raises(InputError, match=words) as error:
            call()
        assert "\n" not in str(error.value)
