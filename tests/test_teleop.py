"""An operator's hand on a device, the follower's limits and the plans in between."""

import re

import numpy as np
import pytest
from teleoperated import TREMOR, read_recording, run

from gwm_core.control.authority import Authority
from gwm_core.control.command_checker import check_commands
from gwm_core.control.devices import BUTTON_KEYS, DEVICES, KEY_TIME, KEYS, Keyboard
from gwm_core.control.teleop import Teleop, TeleopConfig
from gwm_core.errors import InputError
from gwm_core.geometry.kinematics import HOME_Q, fk
from gwm_core.geometry.limits import Workspace
from gwm_core.types import OPEN_WIDTH

C = TeleopConfig()
PERIOD = 0.02


def joy(device, motion=(), buttons=()):
    """Axes and buttons of a device for {direction: deflection} in the base frame."""
    d = DEVICES[device]
    axes, pressed = np.zeros(8), np.zeros(12, int)
    for i, deflection in dict(motion).items():
        index, sign = d.axes[i]
        axes[index] = sign * deflection
    pressed[[getattr(d, name) for name in buttons]] = 1
    return axes, pressed


class Desk:
    """Teleop in front of an arm that follows every plan exactly."""

    def __init__(self, device="gamepad"):
        self.teleop, self.device, self.now, self.q, self.chunks = (
            Teleop(DEVICES[device]),
            device,
            50.0,
            HOME_Q.copy(),
            [],
        )
        self.teleop.reference(self.q, OPEN_WIDTH, self.now)

    def run(self, seconds, motion=None, buttons=("clutch",), tremor=TREMOR):
        for k in range(round(seconds / PERIOD)):
            self.now += PERIOD
            if motion is not None:
                axes, pressed = joy(self.device, motion, buttons)
                axes[0] += tremor * (k % 2)
                self.teleop.joy(axes, pressed, self.now)
            if k % 4 == 3:
                chunk = self.teleop.make_chunk(round(self.now * 1e9), self.now)
                # it is between the first two rows when the next plan is made
                share = 4 * PERIOD / chunk.dt - 1
                self.q = chunk.q[0] + share * (chunk.q[1] - chunk.q[0])
                self.teleop.reference(self.q, chunk.width[-1], self.now)
                self.chunks.append(chunk)
        return self.chunks[-1]

    @property
    def tcp(self):
        return fk(self.q)[:3, 3]


@pytest.mark.parametrize("device", DEVICES)
def test_each_device_moves_the_hand_along_the_base_frame(device):
    desk = Desk(device)
    desk.run(0.2, {}, ())
    start = desk.tcp
    desk.run(1.0, {1: 1.0})
    moved = desk.tcp - start
    assert 0.08 < moved[1] < C.speed and np.abs(moved[[0, 2]]).max() < 2e-3


def test_nothing_moves_without_the_clutch_or_inside_the_deadband():
    desk = Desk()
    desk.run(0.5, {0: 1.0}, ())
    desk.run(0.5, {0: 0.9 * C.deadband})
    assert all((chunk.q == HOME_Q).all() for chunk in desk.chunks)


def test_a_clutch_held_from_the_start_does_not_count():
    desk = Desk()
    desk.run(0.5, {0: 1.0})
    assert not desk.teleop.engaged and (desk.chunks[-1].q == HOME_Q).all()
    desk.run(0.1, {}, ())
    desk.run(0.5, {0: 1.0})
    assert desk.teleop.engaged and not (desk.chunks[-1].q == HOME_Q).all()


def test_every_plan_ends_at_rest_and_goes_on_no_longer_than_the_timeout():
    """So a device that is gone means a stop, even if this process is gone with it."""
    desk = Desk()
    desk.run(0.1, {}, ())
    chunk = desk.run(1.0, {1: 1.0})
    path = fk(chunk.q)[:, :3, 3]
    speed = np.linalg.norm(np.diff(path, axis=0), axis=1) / chunk.dt
    times = chunk.dt * np.arange(2, len(path) + 1)
    assert speed[0] == pytest.approx(C.speed, rel=0.02)
    assert np.all(speed[times > C.timeout + C.dt] < C.speed * 0.97)  # slowing down
    assert speed[-1] < 0.02
    assert np.all(np.abs(np.diff(speed)) <= 1.1 * C.acceleration * chunk.dt)


def test_a_device_that_falls_silent_must_let_go_of_the_clutch_first():
    desk = Desk()
    desk.run(0.1, {}, ())
    desk.run(0.6, {1: 1.0})
    desk.run(1.0)  # silence
    still = desk.tcp
    assert desk.teleop.trouble == "input stale" and not desk.teleop.engaged
    desk.run(0.5, {1: 1.0})
    np.testing.assert_allclose(desk.tcp, still, atol=1e-6)
    desk.run(0.1, {}, ())
    desk.run(0.5, {1: 1.0})
    assert desk.tcp[1] > still[1] + 0.02


def test_releasing_the_clutch_slows_down_within_the_slew_limit():
    desk = Desk()
    desk.run(0.1, {}, ())
    desk.run(1.0, {1: 1.0})
    start = desk.tcp
    desk.run(1.0, {1: 1.0}, ())
    assert desk.tcp[1] - start[1] < C.speed**2 / (2 * C.acceleration) + C.speed * 0.15
    assert (np.diff(desk.chunks[-1].q, axis=0) == 0).all()


@pytest.mark.parametrize(
    ("device", "presses"), [("gamepad", ("close", "open")), ("spacemouse", ("close", "close"))]
)
def test_the_gripper_follows_edges_while_the_clutch_is_held(device, presses):
    desk = Desk(device)
    desk.run(0.1, {}, ())
    assert desk.run(0.2, {}, ("close",)).width[-1] == OPEN_WIDTH
    for button, width in zip(presses, (0.0, OPEN_WIDTH)):
        desk.run(0.1, {}, ("clutch",))
        assert desk.run(0.3, {}, ("clutch", button)).width[-1] == width


@pytest.mark.parametrize("device", ["gamepad", "keyboard"])
def test_the_gripper_closes_where_clutch_and_button_are_tapped_together(device):
    desk = Desk(device)
    desk.run(0.1, {}, ())
    desk.teleop.joy(*joy(device, {}, ("clutch", "close")), desk.now)
    desk.teleop.joy(*joy(device), desk.now)  # let go before a chunk is made
    for _ in range(4):  # the gate has not sent it yet
        desk.now += C.period
        desk.teleop.reference(desk.q, OPEN_WIDTH, desk.now)
        chunk = desk.teleop.make_chunk(1, desk.now)
        assert chunk.width[-1] == 0.0 and (chunk.q == desk.q).all()
    desk.now += 1.0
    for width in (0.0, OPEN_WIDTH):  # the gate's, whoever asked it for that
        desk.teleop.reference(desk.q, width, desk.now)
        assert desk.teleop.make_chunk(1, desk.now).width[-1] == width


def test_who_takes_the_clutch_keeps_the_grip_of_the_moment_before():
    desk = Desk()
    desk.run(0.1, {}, ())
    desk.teleop.reference(desk.q, 0.0, desk.now)  # the policy has just closed the gripper
    desk.teleop.joy(*joy("gamepad", {}, ("clutch",)), desk.now)
    assert desk.teleop.make_chunk(1, desk.now).width[-1] == 0.0


def test_the_target_stays_in_the_workspace_and_within_its_lead():
    desk = Desk()
    desk.run(0.1, {}, ())
    desk.run(6.0, {2: -1.0, 1: 0.5})
    low, high = np.array(Workspace().low), np.array(Workspace().high)
    for chunk in desk.chunks:
        tcp = fk(chunk.q)[:, :3, 3]
        assert np.all(tcp >= low) and np.all(tcp <= high)
    stuck = Desk()
    stuck.run(0.1, {}, ())
    for _ in range(100):  # an arm that does not move at all
        stuck.now += C.period
        stuck.teleop.joy(*joy("gamepad", {0: 1.0}, ("clutch",)), stuck.now)
        stuck.teleop.reference(HOME_Q, OPEN_WIDTH, stuck.now)
        chunk = stuck.teleop.make_chunk(1, stuck.now)
    assert (
        np.linalg.norm(fk(chunk.q[0])[:3, 3] - fk(HOME_Q)[:3, 3]) < C.most_lead + C.speed * 2 * C.dt
    )


@pytest.mark.parametrize(
    "bad",
    [([0.0] * 3, [0] * 12), ([0.0] * 8, [0]), ([np.nan] * 8, [0] * 12), ([350.0] * 8, [0] * 12)],
)
def test_a_malformed_joy_is_as_good_as_none(bad):
    desk = Desk()
    desk.run(0.1, {}, ())
    desk.run(0.3, {1: 1.0})
    desk.teleop.joy(*bad, desk.now)
    assert not desk.teleop.engaged and desk.teleop.trouble.startswith("joy")
    desk.run(0.3, {1: 1.0})
    assert not desk.teleop.engaged  # until the clutch was let go of


@pytest.mark.parametrize("resting", [(3, 4), (4, 5), (0, 7)])
@pytest.mark.parametrize("end", [1.0, -1.0])
def test_axes_that_rest_elsewhere_move_nothing_and_are_named(resting, end):
    """Triggers where sticks were assumed: PS4 by hid-sony, Xbox by Bluetooth."""
    desk, (axes, pressed) = Desk(), joy("gamepad", {}, ("clutch",))
    axes[list(resting)] = end
    desk.teleop.joy(axes, 0 * pressed, desk.now)
    for _ in range(100):
        desk.now += PERIOD
        desk.teleop.joy(axes, pressed, desk.now)
        chunk = desk.teleop.make_chunk(round(desk.now * 1e9), desk.now)
        assert (chunk.q == HOME_Q).all() and not desk.teleop.engaged
    named = next(i for i, _ in DEVICES["gamepad"].axes if i in resting)
    assert (
        f"axis {named} (" in desk.teleop.trouble
        and f"reads {end:+.2f}, not at rest" in desk.teleop.trouble
    )


def test_a_stick_that_is_pushed_before_the_clutch_must_be_let_go_of_first():
    desk = Desk()
    desk.run(0.2, {1: 0.5}, ())
    assert desk.teleop.trouble == ""  # nobody asks for anything
    desk.run(0.5, {1: 0.5})
    assert "(y) reads +0.5" in desk.teleop.trouble and (desk.chunks[-1].q == HOME_Q).all()
    desk.run(0.1, {}, ())
    desk.run(0.5, {1: 0.5})
    assert desk.teleop.engaged and desk.tcp[1] > 0.01


@pytest.mark.parametrize("device", DEVICES)
def test_a_device_whose_driver_repeats_itself_is_let_go_of(device):
    """joy_node of a pad out of range, a keyboard's repeat: the last message with new stamps, for
    ever.
    """
    desk = Desk(device)
    desk.run(0.2, {}, ())
    desk.run(0.4, {1: 1.0})
    lost = desk.tcp
    desk.run(4.0, {1: 1.0}, tremor=0.0)
    assert (
        not desk.teleop.engaged and "nothing of the device changed for 1 s" in desk.teleop.trouble
    )
    assert desk.tcp[1] - lost[1] < C.speed * (C.unchanged + C.timeout)
    still = desk.tcp
    desk.run(1.0, {1: -1.0})  # it is back, with the clutch as it was
    np.testing.assert_allclose(desk.tcp, still, atol=1e-6)
    desk.run(0.1, {}, ())
    desk.run(0.5, {1: -1.0})
    assert desk.tcp[1] < still[1] - 0.02


def test_a_puck_that_was_unplugged_with_the_clutch_held_moves_nothing_when_it_is_back():
    """spacenav_node goes on with zeros and the button as it was."""
    desk = Desk("spacemouse")
    desk.run(0.2, {}, ())
    desk.run(0.5, {1: 0.5})
    desk.run(3.0, {}, tremor=0.0)
    still = desk.tcp
    desk.run(1.0, {1: 0.5})
    np.testing.assert_allclose(desk.tcp, still, atol=1e-6)
    assert not desk.teleop.engaged


def test_a_hand_that_trembles_may_push_for_as_long_as_it_likes():
    desk = Desk()
    desk.run(0.2, {}, ())
    desk.run(3.0, {1: 0.3})
    assert desk.teleop.engaged


def test_from_the_edge_of_the_workspace_there_is_a_way_back():
    desk = Desk()
    desk.run(0.2, {}, ())
    desk.run(2.5, {0: -1.0})
    edge = desk.tcp[0]
    assert edge == pytest.approx(Workspace().low[0] + 0.005, abs=1e-4)
    desk.run(0.1, {}, ())
    desk.run(0.5, {0: 1.0})
    assert desk.tcp[0] > edge + 0.02


def test_two_devices_on_one_topic_are_obeyed_neither():
    desk = Desk()
    desk.run(0.1, {}, ())
    desk.run(0.3, {1: 1.0})
    desk.teleop.rivals(1)
    assert desk.teleop.engaged
    desk.teleop.rivals(2)
    assert not desk.teleop.engaged and "one operator" in desk.teleop.trouble


def test_a_leader_arm_is_followed_at_limited_speed_and_dropped_when_silent():
    teleop, q = Teleop(DEVICES["gamepad"]), HOME_Q.copy()
    goal, now = HOME_Q + 0.2, 10.0
    teleop.reference(q, OPEN_WIDTH, now)
    for _ in range(60):
        now += C.period
        teleop.leader(goal, 0.0, now)
        teleop.engage(True)
        chunk = teleop.make_chunk(1, now)
        assert np.abs(np.diff(chunk.q, axis=0)).max() <= C.leader_speed * C.dt + 1e-12
        q = q + (chunk.q[0] - q) * C.period / C.dt
        teleop.reference(q, chunk.width[-1], now)
    np.testing.assert_allclose(q, goal, atol=0.01)
    assert chunk.width[-1] == 0.0
    teleop.leader(HOME_Q, 0.0, now)
    chunk = teleop.make_chunk(1, now + C.timeout + 0.01)
    assert teleop.trouble == "input stale" and (chunk.q == q).all()
    teleop.leader(np.full(7, np.nan), None, now)
    assert "seven finite" in teleop.trouble


TURN = 2 * np.pi


@pytest.mark.parametrize(
    ("q", "named"),
    [
        (HOME_Q - TURN * np.eye(7)[6], "joint 7 reads -5.50 rad, .*a whole turn off at joint 7"),
        (HOME_Q + TURN * np.eye(7)[4], "joint 5 reads 6.28 rad, .*a whole turn off at joint 5"),
        (np.rad2deg(HOME_Q), "joint 4 reads -131.78 rad, .*these are degrees"),
        (np.mod(HOME_Q, TURN), "joint 2 reads 5.98 rad, .*a whole turn off at joint 2 and 4"),
        (np.zeros(7), "joint 6 reads 0.00 rad, .*not calibrated"),
        (2048 + 100 * HOME_Q, "joint . reads .*wanted"),
        (
            HOME_Q + 0.4 * np.eye(7)[0],
            "joint 1 reads 0.40 rad, the arm's is at 0.00, and they may be 0.3 apart",
        ),
    ],
)
def test_a_leader_arm_beyond_the_limits_or_far_off_is_refused_by_name(q, named):
    teleop = Teleop(DEVICES["gamepad"])
    assert teleop.engage(True) == "no input yet"
    teleop.leader(HOME_Q, None, 10.0)
    assert "gate/arm" in teleop.engage(True)
    teleop.reference(HOME_Q, OPEN_WIDTH, 10.0)
    for k in range(20):
        teleop.leader(q, None, 10 + 0.04 * k)
        assert re.search(named, teleop.engage(True)) and not teleop.engaged
        assert (teleop.make_chunk(1, 10 + 0.04 * k).q == HOME_Q).all()


def test_a_leader_arm_that_leaps_while_it_is_followed_is_let_go_of_until_it_is_taken_again():
    teleop, now = Teleop(DEVICES["gamepad"]), 10.0
    teleop.reference(HOME_Q, OPEN_WIDTH, now)
    teleop.leader(HOME_Q, None, now)
    assert teleop.engage(True) == "" and teleop.engaged
    teleop.leader(HOME_Q + 0.5, None, now)  # it runs ahead of a slow arm
    assert teleop.engaged and not (teleop.make_chunk(1, now).q == HOME_Q).all()
    teleop.leader(HOME_Q + TURN * np.eye(7)[3], None, now)
    assert "joint 4" in teleop.trouble and (teleop.make_chunk(1, now).q == HOME_Q).all()
    teleop.leader(HOME_Q + 0.1, None, now)
    assert not teleop.engaged and (teleop.make_chunk(1, now).q == HOME_Q).all()
    assert teleop.engage(True) == "" and not (teleop.make_chunk(1, now).q == HOME_Q).all()


@pytest.mark.parametrize("width", [1.0, -0.5, np.nan])
def test_an_opening_that_is_no_opening_in_metres_is_refused(width):
    """A GELLO tells a fraction."""
    teleop = Teleop(DEVICES["gamepad"])
    teleop.reference(HOME_Q, OPEN_WIDTH, 10.0)
    teleop.leader(HOME_Q, width, 10.0)
    assert "0 to 0.08 m is wanted" in teleop.engage(True)


def test_authority_passes_one_source_and_rising_ids_alone():
    authority = Authority("policy")
    assert authority.passes("policy", 5, 5) and not authority.passes("operator", 6, 6)
    authority.give("operator", 6)
    assert not authority.passes("policy", 7, 7) and authority.passes("operator", 6, 7)
    authority.give("policy", 7)
    assert not authority.passes("policy", 6, 8) and authority.passes("policy", 8, 8)


def test_a_plan_from_the_future_does_not_keep_the_operator_out():
    authority, now, hour = Authority("policy"), 10**18, 3600 * 10**9
    assert not authority.passes("policy", now + hour, now)
    authority.give("operator", now)
    assert authority.passes("operator", now, now)
    authority.give("policy", now - hour)  # the clock was set back
    assert authority.passes("policy", now - hour + 1, now - hour + 1)


def test_a_keyboards_keys_are_held_for_a_moment():
    keyboard = Keyboard()
    assert keyboard.joy(0.0) == ([0.0] * 6, [0] * 4)
    for key, number in BUTTON_KEYS.items():
        keyboard = Keyboard()
        keyboard.press(key, 1.0)
        _, buttons = keyboard.joy(1.1)
        assert buttons[number] == 1 and buttons[0] == (key != "b")  # giving back takes nothing
        keyboard.press("b", 1.05)
        assert keyboard.joy(1.1)[1][0] == 0  # not even beside another
    keyboard.press("x", 2.0)
    assert keyboard.joy(2.0) == ([0.0] * 6, [0] * 4)
    for key, (axis, direction) in KEYS.items():
        keyboard = Keyboard()
        keyboard.press(key, 1.0)
        axes, buttons = keyboard.joy(1.1)
        assert axes[axis] == direction and np.count_nonzero(axes) == 1 and buttons[0] == 1
        assert keyboard.joy(1.01 + KEY_TIME) == ([0.0] * 6, [0] * 4)


def test_numbers_that_make_no_sense_are_refused():
    with pytest.raises(InputError, match="timeout"):
        TeleopConfig(timeout=0.0)


def test_a_recorded_joy_stream_lifts_the_cube_and_the_judge_is_content(simulator):
    recording = iter(read_recording())
    lifted, log, _ = run(simulator, lambda sim, now: next(recording))
    assert lifted
    q, dq, ddq = (np.array(part) for part in zip(*(command.reference for command in log)))
    verdict = check_commands(q, dq, ddq, np.array([command.reference_reset for command in log]))
    assert verdict.total == 0, verdict.violations
