"""One grid of time for exports, clips and samples, from live recordings at any rate; and what
spoils a recording.
"""

import json
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import test_recording
from gwm.cli.main import main
from hypothesis import given, settings
from hypothesis import strategies as st
from live_episodes import record_live, status
from test_recording import ABOUT, record

from gwm_core import topics
from gwm_core.data.checks import findings
from gwm_core.data.episode import read_episode, synced_observations
from gwm_core.data.episode_info import list_episodes
from gwm_core.data.episode_writer import EpisodeWriter
from gwm_core.data.resampled_episode import resample, resample_longest
from gwm_core.data.time_grid import STEP, on_grid, steps, stream_rate, stretches
from gwm_core.errors import InputError
from gwm_core.model.config import named_config
from gwm_core.scene.lift import LiftConfig
from gwm_core.training.datasets import array_cache
from gwm_core.training.datasets.array_cache import ArrayCache
from gwm_core.training.datasets.clips import episode_clips, load_clips
from gwm_core.training.datasets.latents import spread_starts
from gwm_core.training.datasets.policy_samples import episode_samples, load_samples
from gwm_core.types import CHUNK_ROWS

SECOND = 1_000_000_000
POLICY, _ = named_config("tiny")


def stamps_of(
    hz: float, seconds: float = 60, jitter: float = 0.0, lost: float = 0.0, seed: int = 0
) -> np.ndarray:
    """Stamps [ns] of a camera; ``jitter`` [s] and the share that is ``lost``."""
    rng = np.random.default_rng(seed)
    times = np.arange(round(seconds * hz)) / hz
    times = times + rng.uniform(-jitter, jitter, len(times))
    return SECOND + np.sort(np.rint(times[rng.random(len(times)) >= lost] * 1e9)).astype(np.int64)


@pytest.mark.parametrize("hz", [9.97, 10, 15, 14.99, 20, 25, 29.97, 30, 60, 90])
@pytest.mark.parametrize("jitter", [0.0, 0.005])
def test_any_usual_camera_gives_one_stretch_with_every_step_near_a_tenth(hz, jitter):
    stamps = stamps_of(hz, jitter=jitter)
    chosen = on_grid(stamps)
    apart = np.diff(stamps[chosen])
    assert len(stretches(stamps[chosen])) <= 2 and len(chosen) > 590
    inside = apart[steps(stamps[chosen])]
    assert np.abs(inside - STEP).max() <= STEP / 2
    np.testing.assert_allclose(inside.mean(), STEP, rtol=0.005)


@pytest.mark.parametrize("hz", [5, 6])
def test_slow_cameras_give_moments_but_no_stretch(hz):
    stamps = stamps_of(hz)
    chosen = on_grid(stamps)
    assert (
        len(chosen) == len(stamps)
        and max(part.stop - part.start for part in stretches(stamps)) == 1
    )
    assert str(stream_rate(stamps)) == f"the cameras ran at {hz}.0 Hz"


def test_moments_exactly_a_tenth_apart_are_all_taken(episodes):
    """What `gwm collect` writes gives the samples and clips it always gave: results of trainings do
    not change.
    """
    for path in list_episodes(episodes):
        episode = read_episode(path)
        stamps = np.array([stamp for stamp, _, _ in synced_observations(episode)])
        assert set(np.diff(stamps)) == {STEP}
        np.testing.assert_array_equal(on_grid(stamps), np.arange(len(stamps)))
        assert len(stretches(stamps)) == 1 and len(stamps) > 20
    clips = load_clips([episodes], LiftConfig(count=64), 2)
    last = np.flatnonzero(np.diff(clips.episode)).tolist()
    wanted = [k for k in range(len(clips) - 9) if not any(k <= end < k + 9 for end in last)]
    np.testing.assert_array_equal(clips.starts(10), wanted)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(1, 400), min_size=1, max_size=60))
def test_no_stretch_has_a_step_that_is_none_whatever_was_lost(gaps):
    stamps = np.cumsum([0, *gaps]) * 1_000_000 + SECOND
    chosen = on_grid(stamps)
    assert (np.diff(chosen) > 0).all() and chosen[0] == 0
    apart = np.diff(stamps[chosen])
    follows = steps(stamps[chosen])
    assert (np.abs(apart[follows] - STEP) <= STEP / 2).all() and (
        apart[~follows] > 1.5 * STEP
    ).all()
    assert sum(part.stop - part.start for part in stretches(stamps[chosen])) == len(chosen)


@pytest.fixture(scope="module", params=[15, pytest.param(30, marks=pytest.mark.long)])
def live(request, tmp_path_factory, renderer) -> Path:
    return record_live(
        tmp_path_factory.mktemp(f"live{request.param}"), request.param, (1, 2), renderer
    )


def gwm(monkeypatch, capsys, *words) -> tuple[int, str, str]:
    monkeypatch.setattr("sys.argv", ["gwm", *map(str, words)])
    code = main()
    return code, *capsys.readouterr()


@pytest.mark.timeout(600)
def test_live_recordings_train_everything_without_a_word(live, tmp_path, monkeypatch, capsys):
    vae = tmp_path / "vae"
    common = "--data", live, "--config", "tiny", "--iterations", 2, "--processes", 1
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        for words in (
            ("vae", *common, "--out", vae),
            ("policy", *common, "--futures", live, "--vae", vae, "--out", tmp_path / "policy"),
        ):
            code, said, wrong = gwm(monkeypatch, capsys, "train", *words)
            assert code == 0 and "nan" not in said, wrong


def test_exports_clips_and_samples_take_the_same_moments_of_a_live_recording(live):
    episode = read_episode(list_episodes(live)[0])
    clips = episode_clips(episode, LiftConfig(count=64))
    (table,) = resample(episode)
    assert len(table) == len(clips["stamps"]) > 30
    apart = np.diff(clips["stamps"])
    assert np.abs(apart - STEP).max() <= STEP / 2 and abs(apart.mean() - STEP) < 0.03 * STEP
    np.testing.assert_allclose(table.columns["observation.pose"], clips["poses"], atol=1e-6)
    samples = episode_samples(episode, LiftConfig(count=64))
    kept = ~np.any(
        [(clips["stamps"] >= a) & (clips["stamps"] <= b) for a, b in episode.unusable], axis=0
    )
    np.testing.assert_allclose(samples["proprio"][:, :10], clips["poses"][kept], atol=1e-6)


def test_holds_and_ramps_are_never_labels_but_the_world_model_sees_them(live):
    """The gate rests until the first plan: those moments are clips, and no samples."""
    episode = read_episode(list_episodes(live)[0])
    (begin, end), *_ = episode.unusable
    stamps = episode_clips(episode, LiftConfig(count=64))["stamps"]
    before = int(((stamps >= begin) & (stamps <= end)).sum())
    samples = episode_samples(episode, LiftConfig(count=64))
    assert before > 0 and len(samples["rows"]) <= len(stamps) - before
    (table,) = resample(episode)
    np.testing.assert_array_equal(table.usable[:before], False)


def stopped(folder):
    """2 s, in whose middle the gate ramped and rested; what it sent then is nobody's wish."""
    writer = record(folder, 4.0)
    for tenth in range(41):
        stamp = 5 * SECOND + tenth * STEP
        says = (
            ("RUNNING", "following plans", 7)
            if tenth < 20 or tenth > 25
            else ("STOPPING", "held by operator", 0)
        )
        writer.write(topics.STATUS, status(stamp, *says), stamp)
    return read_episode(writer.close(ABOUT))


def test_rows_of_a_chunk_end_where_a_stop_begins(tmp_path):
    samples = episode_samples(stopped(tmp_path / "episode"), LiftConfig(count=16))
    valid = samples["valid"].sum(1)
    assert len(valid) == 41 - 6  # 2.0 to 2.5 s are left out
    assert valid[:4].tolist() == [CHUNK_ROWS] * 4 and valid[10:20].tolist() == list(
        range(9, -1, -1)
    )
    assert valid[20:].min() == CHUNK_ROWS


def test_a_silent_gate_gives_neither_labels_nor_clips(tmp_path):
    def silence(topic, message):
        stamp = message.header.stamp
        quiet = topic == topics.COMMAND and 6.0 < stamp.sec + stamp.nanosec * 1e-9 < 7.0
        return None if quiet else message

    episode = read_episode(record(tmp_path / "episode", 4.0, silence).close(ABOUT))
    stamps = episode_clips(episode, LiftConfig(count=16))["stamps"]
    assert not ((stamps > 6.1 * SECOND) & (stamps < 6.9 * SECOND)).any() and len(stamps) > 30
    valid = episode_samples(episode, LiftConfig(count=16))["valid"]
    assert not valid[11].any() and valid[5].sum() == 5 and valid[20].all()
    assert not resample_longest(episode).usable[11:18].any()


def slow(folder, every):
    """An episode whose cameras give every so many-th of the frames at 10 Hz."""
    count = {}

    def thin(topic, message):
        if "compressed" not in topic:
            return message
        count[topic] = count.get(topic, -1) + 1
        return None if count[topic] % every else message

    return record(folder, 4.0, thin).close(ABOUT)


def test_where_there_is_no_window_the_cameras_rate_is_named(tmp_path):
    path = slow(tmp_path / "data" / "episode", 2)
    clips = load_clips([tmp_path / "data"], LiftConfig(count=16), 1)
    with pytest.raises(
        InputError, match=r"the cameras ran at 5\.0 Hz: cameras at 10 Hz or more are wanted"
    ):
        spread_starts(clips, 6, 1)
    with pytest.raises(
        InputError, match=r"no two rows are 1/10 s apart, the cameras ran at 5\.0 Hz"
    ):
        resample(read_episode(path))
    assert len(resample_longest(read_episode(path), 5)) == 21
    found = findings(path)
    assert found.errors == [] and not found.policy and "5.0 Hz" in found.world
    assert len(load_samples([tmp_path / "data"], ("lift",), LiftConfig(count=16), 1)) == 21


def test_an_export_breaks_off_where_pictures_are_missing(tmp_path, monkeypatch, capsys):
    def lose(topic, message):
        stamp = message.header.stamp
        return (
            None
            if "front/color/image" in topic and 6.95 < stamp.sec + stamp.nanosec * 1e-9 < 7.95
            else message
        )

    record(tmp_path / "data" / "episode", 4.0, lose).close(ABOUT | {"success": True})
    episode = read_episode(tmp_path / "data" / "episode")
    first, second = resample(episode)
    assert (len(first), len(second)) == (20, 11)
    assert (
        first.info["success"] is None
        and second.info["success"] is True
        and second.info["stretch"] == [2, 2]
    )
    code, said, told = gwm(
        monkeypatch,
        capsys,
        "data",
        "export",
        "lerobot",
        tmp_path / "data",
        tmp_path / "out",
        "--images",
    )
    assert code == 0 and "2 episodes, 31 rows" in said and "rows break off 1 times" in told


def set_clock(folder, seconds, seconds_in=4.0):
    """An episode in whose middle the clock was set."""
    half = 5 * SECOND + round(seconds_in / 2 * 1e9)

    def jump(topic, message):
        stamp = message.header.stamp
        now = stamp.sec * SECOND + stamp.nanosec
        if now >= half:
            stamp.sec, stamp.nanosec = divmod(now + round(seconds * 1e9), SECOND)
        return message

    return record(folder, seconds_in, jump).close(ABOUT)


class ByStamp(EpisodeWriter):
    """Logs the stamp, as our recorder does; the other logs when a message came."""

    def write(self, topic, message, stamp):
        header = message.header.stamp
        super().write(topic, message, header.sec * SECOND + header.nanosec)


@pytest.mark.parametrize("writer", [EpisodeWriter, ByStamp])
@pytest.mark.parametrize("seconds", [-4, -1.5, -0.5])
def test_a_clock_set_back_leaves_the_longest_stretch_and_is_said(
    tmp_path, monkeypatch, seconds, writer
):
    monkeypatch.setattr(test_recording, "EpisodeWriter", writer)
    path = set_clock(tmp_path / "episode", seconds, 4.0)
    found = findings(path)
    assert found.errors == [] and any(
        "the clock was set back by" in warning for warning in found.warnings
    )
    table = resample_longest(read_episode(path))
    assert 20 <= len(table) <= 21
    moved = np.abs(np.diff(table.columns["observation.state"][:, :7], axis=0)).max(1)
    assert (moved > 0).all()  # no row twice
    apart = table.columns["action.joints"][:-1, :7] - table.columns["observation.state"][1:, :7]
    # what was sent a row later, in the same time
    np.testing.assert_allclose(apart, 0.01, atol=1e-5)


@pytest.mark.parametrize(
    "topic", [topics.JOINT_STATES, topics.color("camera/front") + "/compressed", topics.COMMAND]
)
@pytest.mark.parametrize("end", [0, -1])
def test_one_stamp_that_rolled_over_at_an_end_costs_its_message_alone(tmp_path, topic, end):
    """rosbag2 #2389. In the middle it was left out already, at an end it spoilt the episode."""
    begin, last = 5, 6

    def change(name, message):
        stamp = getattr(getattr(message, "header", None), "stamp", None)
        if name == topic and (stamp.sec, stamp.nanosec) == ((begin, last)[end], 0):
            stamp.sec, stamp.nanosec = 2**31 - 1, 999_999_999
        return message

    path = record(tmp_path / "episode", change=change).close(ABOUT)
    found, episode = findings(path), read_episode(path)
    assert found.errors == [] and found.warnings == [
        f"{topic}: 1 stamps far from those before and after, left out"
    ]
    assert len(resample(episode, 10)) == 1


def test_a_clock_set_ahead_makes_no_rows_of_nothing(tmp_path):
    path = set_clock(tmp_path / "episode", 30)
    assert [len(table) for table in resample(read_episode(path))] == [20, 21]
    assert any("set ahead by 30.0 s" in warning for warning in findings(path).warnings)
    assert not episode_samples(read_episode(path), LiftConfig(count=16))["valid"][19].any()


def test_streams_that_jump_alone_are_refused(tmp_path):
    def slip(topic, message):
        stamp = message.header.stamp
        if "front/color/image" in topic and stamp.sec >= 6:
            stamp.sec -= 1
        return message

    path = record(tmp_path / "episode", 2.0, slip).close(ABOUT)
    with pytest.raises(InputError, match="which image is of when is not known"):
        read_episode(path)
    assert findings(path).errors


def test_one_stray_stamp_costs_one_message(tmp_path):
    def slip(topic, message):
        stamp = message.header.stamp
        if "front/color/image" in topic and stamp.sec == 6 and stamp.nanosec == 0:
            stamp.sec = 0
        return message

    path = record(tmp_path / "episode", 2.0, slip).close(ABOUT)
    episode = read_episode(path)
    assert len(episode.images["front", "color"]) == 20
    assert any("1 stamps far from those before and after" in note for note in episode.notes)


@pytest.mark.parametrize(
    "part",
    [
        "camera/front/color/image_raw/compressed",
        "camera/side/aligned_depth_to_color/image_raw/compressedDepth",
        topics.JOINT_STATES,
        topics.COMMAND,
    ],
)
def test_a_stamp_that_comes_twice_counts_once(tmp_path, monkeypatch, part):
    class Twice(EpisodeWriter):
        count = 0

        def write(self, topic, message, stamp):
            super().write(topic, message, stamp)
            self.count += topic == part
            if topic == part and self.count == 6:
                super().write(topic, message, stamp + 1_000_000)

    monkeypatch.setattr(test_recording, "EpisodeWriter", Twice)
    path = record(tmp_path / "episode", 1.0).close(ABOUT)
    found = findings(path)
    assert found.errors == [] and any(
        "have the stamp of another" in warning for warning in found.warnings
    )
    assert len(resample_longest(read_episode(path))) == 11
    assert len(episode_samples(read_episode(path), LiftConfig(count=16))["rows"]) == 11


def test_cameras_without_a_matrix_and_broken_files_are_one_line(tmp_path, monkeypatch, capsys):
    def zero(topic, message):
        if topic.endswith("camera_info"):
            message.k[:] = 0
        return message

    for k in range(3):
        record(tmp_path / "zero" / f"episode_{k:06d}", 1.0, zero).close(ABOUT)
        record(tmp_path / "broken" / f"episode_{k:06d}").close(ABOUT)
    (tmp_path / "broken" / "episode_000001" / "episode.json").write_text("{")
    info = tmp_path / "broken" / "episode_000002" / "episode.json"
    info.write_text(json.dumps(json.loads(info.read_text()) | {"seed": "4"}))
    for data, said in (("zero", "gives no camera matrix"), ("broken", "broken episode.json")):
        for words in (
            (
                "train",
                "policy",
                "--data",
                tmp_path / data,
                "--config",
                "tiny",
                "--out",
                tmp_path / "model",
            ),
            ("data", "export", "lerobot", tmp_path / data, tmp_path / "out", "--images"),
        ):
            code, _, told = gwm(monkeypatch, capsys, *words)
            (line,) = [line for line in told.splitlines() if line.startswith("gwm:")]
            assert code == 2 and said in line and "Traceback" not in told
    code, out, _ = gwm(monkeypatch, capsys, "data", "info", tmp_path / "broken")
    assert (
        code == 0
        and out.count("broken: ") == 2
        and "'seed' is '4', a whole number is wanted" in out
    )
    code, out, _ = gwm(monkeypatch, capsys, "data", "verify", tmp_path / "broken", "--processes", 1)
    assert code == 1 and "1 of 3 episodes are whole" in out


def test_warnings_are_no_errors(tmp_path, monkeypatch, capsys):
    def gap(topic, message):
        stamp = message.header.stamp
        return (
            None
            if topic == topics.JOINT_STATES and 5.3 < stamp.sec + stamp.nanosec * 1e-9 < 5.41
            else message
        )

    record(tmp_path / "data" / "episode_000000", 2.0, gap).close(ABOUT)
    code, said, _ = gwm(
        monkeypatch,
        capsys,
        "data",
        "verify",
        tmp_path / "data",
        "--processes",
        1,
        "--json",
        tmp_path / "found.json",
    )
    assert (
        code == 0
        and "warning: franka/joint_states: 1 gaps" in said
        and "fit to train on: yes" in said
    )
    found = json.loads((tmp_path / "found.json").read_text())
    (path,) = found["warnings"]
    assert found["errors"] == {} and found["fit"] == {path: {"policy": True, "world": True}}


def test_the_cache_is_keyed_by_the_code_that_fills_it(tmp_path):
    code = (
        "import sys, gwm_core.training.datasets.policy_samples,"
        " gwm_core.training.datasets.clips;print(*{m.__file__ for n, m in sys.modules.items() if"
        " n.startswith('gwm_core.')}, sep='\\n')"
    )
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    kept = {str(path) for path in array_cache.sources()}
    assert {path for path in loaded if not path.endswith("__init__.py")} <= kept and len(
        loaded
    ) > 20
    root = Path(array_cache.__file__).parents[2]
    shutil.copytree(root, tmp_path / "gwm_core", ignore=shutil.ignore_patterns("__pycache__"))
    assert array_cache.source(tmp_path / "gwm_core") == array_cache.source()
    array_cache.source.cache_clear()
    changed = tmp_path / "gwm_core" / "scene" / "lift.py"
    changed.write_text(changed.read_text() + "\n# another lift\n")
    assert array_cache.source(tmp_path / "gwm_core") != array_cache.source()


def test_what_cannot_be_written_is_said_before_the_work(tmp_path, monkeypatch, capsys):
    shutil.copytree(slow(tmp_path / "data" / "a", 1), tmp_path / "data" / "b")
    with pytest.raises(InputError, match="cannot write /proc/self: "):
        ArrayCache(Path("/proc/self"), "samples", "").arrays([], None, 1)
    for words in (
        ("train", "policy", "--data", tmp_path / "data", "--config", "tiny", "--out", "/proc/self"),
        ("collect", "--task", "lift", "--out", "/proc/self"),
        ("compile", "--out", "/proc/self/bundle"),
    ):
        code, said, told = gwm(monkeypatch, capsys, *words)
        assert code == 2 and "cannot write /proc/self" in told and "lift" not in told and not said


def test_what_has_no_sample_is_not_held_out_and_nothing_held_out_is_refused(
    tmp_path, monkeypatch, capsys
):
    for k in range(4):
        info = ABOUT | {"unusable": [[0, 2**62]] if k in (2, 3) else []}
        record(tmp_path / "data" / f"episode_{k:06d}", 1.0).close(info)
    words = (
        "train",
        "policy",
        "--data",
        tmp_path / "data",
        "--config",
        "tiny",
        "--iterations",
        2,
        "--processes",
        1,
    )
    code, said, _ = gwm(monkeypatch, capsys, *words, "--out", tmp_path / "model")
    assert code == 0 and "nan" not in said
    assert "NaN" not in (tmp_path / "model" / "manifest.json").read_text()
    for k in (0, 1):
        shutil.rmtree(tmp_path / "data" / f"episode_{k:06d}")
    code, _, told = gwm(monkeypatch, capsys, *words, "--out", tmp_path / "other")
    assert code == 2 and "no moment of 2 episodes can be used" in told


def test_a_finished_folder_is_not_trained_into(tmp_path, monkeypatch, capsys):
    for k in range(2):
        record(tmp_path / "data" / f"episode_{k:06d}", 1.0).close(ABOUT)
    words = (
        "train",
        "policy",
        "--data",
        tmp_path / "data",
        "--config",
        "tiny",
        "--iterations",
        2,
        "--processes",
        1,
        "--out",
        tmp_path / "model",
    )
    assert gwm(monkeypatch, capsys, *words)[0] == 0
    weights = (tmp_path / "model" / "policy.safetensors").read_bytes()
    code, _, told = gwm(monkeypatch, capsys, *words, "--seed", 7)
    assert code == 2 and "holds a finished network (manifest.json)" in told
    assert (tmp_path / "model" / "policy.safetensors").read_bytes() == weights


def test_policies_refuse_episodes_with_different_cameras(tmp_path):
    record(tmp_path / "two").close(ABOUT)
    record(tmp_path / "one").close(ABOUT | {"cameras": {"front": ABOUT["cameras"]["front"]}})
    with pytest.raises(InputError, match="episodes with different cameras do not mix"):
        load_samples([tmp_path], ("lift",), LiftConfig(count=16), 1)
