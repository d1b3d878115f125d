"""Stamps as drivers really make them, through what the policy's process decides with."""

import numpy as np
import pytest

from gwm_core.joint_states import AHEAD, ahead
from gwm_core.observation_timing import MAX_AGE, Observations
from gwm_core.sync import MS
from gwm_core.types import ArmState

S = 1000 * MS
T0 = 1_795_000_000 * S
PERIOD = 400 * MS


def run(
    seconds=20,
    image=lambda t: t,
    joint=lambda t: t,
    depth=None,
    wall=lambda t: t,
    hz=15,
    joints_hz=100,
):
    """Images take 30 ms, joint states 1 ms. Stamps are functions of time [ns].

    Returns:
        Largest error [ns] between when planned images were taken and joints measured, number of
        moments, reasons of single messages, and what ``why`` said twice a second.
    """
    events = []
    for k in range(int(seconds * hz)):
        t = k * S // hz
        events += [
            (t + 30 * MS, "color", t, image(t)),
            (t + 31 * MS, "depth", t, (depth or image)(t)),
        ]
    events += [(t + MS, "joints", t, joint(t)) for t in range(0, int(seconds * S), S // joints_hz)]
    events += [(t, "ask", t, t) for t in range(S // 2, int(seconds * S), S // 2)]
    observations = Observations(("front",), PERIOD)
    errors, single, why = [], set(), []
    for now, kind, t, stamp in sorted(events, key=lambda event: event[0]):
        if kind == "ask":
            why.append(observations.reason())
            continue
        if kind == "joints":
            state = ArmState(T0 + stamp, np.full(7, t / S), np.zeros(7), 0.08)
            single.add(reason := ahead("a joint state", state.stamp, T0 + wall(now)))
            if not reason:
                observations.joints(state)
            continue
        single.add(observations.image("front", kind, T0 + stamp, t, T0 + wall(now)))
        moment = observations.take(T0 + wall(now))
        if moment is not None:
            _, pairs, state = moment
            errors.append(abs(state.q[0] * S - pairs["front"][1]))
    kinds = {reason.partition(":")[0] for reason in single - {""}}
    return max(errors, default=0), len(errors), kinds, why, observations


def test_all_is_well():
    error, count, single, why, observations = run()
    assert (
        error < MS
        and count in (49, 50)
        and not single
        and not any(why)
        and not observations.drift_reason("front")
    )


@pytest.mark.parametrize("off", [135, 270, 540, 1080, 3_600_000])
def test_images_of_a_clock_that_is_ahead_are_refused_and_say_so(off):
    _, count, single, why, _ = run(image=lambda t: t + off * MS)
    assert (
        count == 0
        and single == {"clocks"}
        and all(reason.startswith("images: no color") for reason in why)
    )


@pytest.mark.parametrize(
    "off, reason",
    [
        (-290, "age: images and joints were 321 ms old"),
        (-540, "age: images and joints were 571 ms old"),
        (-3_600_000, "clocks: images of front are 3590033 ms older than the oldest joint state"),
    ],
)
def test_images_of_a_clock_that_is_behind_yield_no_plan_and_say_how_far(off, reason):
    _, count, single, why, _ = run(image=lambda t: t + off * MS)
    assert count == 0 and not single and why[-1].startswith(reason)


@pytest.mark.parametrize("ppm", [-75, 75])
def test_a_clock_that_drifts_is_named_before_images_are_paired_wrongly(ppm):
    """Half an hour in steps: what drifts by 40 ms is told, what is ahead is refused."""
    error, _, single, why, observations = run(120, image=lambda t: round(t * (1 + 20 * ppm * 1e-6)))
    assert 20 * abs(ppm) * 1e-6 * 120 * S > 150 * MS
    if ppm > 0:
        # ahead on arrival: later than it was
        assert single == {"clocks"} and why[-1] and error < AHEAD + 32 * MS
    else:
        assert "older than at first" in observations.drift_reason("front")


@pytest.mark.parametrize("off, kind", [(1000, "clocks"), (50, "clocks")])
def test_joints_of_another_hosts_clock_that_is_ahead_are_refused(off, kind):
    _, count, single, why, _ = run(joint=lambda t: t + off * MS)
    assert count == 0 and single == {kind} and why[-1].startswith("joints: no joint state")


def test_joints_of_another_hosts_clock_that_is_behind_yield_no_plan():
    _, count, _, why, _ = run(joint=lambda t: t - 300 * MS)
    assert count == 0 and why[-1].startswith("clocks: images of front are 2")


def test_stamps_of_zero_are_named():
    _, count, single, why, _ = run(image=lambda t: -T0)
    assert count == 0 and single == {"stamp"} and why[-1].startswith("images")


@pytest.mark.parametrize(
    "change, said",
    [
        (
            {"depth": lambda t: t + 30 * MS, "wall": lambda t: t + 30 * MS},
            "colour and depth: those of front are 30 ms",
        ),
        ({"joints_hz": 15}, "joints: the last two states are 67 ms apart, 50 ms at most"),
        ({"joints_hz": 25}, ""),
    ],
)
def test_what_does_not_fit_together_is_named(change, said):
    _, count, _, why, _ = run(joint=lambda t: t - 7 * MS, **change)
    assert (count == 0) == bool(said) and any(reason.startswith(said) for reason in why[2:])


@pytest.mark.parametrize("step", [-3600 * S, -500 * MS, -150 * MS, 150 * MS, 500 * MS, 3600 * S])
def test_after_the_hosts_clock_is_set_moments_go_on_and_none_pairs_wrongly(step):
    def stepped(t):
        return t + (step if t >= 10 * S else 0)

    error, count, _, why, _ = run(image=stepped, joint=stepped, wall=stepped)
    assert count > 40 and error < 40 * MS and not why[-1]


@pytest.mark.parametrize("ahead", [60 * S, 900 * MS])
@pytest.mark.parametrize("stream", ["image", "joint"])
def test_one_stamp_from_the_future_costs_no_more_than_its_moment(stream, ahead):
    error, count, single, why, _ = run(**{stream: lambda t: t + (ahead if t == 5 * S else 0)})
    assert error < MS and count > 45 and single == {"clocks"} and not any(why)


def test_nothing_is_said_of_streams_that_never_came():
    assert (
        Observations(("front", "side"), PERIOD).reason()
        == "images: no color image of front that can be used"
    )
    assert MAX_AGE > PERIOD / 2
