import json
import re
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

pytest.importorskip("rclpy")
from gwm.ros import image_messages, messages, scene_messages
from rclpy.serialization import serialize_message
from sensor_msgs.msg import CameraInfo
from std_msgs.msg import Float64MultiArray, String, UInt64

from gwm_core import topics
from gwm_core.data import ros_messages
from gwm_core.data.episode import read_episode
from gwm_core.data.episode_info import INFO
from gwm_core.data.episode_writer import EpisodeWriter
from gwm_core.data.ros_messages import STORE, deserialize
from gwm_core.geometry.camera import back_project, from_opencv, intrinsics
from gwm_core.geometry.camera_info import read_camera_info
from gwm_core.types import ActionChunk


@pytest.mark.parametrize("stamp", [1, 999_999_999, 1_795_000_000_123_456_789])
def test_the_stamp_of_what_is_not_decoded(stamp):
    for message in (
        messages.joint_state(stamp, topics.ARM_JOINTS, np.zeros(7)),
        image_messages.image(stamp, "front", np.zeros((4, 5, 3), np.uint8)),
        messages.diagnostics(stamp, "gate", "RUNNING", {"plan": 7}),
        messages.trajectory(ActionChunk(stamp, np.zeros((16, 7)), np.zeros(16))),
    ):
        content = serialize_message(message)
        assert messages.has_header(type(message)) and messages.stamp_of(content) == stamp
        big = bytes([0, 0, 0, 0]) + content[4:8][::-1] + content[8:12][::-1]
        assert messages.stamp_of(big) == stamp
    assert not any(messages.has_header(kind) for kind in (String, Float64MultiArray, UInt64))


def test_a_chunk_survives_the_wire():
    rng = np.random.default_rng(0)
    chunk = ActionChunk(
        1_795_000_000_123_456_789, rng.normal(size=(16, 7)), rng.uniform(0, 0.08, 16)
    )
    back = messages.chunk_of(messages.trajectory(chunk))
    assert back.stamp == chunk.stamp and back.dt == pytest.approx(chunk.dt)
    np.testing.assert_array_equal(back.q, chunk.q)
    assert back.sha256 == chunk.sha256


@pytest.mark.parametrize(
    "wish",
    [
        {"success": True, "score": 1, "save": True},
        {"score": 0.4, "cause": "policy"},
        {"note": "fell"},
        {"fields": {"box": "left", "batch": "\u00fc" * 60}, "note": "\u00fc" * 500},
        {},
    ],
)
def test_what_may_be_said_of_an_episode(wish):
    assert messages.mark_of(SimpleNamespace(data=json.dumps(wish))) == wish


@pytest.mark.parametrize(
    "text",
    [
        '{"score": NaN}',
        '{"score": 1.01}',
        '{"score": true}',
        '{"score": "1"}',
        '{"cause": "weather"}',
        '{"cause": [1]}',
        '{"success": 1}',
        '{"success": null}',
        '{"note": 3}',
        '{"else": 1}',
        '{"fields": {"box": 3}}',
        '{"fields": ["box"]}',
        '{"fields": {"box": "' + 61 * "a" + '"}}',
        json.dumps({"fields": {str(k): "a" for k in range(7)}}),
        "[]",
        '{"note": "' + 1000 * "a" + '"}',
    ],
)
def test_what_may_not(text):
    with pytest.raises(ValueError):
        messages.mark_of(SimpleNamespace(data=text))


def test_joints_are_matched_by_name_in_any_order():
    order = np.random.default_rng(1).permutation(7)
    names = [topics.ARM_JOINTS[i] for i in order]
    q = messages.by_name(names, order * 0.1, topics.ARM_JOINTS)
    np.testing.assert_allclose(q, np.arange(7) * 0.1)
    assert messages.by_name(names[:-1], order[:-1] * 0.1, topics.ARM_JOINTS) is None


def test_a_chunk_with_its_joints_in_any_order_is_the_same_chunk_and_one_with_strangers_is_none():
    rng = np.random.default_rng(2)
    chunk = ActionChunk(5, rng.normal(size=(4, 7)), rng.uniform(0, 0.08, 4))
    message = messages.trajectory(chunk)
    for _ in range(20):
        order = rng.permutation(8)
        shuffled = messages.trajectory(chunk)
        shuffled.joint_names = [message.joint_names[i] for i in order]
        for point, plain in zip(shuffled.points, message.points):
            point.positions = [plain.positions[i] for i in order]
        assert messages.chunk_of(shuffled).sha256 == chunk.sha256
    for names in (
        [*message.joint_names, "fr3_joint8"],
        [*message.joint_names[:-1], "panda_joint1"],
        [*message.joint_names[:-1], message.joint_names[0]],
    ):
        message.joint_names = names
        assert messages.chunk_of(message) is None


@pytest.mark.parametrize("change", [{"joint_names": ["a"]}, {"uneven": True}, {"short": True}])
def test_a_misshapen_chunk_is_none(change):
    message = messages.trajectory(ActionChunk(1, np.zeros((4, 7)), np.zeros(4)))
    if "joint_names" in change:
        message.joint_names = change["joint_names"]
    elif "uneven" in change:
        message.points[2].time_from_start.nanosec += 5_000_000
    else:
        message.points = message.points[:1]
    assert messages.chunk_of(message) is None


class Untouched:
    """A part of a message that nobody may look into."""

    def __getattr__(self, name):
        raise AssertionError(f"{name} was read")


def test_a_message_of_the_gate_that_is_too_large_is_refused_before_its_parts_are_read():
    """20 000 rows held up the gate for 146 ms."""
    message = messages.trajectory(ActionChunk(1, np.zeros((4, 7)), np.zeros(4)))
    names = message.joint_names
    for rows in (257, 20_000):
        assert (
            messages.chunk_of(SimpleNamespace(joint_names=names, points=[Untouched()] * rows))
            is None
        )
    assert (
        messages.chunk_of(SimpleNamespace(joint_names=names * 1000, points=[Untouched()] * 4))
        is None
    )
    layout = SimpleNamespace(dim=[Untouched()] * 1001)
    assert messages.read_numbers(SimpleNamespace(layout=layout, data=[0.0] * 1001)) == {}
    most = messages.trajectory(ActionChunk(1, np.zeros((256, 7)), np.zeros(256)))
    assert len(messages.chunk_of(most).q) == 256


@pytest.mark.parametrize(
    "text",
    [
        "[" * 1000,
        '{"plan": 1, "sha256": "a", "expires": 1' + "0" * 400 + "}",
        "{" * 1001,
        "5",
        "null",
    ],
)
@pytest.mark.parametrize("read", [messages.approval_of, messages.mode_of, messages.mark_of])
def test_texts_that_exhaust_a_parser_or_a_number_are_refused(read, text):
    """Anything but ValueError would end the gate's process."""
    with pytest.raises(ValueError):
        read(SimpleNamespace(data=text))


@pytest.mark.parametrize(
    "content",
    [np.arange(60, dtype=np.uint8).reshape(4, 5, 3), np.arange(20, dtype=np.uint16).reshape(4, 5)],
)
def test_images_survive_the_wire_even_with_padded_rows(content):
    message = image_messages.image(5, "front", content)
    stream = "color" if content.ndim == 3 else "depth"
    np.testing.assert_array_equal(image_messages.pixels(message, stream), content)
    rows = np.frombuffer(message.data, np.uint8).reshape(4, -1)
    padded = SimpleNamespace(
        encoding=message.encoding,
        width=5,
        height=4,
        step=rows.shape[1] + 6,
        is_bigendian=0,
        data=np.hstack([rows, np.zeros((4, 6), np.uint8)]).tobytes(),
    )
    np.testing.assert_array_equal(image_messages.pixels(padded, stream), content)


def as_image(encoding, content, is_bigendian=0):
    """A message with these rows (H, ...) of numbers."""
    rows = np.ascontiguousarray(content).view(np.uint8).reshape(len(content), -1)
    return SimpleNamespace(
        encoding=encoding,
        width=content.shape[1],
        height=len(content),
        step=rows.shape[1],
        data=rows.tobytes(),
        is_bigendian=is_bigendian,
    )


@pytest.mark.parametrize(
    "encoding, order", [("rgb8", "rgb"), ("bgr8", "bgr"), ("rgba8", "rgba"), ("bgra8", "bgra")]
)
def test_colour_is_read_in_any_order_of_channels(encoding, order):
    content = np.random.default_rng(0).integers(0, 255, (4, 6, len(order)), np.uint8)
    read = image_messages.pixels(as_image(encoding, content), "color")
    np.testing.assert_array_equal(read, content[..., [order.index(c) for c in "rgb"]])
    assert read.flags.c_contiguous and read.dtype == np.uint8


@pytest.mark.parametrize("encoding, kind", [("16UC1", "u2"), ("mono16", "u2"), ("32FC1", "f4")])
@pytest.mark.parametrize("big", [0, 1])
def test_depth_is_read_in_millimetres_whatever_its_type_and_byte_order(encoding, kind, big):
    millimetres = np.array([[0, 1, 900], [4000, 256, 65535]])
    sent = (millimetres * (0.001 if kind == "f4" else 1)).astype((">" if big else "<") + kind)
    read = image_messages.pixels(as_image(encoding, sent, big), "depth")
    assert read.dtype == np.uint16 and read.dtype.isnative
    np.testing.assert_array_equal(read, millimetres)


def test_metres_that_are_no_reading_are_zero():
    sent = np.array([[np.nan, np.inf, -np.inf, -1.0, 66.0, 0.0004, 1.5]], "<f4")
    np.testing.assert_array_equal(
        image_messages.pixels(as_image("32FC1", sent), "depth"), [[0, 0, 0, 0, 0, 0, 1500]]
    )


def test_unknown_encodings_and_wrong_sizes_are_refused():
    def image(encoding, size, step, data):
        return SimpleNamespace(
            encoding=encoding, width=size, height=size, step=step, data=data, is_bigendian=0
        )

    for encoding in ("yuv422", "mono8", "8UC3", "16UC1", ""):
        with pytest.raises(
            ValueError, match=f"{encoding} was published; rgb8, bgr8, rgba8 or bgra8 is wanted"
        ):
            image_messages.pixels(image(encoding, 4, 8, bytes(32)), "color")
    for encoding in ("16SC1", "8UC1", "rgb8"):
        with pytest.raises(
            ValueError, match=f"{encoding} was published; 16UC1, mono16 or 32FC1 is wanted"
        ):
            image_messages.pixels(image(encoding, 4, 12, bytes(40)), "depth")
    with pytest.raises(ValueError, match="40 bytes"):
        image_messages.pixels(image("rgb8", 4, 12, bytes(40)), "color")
    with pytest.raises(ValueError, match="0 bytes"):
        image_messages.pixels(image("rgb8", 0, 0, b""), "color")


@pytest.mark.parametrize("effort", [(), (0.5,) * 7])
@pytest.mark.parametrize("velocity", [(), (0.1,) * 7])
def test_what_rclpy_writes_the_episode_reader_reads(effort, velocity):
    from rclpy.serialization import serialize_message

    message = messages.joint_state(
        12_000_000_345, topics.ARM_JOINTS, np.arange(7), velocity, effort, "latched"
    )
    back = deserialize(bytes(serialize_message(message)), "sensor_msgs/msg/JointState")
    assert back.name == list(topics.ARM_JOINTS) and back.header.frame_id == "latched"
    np.testing.assert_array_equal(back.position, np.arange(7))
    np.testing.assert_array_equal(back.velocity, velocity)
    assert STORE.serialize_cdr(back, "sensor_msgs/msg/JointState") is not None


K = intrinsics(424, 240, 42.5) + np.array([[0, 0, 3.25], [0, 0, -1.5], [0, 0, 0]])


@pytest.mark.parametrize(
    "make", [image_messages.camera_info, ros_messages.camera_info], ids=["rclpy", "rosbags"]
)
def test_on_the_wire_pixel_centres_are_whole_numbers_and_inside_they_are_at_a_half(make):
    info = make(5, "front", K, 424, 240)
    np.testing.assert_array_equal(read_camera_info(info).K, K)
    np.testing.assert_array_equal(np.reshape(info.p, (3, 4))[:, :3], np.reshape(info.k, (3, 3)))
    points = back_project(np.full((240, 424), 0.8, np.float32), K)[[0, 7, 239], [0, 300, 423]]
    wire = np.reshape(info.k, (3, 3))
    pixels, _ = cv2.projectPoints(points.astype(float), np.zeros(3), np.zeros(3), wire, np.zeros(5))
    np.testing.assert_allclose(pixels[:, 0], [[0, 0], [300, 7], [423, 239]], atol=1e-3)


def test_a_cameras_own_numbers_go_out_as_they_came():
    """float32 from librealsense, + 0.5 inside, back on the wire: not a bit changes."""
    ppx, ppy = np.float32(211.34271), np.float32(119.97835)
    ours = from_opencv([[305.1, 0, ppx], [0, 305.2, ppy], [0, 0, 1]])
    info = image_messages.camera_info(5, "front", ours, 424, 240, np.float32([0.1, 0, 0, 0, -0.2]))
    assert (info.k[2], info.k[5]) == (float(ppx), float(ppy)) and info.d[0] == np.float32(0.1)


FULL = [[612, 0, 423.5], [0, 610, 239.5], [0, 0, 1]]  # of a sensor of 848x480


def info_of(width, height, K, binning=(0, 0), roi=(0, 0, 0, 0), d=(), kind="plumb_bob"):
    info = CameraInfo(width=width, height=height, distortion_model=kind, d=[float(x) for x in d])
    info.k = np.array(K, float).ravel().tolist()
    info.binning_x, info.binning_y = binning
    info.roi.x_offset, info.roi.y_offset, info.roi.width, info.roi.height = roi
    return info


@pytest.mark.parametrize(
    "binning, roi, size, slices",
    [
        ((0, 0), (0, 0, 0, 0), (848, 480), np.s_[:, :]),
        ((1, 1), (0, 0, 848, 480), (848, 480), np.s_[:, :]),
        ((2, 2), (0, 0, 0, 0), (424, 240), np.s_[::2, ::2]),
        ((2, 4), (0, 0, 0, 0), (424, 120), np.s_[::4, ::2]),
        ((0, 0), (212, 120, 424, 240), (424, 240), np.s_[120:360, 212:636]),
        ((2, 2), (212, 120, 424, 240), (212, 120), np.s_[120:360:2, 212:636:2]),
    ],
)
def test_the_intrinsics_are_those_of_the_image_behind_roi_and_binning(binning, roi, size, slices):
    """Every pixel of the published image looks along the mean of the sensor's rays that it is made
    of.
    """
    model = read_camera_info(info_of(848, 480, FULL, binning, roi))
    assert (model.width, model.height) == size
    rays = back_project(np.ones((480, 848), np.float32), from_opencv(FULL))
    ours = back_project(np.ones(size[::-1], np.float32), model.K)
    first = rays[slices]
    half = np.array([(max(1, binning[0]) - 1) / 612, (max(1, binning[1]) - 1) / 610]) / 2
    np.testing.assert_allclose(ours[..., :2], first[..., :2] + half, atol=1e-5)


@pytest.mark.parametrize(
    "info, said",
    [
        (info_of(424, 240, np.zeros((3, 3))), "no focal length"),
        (info_of(424, 240, np.full((3, 3), np.nan)), "no focal"),
        (info_of(424, 240, [[306, 20, 211], [0, 306, 119], [0, 0, 1]]), "is not fx 0 cx"),
    ],
)
def test_an_info_of_no_camera_is_refused(info, said):
    with pytest.raises(ValueError, match=said):
        read_camera_info(info)


@pytest.mark.parametrize("size", [(1280, 720), (848, 480), (240, 424)])
def test_an_info_of_another_size_than_the_image_is_refused_with_both(size):
    model = read_camera_info(info_of(*size, FULL))
    color, depth = np.zeros((240, 424, 3), np.uint8), np.ones((240, 424), np.uint16)
    with pytest.raises(
        ValueError, match=f"front's is of {size[0]}x{size[1]} pixels, its images are 424x240"
    ):
        model.frame("front", 1, color, depth, np.eye(4))
    frame = read_camera_info(info_of(848, 480, FULL, (2, 2))).frame(
        "front", 1, color, depth, np.eye(4)
    )
    np.testing.assert_array_equal(frame.depth, np.full((240, 424), 1e-3, np.float32))


def test_distortion_is_told_with_its_size_where_it_matters():
    d455 = (-0.0565, 0.0682, 0.000366, 0.000693, -0.0218)  # librealsense #9551
    K = [[320, 0, 320], [0, 320, 200], [0, 0, 1]]
    remark = read_camera_info(info_of(640, 400, K, d=d455)).remark
    edge = np.array([[[x, y]] for x in range(0, 640, 71) for y in (0, 399)], float)
    true = cv2.undistortPoints(edge, np.array(K, float), np.array(d455))[:, 0] * 320 + [320, 200]
    pixels, mm = map(float, re.search("up to (.*) pixels, (.*) mm", remark).groups())
    assert remark.startswith("distortion: ") and mm == pytest.approx(1000 * pixels / 320, abs=1)
    assert pixels == pytest.approx(np.linalg.norm(true - edge[:, 0], axis=1).max(), rel=0.25)
    assert read_camera_info(info_of(640, 400, K, d=(0,) * 5)).remark == ""
    assert read_camera_info(info_of(640, 400, K, d=())).remark == ""
    assert read_camera_info(info_of(640, 400, K, d=(1e-5, 0, 0, 0, 0))).remark == ""
    assert (
        "equidistant"
        in read_camera_info(info_of(640, 400, K, d=d455[:4], kind="equidistant")).remark
    )


@pytest.mark.parametrize("by_rclpy", [True, False])
def test_an_episode_gives_the_camera_matrix_back(tmp_path, by_rclpy):
    from rclpy.serialization import serialize_message

    writer = EpisodeWriter(tmp_path / "episode", {})
    if by_rclpy:
        content = serialize_message(image_messages.camera_info(1, "front", K, 8, 6))
        writer.write_cdr(topics.info("camera/front"), "sensor_msgs/msg/CameraInfo", content, 1)
    else:
        writer.write(topics.info("camera/front"), ros_messages.camera_info(1, "front", K, 8, 6), 1)
    color, depth = np.zeros((6, 8, 3), np.uint8), np.ones((6, 8), np.uint16)
    writer.write(
        topics.color("camera/front") + "/compressed",
        ros_messages.compressed_color(2, "front", color),
        2,
    )
    writer.write(
        topics.depth("camera/front") + "/compressedDepth",
        ros_messages.compressed_depth(2, "front", depth),
        2,
    )
    for topic, names in (
        (topics.JOINT_STATES, topics.ARM_JOINTS),
        (topics.GRIPPER_STATES, topics.FINGER_JOINTS),
        (topics.COMMAND, (*topics.ARM_JOINTS, topics.WIDTH)),
    ):
        writer.write(topic, ros_messages.joint_state(1, names, np.zeros(len(names))), 1)
    path = writer.close(
        {"cameras": {"front": {"prefix": "camera/front", "T_base_camera": np.eye(4).tolist()}}}
    )
    np.testing.assert_array_equal(read_episode(path).intrinsics["front"], K)

    values = json.loads((path / INFO).read_text())
    assert values.pop("format") == 2
    (path / INFO).write_text(json.dumps(values))  # one of before: it held our own K
    old = read_episode(path).intrinsics["front"]
    np.testing.assert_array_equal(
        old, np.reshape(image_messages.camera_info(1, "front", K, 8, 6).k, (3, 3))
    )


def test_a_scene_survives_the_wire_and_a_foreign_or_broken_cloud_is_refused():
    gaussians = np.random.default_rng(3).normal(size=(50, 14)).astype(np.float32)
    cloud = scene_messages.scene(1_795_000_000_123_456_789, gaussians)
    np.testing.assert_array_equal(scene_messages.gaussians_of(cloud), gaussians)
    assert messages.stamp_ns(cloud.header.stamp) == 1_795_000_000_123_456_789
    assert [field.name for field in cloud.fields[:3]] == ["x", "y", "z"]
    cloud.width = 51
    with pytest.raises(ValueError, match="51 finite"):
        scene_messages.gaussians_of(cloud)
    gaussians[7, 3] = np.nan
    with pytest.raises(ValueError, match="finite"):
        scene_messages.gaussians_of(scene_messages.scene(1, gaussians))
    cloud.fields = cloud.fields[:-1]
    with pytest.raises(ValueError, match="x, y, z"):
        scene_messages.gaussians_of(cloud)


def test_named_numbers_survive_the_wire():
    values = {"plan": 1_795_000_000_123_456_789, "ms": 3.5}  # an id beyond 2^53
    message = messages.numbers(values, values.values())
    assert messages.read_numbers(message) == values and isinstance(
        messages.read_numbers(message)["plan"], int
    )


def test_named_numbers_of_older_recordings_and_ids_that_are_none_are_read():
    old = topics.named_numbers(("plan", "ms"), (1_795_000_000_123_456_789.0, 3.5))
    assert (
        old["ms"] == 3.5
        and abs(old["plan"] - 1_795_000_000_123_456_789) <= 128
        and isinstance(old["plan"], int)
    )
    for names, values in [
        (("plan", "ms"), (float("nan"), 1)),
        ((*topics.PLAN, "ms"), (1, float("inf"), 1)),
        (("ms",), (1,)),
    ]:
        assert topics.named_numbers(names, values) == {"ms": 1.0}


@pytest.mark.parametrize("plan", [7, 7.0, "", "7.0", "-7", "\u0667", None])
def test_an_approvals_plan_is_text_of_decimal_digits(plan):
    def approval(plan):
        return messages.approval_of(
            String(data=json.dumps({"plan": plan, "sha256": "ab", "expires": 1}))
        )

    assert approval("1795617706349959571").chunk_id == 1795617706349959571
    with pytest.raises(ValueError, match="plan"):
        approval(plan)


def test_a_chunk_says_who_made_it():
    chunk = ActionChunk(5 * 10**9, np.zeros((16, 7)), np.zeros(16))
    for maker in (topics.BY_POLICY, topics.BY_OPERATOR, ""):
        content = serialize_message(messages.trajectory(chunk, maker))
        assert messages.frame_of(content) == maker
        assert messages.stamp_of(content) == chunk.stamp


def test_a_declined_plan_is_told_from_an_approval():
    def declined(**request):
        return messages.declined_of(String(data=json.dumps(request)))

    assert declined(plan="1795617706349959571", decline=True) == 1795617706349959571
    assert declined(plan="1", sha256="ab", expires=1) is None
    for wrong in (
        {"plan": "1", "decline": False},
        {"plan": 1, "decline": True},
        {"plan": "-1", "decline": True},
        {"decline": True},
        {"plan": "1", "decline": True, "sha256": "ab"},
    ):
        with pytest.raises(ValueError, match="decline"):
            declined(**wrong)


def test_a_trajectory_carries_its_stamp_and_comes_back():
    states = np.random.default_rng(0).normal(size=(3, 3, 7))
    message = messages.joint_trajectory(states, 0.01, 5 * 10**9 + 7)
    assert messages.stamp_ns(message.header.stamp) == 5 * 10**9 + 7
    times, *back = messages.joint_states_of(message)
    np.testing.assert_allclose(times, [0.01, 0.02, 0.03])
    np.testing.assert_array_equal(np.stack(back, axis=1), states)


def test_a_goal_that_was_aborted_has_failed_whatever_its_result_says():
    """franka_ros2 aborts an error recovery with an empty result; an empty result alone is a success
    there.
    """
    franka, status = (
        pytest.importorskip("gwm.hardware.franka"),
        pytest.importorskip("action_msgs.msg").GoalStatus,
    )
    empty, grasp = SimpleNamespace(), SimpleNamespace(success=True, error="")
    assert franka.outcome(status.STATUS_SUCCEEDED, empty) == (True, "")
    assert franka.outcome(status.STATUS_ABORTED, empty) == (False, "aborted")
    assert franka.outcome(status.STATUS_CANCELED, grasp) == (False, "canceled")
    assert franka.outcome(status.STATUS_UNKNOWN, grasp) == (False, "goal status 0")
    lost = SimpleNamespace(success=False, error="lost the object")
    assert franka.outcome(status.STATUS_SUCCEEDED, lost) == (False, "lost the object")
    stalled = SimpleNamespace(stalled=True, reached_goal=False)  # the fingers hold something
    assert franka.outcome(status.STATUS_ABORTED, stalled, closing=True) == (True, "")
    assert franka.outcome(status.STATUS_ABORTED, stalled) == (False, "aborted")


def test_the_times_of_a_plan_that_outlasts_its_period_are_its_own():
    """Two are asked before the first is answered: each plan's stages add up to its own age."""
    from gwm.nodes.parts.policy_worker import PlanRequest, stages

    from gwm_core.types import ArmState, Decision, Observation

    state = ArmState(1, np.zeros(7), np.zeros(7), 0.08)
    asked = [
        PlanRequest(Observation(stamp, (), state, "lift"), stamp + 50_000_000, stamp + 52_000_000)
        for stamp in (400_000_000, 800_000_000)
    ]
    for one, now in zip(asked, (1_000_000_000, 1_300_000_000)):
        times = stages(
            one, Decision(one.observation.stamp, None, None, "", {"lift": 5.0, "act": 400.0}), now
        )
        assert (times["capture"], times["receive"]) == pytest.approx((50.0, 2.0))
        assert sum(times.values()) == pytest.approx((now - one.observation.stamp) * 1e-6)
        assert times["handover"] > 0
