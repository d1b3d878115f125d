from types import SimpleNamespace

import numpy as np
import pytest

from gwm_core import topics
from gwm_core.data import ros_messages
from gwm_core.data.episode import read_episode, synced_observations
from gwm_core.data.episode_writer import EpisodeWriter
from gwm_core.geometry.camera import intrinsics
from gwm_core.joint_states import (
    AHEAD,
    GRIPPER_TIMEOUT,
    ArmReader,
    ahead,
    read_gripper_state,
    read_joint_state,
)
from gwm_core.reasons import REPEAT, Reasons
from gwm_core.sync import MS

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
    state, reason = read_joint_state(
        message(names, [0.04, *(0.1 * order)], [9.0, *order]), 0.05, 0.03
    )
    assert reason == "" and (state.stamp, state.width, state.width_command) == (5 * S, 0.05, 0.03)
    np.testing.assert_allclose(state.q, 0.1 * np.arange(7))
    np.testing.assert_allclose(state.dq, np.arange(7))


@pytest.mark.parametrize(
    "change, kind, said",
    [
        ({"names": [f"ur_joint{i}" for i in range(1, 8)]}, "names", "'ur'"),
        ({"names": [f"left_fr3_joint{i}" for i in range(1, 8)]}, "names", "'left_fr3'"),
        ({"names": topics.ARM_JOINTS[:6]}, "names", "fr3_joint7"),
        ({"names": ()}, "names", "fr3_joint1"),
        ({"position": np.zeros(6)}, "position", "6 given for 7"),
        ({"velocity": ()}, "velocity", "0 given"),
        ({"position": [0, 0, np.nan, 0, 0, 0, 0]}, "not finite", "position of fr3_joint3"),
        ({"velocity": [0, np.inf, 0, 0, 0, 0, 0]}, "not finite", "velocity of fr3_joint2"),
        (
            {"position": np.degrees([0, -0.78, 0, -2.35, 0, 1.57, 0.78])},
            "unit",
            "fr3_joint4 is at -134.6",
        ),
        ({"stamp": 0}, "stamp", "0"),
    ],
)
def test_joints_that_cannot_be_used_are_refused_with_the_reason(change, kind, said):
    state, reason = read_joint_state(message(**change))
    assert state is None and reason.startswith(f"{kind}: ") and said in reason


def test_velocities_may_be_missing_where_nobody_needs_them():
    state, reason = read_joint_state(message(velocity=()), velocity=False)
    assert reason == "" and not state.dq.any()


@pytest.mark.parametrize(
    "change, kind",
    [({"width": 80.0}, "unit"), ({"width": np.nan}, "not finite"), ({"stamp": 0}, "stamp")],
)
def test_an_opening_that_cannot_be_used_is_refused(change, kind):
    state, reason = read_gripper_state(fingers(**change))
    assert state is None and reason.startswith(f"{kind}: ")


def test_the_opening_is_known_only_around_the_time_it_was_measured():
    reader = ArmReader()
    assert np.isnan(
        reader.joints(message())[0].width
    ) and "no usable state" in reader.unknown_width(5 * S)
    assert reader.gripper(fingers(0.06, 5 * S)) == ""
    for late, width in (
        (-GRIPPER_TIMEOUT, 0.06),
        (GRIPPER_TIMEOUT, 0.06),
        (GRIPPER_TIMEOUT + 1, np.nan),
        (-GRIPPER_TIMEOUT - 1, np.nan),
        (60 * S, np.nan),
    ):
        np.testing.assert_equal(reader.joints(message(stamp=5 * S + late))[0].width, width)
    assert "60.0 s older than the joints" in reader.unknown_width(65 * S)
    assert reader.gripper(fingers(np.nan, 65 * S)).startswith("not finite")
    assert np.isnan(reader.joints(message(stamp=65 * S))[0].width)
    reader.gripper(fingers(0.02, 65 * S))
    assert reader.joints(message(stamp=65 * S))[0].width == 0.02


def test_a_pandas_joints_are_an_fr3s_for_all_but_a_reader_of_one_robot():
    names = [topics.name_of("panda", name) for name in topics.ARM_JOINTS]
    assert names[0] == "panda_joint1" and [topics.canonical(n) for n in names] == [
        *topics.ARM_JOINTS
    ]
    np.testing.assert_allclose(read_joint_state(message(names))[0].q, np.linspace(-1, 1, 7))
    hand = message([topics.name_of("panda", name) for name in topics.FINGER_JOINTS], [0.03] * 2)
    ours = topics.ARM_JOINTS
    for robot, own, other in (("panda", names, ours), ("fr3", ours, names)):
        reader = ArmReader(robot)
        assert reader.joints(message(own))[1] == ""
        assert reader.joints(message(other)) == (
            None,
            f"names: {other[0]}; those of robot:={robot} are wanted",
        )
        assert (reader.gripper(hand) == "") == (robot == "panda")
    both = message([*names, *ours])  # of two arms on one topic
    assert ArmReader("panda").joints(both)[1].startswith("names: fr3_joint1")
    assert read_joint_state(both)[1].startswith("names: two of [panda_joint1")


def test_names_of_other_things_stay():
    for name in ("target_joint", "fr3", "joint1", "frank_joint1"):
        assert topics.name_of("panda", name) == name


def test_a_state_is_complete_with_a_known_opening_and_a_stamp_of_this_host():
    reader = ArmReader()
    assert reader.complete(message(), 5 * S)[1].startswith("gripper: no usable state")
    reader.gripper(fingers(0.06))
    state, reason = reader.complete(message(), 5 * S - AHEAD)
    assert reason == "" and state.width == 0.06
    assert reader.complete(message(stamp=6 * S), 5 * S) == (
        None,
        ahead("a joint state", 6 * S, 5 * S),
    )
    assert "1000 ms after it came" in ahead("a joint state", 6 * S, 5 * S)
    assert reader.complete(message(stamp=6 * S), 6 * S)[1].startswith(
        "gripper: its state is 1.0 s older"
    )
    assert reader.complete(message(names=()), 5 * S)[1].startswith("names")


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
    reasons.note("joints", "names: late", 4.0 + REPEAT)
    reasons.note("depth", "names: late", 4.0 + REPEAT)
    assert told[2:] == ["joints: names: late", "depth: names: late"]


def test_a_recorded_opening_goes_stale_as_on_the_robot(tmp_path):
    """The gripper's node stops after 0.2 s of 1.5 s: its opening counts for 0.3 s more, and then
    there is no moment.
    """
    writer = EpisodeWriter(tmp_path / "episode", {})
    writer.write(
        topics.info("camera/front"),
        ros_messages.camera_info(1, "front", intrinsics(8, 6, 42.5), 8, 6),
        1,
    )
    color, depth = np.zeros((6, 8, 3), np.uint8), np.ones((6, 8), np.uint16)
    for k in range(150):
        stamp = S + k * 10 * MS
        writer.write(
            topics.JOINT_STATES,
            ros_messages.joint_state(stamp, topics.ARM_JOINTS, np.zeros(7)),
            stamp,
        )
        writer.write(
            topics.COMMAND,
            ros_messages.joint_state(stamp, (*topics.ARM_JOINTS, topics.WIDTH), np.zeros(8)),
            stamp,
        )
        if k <= 20:
            writer.write(
                topics.GRIPPER_STATES,
                ros_messages.joint_state(stamp, topics.FINGER_JOINTS, [0.02, 0.02]),
                stamp,
            )
        if k % 10 == 0:
            content = ros_messages.compressed_color(stamp, "front", color)
            writer.write(topics.color("camera/front") + "/compressed", content, stamp)
            content = ros_messages.compressed_depth(stamp, "front", depth)
            writer.write(topics.depth("camera/front") + "/compressedDepth", content, stamp)
    path = writer.close(
        {"cameras": {"front": {"prefix": "camera/front", "T_base_camera": np.eye(4).tolist()}}}
    )
    episode = read_episode(path)
    widths = [state.width for state in episode.states]
    assert widths[:51] == [0.04] * 51 and np.isnan(widths[51:]).all()
    assert [(stamp - S) // MS for stamp, _, _ in synced_observations(episode)] == [
        0,
        100,
        200,
        300,
        400,
        500,
    ]
