"""What of a live episode the arm did on nobody's behalf, by what the gate said of itself."""

from itertools import pairwise

import numpy as np
from test_gate import AWAY
from test_recording import ABOUT, record

from benchmarks.gate.simulated_arm import SimulatedArm
from gwm_core import topics
from gwm_core.data.episode import read_episode
from gwm_core.data.off_task import STATUS_TIMEOUT, off_task_intervals
from gwm_core.data.ros_messages import STORE
from gwm_core.gate_status import State
from gwm_core.types import ActionChunk

SECOND = 1_000_000_000


class Recorded(SimulatedArm):
    """A gate and what its process publishes: a status every 100 ms and after each period that
    changed the state.
    """

    def __init__(self):
        super().__init__()
        self.statuses, self.stamps, self.plans, self.told = [], [], [], None

    def tick(self, length=None):
        command = super().tick(length)
        if command is not None:
            self.stamps.append(self.stamp())
            self.plans.append(command.chunk_id)
        gate = self.gate
        if gate.state is not self.told or len(self.log) % 10 == 0:
            self.told = gate.state
            plan = command.chunk_id if command is not None else 0
            values = {"state": gate.state.name, "cause": gate.cause, "plan": str(plan)}
            self.statuses.append((self.stamp() + 300_000, values))
        return command

    def follow(self, seconds):
        for k in range(round(seconds / self.dt)):
            if k % 20 == 0:
                last = self.gate.reference.q
                self.offer(
                    ActionChunk(
                        self.stamp(0.02),
                        last + np.linspace(0, 0.02, 16)[:, None] * AWAY,
                        np.full(16, 0.08),
                    )
                )
            self.tick()


def eventful():
    """Hold, follow, a stop by the operator, homing (armed on the way), follow, silence, a fault,
    reset, follow.
    """
    arm = Recorded()
    arm.start()
    arm.follow(1.0)
    arm.gate.hold()
    arm.run(1.0)
    assert arm.gate.home(arm.now) == ""
    arm.run(0.3)
    assert (
        arm.gate.arm(arm.now) == ""
        and arm.gate.cause == "armed"
        and arm.gate.state is State.RUNNING
    )
    arm.run(4.0)
    assert arm.gate.cause == "at home" and arm.gate.arm(arm.now) == ""
    arm.run(0.2)
    arm.follow(1.0)
    # said again: nothing changes
    assert arm.gate.arm(arm.now) == "" and arm.gate.state is State.RUNNING
    arm.follow(0.5)
    arm.sends_heartbeats = False
    arm.run(1.0)
    arm.sends_heartbeats = True
    arm.gate.fault("reflex")
    arm.run(0.5)
    assert arm.gate.reset() == "" and arm.gate.arm(arm.now) == ""
    arm.run(0.2)
    arm.follow(0.5)
    return arm


def test_exactly_the_commands_that_follow_no_plan_are_off_the_task():
    arm = eventful()
    stamps, plans = np.array(arm.stamps), np.array(arm.plans)
    found = off_task_intervals(arm.statuses[::-1], stamps[::-1], (stamps[0], stamps[-1]))
    off = np.any([(stamps >= begin) & (stamps <= end) for begin, end, _ in found], axis=0)
    assert 300 < np.sum(plans != 0) < len(plans) - 300
    np.testing.assert_array_equal(off, plans == 0)
    reasons = " ".join(why for _, _, why in found)
    for why in (
        "HOLD: armed",
        "STOPPING: held by operator",
        "RUNNING: going home",
        "RUNNING: armed",
        "HOLD: at home",
        "STOPPING: policy silent",
        "FAULT: reflex",
    ):
        assert why in reasons
    assert all(begin <= end for begin, end, _ in found)
    assert all(a.end < b.begin for a, b in pairwise(found))


def test_a_gate_that_was_not_heard_is_taken_for_none_that_followed():
    follows = {"state": "RUNNING", "cause": "following plans", "plan": "7"}
    statuses = [(2 * SECOND, follows), (5 * SECOND, follows), (5 * SECOND + 10, follows)]
    commands = np.arange(SECOND, 6 * SECOND, SECOND // 100)
    assert off_task_intervals(statuses, commands, (SECOND, 6 * SECOND)) == [
        (SECOND, 2 * SECOND - 1, "gate not heard"),
        (2 * SECOND + STATUS_TIMEOUT, 5 * SECOND - 1, "gate not heard"),
        (
            5 * SECOND + STATUS_TIMEOUT,
            6 * SECOND,
            "gate not heard",
        ),  # the last two belong to one period
    ]
    # `gwm collect` has no such process
    assert off_task_intervals([], np.array([SECOND]), (SECOND, 2 * SECOND)) == []


def test_where_commands_are_missing_nobody_knows_what_was_followed():
    follows = {"state": "RUNNING", "cause": "following plans", "plan": "7"}
    statuses = [(SECOND + k * SECOND // 10, follows) for k in range(21)]
    commands = np.arange(SECOND, 3 * SECOND + 1, SECOND // 100)
    lost = (commands > 1.47 * SECOND) & (commands < 1.53 * SECOND)  # over a status
    assert off_task_intervals(statuses, commands, (SECOND, 3 * SECOND)) == []
    assert off_task_intervals(statuses, commands[~lost], (SECOND, 3 * SECOND)) == [
        (1_470_000_000, 1_529_999_999, "no command recorded")
    ]
    assert off_task_intervals(statuses, np.array([], np.int64), (SECOND, 3 * SECOND)) == [
        (SECOND, 3 * SECOND, "no command recorded")
    ]


def test_an_old_recording_tells_it_too(tmp_path):
    """Statuses were always recorded; the marks of an episode are kept beside them."""
    writer = record(tmp_path / "episode", 2.0)
    for tenth in range(21):
        stamp = 5 * SECOND + tenth * SECOND // 10
        state, cause, plan = (
            ("RUNNING", "following plans", 9) if 5 <= tenth < 15 else ("HOLD", "armed", 0)
        )
        writer.write(topics.STATUS, status(stamp, state=state, cause=cause, plan=plan), stamp)
    episode = read_episode(writer.close(ABOUT | {"unusable": [[6 * SECOND, 6 * SECOND + 5]]}))
    unheard, begun, ended = episode.off_task
    # the cameras' infos have the stamp 1 here
    assert unheard == (1, 5 * SECOND - 1, "gate not heard")
    assert begun == (5 * SECOND, 5 * SECOND + SECOND // 2 - 1, "HOLD: armed")
    assert ended == (6 * SECOND + SECOND // 2, 7 * SECOND, "HOLD: armed")
    assert episode.unusable == [unheard[:2], begun[:2], (6 * SECOND, 6 * SECOND + 5), ended[:2]]
    assert episode.info["unusable"] == [[6 * SECOND, 6 * SECOND + 5]]


def status(stamp, **values):
    kinds = STORE.types
    pairs = [
        kinds["diagnostic_msgs/msg/KeyValue"](key, str(value)) for key, value in values.items()
    ]
    header = kinds["std_msgs/msg/Header"](
        kinds["builtin_interfaces/msg/Time"](*divmod(stamp, SECOND)), ""
    )
    one = kinds["diagnostic_msgs/msg/DiagnosticStatus"](0, "gate", "", "", pairs)
    return kinds["diagnostic_msgs/msg/DiagnosticArray"](header, [one])
