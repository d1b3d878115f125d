"""A recorded run on one axis of time, as one page, and by two readers that know nothing of each
other.
"""

import json
import re
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from gwm.graph.environment import ROOT
from gwm.tools.replay import write_page, write_rerun_files

from gwm_core import topics
from gwm_core.data import ros_messages
from gwm_core.data.episode_info import list_episodes, read_info
from gwm_core.data.episode_writer import EpisodeWriter
from gwm_core.errors import InputError
from gwm_core.evaluation.replay.page_data import LEVELS, episode_data
from gwm_core.evaluation.replay.timeline import read_replay
from gwm_core.geometry.kinematics import HOME_Q
from gwm_core.site import simulation_site

T0, STEP = 1_700_000_000_000_000_000, 100_000_000
VIEWS = ("front", topics.AFAR)
TURNING = np.eye(7)[0] * 0.1  # [rad/s]


def picture(shade):
    return np.full((24, 32, 3), shade, np.uint8)


def shade(data):
    return round(float(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE).mean()))


def record(folder, said='{"do": "hold", "time": 1}', plan=("plan",), lookaheads=topics.LOOKAHEADS):
    """Three seconds: a frame each 50 ms whose grey is its number, a future at 0.5 s, half of one at
    1.5 s.
    """
    writer = EpisodeWriter(folder, {})
    for k in range(60):
        stamp = T0 + k * STEP // 2
        writer.write(
            "camera/front/color/image_raw/compressed",
            ros_messages.compressed_color(stamp, "front", picture(4 * k)),
            stamp,
        )
    for k in range(300):
        q = HOME_Q + 0.001 * k * np.eye(7)[0]
        state = ros_messages.joint_state(T0 + k * STEP // 10, topics.ARM_JOINTS, q, TURNING)
        writer.write(topics.JOINT_STATES, state, T0 + k * STEP // 10)
        if k % 5 == 0:
            fingers = ros_messages.joint_state(
                T0 + k * STEP // 10, topics.FINGER_JOINTS, [0.03] * 2
            )
            writer.write(topics.GRIPPER_STATES, fingers, T0 + k * STEP // 10)
    for view in VIEWS:
        for step in lookaheads:
            due = T0 + (5 + step) * STEP
            writer.write(
                topics.imagined(view, step),
                ros_messages.compressed_color(due, view, picture(12 * step)),
                due,
            )
    late = T0 + 16 * STEP
    writer.write(
        topics.imagined("front", lookaheads[0]),
        ros_messages.compressed_color(late, "front", picture(9)),
        late,
    )
    kinds = ros_messages.STORE.types
    dims = [kinds["std_msgs/msg/MultiArrayDimension"](name, 1, 1) for name in (*plan, "h4 image")]
    layout = kinds["std_msgs/msg/MultiArrayLayout"](dims, 0)
    named = (T0 + 10 * STEP,) if plan == ("plan",) else divmod(T0 + 10 * STEP, 10**9)
    numbers = kinds["std_msgs/msg/Float64MultiArray"](layout, np.array([*named, 0.25]))
    writer.write(topics.DIVERGENCE, numbers, T0 + 12 * STEP)
    writer.write(topics.DECISION, kinds["std_msgs/msg/String"](said), T0 + 20 * STEP)
    pairs = [kinds["diagnostic_msgs/msg/KeyValue"]("state", "HOLD")]
    status = kinds["diagnostic_msgs/msg/DiagnosticStatus"](0, "gate", "HOLD", "", pairs)
    header = ros_messages.joint_state(T0, [], []).header
    writer.write(topics.STATUS, kinds["diagnostic_msgs/msg/DiagnosticArray"](header, [status]), T0)
    cameras = {"front": {"prefix": "camera/front", "T_base_camera": np.eye(4).tolist()}}
    return writer.close({"cameras": cameras, "task": "lift", "success": True})


@pytest.mark.parametrize(
    "plan, lookaheads",
    [(topics.PLAN, topics.LOOKAHEADS), (("plan",), range(1, 9))],
    ids=["id in two parts", "older recording"],
)
def test_everything_lies_where_it_happened(tmp_path, plan, lookaheads):
    folder = tmp_path / "episode_000000"
    replay = read_replay(record(folder, plan=plan, lookaheads=lookaheads))
    assert replay.lookaheads == tuple(lookaheads)
    times = [time for time, _ in replay.observed["front"]]
    assert times[0] == 0 and np.allclose(np.diff(times), 0.05)
    assert shade(replay.frame_at("front", 1.04)) == pytest.approx(80, abs=3)
    assert shade(replay.frame_at("front", -1.0)) == pytest.approx(0, abs=3)
    ((time, views),) = replay.predicted  # half a future is none
    assert time == pytest.approx(0.5) and set(views) == set(VIEWS)
    assert [shade(data) for data in views["front"]] == pytest.approx(
        [12 * k for k in lookaheads], abs=3
    )
    assert replay.divergence == [(pytest.approx(1.0), {"h4 image": 0.25})]
    assert replay.decisions == [(pytest.approx(2.0), {"do": "hold", "time": 1})]
    assert replay.status == [(0.0, {"state": "HOLD"})]


def test_the_page_needs_nothing_else_and_what_was_said_stays_text(tmp_path):
    record(
        tmp_path / "run/episode_000000",
        json.dumps({"do": "mark", "note": "<!--<script></script><script>alert(1)</script>"}),
    )
    assert write_page(tmp_path / "run", tmp_path / "page.html", failures=False) == 1
    page = (tmp_path / "page.html").read_text()
    assert not re.search(r"https?://|src=|@import|\{\{ (css|data|script|lanes)\b", page)
    assert page.count("</script>") == 3
    data = re.search(r'type="application/json">(.*?)</script>', page, re.S).group(1)
    (found,) = json.loads(data)
    assert (
        found["decisions"][0][1]["note"].startswith("<!--<script>")
        and len(found["observed"]["front"]) == 30
    )


def test_joints_gripper_and_speed_are_on_the_same_axis(tmp_path):
    replay = read_replay(record(tmp_path / "episode_000000"))
    times, joints, speeds = zip(*replay.arm)
    assert times[0] == 0 and np.diff(times).min() > 0.049  # thinned: they come at 100 Hz
    assert joints[-1][0] == pytest.approx(HOME_Q[0] + 0.1 * times[-1])
    assert np.std(speeds) < 0.01 and speeds[0] > 0.02
    assert [width for _, width in replay.gripper] == pytest.approx([0.06] * len(replay.gripper))
    found = json.loads(episode_data("run", replay, 1 << 20))
    assert len(found["joints"]) == len(found["speed"]) > 20 and found["gripper"][0][1] == 60.0


def test_a_page_shrinks_its_images_until_it_can_be_sent(tmp_path):
    rng = np.random.default_rng(0)
    replay = read_replay(record(tmp_path / "episode_000000"))
    noise = cv2.imencode(".jpg", rng.integers(0, 255, (120, 212, 3), np.uint8))[1].tobytes()
    replay.observed["front"] = [(time, noise) for time, _ in replay.observed["front"]]
    sizes = []
    for budget in (10_000_000, 300_000, 60_000):
        text = episode_data("run", replay, budget)
        assert len(text) <= budget
        sizes.append(len(text))
        found = json.loads(text)
        assert found["imagined"] and found["observed"]["front"]
    assert sizes == sorted(sizes, reverse=True) and len({*sizes}) == 3
    assert len(found["observed"]["front"]) <= 3.0 / LEVELS[4].period + 1
    with pytest.raises(InputError, match="name fewer episodes"):
        episode_data("run", replay, 1000)


@pytest.mark.parametrize("damaged", [b"", b"\xff\xd8 no picture"])
def test_a_damaged_picture_is_one_line(tmp_path, damaged):
    replay = read_replay(record(tmp_path / "episode_000000"))
    replay.observed["front"][3] = (replay.observed["front"][3][0] + 0.05, damaged)
    replay.observed["front"] = replay.observed["front"][3:]
    with pytest.raises(InputError, match="episode run cannot be replayed"):
        episode_data("run", replay, 1 << 20)


def test_only_failures(tmp_path):
    run = tmp_path / "run"
    record(run / "episode_000000")
    with pytest.raises(InputError, match="failed: leave out"):
        write_page(run, tmp_path / "page.html", failures=True)
    (run / "episode_000000").rename(run / "episode_000001")
    file = run / "episode_000001/episode.json"
    file.write_text(file.read_text().replace('"success": true', '"success": false'))
    record(run / "episode_000002")
    assert write_page(run, tmp_path / "page.html", failures=True) == 1
    assert "episode_000001" in (tmp_path / "page.html").read_text()


def test_a_damaged_run_is_one_line(tmp_path):
    path = record(tmp_path / "episode_000000")
    file = next(path.rglob("*.mcap"))
    file.write_bytes(file.read_bytes()[:3000])
    with pytest.raises(InputError, match="cannot be replayed"):
        read_replay(path)
    with pytest.raises(InputError, match="no episodes"):
        write_page(tmp_path / "bag", tmp_path / "page.html", failures=False)


def test_another_reader_finds_the_same(tmp_path):
    """mcap's own reader, which shares nothing with rosbags, with the schemas that are in the
    file.
    """
    reader = pytest.importorskip("mcap_ros2.reader")
    path = record(tmp_path / "episode_000000")
    found = {}
    for view in reader.read_ros2_messages(str(next(path.rglob("*.mcap")))):
        found.setdefault(view.channel.topic, []).append((view.schema.name, view.ros_msg))
    kind, message = found["/" + topics.imagined("front", 4)][0]
    assert kind == "sensor_msgs/msg/CompressedImage" and message.header.frame_id == "front"
    assert message.header.stamp.sec * 10**9 + message.header.stamp.nanosec == T0 + 9 * STEP
    assert shade(bytes(message.data)) == pytest.approx(48, abs=3)
    kind, message = found["/" + topics.DIVERGENCE][0]
    assert kind == "std_msgs/msg/Float64MultiArray" and list(message.data) == [T0 + 10 * STEP, 0.25]
    assert [dim.label for dim in message.layout.dim] == ["plan", "h4 image"]
    assert json.loads(found["/" + topics.DECISION][0][1].data)["do"] == "hold"
    assert len(found["/camera/front/color/image_raw/compressed"]) == 60


def test_the_rerun_viewer_reads_an_episode(episodes, tmp_path):
    pytest.importorskip("rerun")
    viewer = Path(sys.executable).with_name("rerun")
    assert write_rerun_files(episodes, tmp_path, False) == len(list_episodes(episodes))
    for path in list_episodes(episodes):
        file = tmp_path / f"{path.name}.rrd"
        said = [
            subprocess.run([viewer, "rrd", what, file], capture_output=True, text=True)
            for what in ("verify", "print")
        ]
        assert [done.returncode for done in said] == [0, 0], said
        assert f'"{path.name}"' in said[1].stdout
        wanted = {f"/world/{camera}/image" for camera in read_info(path)["cameras"]}
        wanted |= {f"/plots/{name}" for name in ("joints", "speed", "width")}
        wanted |= {"/world/scene", "/world/gripper", "/verdict"}
        assert wanted <= set(re.findall(r"/[\w/]+", said[1].stdout))


def test_without_rerun_one_line_says_what_to_install(episodes, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "rerun", None)
    with pytest.raises(InputError, match=r"pip install 'gwm\[rerun\]'"):
        write_rerun_files(episodes, tmp_path, False)
    assert not list(tmp_path.iterdir())


def test_the_foxglove_layout_shows_topics_that_are_recorded():
    layout = json.loads((ROOT / "launch/foxglove_layout.json").read_text())
    prefixes = [camera.prefix for camera in simulation_site().cameras.values()]
    recorded = {topics.color(prefix) + "/compressed" for prefix in prefixes}
    recorded |= {topics.imagined("front", steps) for steps in topics.LOOKAHEADS}
    recorded |= {topics.JOINT_STATES, topics.GRIPPER_STATES, topics.COMMAND, topics.STATUS}
    recorded |= {topics.SCENE, topics.IMAGINED_SCENE, topics.DIVERGENCE}
    shown = set(re.findall(r'"/([\w/]+)', json.dumps(layout["configById"])))
    assert shown == shown & recorded and len(shown) == 10
    panels = set(re.findall(r'"(\w+![\w]+)"', json.dumps(layout["layout"])))
    assert panels == set(layout["configById"])
