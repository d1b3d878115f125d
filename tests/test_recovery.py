"""What the robot says of itself, and how it is brought back: against drivers that refuse, hang and fall silent."""

import pytest

from gwm_core.control.recovery import (
    BROADCASTERS,
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
    RobotWatch,
    Turn,
    to_switch,
    trouble,
)

IDLE, MOVE, REFLEX = MODES.index("idle"), MODES.index("move"), MODES.index("reflex")


def test_modes_that_follow_no_command_and_silence_are_named():
    assert [trouble(mode, 0.0) for mode in (0, IDLE, MOVE)] == [""] * 3
    assert trouble(REFLEX, 0.0) == "robot: reflex" == trouble(REFLEX, 60.0)
    assert trouble(9, 0.0) and trouble(-1, 0.0)
    assert trouble(MOVE, SILENCE) == "" and trouble(MOVE, SILENCE + 0.01).startswith("robot: silent")
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
    assert recovery.turn is None
    assert "release it" in recovery.begin(MODES.index("user stopped"), 0.0)
    assert recovery.begin(REFLEX, 0.0) == ""
    with pytest.raises(ValueError, match="out of order"):
        recovery.ended(Turn(1, CONTROL), "", 0.0)
    for step in steps:
        assert recovery.turn == Turn(1, step)
        assert "still at" in recovery.begin(REFLEX, 0.0)
        recovery.ended(recovery.turn, "", 0.0)
    assert recovery.turn is None and recovery.failure == ""


def test_a_controller_is_placed_after_the_broadcasters_and_before_it_is_activated():
    assert STEPS.index(SENSE) < STEPS.index(PLACE) == STEPS.index(CONTROL) - 1
    assert HUMBLE_STEPS[0] == RELEASE


def test_an_answer_after_the_time_is_over_counts_for_nothing():
    recovery = Recovery()
    recovery.begin(REFLEX, 0.0)
    late = recovery.turn
    recovery.watch(STEP_TIME, "no answer")
    assert recovery.turn == late
    recovery.watch(STEP_TIME + 0.1, "no answer")
    assert recovery.turn is None and recovery.failure.startswith(f"{CLEAR}: no answer")
    recovery.ended(late, "", STEP_TIME + 1)
    assert recovery.failure
    assert recovery.begin(REFLEX, 20.0) == "" and recovery.failure == ""
    recovery.ended(late, "", 20.1)
    assert recovery.turn == Turn(2, CLEAR)


class Drivers:
    """Hardware, broadcasters and one controller, as ros2_control keeps them; a strict switch refuses active ones."""

    def __init__(self, hangs=(), fails=()):
        self.hangs, self.fails, self.log, self.now = set(hangs), set(fails), [], 100.0
        self.states = dict.fromkeys((*BROADCASTERS, "arm"), "active")
        self.mode, self.stopped, self.finished, self.joints = MOVE, [], 0, True
        self.watch = RobotWatch(self.carry_out, self.stopped.append)

    def reflex(self):
        """The hardware's error deactivates all that is on it; the robot's state falls silent."""
        self.mode = REFLEX
        self.states = dict.fromkeys(self.states, "inactive")

    def carry_out(self, step, answer):
        self.log.append(step)
        if step in self.hangs:
            return
        if step in self.fails:
            answer("refused by the robot")
        elif step == CLEAR:
            self.mode = IDLE
            answer("")
        elif step == HARDWARE:
            answer("")
        elif step == PLACE:
            answer("" if self.joints and self.states[BROADCASTERS[0]] == "active" else "no fresh joint state")
        else:
            wanted, error = to_switch(self.states, BROADCASTERS if step == SENSE else ("arm",), True)
            refused = [name for name in wanted if self.states[name] == "active"]
            self.states |= dict.fromkeys(wanted, "active")
            answer(error or ", ".join(refused))

    def run(self, seconds):
        for _ in range(round(seconds / 0.1)):
            self.now += 0.1
            if self.states[BROADCASTERS[1]] == "active":
                self.watch.heard(self.mode, self.now)
            self.watch.tick(self.now)

    def reset(self):
        def finished():
            self.finished += 1

        return self.watch.recover(self.now, finished)

    @property
    def trouble(self):
        return self.watch.trouble(self.now)


def test_a_robot_that_was_never_heard_or_falls_silent_is_in_trouble_and_stops_the_arm():
    drivers = Drivers()
    assert "nothing heard" in drivers.trouble
    drivers.run(1.0)
    assert drivers.trouble == ""
    drivers.stopped.clear()
    drivers.states[BROADCASTERS[1]] = "inactive"
    drivers.run(SILENCE + 0.2)
    assert "silent" in drivers.trouble and "silent" in drivers.stopped[-1]


def test_after_a_reflex_both_broadcasters_and_the_controller_are_active_again():
    drivers = Drivers()
    drivers.run(1.0)
    drivers.reflex()
    drivers.run(1.0)
    assert drivers.reset() == "" and drivers.trouble == f"recovery: {CLEAR}"
    drivers.run(2.0)
    assert drivers.finished == 1 and drivers.trouble == "" and set(drivers.states.values()) == {"active"}
    assert [step for step in STEPS if drivers.log.count(step) == 1] == list(STEPS) == drivers.log


def test_controllers_that_are_active_already_count_as_done():
    drivers = Drivers()
    drivers.run(1.0)
    drivers.mode = REFLEX  # nothing was deactivated
    drivers.run(0.2)
    drivers.reset()
    drivers.run(2.0)
    assert drivers.finished == 1 and drivers.trouble == ""


@pytest.mark.parametrize("step", [CLEAR, HARDWARE, SENSE, CONTROL])
@pytest.mark.parametrize("way", ["hangs", "fails"])
def test_a_recovery_that_hangs_or_fails_is_named_and_can_be_tried_again(step, way):
    drivers = Drivers(**{way: [step]})
    drivers.run(1.0)
    drivers.reflex()
    drivers.run(1.0)
    assert drivers.reset() == ""
    drivers.run(STEP_TIME + 2.0)
    assert drivers.trouble.startswith(step) and "gate/reset again" in drivers.trouble and drivers.finished == 0
    getattr(drivers, way).clear()
    assert drivers.reset() == ""
    drivers.run(2.0)
    assert drivers.finished == 1 and drivers.trouble == ""


def test_a_controller_is_not_activated_before_it_was_told_where_the_arm_is():
    drivers = Drivers()
    drivers.run(1.0)
    drivers.reflex()
    drivers.joints = False
    drivers.reset()
    drivers.run(3.0)
    assert drivers.states["arm"] == "inactive" and drivers.log.count(PLACE) > 5  # joints may still come
    drivers.joints = True
    drivers.run(0.5)
    assert drivers.states["arm"] == "active" and drivers.finished == 1
    drivers.reflex()
    drivers.joints = False
    drivers.reset()
    drivers.run(STEP_TIME + 2.0)
    assert "no fresh joint state" in drivers.trouble and drivers.states["arm"] == "inactive"
