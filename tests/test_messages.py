from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("rclpy")
from gwm import messages

from gwm_core import topics
from gwm_core.data.episode import STORE, _deserialize
from gwm_core.types import Chunk


def test_a_chunk_survives_the_wire():
    rng = np.random.default_rng(0)
    chunk = Chunk(1_795_000_000_123_456_789, rng.normal(size=(16, 7)), rng.uniform(0, 0.08, 16))
    back = messages.chunk_of(messages.trajectory(chunk))
    assert back.stamp == chunk.stamp and back.dt == pytest.approx(chunk.dt)
    np.testing.assert_array_equal(back.q, chunk.q)
    assert back.sha256 == chunk.sha256


def test_joints_are_matched_by_name_in_any_order():
    order = np.random.default_rng(1).permutation(7)
    names = [topics.ARM_JOINTS[i] for i in order]
    q = messages.by_name(names, order * 0.1, topics.ARM_JOINTS)
    np.testing.assert_allclose(q, np.arange(7) * 0.1)
    assert messages.by_name(names[:-1], order[:-1] * 0.1, topics.ARM_JOINTS) is None


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
    back = _deserialize(bytes(serialize_message(message)), "sensor_msgs/msg/JointState")
    assert back.name == list(topics.ARM_JOINTS) and back.header.frame_id == "latched"
    np.testing.assert_array_equal(back.position, np.arange(7))
    np.testing.assert_array_equal(back.velocity, velocity)
    assert STORE.serialize_cdr(back, "sensor_msgs/msg/JointState") is not None
