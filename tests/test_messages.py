import json
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

pytest.importorskip("rclpy")
from gwm import messages, scene_messages
from std_msgs.msg import String

from gwm_core import topics
from gwm_core.data import cdr
from gwm_core.data import episode as bag
from gwm_core.data.cdr import STORE, deserialize
from gwm_core.scene.camera import back_project, intrinsics
from gwm_core.types import Chunk


def test_a_chunk_survives_the_wire():
    rng = np.random.default_rng(0)
    chunk = Chunk(1_795_000_000_123_456_789, rng.normal(size=(16, 7)), rng.uniform(0, 0.08, 16))
    back = messages.chunk_of(messages.trajectory(chunk))
    assert back.stamp == chunk.stamp and back.dt == pytest.approx(chunk.dt)
    np.testing.assert_array_equal(back.q, chunk.q)
    assert back.sha256 == chunk.sha256


@pytest.mark.parametrize("wish", [
    {"success": True, "score": 1, "save": True}, {"score": 0.4, "cause": "policy"}, {"note": "fell"}, {},
])  # fmt: skip
def test_what_may_be_said_of_an_episode(wish):
    assert messages.mark_of(SimpleNamespace(data=json.dumps(wish))) == wish


@pytest.mark.parametrize("text", [
    '{"score": NaN}', '{"score": 1.01}', '{"score": true}', '{"score": "1"}', '{"cause": "weather"}', '{"cause": [1]}',
    '{"success": 1}', '{"success": null}', '{"note": 3}', '{"else": 1}', "[]", '{"note": "' + 1000 * "a" + '"}',
])  # fmt: skip
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
    chunk = Chunk(5, rng.normal(size=(4, 7)), rng.uniform(0, 0.08, 4))
    message = messages.trajectory(chunk)
    for _ in range(20):
        order = rng.permutation(8)
        shuffled = messages.trajectory(chunk)
        shuffled.joint_names = [message.joint_names[i] for i in order]
        for point, plain in zip(shuffled.points, message.points):
            point.positions = [plain.positions[i] for i in order]
        assert messages.chunk_of(shuffled).sha256 == chunk.sha256
    for names in ([*message.joint_names, "fr3_joint8"], [*message.joint_names[:-1], "panda_joint1"],
                  [*message.joint_names[:-1], message.joint_names[0]]):  # fmt: skip
        message.joint_names = names
        assert messages.chunk_of(message) is None


@pytest.mark.parametrize("change", [{"joint_names": ["a"]}, {"uneven": True}, {"short": True}])
def test_a_misshapen_chunk_is_none(change):
    message = messages.trajectory(Chunk(1, np.zeros((4, 7)), np.zeros(4)))
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
    message = messages.trajectory(Chunk(1, np.zeros((4, 7)), np.zeros(4)))
    names = message.joint_names
    for rows in (257, 20_000):
        assert messages.chunk_of(SimpleNamespace(joint_names=names, points=[Untouched()] * rows)) is None
    assert messages.chunk_of(SimpleNamespace(joint_names=names * 1000, points=[Untouched()] * 4)) is None
    layout = SimpleNamespace(dim=[Untouched()] * 1001)
    assert messages.read_numbers(SimpleNamespace(layout=layout, data=[0.0] * 1001)) == {}
    most = messages.trajectory(Chunk(1, np.zeros((256, 7)), np.zeros(256)))
    assert len(messages.chunk_of(most).q) == 256


@pytest.mark.parametrize(
    "text", ["[" * 1000, '{"plan": 1, "sha256": "a", "expires": 1' + "0" * 400 + "}", "{" * 1001, "5", "null"]
)
@pytest.mark.parametrize("read", [messages.approval_of, messages.mode_of, messages.mark_of])
def test_texts_that_exhaust_a_parser_or_a_number_are_refused(read, text):
    """Anything but ValueError would end the gate's process."""
    with pytest.raises(ValueError):
        read(SimpleNamespace(data=text))


@pytest.mark.parametrize(
    "content", [np.arange(60, dtype=np.uint8).reshape(4, 5, 3), np.arange(20, dtype=np.uint16).reshape(4, 5)]
)
def test_images_survive_the_wire_even_with_padded_rows(content):
    message = messages.image(5, "front", content)
    stream = "color" if content.ndim == 3 else "depth"
    np.testing.assert_array_equal(messages.pixels(message, stream), content)
    rows = np.frombuffer(message.data, np.uint8).reshape(4, -1)
    padded = SimpleNamespace(encoding=message.encoding, width=5, height=4, step=rows.shape[1] + 6,
                             data=np.hstack([rows, np.zeros((4, 6), np.uint8)]).tobytes())  # fmt: skip
    np.testing.assert_array_equal(messages.pixels(padded, stream), content)


def test_unknown_encodings_and_wrong_sizes_are_refused():
    message = SimpleNamespace(encoding="yuv422", width=4, height=4, step=8, data=bytes(32))
    with pytest.raises(ValueError, match="yuv422"):
        messages.pixels(message, "color")
    message = SimpleNamespace(encoding="rgb8", width=4, height=4, step=12, data=bytes(40))
    with pytest.raises(ValueError, match="40 bytes"):
        messages.pixels(message, "color")
    with pytest.raises(ValueError, match="16UC1 or mono16"):
        messages.pixels(message, "depth")
    with pytest.raises(ValueError, match="0 bytes"):
        messages.pixels(SimpleNamespace(encoding="rgb8", width=0, height=0, step=0, data=b""), "color")


@pytest.mark.parametrize("effort", [(), (0.5,) * 7])
@pytest.mark.parametrize("velocity", [(), (0.1,) * 7])
def test_what_rclpy_writes_the_episode_reader_reads(effort, velocity):
    from rclpy.serialization import serialize_message

    message = messages.joint_state(12_000_000_345, topics.ARM_JOINTS, np.arange(7), velocity, effort, "latched")
    back = deserialize(bytes(serialize_message(message)), "sensor_msgs/msg/JointState")
    assert back.name == list(topics.ARM_JOINTS) and back.header.frame_id == "latched"
    np.testing.assert_array_equal(back.position, np.arange(7))
    np.testing.assert_array_equal(back.velocity, velocity)
    assert STORE.serialize_cdr(back, "sensor_msgs/msg/JointState") is not None


K = intrinsics(424, 240, 42.5) + np.array([[0, 0, 3.25], [0, 0, -1.5], [0, 0, 0]])


@pytest.mark.parametrize("make", [messages.camera_info, cdr.camera_info], ids=["rclpy", "rosbags"])
def test_on_the_wire_pixel_centres_are_whole_numbers_and_inside_they_are_at_a_half(make):
    info = make(5, "front", K, 424, 240)
    np.testing.assert_array_equal(messages.camera_matrix(info), K)
    np.testing.assert_array_equal(np.reshape(info.p, (3, 4))[:, :3], np.reshape(info.k, (3, 3)))
    points = back_project(np.full((240, 424), 0.8, np.float32), K)[[0, 7, 239], [0, 300, 423]]
    wire = np.reshape(info.k, (3, 3))
    pixels, _ = cv2.projectPoints(points.astype(float), np.zeros(3), np.zeros(3), wire, np.zeros(5))
    np.testing.assert_allclose(pixels[:, 0], [[0, 0], [300, 7], [423, 239]], atol=1e-3)


def test_a_cameras_own_numbers_go_out_as_they_came():
    """float32 from librealsense, + 0.5 inside, back on the wire: not a bit changes."""
    ppx, ppy = np.float32(211.34271), np.float32(119.97835)
    ours = messages.from_opencv([[305.1, 0, ppx], [0, 305.2, ppy], [0, 0, 1]])
    info = messages.camera_info(5, "front", ours, 424, 240, np.float32([0.1, 0, 0, 0, -0.2]))
    assert (info.k[2], info.k[5]) == (float(ppx), float(ppy)) and info.d[0] == np.float32(0.1)


@pytest.mark.parametrize("by_rclpy", [True, False])
def test_an_episode_gives_the_camera_matrix_back(tmp_path, by_rclpy):
    from rclpy.serialization import serialize_message

    writer = bag.EpisodeWriter(tmp_path / "episode", {})
    if by_rclpy:
        content = serialize_message(messages.camera_info(1, "front", K, 8, 6))
        writer.write_cdr(topics.info("camera/front"), "sensor_msgs/msg/CameraInfo", content, 1)
    else:
        writer.write(topics.info("camera/front"), cdr.camera_info(1, "front", K, 8, 6), 1)
    color, depth = np.zeros((6, 8, 3), np.uint8), np.ones((6, 8), np.uint16)
    writer.write(topics.color("camera/front") + "/compressed", cdr.compressed_color(2, "front", color), 2)
    writer.write(topics.depth("camera/front") + "/compressedDepth", cdr.compressed_depth(2, "front", depth), 2)
    for topic, names in ((topics.JOINT_STATES, topics.ARM_JOINTS), (topics.GRIPPER_STATES, topics.FINGER_JOINTS),
                         (topics.COMMAND, (*topics.ARM_JOINTS, topics.WIDTH))):  # fmt: skip
        writer.write(topic, cdr.joint_state(1, names, np.zeros(len(names))), 1)
    path = writer.close({"cameras": {"front": {"prefix": "camera/front", "T_base_camera": np.eye(4).tolist()}}})
    np.testing.assert_array_equal(bag.read_episode(path).intrinsics["front"], K)

    values = json.loads((path / bag.INFO).read_text())
    assert values.pop("format") == 2
    (path / bag.INFO).write_text(json.dumps(values))  # one of before: it held our own K
    old = bag.read_episode(path).intrinsics["front"]
    np.testing.assert_array_equal(old, np.reshape(messages.camera_info(1, "front", K, 8, 6).k, (3, 3)))


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
    assert messages.read_numbers(message) == values and isinstance(messages.read_numbers(message)["plan"], int)


def test_named_numbers_of_older_recordings_and_ids_that_are_none_are_read():
    old = topics.named_numbers(("plan", "ms"), (1_795_000_000_123_456_789.0, 3.5))
    assert old["ms"] == 3.5 and abs(old["plan"] - 1_795_000_000_123_456_789) <= 128 and isinstance(old["plan"], int)
    for names, values in [
        (("plan", "ms"), (float("nan"), 1)),
        ((*topics.PLAN, "ms"), (1, float("inf"), 1)),
        (("ms",), (1,)),
    ]:
        assert topics.named_numbers(names, values) == {"ms": 1.0}


@pytest.mark.parametrize("plan", [7, 7.0, "", "7.0", "-7", "\u0667", None])
def test_an_approvals_plan_is_text_of_decimal_digits(plan):
    def approval(plan):
        return messages.approval_of(String(data=json.dumps({"plan": plan, "sha256": "ab", "expires": 1})))

    assert approval("1795617706349959571").plan == 1795617706349959571
    with pytest.raises(ValueError, match="plan"):
        approval(plan)
