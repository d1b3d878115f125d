"""What the recorder does with what comes, what survives a crash, and what is noticed afterwards."""

import io
import json
import resource
import shutil
import signal
import zlib

import numpy as np
import pytest
import zstandard
from episode_problems import problems
from gwm.cli.main import main
from hypothesis import given, settings
from hypothesis import strategies as st
from mcap.data_stream import ReadDataStream
from mcap.opcode import Opcode
from mcap.records import Chunk

from benchmarks.live import recorder
from gwm_core import topics
from gwm_core.data import ros_messages
from gwm_core.data.bag import files
from gwm_core.data.checks import findings, numbering
from gwm_core.data.episode import read_episode
from gwm_core.data.episode_info import INFO, list_episodes, list_unfinished
from gwm_core.data.episode_writer import EpisodeWriter
from gwm_core.data.resampled_episode import COLUMNS, resample_longest, write_resampled
from gwm_core.errors import InputError
from gwm_core.geometry.camera import intrinsics
from gwm_core.recording.backlog import ProgressTimeout, WriteBacklog
from gwm_core.recording.episode_recovery import recover, salvage_messages
from gwm_core.recording.provenance import policy_code, provenance
from gwm_core.recording.recorder import SYNC, DiskConfig, Recorder
from gwm_core.recording.ring_buffer import RingBuffer
from gwm_core.site import simulation_site

CAMERAS = {name: camera.to_dict() for name, camera in simulation_site().cameras.items()}
ABOUT = {"task": "lift", "cameras": CAMERAS, "unusable": []}
NONE = DiskConfig(0, 0.0)
K = intrinsics(32, 24, 42.5)
MIDDLE = np.array([0.5, 0.0, 0.12, 1.0])  # [m] of the workspace
DISTANCE = {  # [mm] of a plane through it that faces the camera
    name: round(1e3 * (np.linalg.inv(camera["T_base_camera"]) @ MIDDLE)[2])
    for name, camera in CAMERAS.items()
}


def record(folder, seconds=1.0, change=lambda topic, message: message):
    """An episode as a recorder sees it: joints and commands at 100 Hz, two cameras at 10 Hz."""
    rng, writer = np.random.default_rng(0), EpisodeWriter(folder, ABOUT)

    def write(topic, message, stamp):
        if (message := change(topic, message)) is not None:
            writer.write(topic, message, stamp)

    for camera in CAMERAS:
        write(topics.info(f"camera/{camera}"), ros_messages.camera_info(1, camera, K, 32, 24), 1)
    for k in range(round(seconds * 100) + 1):
        stamp = 5_000_000_000 + k * 10_000_000
        q = np.array([0.0, -0.3, 0.0, -2.3, 0.0, 2.0, 0.7]) + 0.1 * np.sin(0.02 * k + np.arange(7))
        wished = (*topics.ARM_JOINTS, topics.WIDTH)
        write(
            topics.JOINT_STATES,
            ros_messages.joint_state(stamp, topics.ARM_JOINTS, q, 0.1 * q),
            stamp,
        )
        write(
            topics.GRIPPER_STATES,
            ros_messages.joint_state(stamp, topics.FINGER_JOINTS, [0.02, 0.02]),
            stamp,
        )
        write(
            topics.COMMAND,
            ros_messages.joint_state(stamp, wished, [*q + 0.01, 0.08 - 0.0004 * k]),
            stamp,
        )
        for camera in CAMERAS if k % 10 == 0 else ():
            color = rng.integers(0, 256, (24, 32, 3), np.uint8)
            depth = (DISTANCE[camera] + rng.integers(0, 3, (24, 32))).astype(np.uint16)
            prefix = f"camera/{camera}"
            write(
                topics.color(prefix) + "/compressed",
                ros_messages.compressed_color(stamp, camera, color),
                stamp,
            )
            write(
                topics.depth(prefix) + "/compressedDepth",
                ros_messages.compressed_depth(stamp, camera, depth),
                stamp,
            )
    return writer


def message(k):
    return ros_messages.serialized(
        topics.JOINT_STATES, ros_messages.joint_state(k, topics.ARM_JOINTS, np.full(7, k)), k
    )


@pytest.fixture
def recording(tmp_path):
    return Recorder(
        tmp_path / "runs", {"task": "lift", "cameras": {}}, RingBuffer(30.0, 1 << 20), NONE
    )


def test_an_episode_holds_what_came_between_start_and_save(recording):
    for k in range(1, 30):
        if k == 10:
            folder = recording.start()
        recording.take(k * 0.01, *message(k))
        if k == 19:
            assert recording.save({"success": True}) == folder and recording.saved == str(folder)
    assert [stamp for _, _, _, stamp in salvage_messages(folder / "bag")] == list(range(10, 20))
    info = json.loads((folder / INFO).read_text())
    assert info["success"] and info["task"] == "lift"
    kept = recording.keep()
    assert [stamp for _, _, _, stamp in salvage_messages(kept / "bag")] == list(range(1, 30))


def test_the_last_thirty_seconds_of_noisy_depth_fit_the_buffer_and_come_back_as_they_were(tmp_path):
    """Two cameras of 640x480 at 30 Hz, in the 512 MB that the recorder has by default."""
    rng = np.random.default_rng(0)
    depth = (800 + rng.normal(0, 3, (480, 640))).astype(np.uint16)  # [mm]
    topic, kind, content, _ = ros_messages.serialized(
        "depth", ros_messages.compressed_depth(1, "front", depth), 1
    )
    assert len(content) > 2 * 480 * 640
    ring = RingBuffer(30.0, 512 << 20)
    recorder = Recorder(tmp_path / "runs", {"task": "lift", "cameras": {}}, ring, NONE)
    for k in range(3):
        recorder.take(k / 60, topic, kind, content, k)
    color = 60_000  # [bytes]
    assert 60 * 30 * (ring._bytes / 3 + color) < 512 << 20
    kept = recorder.keep()
    assert [c for _, _, c, _ in salvage_messages(kept / "bag")] == 3 * [bytes(content)]


def test_calls_out_of_order_are_refused(recording):
    for call in (lambda: recording.save({}), recording.discard, recording.keep):
        with pytest.raises(InputError, match=r"not recording|nothing came"):
            call()
    recording.start()
    with pytest.raises(InputError, match="already recording"):
        recording.start()


def test_what_is_discarded_is_in_the_trash_and_nobody_reads_it(recording):
    recording.start()
    recording.take(0.0, *message(1))
    trashed = recording.discard()
    assert (
        trashed.parent.name == "trash"
        and trashed.is_dir()
        and list_unfinished(recording.parent) == []
    )
    recording.start()
    recording.take(0.0, *message(2))
    saved = recording.save({})
    assert list_episodes(recording.parent) == [saved]


def test_without_room_nothing_is_started_and_a_disk_that_fills_up_ends_an_episode_whole(recording):
    recording.disk = DiskConfig(1 << 30, 0.0)
    with pytest.raises(InputError, match="are free where episodes go"):
        recording.start()
    recording.disk = NONE
    folder = recording.start()
    recording.take(0.0, *message(1))
    recording.disk = DiskConfig(0, 1.0)  # now less is free than must be
    assert recording.result({"seen": 1})
    recording.tick(SYNC)
    info = json.loads((folder / INFO).read_text())
    assert (
        not recording.is_recording
        and "saved and stopped" in recording.cut
        and info["cut"]
        and info["seen"] == 1
    )
    with pytest.raises(InputError, match="saved and stopped"):
        recording.save({})


def test_counts_and_what_is_said_belong_to_the_episode_in_which_they_came(recording):
    """One thread's order decides: of two episodes the second inherits nothing, and between them
    nothing is kept.
    """
    said = []
    for number in range(2):
        assert not recording.mark({"note": "before"}) and not recording.result({"success": False})
        recording.count_missing("dropped", "a")
        recording.start()
        recording.take(0.0, *message(1))
        if number == 0:
            recording.count_missing("dropped", "a", 2)
            recording.count_missing("dropped", "b")
            recording.count_missing("lost", "a")
            assert recording.mark({"success": True, "note": "well"})
            # the operator's word counts more
            assert recording.result({"success": False, "seconds": 2.0})
            assert recording.mark({"score": 1.0})
            assert recording.counts == {"dropped": {"a": 2, "b": 1}, "lost": {"a": 1}}
        said.append(json.loads((recording.save() / INFO).read_text()))
    of_both = set(said[1])
    assert {key: value for key, value in said[0].items() if key not in of_both} == {
        "success": True,
        "seconds": 2.0,
        "note": "well",
        "score": 1.0,
        "dropped": {"a": 2, "b": 1},
        "lost": {"a": 1},
    }


def test_a_verdict_is_corrected_and_the_rest_of_the_episode_stays_as_it_was(recording):
    with pytest.raises(InputError, match="no saved episode"):
        recording.correct("episode_000000", True)
    recording.start()
    recording.take(0.0, *message(1))
    recording.mark({"success": False, "score": 0.3, "cause": "policy", "note": "dropped it"})
    folder = recording.save()
    assert recording.verdict is False and recording.episodes == 1
    before = json.loads((folder / INFO).read_text())
    recording.start()  # the next one may run already
    with pytest.raises(InputError, match="episode_000000 was saved last, not episode_000001"):
        recording.correct("episode_000001", True)
    assert recording.correct("episode_000000", True) == folder
    after = json.loads((folder / INFO).read_text())
    verdict = {"success": True, "corrected": True}
    kept = {k: v for k, v in before.items() if k not in ("success", "score", "cause")}
    assert after == kept | verdict and recording.verdict is True
    assert [*folder.glob("*.partial")] == []
    recording.discard()
    shutil.rmtree(folder)
    with pytest.raises(InputError, match="no saved episode"):
        recording.correct("episode_000000", False)


def test_an_episode_tells_when_an_operator_led_in_a_policys_place(recording):
    def episode(*chunks, last=100):
        recording.start()
        for source, stamp in chunks:
            recording.interventions.chunk(source, stamp)
        recording.take(0.0, *message(last))
        return json.loads((recording.save() / INFO).read_text()).get("interventions")

    policy, operator = topics.BY_POLICY, topics.BY_OPERATOR
    assert episode((policy, 10), (operator, 20), (operator, 30), (policy, 40)) == [[20, 40]]
    assert episode((operator, 5), (policy, 10), (operator, 20)) == [[5, 10], [20, 100]]
    assert episode((operator, 5), (operator, 10)) is None  # a demonstration
    assert episode((policy, 5), ("another", 10)) == []
    assert episode(("another", 5), (operator, 10), ("another", 20)) == [[10, 20]]


def test_episodes_of_an_earlier_run_are_counted(recording):
    recording.start()
    assert recording.seconds(5.0) == 0.0  # no time was given
    recording.save()
    recording.start(10.0)
    assert recording.seconds(12.5) == 2.5
    recording.discard()
    assert recording.seconds(13.0) == 0.0
    again = Recorder(recording.parent, recording.about, recording.ring, NONE)
    assert again.episodes == recording.episodes == 1


@pytest.fixture
def small_files(tmp_path):
    """A disk that takes no file of more than so many bytes: what a full one does, and it fails at
    closing too.
    """
    before = (
        resource.getrlimit(resource.RLIMIT_FSIZE),
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN),
    )
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[0][1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before[0])
    signal.signal(signal.SIGXFSZ, before[1])


def test_a_full_disk_on_which_closing_fails_too_ends_the_episode_and_not_the_recorder(
    recording, small_files
):
    folder = recording.start()
    for k in range(1, 101):
        recording.take(0.01 * k, *message(k))
    recording.tick(SYNC)
    partial = folder.with_name(folder.name + ".partial")
    (file,) = partial.rglob("*.mcap")
    recording.disk = DiskConfig(0, 1.0)  # nearly full: it saves by itself
    small_files(file.stat().st_size + 10)
    recording.tick(2 * SYNC)
    assert not recording.is_recording and f"gwm data recover {partial}" in recording.cut
    recording.disk = NONE
    with pytest.raises(InputError, match="gwm data recover"):
        recording.save()
    with pytest.raises(InputError, match="not kept"):
        recording.keep()
    small_files(0)
    with pytest.raises(InputError, match="cannot write"):
        recording.start()
    small_files(1 << 20)
    recording.take(3.0, *message(200))
    assert list_unfinished(recording.parent) == [folder]  # nothing else was left behind
    assert recover(partial)[1] == 100
    recording.start()
    assert recording.save().name == "episode_000001"


def test_a_disk_that_cannot_be_asked_is_no_end(recording, tmp_path):
    recording.start()
    recording.parent = tmp_path / ("x" * 300) / "runs"  # no such name is possible
    recording.tick(SYNC)
    assert recording.is_recording and np.isnan(recording.free)


def work_off(backlog, count, encoding, writing):
    for _ in range(count):
        backlog.finish(backlog.next(), encoding, writing)


def test_pictures_give_way_by_the_time_they_would_take_and_everything_by_memory():
    backlog = WriteBacklog(maximum_bytes=1000, maximum_seconds=2.0)
    # 50 ms to encode, and 10 ms to write with a small message that came between
    for _ in range(300):
        backlog.put(print, 10)
        work_off(backlog, 1, 0.0, 0.004)
        backlog.put(print, 20, is_image=True)
        work_off(backlog, 1, 0.05, 0.006)
    assert (backlog.waiting, backlog.size, backlog.seconds, backlog.done) == (0, 0, 0.0, 600)
    assert backlog.encoding == pytest.approx(0.05, rel=0.01) and backlog.writing == pytest.approx(
        0.01, rel=0.01
    )
    while not (reason := backlog.refusal(5, True)):
        backlog.put(print, 5, is_image=True)
    assert (
        backlog.waiting == 34
        and backlog.seconds == pytest.approx(2.04, rel=0.01)
        and "encoder" in reason
    )
    assert backlog.refusal(5, False) == "" and "MB wait" in backlog.refusal(
        1000 - 34 * 5 + 1, False
    )
    work_off(backlog, 30, 0.01, 0.2)
    assert backlog.refusal(5, True) == ""
    for _ in range(30):
        backlog.put(print, 5, is_image=True)
    assert "disk" in backlog.refusal(5, True)


def test_a_stall_of_the_disk_costs_few_pictures():
    """What waited for it is written at once afterwards: its one long write does not count for
    long.
    """
    backlog = WriteBacklog(maximum_bytes=1 << 30, maximum_seconds=3.0)
    for _ in range(100):
        backlog.put(print, 1, is_image=True)
        work_off(backlog, 1, 0.004, 0.001)
    for _ in range(300):  # five seconds at 60 a second: all of them may wait
        assert backlog.refusal(1, True) == ""
        backlog.put(print, 1, is_image=True)
    backlog.spend(0.0, 5.0)
    refused = 0
    for _ in range(300):
        work_off(backlog, 1, 0.004, 0.001)
        refused += bool(backlog.refusal(1, True))
    assert refused < 80 and backlog.refusal(1, True) == ""


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from(["picture", "message", "ask", "do"]), max_size=60))
def test_messages_overtake_pictures_and_nothing_overtakes_what_was_asked_before_it(steps):
    """So a crash takes little but pictures, and an episode holds what came between its start and
    its end.
    """
    backlog, asked, begun, done = WriteBacklog(1 << 30, 1e9), [], [], []
    for number, step in enumerate([*steps, *["do"] * len(steps)]):
        if step == "do":
            if (job := backlog.next()) is not None:
                done.append(job.work)
                backlog.finish(job, 0.0, 0.0)
            continue
        backlog.put((number, step), is_image=step == "picture", after_images=step == "ask")
        begun.append((number, step))
        if step == "ask":
            asked.append(number)
    assert sorted(done) == begun and backlog.waiting == 0
    place = {number: k for k, (number, _) in enumerate(done)}
    for number in asked:
        assert all(place[n] < place[number] for n, _ in begun if n < number)
        assert all(place[n] > place[number] for n, _ in begun if n > number)
    for kind in ("picture", "message", "ask"):
        own = [number for number, step in done if step == kind]
        assert own == sorted(own)


def test_a_message_does_not_wait_for_pictures():
    backlog = WriteBacklog(1 << 30, 1e9)
    for number in range(3):
        backlog.put(number, is_image=True)
    backlog.put("small")
    assert [backlog.next().work for _ in range(4)] == ["small", 0, 1, 2]
    backlog.put(4, is_image=True)
    backlog.put("save", after_images=True)
    backlog.put(5, is_image=True)
    backlog.put("start")
    assert [backlog.next().work for _ in range(4)] == [4, "save", "start", 5]


def test_an_episode_begins_when_it_was_asked_for_whatever_waited_then(recording):
    folder = recording.start(now=1.0)
    for k in range(1, 30):
        recording.take(0.1 * k, *message(k))
    recording.save()
    assert [stamp for _, _, _, stamp in salvage_messages(folder / "bag")] == list(range(10, 30))


def test_one_waits_as_long_as_less_is_left():
    timeout = ProgressTimeout(10.0, now=0.0)
    assert timeout.left is None and not timeout.expired(10.0) and timeout.expired(10.1)
    # 3 a second are done while 5 come: all from before the question are at 58
    for second in range(1, 60):
        timeout.report(1000 + 3 * second, 170 + 2 * second, float(second))
        assert timeout.left == max(0, 175 - 3 * second)
        assert not timeout.expired(second + 10.0)
    assert timeout.expired(59 + 10.1)
    stuck = ProgressTimeout(10.0, now=0.0)
    for second in range(1, 30):
        stuck.report(500, 80 + second, float(second))
    assert stuck.left == 81 and stuck.expired(11.1) and not stuck.expired(10.9)
    for second in range(30, 40):
        stuck.report(second - 30, 5, float(second))  # started anew: it will never answer
    assert stuck.expired(40.0)


def test_a_crash_takes_what_came_after_the_last_sync(recording):
    folder = recording.start()
    for k in range(1, 101):
        recording.take(0.01 * k, *message(k))
        recording.tick(0.01 * k)
    partial = folder.with_name(folder.name + ".partial")
    copy = recording.parent / "other" / partial.name
    shutil.copytree(partial, copy)  # the files as they are, buffers lost
    made, count, _ = recover(copy)
    assert 50 <= count <= 100 and [s for _, _, _, s in salvage_messages(made / "bag")] == list(
        range(1, count + 1)
    )
    with pytest.raises(InputError, match="was never finished: `gwm data recover"):
        EpisodeWriter(folder, {})
    assert recording.abandon() == partial and recover(partial)[1] == 100


@settings(max_examples=40, deadline=None)
@given(st.floats(0, 1))
def test_a_file_cut_anywhere_gives_its_begin(tmp_path_factory, share):
    folder = tmp_path_factory.mktemp("cut") / "episode"
    writer = EpisodeWriter(folder, {"task": "lift", "cameras": {}})
    for k in range(1, 41):
        writer.write_cdr(*message(k))
        if k % 10 == 0:
            writer.sync()
    writer.abort()
    (file,) = writer.partial.rglob("*.mcap")
    content = file.read_bytes()
    file.write_bytes(content[: round(share * len(content))])
    try:
        made, count, _ = recover(writer.partial, lambda text: None)
    except InputError as error:
        assert "nothing of" in str(error) and share < 0.3
        return
    assert [s for _, _, _, s in salvage_messages(made / "bag")] == list(range(1, count + 1))
    assert count >= 10 * int(share * 4 - 0.2) and json.loads((made / INFO).read_text())["recovered"]
    assert not writer.partial.exists() and list_unfinished(folder.parent) == []


def chunked(folder, *, packed):
    """An unfinished episode of four chunks of ten messages, and where each is: offset and length of
    its content.

    ``packed``: with zstd, as they are written; else as ones of other programs.
    """
    writer = EpisodeWriter(folder, {"task": "lift", "cameras": {}})
    for k in range(1, 41):
        writer.write_cdr(*message(k))
        if k % 10 == 0:
            writer.sync()
    writer.abort()
    (file,) = writer.partial.rglob("*.mcap")
    content, out, at, chunks = file.read_bytes(), bytearray(), 8, []
    out += content[:at]
    while at < len(content):
        length = int.from_bytes(content[at + 1 : at + 9], "little")
        body = content[at + 9 : at + 9 + length]
        if content[at] == Opcode.CHUNK:
            chunk = Chunk.read(ReadDataStream(io.BytesIO(body)))
            plain = zstandard.ZstdDecompressor().decompress(chunk.data)
            data = chunk.data if packed else plain
            name = b"zstd" if packed else b""
            crc = 0 if packed else zlib.crc32(plain)  # zstd has its own
            body = body[:24] + crc.to_bytes(4, "little")
            body += len(name).to_bytes(4, "little") + name + len(data).to_bytes(8, "little")
            chunks.append((len(out) + 9 + len(body), len(data)))
            body += data
        out += content[at : at + 1] + len(body).to_bytes(8, "little") + body
        at += 9 + length
    file.write_bytes(out)
    return writer.partial, file, chunks


def spoilt(content):
    return bytes(b ^ 255 for b in content)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("change", [spoilt, lambda content: bytes(len(content))])
def test_a_damaged_chunk_in_the_middle_costs_only_itself_and_is_said(
    tmp_path, packed, change, capsys, monkeypatch
):
    """As foxglove/mcap #1390 wants it of `mcap recover`, which ended at the first."""
    partial, file, chunks = chunked(tmp_path / "episode", packed=packed)
    content = bytearray(file.read_bytes())
    begin, length = chunks[1]
    at = slice(begin + length // 2, begin + length // 2 + 64)
    content[at] = change(content[at])
    file.write_bytes(content)
    monkeypatch.setattr("sys.argv", ["gwm", "data", "recover", str(tmp_path)])
    assert main() == 0
    assert "1 of 4 chunks are damaged: left out" in capsys.readouterr().out
    kept = [*range(1, 11), *range(21, 41)]
    assert [
        stamp for *_, stamp in salvage_messages(tmp_path / "episode" / "bag")
    ] == kept and not partial.exists()


def test_topics_that_a_damaged_chunk_described_are_counted(tmp_path):
    partial, file, chunks = chunked(tmp_path / "episode", packed=True)
    content = bytearray(file.read_bytes())
    begin, length = chunks[0]
    content[begin : begin + length] = bytes(length)
    file.write_bytes(content)
    said = []
    with pytest.raises(InputError, match=r"nothing of .* can be read .*bytes of .mcap"):
        recover(partial, said.append)
    assert (
        "1 of 4 chunks are damaged, 30 messages are of topics that were described in them"
        in said[0]
    )


def test_a_bag_compressed_as_a_whole_is_named_and_not_called_empty(tmp_path):
    folder = record(tmp_path / "episode").close(ABOUT)
    (file,) = folder.rglob("*.mcap")
    packed = file.with_name(file.name + ".zstd")
    packed.write_bytes(zstandard.compress(file.read_bytes()))
    file.unlink()
    (found,) = problems(folder)
    assert "bag.mcap.zstd is compressed as a whole: unpack it with zstd -d" in found
    partial = folder.rename(tmp_path / "other.partial")
    with pytest.raises(InputError, match="is compressed as a whole: unpack it with zstd -d"):
        recover(partial)
    packed = next(tmp_path.rglob("*.zstd"))
    packed.with_suffix("").write_bytes(zstandard.decompress(packed.read_bytes()))
    assert recover(partial)[1] > 300
    next((tmp_path / "other").rglob("*.mcap")).unlink()
    assert problems(tmp_path / "other")[0].endswith("bag/bag.mcap is not there: copy it again")


def test_parts_of_a_bag_are_read_in_the_order_they_were_written_in(tmp_path):
    for k in (10, 9, 1):
        (tmp_path / f"bag_{k}.mcap").touch()
    assert [path.name for path in files(tmp_path)] == ["bag_1.mcap", "bag_9.mcap", "bag_10.mcap"]


def test_an_interrupted_recovery_goes_on(tmp_path):
    writer = record(tmp_path / "episode")
    writer.sync()
    writer.abort()
    partial = writer.partial.rename(tmp_path / "episode.broken")
    writer.partial.mkdir()  # what the first try had begun to write
    made, count, seconds = recover(tmp_path / "episode")
    assert count > 300 and seconds > 0.9 and not partial.exists() and problems(made) == []


def test_killed_or_on_a_full_disk_nothing_acknowledged_is_lost():
    for full in (False, True):
        report = recorder.run(1, 3, full)
        assert report.lost == report.half == 0 and report.open and max(report.lost_s) <= 1.0
        assert report.saved or full


@pytest.mark.parametrize(
    "part, begin, end, said",
    [
        ("depth", 0.0, 9.0, "nothing was recorded on camera/front/aligned_depth"),
        (topics.COMMAND, 5.5, 9.0, "before the others"),
        (topics.JOINT_STATES, 5.2, 5.6, "gaps, the longest 0.4"),
    ],
)
def test_what_is_missing_is_named(tmp_path, part, begin, end, said):
    def spoil(topic, message):
        stamp = message.header.stamp
        return None if part in topic and begin < stamp.sec + stamp.nanosec * 1e-9 < end else message

    path = record(tmp_path / "episode", 2.0, spoil).close(ABOUT)
    assert any(said in line for line in problems(path)), problems(path)


def test_a_silent_gripper_is_a_gap_and_no_damage(tmp_path):
    """As on a busy machine: observations without a known width are left out, and only they."""

    def spoil(topic, message):
        seconds = message.header.stamp.sec + message.header.stamp.nanosec * 1e-9
        return None if topic == topics.GRIPPER_STATES and 5.5 < seconds < 6.5 else message

    found = findings(record(tmp_path / "episode", 2.0, spoil).close(ABOUT))
    assert found.errors == []
    assert any(line.startswith("gripper width: unknown at ") for line in found.warnings), found


def test_a_trainings_cache_is_no_unfinished_episode(tmp_path):
    (tmp_path / "samples-0123456789abcdef.partial" / "000000").mkdir(parents=True)
    assert list_unfinished(tmp_path) == []


def test_not_a_number_and_changed_files_are_named(tmp_path):
    def spoil(topic, m):
        if topic == topics.JOINT_STATES and m.header.stamp.nanosec == 500_000_000:
            m.position = np.where(np.arange(7) == 3, np.nan, m.position)
        return m

    path = record(tmp_path / "episode", 1.0, spoil).close(ABOUT)
    assert problems(path) == ["measured joints: not finite in 1 rows"]
    whole = record(tmp_path / "whole").close(ABOUT)
    assert problems(whole) == []
    (file,) = whole.rglob("*.mcap")
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    assert "not the file that was recorded" in problems(whole)[0]


def test_missing_numbers_are_named(tmp_path):
    paths = [tmp_path / f"episode_{n:06d}" for n in (0, 1, 4)] + [
        tmp_path / "pick_place_nominal_000007"
    ]
    assert numbering(paths) == [
        f"{tmp_path}: episode 2, 3 not there (in the trash, unfinished, or lost)"
    ]


@pytest.mark.parametrize("fps", [5, 10])
def test_rows_written_as_an_episode_are_the_same_rows(tmp_path, fps):
    made = record(tmp_path / "episode", 2.0).close(
        ABOUT | {"unusable": [[5_400_000_000, 5_700_000_000]]}
    )
    table = resample_longest(read_episode(made), fps)
    assert len(table) == 2 * fps + 1 and table.usable.sum() in (len(table) - 4, len(table) - 2)
    back = resample_longest(read_episode(write_resampled(table, tmp_path / "again")), fps)
    assert (
        back.color == table.color
        and back.depth == table.depth
        and (back.usable == table.usable).all()
    )
    for name in COLUMNS:
        np.testing.assert_allclose(back.columns[name], table.columns[name], atol=2e-6)
    np.testing.assert_array_equal(back.columns["action.joints"], table.columns["action.joints"])
    assert problems(tmp_path / "again") == []


def test_an_action_is_what_was_sent_a_row_later(tmp_path):
    table = resample_longest(read_episode(record(tmp_path / "episode").close(ABOUT)))
    width = table.columns["action.joints"][:, 7]
    np.testing.assert_allclose(width[:-1], 0.08 - 0.0004 * 10 * np.arange(1, len(width)), atol=1e-6)


def test_a_policy_is_known_by_a_code_that_tells_nothing_and_differs_from_lab_to_lab(tmp_path):
    policies = [str(tmp_path / name) for name in "ab"]
    here, there = tmp_path / "here", tmp_path / "there"
    codes = [policy_code(policy, folder) for folder in (here, there) for policy in policies]
    assert len(set(codes)) == 4 and codes[:2] == [policy_code(policy, here) for policy in policies]
    known = provenance(simulation_site(), "sim", "lift", policies[0], "Ada", here)
    assert (
        known["policy"] == codes[0]
        and known["operator"] == "Ada"
        and policies[0] not in json.dumps(known)
    )


def test_the_verbs(tmp_path, capsys, monkeypatch):
    def gwm(*words):
        monkeypatch.setattr("sys.argv", ["gwm", "data", *map(str, words)])
        code = main()
        return code, "".join(capsys.readouterr())

    record(tmp_path / "runs/episode_000000").close(ABOUT | {"success": True, "seconds": 6.0})
    crashed = record(tmp_path / "runs/episode_000001")
    crashed.sync()
    crashed.abort()
    code, said = gwm("info", tmp_path / "runs", "--json", tmp_path / "info.json")
    assert (
        code == 0
        and "unfinished" in said
        and json.loads((tmp_path / "info.json").read_text())["trash"] == 0
    )
    assert gwm("recover", tmp_path / "runs")[0] == 0
    assert gwm("recover", tmp_path / "runs") == (0, f"nothing unfinished in {tmp_path / 'runs'}\n")
    code, said = gwm("verify", tmp_path / "runs", "--processes", "1")
    assert code == 0 and "2 of 2 episodes are whole" in said
    code, said = gwm("stats", tmp_path / "runs", "--processes", "1")
    assert code == 0 and "fr3_joint4" in said
    assert (
        gwm("view", tmp_path / "runs")[0] == 0 and (tmp_path / "runs/contact_sheet.png").is_file()
    )
    (file,) = (tmp_path / "runs/episode_000000").rglob("*.mcap")
    file.write_bytes(file.read_bytes()[:-9])
    assert gwm("verify", tmp_path / "runs", "--processes", "1")[0] == 1
    for bad in (
        ("info", tmp_path / "nowhere"),
        ("view", tmp_path / "runs", "--camera", "wrist"),
        ("recover", tmp_path / "x.partial"),
    ):
        code, said = gwm(*bad)
        assert code in (1, 2) and said.count("\n") == 1
