"""What the robot says of itself, and how it is brought back: against drivers that refuse, hang and
fall silent.
"""

import pytest

from benchmarks.gate.faults.robot_faults import JOINTS, STATE, Drivers
from gwm_core.control.recovery import (
    CLEAR,
    CONTROL,
    HARDWARE,
    HUMBLE_STEPS,
    MODES,
    PLACE,
    RELEASE,
    SENSE,
    SILENCE,
    STEP_TIME,
    STEPS,
    Recovery,
    RecoveryStep,
    to_switch,
    trouble,
)

IDLE, MOVE, REFLEX = MODES.index("idle"), MODES.index("move"), MODES.index("reflex")


def test_modes_that_follow_no_command_and_silence_are_named():
    assert [trouble(mode, 0.0) for mode in (0, IDLE, MOVE)] == [""] * 3
    assert trouble(REFLEX, 0.0) == "robot: reflex" == trouble(REFLEX, 60.0)
    assert trouble(9, 0.0) and trouble(-1, 0.0)
    assert trouble(MOVE, SILENCE) == "" and trouble(MOVE, SILENCE + 0.01).startswith(
        "robot: silent"
    )
    assert trouble(None, 0.0).startswith("robot: nothing heard")


def test_only_controllers_that_are_not_as_wished_are_switched():
    states = {"a": "active", "b": "inactive", "c": "unconfigured"}
    assert to_switch(states, ("a", "b"), True) == (["b"], "")
    assert to_switch(states, ("a", "b"), False) == (["a"], "")
    assert to_switch(states, ("a",), True) == ([], "")
    assert "c is unconfigured" in to_switch(states, ("a", "c"), True)[1]
    assert "d is not loaded" in to_switch(states, ("d",), True)[1]


@pytest.mark.parametrize("steps", [STEPS, HUMBLE_STEPS])
def test_recovery_keeps_its_order(steps):
    recovery = Recovery(steps)
    assert recovery.current is None
    assert "release it" in recovery.begin(MODES.index("user stopped"), 0.0)
    assert recovery.begin(REFLEX, 0.0) == ""
    with pytest.raises(ValueError, match="out of order"):
        recovery.end(RecoveryStep(1, CONTROL), "", 0.0)
    for step in steps:
        assert recovery.current == RecoveryStep(1, step)
        assert "still at" in recovery.begin(REFLEX, 0.0)
        recovery.end(recovery.current, "", 0.0)
    assert recovery.current is None and recovery.failure == ""


def test_a_controller_is_placed_after_the_broadcasters_and_before_it_is_activated():
    assert STEPS.index(SENSE) < STEPS.index(PLACE) == STEPS.index(CONTROL) - 1
    assert HUMBLE_STEPS[0] == RELEASE


def test_an_answer_after_the_time_is_over_counts_for_nothing():
    recovery = Recovery()
    recovery.begin(REFLEX, 0.0)
    late = recovery.current
    recovery.check_time(STEP_TIME, "no answer")
    assert recovery.current == late
    recovery.check_time(STEP_TIME + 0.1, "no answer")
    assert recovery.current is None and recovery.failure.startswith(f"{CLEAR}: no answer")
    recovery.end(late, "", STEP_TIME + 1)
    assert recovery.failure
    assert recovery.begin(REFLEX, 20.0) == "" and recovery.failure == ""
    recovery.end(late, "", 20.1)
    assert recovery.current == RecoveryStep(2, CLEAR)


class Robot:
    """The drivers of the bench, run at the pace of the gate."""

    def __init__(self):
        self.now, self.stopped, self.joints = 100.0, [], True
        self.drivers = Drivers(self.place, self.stopped.append)
        self.run(0.2)

    def place(self):
        fresh = self.joints and self.drivers.states[JOINTS] == "active"
        return "" if fresh else "no fresh joint state"

    def run(self, seconds):
        for _ in range(round(seconds / 0.01)):
            self.now += 0.01
            self.drivers.step(self.now)

    def reset(self):
        return self.drivers.reset(self.now)

    @property
    def trouble(self):
        return self.drivers.monitor.trouble(self.now)

    @property
    def active(self):
        return [name for name, state in self.drivers.states.items() if state == "active"]


def test_a_robot_that_was_never_heard_is_in_trouble():
    monitor = Drivers(lambda: "", lambda cause: None).monitor
    assert "nothing heard" in monitor.trouble(0.0)


def test_a_robot_that_falls_silent_is_in_trouble_and_stops_the_arm():
    robot = Robot()
    assert robot.trouble == "" and robot.stopped == []
    robot.drivers.states[STATE] = "inactive"
    robot.run(SILENCE + 0.2)
    assert "silent" in robot.trouble and "silent" in robot.stopped[-1]


def test_a_user_stop_is_released_first_but_one_from_before_the_silence_keeps_nobody_waiting():
    robot = Robot()
    robot.drivers.mode = MODES.index("user stopped")
    robot.run(0.1)
    assert "release it" in robot.reset()
    robot.drivers.reflex()  # the hardware's error: nobody tells that the stop was released
    robot.drivers.mode = IDLE
    robot.run(1.0)
    assert robot.trouble == "robot: user stopped" and robot.reset() == ""
    robot.run(2.0)
    assert robot.drivers.finished == 1 and robot.trouble == ""


def test_after_a_reflex_both_broadcasters_and_the_controller_are_active_again():
    robot = Robot()
    robot.drivers.reflex()
    robot.run(1.0)
    assert robot.reset() == "" and robot.trouble == f"recovery: {CLEAR}"
    robot.run(2.0)
    assert robot.drivers.finished == 1 and robot.trouble == "" and len(robot.active) == 3
    assert list(dict.fromkeys(robot.drivers.log)) == list(STEPS)


def test_controllers_that_are_active_already_count_as_done():
    robot = Robot()
    robot.drivers.mode = REFLEX  # nothing was deactivated
    robot.run(0.2)
    assert "active already" in robot.drivers.switch(["arm"])  # as controller_manager would say
    robot.reset()
    robot.run(2.0)
    assert robot.drivers.finished == 1 and robot.trouble == ""


@pytest.mark.parametrize(
    "mode, cause, needed",
    [
        ("idle", "leash: 0.16 rad from the measured joints", True),
        # it follows, and something is in its way
        ("move", "leash: 0.16 rad from the measured joints", False),
        ("idle", "no joint states: none to be believed for 1 s", False),
        ("reflex", "robot: reflex", True),
    ],
)
def test_an_arm_that_does_not_follow_and_says_idle_is_recovered(mode, cause, needed):
    """A user stop that was pressed and released unseen leaves no other trace: franka_ros #308."""
    robot = Robot()
    robot.drivers.mode = MODES.index(mode)
    robot.run(0.1)
    assert robot.drivers.monitor.needs_recovery(cause, robot.now) is needed
    assert robot.reset() == ""
    robot.run(2.0)
    assert robot.drivers.finished == 1 and robot.drivers.log[0] == CLEAR


def test_hardware_that_never_answers_is_told_apart():
    """franka_ros2 #212."""
    robot = Robot()
    robot.drivers.reflex()
    robot.drivers.hangs.add(HARDWARE)
    robot.reset()
    robot.run(STEP_TIME + 2.0)
    assert "starting the drivers again helps" in robot.trouble


@pytest.mark.parametrize("step", [CLEAR, HARDWARE, SENSE, CONTROL])
@pytest.mark.parametrize("way", ["hangs", "fails"])
def test_a_recovery_that_hangs_or_fails_is_named_and_can_be_tried_again(step, way):
    robot = Robot()
    robot.drivers.reflex()
    getattr(robot.drivers, way).add(step)
    assert robot.reset() == ""
    robot.run(STEP_TIME + 2.0)
    assert robot.trouble.startswith(step) and "gate/reset again" in robot.trouble
    assert robot.drivers.finished == 0
    getattr(robot.drivers, way).clear()
    assert robot.reset() == ""
    robot.run(2.0)
    assert robot.drivers.finished == 1 and robot.trouble == ""


def test_a_controller_is_not_activated_before_it_was_told_where_the_arm_is():
    robot = Robot()
    robot.drivers.reflex()
    robot.joints = False
    robot.reset()
    robot.run(3.0)
    assert "arm" not in robot.active and robot.drivers.log.count(PLACE) > 5  # joints may still come
    robot.joints = True
    robot.run(0.5)
    assert "arm" in robot.active and robot.drivers.finished == 1
    robot.drivers.reflex()
    robot.joints = False
    robot.reset()
    robot.run(STEP_TIME + 2.0)
    assert "no fresh joint state" in robot.trouble and "arm" not in robot.active
