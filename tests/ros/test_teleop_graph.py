"""An operator in the live graph: alone, taking over from the policy, and with a rival."""

import time

import numpy as np
import pytest

pytest.importorskip("rclpy")

from gwm.graph.config import GraphConfig
from gwm.graph.process_list import processes
from gwm.process.supervisor import Supervisor
from sensor_msgs.msg import Joy
from teleoperated import AXES, BUTTONS, JOY_PERIOD, SEED, TREMOR, read_recording

from gwm_core import topics
from gwm_core.control.devices import DEVICES
from gwm_core.data.episode_info import read_info
from gwm_core.gate_status import State

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]
# what a busy machine, and an open clutch, may cause
LATE = {"plan stale", "policy silent", "joint state stale"}
CLUTCH, GIVE_BACK = DEVICES["gamepad"].clutch, DEVICES["gamepad"].give_back


class Gamepad:
    """Publishes Joys at the pace they were recorded with, while the operator node spins."""

    def __init__(self, operator):
        self._operator, self._publisher = operator, operator.create_publisher(Joy, topics.JOY, 10)

    def play(self, joys, poll, until=lambda: False):
        begin = time.monotonic()
        for k, (axes, buttons) in enumerate(joys):
            # late once is not late for ever: positions are integrals of this
            due = begin + (k + 1) * JOY_PERIOD
            self._publisher.publish(Joy(axes=axes, buttons=buttons))
            while time.monotonic() < due:
                self._operator.wait("joy", lambda: True, 1, poll)
                self._operator._executor.spin_once(timeout_sec=max(0.0, due - time.monotonic()))
            if until():
                return True
        return False

    def hold(self, seconds, buttons, poll, **motion):
        axes, pressed = [0.0] * AXES, [0] * BUTTONS
        for name, deflection in motion.items():
            index, sign = DEVICES["gamepad"].axes["xyz".index(name)]
            axes[index] = sign * deflection
        for button in buttons:
            pressed[button] = 1
        trembling = [axes[0] + TREMOR, *axes[1:]]
        self.play([(axes, pressed), (trembling, pressed)] * round(seconds / JOY_PERIOD / 2), poll)

    def hold_until(self, until, buttons, poll, **motion):
        """Hold until something is true: a busy machine may be late to show it."""
        for _ in range(50):
            self.hold(0.2, buttons, poll, **motion)
            if until():
                return True
        return False

    def push(self, poll, until, **motion):
        """Take the clutch and push until something holds; on a busy machine a gap may have opened
        the clutch.
        """
        for _ in range(5):
            self.hold(0.2, [], poll)
            for _ in range(40):
                self.hold(0.05, [CLUTCH], poll, **motion)
                if until():
                    return True
        return False


def moving(operator):
    return lambda: operator.commands and np.abs(operator.commands[-1][1]).max() > 0.05


def at_rest(operator, speed=1e-3):
    return lambda: np.abs(operator.commands[-1][1]).max() < speed


def start(operator, tmp_path, **arguments):
    supervisor = Supervisor(
        processes(GraphConfig(record=str(tmp_path), **arguments)), log=open(tmp_path / "log", "w")
    )
    supervisor.start()
    names = {"sim", "teleop"} | ({"policy"} if arguments["mode"] == "shared" else set())

    def ready():
        return operator.status and all(
            operator.reports.get(n, {}).get("ready") == "True" for n in names
        )

    assert operator.wait("start", ready, 90, supervisor.poll), (tmp_path / "log").read_text()
    return supervisor


def content(operator):
    found = operator.command_check()
    assert found.total == 0, found.violations


@pytest.mark.long
def test_a_recorded_joy_stream_lifts_the_cube(operator, tmp_path):
    supervisor = start(operator, tmp_path, mode="teleop", task="lift")
    try:
        poll = supervisor.poll
        operator.reset_simulation("lift", SEED, "nominal")
        assert operator.wait("layout", lambda: operator.result.get("seed") == SEED, 10, poll)
        operator.arm(poll)
        gamepad = Gamepad(operator)
        assert gamepad.play(read_recording(), poll, lambda: operator.result.get("success")), (
            operator.status
        )
        content(operator)
    finally:
        supervisor.stop()


def test_a_take_over_in_mid_chunk_and_the_way_back_have_no_violation(operator, tmp_path):
    supervisor = start(operator, tmp_path, mode="shared", policy="expert", task="pick_place")
    try:
        poll, gamepad = supervisor.poll, Gamepad(operator)
        operator.reset_simulation("pick_place", 303, "nominal")
        operator.record(poll)
        operator.arm(poll)
        teleop = lambda: operator.reports["teleop"]  # noqa: E731
        fast = lambda: operator.commands and np.abs(operator.commands[-1][1]).max() > 0.2  # noqa: E731
        for turn in range(3):
            assert operator.wait("motion of the policy", fast, 20, poll), operator.status
            plans = int(teleop()["plans"])
            led = lambda: teleop()["holder"] == "operator" and int(teleop()["plans"]) > plans + 8  # noqa: B023, E731
            moved = lambda: led() and operator.state is State.RUNNING  # noqa: B023, E731
            assert gamepad.push(poll, moved, y=1.0 if turn % 2 else -1.0), operator.status
            rests = gamepad.hold_until(at_rest(operator, 0.02), [], poll)
            assert rests, "it moves without the clutch"
            gamepad.hold(0.1, [GIVE_BACK], poll)
            assert operator.wait("policy", lambda: teleop()["holder"] == "policy", 15, poll)
        assert operator.wait("success", lambda: operator.result.get("success"), 60, poll), (
            operator.status
        )
        assert set(operator.status.stops) <= LATE, operator.status
        content(operator)
        operator.request_with_retry("recorder/save", poll)
    finally:
        supervisor.stop()
    (folder,) = tmp_path.glob("episode_0*")
    taken = read_info(folder)["interventions"]
    assert len(taken) == 3 and all(0.5e9 < end - begin < 20e9 for begin, end in taken)


def test_a_device_that_dies_or_gets_a_rival_stops_the_arm(operator, tmp_path):
    supervisor = start(operator, tmp_path, mode="teleop", task="lift")
    try:
        poll, gamepad = supervisor.poll, Gamepad(operator)
        operator.arm(poll)
        assert gamepad.push(poll, moving(operator), y=1.0)
        stale = lambda: operator.reports["teleop"]["message"] == "input stale"  # noqa: E731
        assert operator.wait("the silence", stale, 10, poll)
        assert operator.wait("rest", at_rest(operator), 10, poll)
        assert gamepad.push(poll, lambda: operator.reports["teleop"]["message"] == "moving", y=-1.0)
        rival = operator.create_publisher(Joy, topics.JOY, 10)
        refused = lambda: "one operator" in operator.reports["teleop"]["message"]  # noqa: E731
        stopped = lambda: refused() and at_rest(operator)()  # noqa: E731
        assert gamepad.hold_until(stopped, [CLUTCH], poll, y=-1.0), operator.reports["teleop"]
        operator.destroy_publisher(rival)
        content(operator)
    finally:
        supervisor.stop()
