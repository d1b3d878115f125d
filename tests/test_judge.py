import numpy as np
import pytest

from gwm_core.control.command_checker import check_commands
from gwm_core.control.reference_follower import Follower
from gwm_core.geometry.kinematics import HOME_Q
from gwm_core.geometry.limits import Workspace


@pytest.fixture(scope="module")
def log():
    follower = Follower()
    follower.reset(HOME_Q)
    goals = [HOME_Q + 0.3] * 120 + [HOME_Q - 0.2] * 150
    return [
        np.array(part) for part in zip(*(follower.step(g, np.zeros(7), np.zeros(7)) for g in goals))
    ]


def total(q, dq, ddq, resets=None):
    return check_commands(q, dq, ddq, np.zeros(len(q), bool) if resets is None else resets)


def test_what_the_follower_sends_passes(log):
    assert total(*log).total == 0


def test_the_same_log_resampled_linearly_fails(log):
    q = log[0]
    coarse = np.arange(0, len(q), 10)
    linear = np.array(
        [np.interp(np.arange(coarse[-1] + 1), coarse, q[coarse, j]) for j in range(7)]
    ).T
    dq = np.gradient(linear, 0.01, axis=0)
    found = total(linear, dq, np.gradient(dq, 0.01, axis=0))
    assert found.violations["stream acceleration"] > 0


@pytest.mark.parametrize(
    ("part", "change", "named"),
    [
        (
            0,
            lambda a: a + np.r_[np.zeros(100), np.full(len(a) - 100, 0.02)][:, None],
            "stream acceleration",
        ),
        (0, lambda a: a + 4.0, "stream position"),
        (1, lambda a: a * 40, "quintic velocity"),
        (0, lambda a: np.where(np.arange(len(a))[:, None] == 50, np.nan, a), "finite"),
        (2, lambda a: np.where(np.arange(len(a))[:, None] == 50, np.inf, a), "finite"),
    ],
)
def test_each_fault_is_found_and_named(log, part, change, named):
    parts = [a.copy() for a in log]
    parts[part] = change(parts[part])
    assert total(*parts).violations.get(named, 0) > 0


def test_a_faster_profile_is_found(log):
    assert (
        check_commands(*log, np.zeros(len(log[0]), bool), tcp_speed=0.05).violations[
            "stream tcp speed"
        ]
        > 0
    )


def test_motion_that_goes_on_after_a_pause_is_found_and_jitter_is_not(log):
    stamps = np.arange(len(log[0])) * 0.01
    never = np.zeros(len(stamps), bool)
    jitter = np.random.default_rng(0).uniform(-0.004, 0.004, len(stamps))
    assert check_commands(*log, never, stamps=stamps + jitter).total == 0
    frozen = stamps + 0.3 * (np.arange(len(stamps)) >= 60)
    assert check_commands(*log, never, stamps=frozen).violations["pause"] == 1


def test_a_reset_in_motion_is_found(log):
    resets = np.arange(len(log[0])) == 60
    assert np.abs(log[1][60]).max() > 0.01
    assert check_commands(*log, resets).violations["reset at rest"] == 1


def test_leaving_the_workspace_is_found(log):
    small = Workspace(high=(0.8, 0.05, 0.7))
    assert (
        check_commands(*log, np.zeros(len(log[0]), bool), workspace=small).violations["workspace"]
        > 0
    )


def led_away(log, gap=0.3):
    """The log, and then one command at rest, ``gap`` [rad] from where it ended."""
    q, dq, ddq = log
    return [np.r_[q, q[-1:] + gap], np.r_[dq, dq[-1:] * 0], np.r_[ddq, ddq[-1:] * 0]]


def test_a_reset_separates_segments_and_only_a_reset_does(log):
    moved = led_away(log)
    resets = np.arange(len(moved[0])) == len(moved[0]) - 1
    assert total(*moved).total > 0
    assert check_commands(*moved, resets, measured=moved[0]).total == 0


@pytest.mark.parametrize(
    ("gap", "pause", "arm_at", "bad"),
    [
        (0.1, 0.01, None, 0),  # nobody knows where the arm is, and it is near what was sent
        (0.3, 0.01, None, 1),
        (0.3, 0.01, "sent", 1),  # joints of another arm
        (0.3, 0.01, "reset", 0),  # pushed away
        (0.0, 0.01, "reset", 0),
        (0.3, 0.5, "reset", 0),  # led there while nothing was sent
        (0.3, 0.5, "sent", 1),
        (0.3, 0.5, None, 0),
        (0.1, 0.5, "sent", 0),
    ],
)
def test_a_reset_is_near_what_was_sent_or_near_the_arm(log, gap, pause, arm_at, bad):
    moved = led_away(log, gap)
    count = len(moved[0])
    resets = np.arange(count) == count - 1
    stamps = np.arange(count) * 0.01 + (pause - 0.01) * resets
    measured = {
        "sent": moved[0] - gap * resets[:, None],
        "reset": moved[0],
        None: moved[0] * np.nan,
    }[arm_at]
    assert (
        check_commands(*moved, resets, stamps=stamps, measured=measured).violations["reset"] == bad
    )


def test_the_first_command_is_where_the_arm_is(log):
    first = np.arange(len(log[0])) == 0
    rest = [log[0], log[1] * 1.0, log[2] * 1.0]
    rest[1][0] = rest[2][0] = 0.0
    assert (
        check_commands(*rest, first, measured=log[0] + 0.3 * first[:, None]).violations["reset"]
        == 1
    )
    assert check_commands(*rest, first, measured=log[0]).violations["reset"] == 0
