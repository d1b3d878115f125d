from types import SimpleNamespace

import numpy as np
import pytest

from gwm_core import topics
from gwm_core.joints import GRIPPER_TIMEOUT, ArmReader, read_gripper_state, read_joint_state
from gwm_core.reasons import AGAIN, Reasons

S = 10**9


def message(names=topics.ARM_JOINTS, position=None, velocity=None, stamp=5 * S):
    count = len(names)
    return SimpleNamespace(
        header=SimpleNamespace(stamp=SimpleNamespace(sec=stamp // S, nanosec=stamp % S)),
        name=list(names),
        position=np.linspace(-1, 1, count) if position is None else position,
        velocity=np.zeros(count) if velocity is None else velocity,
    )


def fingers(width=0.06, stamp=5 * S):
    return message(topics.FINGER_JOINTS, [width / 2] * 2, stamp=stamp)


def test_joints_are_read_in_any_order_among_others():
    order = np.random.default_rng(0).permutation(7)
    names = ["fr3_finger_joint1", *(topics.ARM_JOINTS[i] for i in order)]
    state, reason = read_joint_state(message(names, [0.04, *(0.1 * order)], [9.0, *order]), 0.05, 0.03)
    assert reason == "" and (state.stamp, state.width, state.width_command) == (5 * S, 0.05, 0.03)
    np.testing.assert_allclose(state.q, 0.1 * np.arange(7))
    np.testing.assert_allclose(state.dq, np.arange(7))


@pytest.mark.parametrize("change, kind, said", [
    ({"names": [f"panda_joint{i}" for i in range(1, 8)]}, "names", "'panda'"),
    ({"names": [f"left_fr3_joint{i}" for i in range(1, 8)]}, "names", "'left_fr3'"),
    ({"names": topics.ARM_JOINTS[:6]}, "names", "fr3_joint7"),
    ({"names": ()}, "names", "fr3_joint1"),
    ({"position": np.zeros(6)}, "position", "6 given for 7"),
    ({"velocity": ()}, "velocity", "0 given"),
    ({"position": [0, 0, np.nan, 0, 0, 0, 0]}, "not finite", "position of fr3_joint3"),
    ({"velocity": [0, np.inf, 0, 0, 0, 0, 0]}, "not finite", "velocity of fr3_joint2"),
    ({"position": np.degrees([0, -0.78, 0, -2.35, 0, 1.57, 0.78])}, "unit", "fr3_joint4 is at -134.6"),
    ({"stamp": 0}, "stamp", "0"),
])  # fmt: skip
def test_joints_that_cannot_be_used_are_refused_with_the_reason(change, kind, said):
    state, reason = read_joint_state(message(**change))
    assert state is None and reason.startswith(f"{kind}: ") and said in reason


def test_velocities_may_be_missing_where_nobody_needs_them():
    state, reason = read_joint_state(message(velocity=()), velocity=False)
    assert reason == "" and not state.dq.any()


@pytest.mark.parametrize("change, kind", [
    ({"width": 80.0}, "unit"), ({"width": np.nan}, "not finite"), ({"stamp": 0}, "stamp"),
])  # fmt: skip
def test_an_opening_that_cannot_be_used_is_refused(change, kind):
    state, reason = read_gripper_state(fingers(**change))
    assert state is None and reason.startswith(f"{kind}: ")


def test_the_opening_is_known_only_around_the_time_it_was_measured():
    reader = ArmReader()
    assert np.isnan(reader.joints(message())[0].width) and "no usable state" in reader.unknown_width(5 * S)
    assert reader.gripper(fingers(0.06, 5 * S)) == ""
    for late, width in ((-GRIPPER_TIMEOUT, 0.06), (GRIPPER_TIMEOUT, 0.06), (GRIPPER_TIMEOUT + 1, np.nan),
                        (-GRIPPER_TIMEOUT - 1, np.nan), (60 * S, np.nan)):  # fmt: skip
        np.testing.assert_equal(reader.joints(message(stamp=5 * S + late))[0].width, width)
    assert "60.0 s older than the joints" in reader.unknown_width(65 * S)
    assert reader.gripper(fingers(np.nan, 65 * S)).startswith("not finite")
    assert np.isnan(reader.joints(message(stamp=65 * S))[0].width)
    reader.gripper(fingers(0.02, 65 * S))
    assert reader.joints(message(stamp=65 * S))[0].width == 0.02


def test_a_reason_is_told_once_and_again_after_it_was_away():
    told = []
    reasons = Reasons(told.append)
    for k in range(300):  # two kinds that alternate at 100 Hz
        reasons.note("joints", f"names: {k}" if k % 2 else f"stamp: {k}", 0.01 * k)
    assert told == ["joints: stamp: 0", "joints: names: 1"]
    assert reasons.values() == {"refused joints": 300, "reason joints": "names: 299"}
    reasons.note("joints", "", 3.0)
    assert reasons.values() == {"refused joints": 300}
    reasons.note("joints", "names: soon", 4.0)
    reasons.note("joints", "", 4.1)
    assert len(told) == 2
    reasons.note("joints", "names: late", 4.0 + AGAIN)
    reasons.note("depth", "names: late", 4.0 + AGAIN)
    assert told[2:] == ["joints: names: late", "depth: names: late"]
