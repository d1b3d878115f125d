import hashlib
import io
import json
import multiprocessing
import os
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import av
import cv2
import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from gwm.cli.main import main
from PIL import Image

from benchmarks.data.hostile_data import samples
from gwm_core.data.episode import read_episode
from gwm_core.data.episode_info import list_episodes, read_info
from gwm_core.data.resampled_episode import (
    BEGUN,
    COLUMNS,
    resample_longest,
    row_windows,
    write_resampled,
)
from gwm_core.errors import InputError
from gwm_core.files.png import encode_png
from gwm_core.interop.lerobot import export_lerobot, import_lerobot
from gwm_core.interop.lerobot_video import from_codes, to_codes
from gwm_core.interop.robomimic import export_robomimic
from gwm_core.interop.robomimic_read import import_robomimic
from gwm_core.interop.untrusted import digest

FPS, ROWS, SIZE = 10, 8, (24, 32)
CAMERAS = ("front", "wrist")
IMAGES = [f"observation.{kind}.{camera}" for camera in CAMERAS for kind in ("images", "depth")]
NUMBERS = ("timestamp", "frame_index", "episode_index", "index", "task_index")
INTERVENTION = "complementary_info.is_intervention"
VECTORS = {name: len(signs) for name, signs in COLUMNS.items()}


@pytest.fixture(scope="module")
def tables():
    return samples(3, ROWS, size=SIZE)


@pytest.fixture(scope="module")
def made(tables, tmp_path_factory):
    """Every kind of dataset, once."""
    folder = tmp_path_factory.mktemp("exports")
    for version in ("v3.0", "v2.1"):
        for video in (False, True):
            export_lerobot(
                tables, folder / f"{version}-{'video' if video else 'images'}", version, video
            )
    export_robomimic(tables, folder / "demos.hdf5", next_obs=True)
    return folder


def pixels(data):
    return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED).astype(int)


def loaded(path):
    return json.loads(path.read_text())


# ---- LeRobot v3.0, byte by byte
# ------------------------------------------------------------------------------


def test_v3_has_these_files_and_no_others(made):
    names = {
        "meta/info.json",
        "meta/stats.json",
        "meta/tasks.parquet",
        "meta/episodes/chunk-000/file-000.parquet",
        "data/chunk-000/file-000.parquet",
        "meta/gwm.json",
        "meta/SHA256SUMS",
    }
    videos = {f"videos/{name}/chunk-000/file-000.mp4" for name in IMAGES}
    for kind, wanted in (("images", names), ("video", names | videos)):
        root = made / f"v3.0-{kind}"
        assert {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()} == wanted


def test_v3_info(made):
    info = loaded(made / "v3.0-video/meta/info.json")
    features, gwm = info.pop("features"), info.pop("gwm")
    assert info == {
        "codebase_version": "v3.0",
        "robot_type": "fr3",
        "total_episodes": 3,
        "total_frames": 24,
        "total_tasks": 2,
        "chunks_size": 1000,
        "data_files_size_in_mb": 100,
        "video_files_size_in_mb": 200,
        "fps": 10,
        "splits": {"train": "0:3"},
        "data_path": "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet",
        "video_path": "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4",
    }
    assert gwm == {"format": 1, "sidecar": "meta/gwm.json"}
    vectors = {
        n: {"dtype": "float32", "shape": [len(s)], "names": list(s)} for n, s in COLUMNS.items()
    }
    ones = {"timestamp": "float32", "action.usable": "bool", "next.success": "bool"}
    ones[INTERVENTION] = "float32"
    ones |= dict.fromkeys(NUMBERS[1:], "int64")
    scalars = {n: {"dtype": kind, "shape": [1], "names": None} for n, kind in ones.items()}
    assert {n: f for n, f in features.items() if n not in IMAGES} == vectors | scalars
    axes = ["height", "width", "channels"]
    assert features["observation.images.front"] == {
        "dtype": "video",
        "shape": [24, 32, 3],
        "names": axes,
        "info": {
            "is_depth_map": False,
            "video.height": 24,
            "video.width": 32,
            "video.codec": "h264",
            "video.pix_fmt": "yuv420p",
            "video.fps": 10,
            "video.channels": 3,
            "has_audio": False,
        },
    }
    assert features["observation.depth.front"] == {
        "dtype": "video",
        "shape": [24, 32, 1],
        "names": axes,
        "info": {
            "is_depth_map": True,
            "depth_unit": "mm",
            "video.height": 24,
            "video.width": 32,
            "video.codec": "hevc",
            "video.pix_fmt": "gray12le",
            "video.fps": 10,
            "video.channels": 1,
            "has_audio": False,
            "video.extra_options": {"x265-params": "lossless=1"},
            "video.depth_min": 0.01,
            "video.depth_max": 10.0,
            "video.shift": 3.5,
            "video.use_log": True,
        },
    }
    still = loaded(made / "v3.0-images/meta/info.json")
    assert still["video_path"] is None
    assert still["features"]["observation.images.front"] == {
        "dtype": "image",
        "shape": [24, 32, 3],
        "names": axes,
    }
    known = {"is_depth_map": True, "depth_unit": "mm"}
    depth = {"dtype": "image", "shape": [24, 32, 1], "names": axes, "info": known}
    assert still["features"]["observation.depth.front"] == depth


def test_v3_data_files(made, tables):
    image = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    for kind in ("video", "images"):
        path = made / f"v3.0-{kind}/data/chunk-000/file-000.parquet"
        types = {n: pa.list_(pa.float32(), width) for n, width in VECTORS.items()}
        types |= {
            "action.usable": pa.bool_(),
            "next.success": pa.bool_(),
            INTERVENTION: pa.float32(),
            "timestamp": pa.float32(),
        }
        types |= dict.fromkeys(NUMBERS[1:], pa.int64()) | (
            dict.fromkeys(IMAGES, image) if kind == "images" else {}
        )
        found = pq.read_table(path)
        assert dict(zip(found.schema.names, found.schema.types)) == types
        assert pq.read_metadata(path).row_group(0).column(0).compression == "SNAPPY"
        assert found["frame_index"].to_pylist() == list(range(ROWS)) * 3
        assert found["index"].to_pylist() == list(range(3 * ROWS))
        assert found["episode_index"].to_pylist() == np.repeat(range(3), ROWS).tolist()
        assert found["task_index"].to_pylist() == np.repeat([0, 1, 0], ROWS).tolist()
        np.testing.assert_array_equal(
            found["timestamp"].to_numpy(), np.float32(np.tile(np.arange(ROWS) / FPS, 3))
        )
        ends = np.flatnonzero(found["next.success"].to_numpy()).tolist()
        assert ends == [ROWS - 1, 3 * ROWS - 1]  # the second failed
        for name in COLUMNS:
            wanted = np.concatenate([table.columns[name] for table in tables])
            np.testing.assert_array_equal(np.array(found[name].to_pylist(), np.float32), wanted)
    depth, color = (
        found["observation.depth.front"][3].as_py(),
        found["observation.images.front"][3].as_py(),
    )
    assert depth["path"] == "frame-000003.tiff" and color == {
        "bytes": tables[0].color["front"][3],
        "path": "frame-000003.jpg",
    }
    with Image.open(io.BytesIO(depth["bytes"])) as read:
        assert read.format == "TIFF" and read.tag_v2[259] == 1
        np.testing.assert_array_equal(np.array(read), pixels(tables[0].depth["front"][3]))


def test_v3_tasks_are_an_index_to_pandas(made):
    found = pq.read_table(made / "v3.0-video/meta/tasks.parquet")
    assert found.to_pydict() == {"task_index": [0, 1], "task": ["stack", "lift"]}
    assert found.schema.types == [pa.int64(), pa.string()]
    pandas = json.loads(found.schema.metadata[b"pandas"])
    assert pandas.pop("creator")["library"] == "pyarrow"
    text = {"pandas_type": "unicode", "numpy_type": "object"}
    number = {"pandas_type": "int64", "numpy_type": "int64", "metadata": None}
    assert pandas == {
        "index_columns": ["task"],
        "pandas_version": "2.3.3",
        "column_indexes": [
            {"name": None, "field_name": None, **text, "metadata": {"encoding": "UTF-8"}}
        ],
        "columns": [
            {"name": "task_index", "field_name": "task_index", **number},
            {"name": "task", "field_name": "task", **text, "metadata": None},
        ],
    }


def test_v3_episodes_and_statistics(made, tables):
    found = pq.read_table(made / "v3.0-video/meta/episodes/chunk-000/file-000.parquet").to_pylist()
    first = found[1]
    assert [first[f"dataset_{end}_index"] for end in ("from", "to")] == [8, 16]
    assert (first["episode_index"], first["tasks"], first["length"]) == (1, ["lift"], 8)
    for key in (
        "data/chunk_index",
        "data/file_index",
        "meta/episodes/chunk_index",
        "meta/episodes/file_index",
    ):
        assert first[key] == 0
    for name in IMAGES:
        assert first[f"videos/{name}/chunk_index"] == first[f"videos/{name}/file_index"] == 0
        assert first[f"videos/{name}/from_timestamp"] == pytest.approx(0.8)
        assert first[f"videos/{name}/to_timestamp"] == pytest.approx(1.6)
    stats, names = (
        loaded(made / "v3.0-video/meta/stats.json"),
        ("min", "max", "mean", "std", "count"),
    )
    names = {*names, "q01", "q10", "q50", "q90", "q99"}
    flags = ("action.usable", "next.success", INTERVENTION)
    assert set(stats) == {*VECTORS, *NUMBERS, *IMAGES, *flags}
    for name, entry in stats.items():
        assert set(entry) == names and entry["count"] == [24]
        assert all(f"stats/{name}/{key}" in first for key in names)
    state = np.concatenate([table.columns["observation.state"] for table in tables]).astype(float)
    for key, wanted in (
        ("mean", state.mean(0)),
        ("std", state.std(0)),
        ("q10", np.quantile(state, 0.1, axis=0)),
    ):
        np.testing.assert_allclose(stats["observation.state"][key], wanted, atol=1e-12)
    color = np.stack([pixels(d)[::4, ::4, ::-1] for t in tables for d in t.color["front"]]) / 255
    depth = np.stack([pixels(d)[::4, ::4, None] for t in tables for d in t.depth["front"]])
    for name, values in (("observation.images.front", color), ("observation.depth.front", depth)):
        values = values.reshape(-1, values.shape[-1])
        for key, wanted in (
            ("mean", values.mean(0)),
            ("std", values.std(0)),
            ("max", values.max(0)),
        ):
            np.testing.assert_allclose(stats[name][key], wanted[:, None, None], rtol=1e-9)
        assert (
            np.max(np.abs(np.ravel(stats[name]["q50"]) - np.median(values, 0)))
            <= (0.01, 5)[values.shape[1] == 1]
        )


@pytest.mark.parametrize("name", ["observation.images.front", "observation.depth.wrist"])
def test_v3_videos(made, name):
    depth = ".depth." in name
    with av.open(str(made / f"v3.0-video/videos/{name}/chunk-000/file-000.mp4")) as file:
        stream = file.streams.video[0]
        assert (stream.height, stream.width, stream.average_rate) == (*SIZE, FPS)
        assert stream.codec_context.name == ("hevc" if depth else "h264")
        assert stream.pix_fmt == ("gray12le" if depth else "yuv420p")
        times = [frame.time for frame in file.decode(stream)]
    np.testing.assert_allclose(times, np.arange(3 * ROWS) / FPS, atol=1e-6)


def test_a_file_is_followed_by_another_once_it_is_large(tmp_path, tables, monkeypatch):
    monkeypatch.setattr("gwm_core.interop.lerobot_meta.DATA_MB", 0)
    monkeypatch.setattr("gwm_core.interop.lerobot_meta.CHUNK", 2)
    export_lerobot(tables, tmp_path / "out", video=False)
    files = sorted(
        str(path.relative_to(tmp_path / "out")) for path in tmp_path.glob("out/data/**/*.parquet")
    )
    assert files == [
        f"data/{name}.parquet"
        for name in ("chunk-000/file-000", "chunk-000/file-001", "chunk-001/file-000")
    ]
    assert [digest(table) for table in import_lerobot(tmp_path / "out")] == [
        digest(table) for table in tables
    ]


# ---- LeRobot v2.1
# ------------------------------------------------------------------------------


def test_v21_layout(made):
    root = made / "v2.1-video"
    episodes = [f"episode_{k:06d}" for k in range(3)]
    names = {
        f"meta/{name}"
        for name in ("info.json", "tasks.jsonl", "episodes.jsonl", "episodes_stats.jsonl")
    }
    names |= {"meta/gwm.json", "meta/SHA256SUMS"} | {
        f"data/chunk-000/{name}.parquet" for name in episodes
    }
    names |= {
        f"videos/chunk-000/observation.images.{c}/{name}.mp4" for name in episodes for c in CAMERAS
    }
    assert {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()} == names
    info = loaded(root / "meta/info.json")
    features = info.pop("features")
    assert info == {
        "codebase_version": "v2.1",
        "robot_type": "fr3",
        "total_episodes": 3,
        "total_frames": 24,
        "total_tasks": 2,
        "total_videos": 6,
        "total_chunks": 1,
        "chunks_size": 1000,
        "fps": 10,
        "splits": {"train": "0:3"},
        "data_path": "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet",
        "video_path": (
            "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4"
        ),
        "gwm": {"format": 1, "sidecar": "meta/gwm.json"},
    }
    assert features["observation.images.front"]["dtype"] == "video"
    # its readers know no video of depth
    assert features["observation.depth.front"]["dtype"] == "image"
    lines = {
        name: [json.loads(line) for line in (root / f"meta/{name}.jsonl").read_text().splitlines()]
        for name in ("tasks", "episodes", "episodes_stats")
    }
    assert lines["tasks"] == [{"task_index": 0, "task": "stack"}, {"task_index": 1, "task": "lift"}]
    assert lines["episodes"][1] == {"episode_index": 1, "tasks": ["lift"], "length": 8}
    stats = lines["episodes_stats"][2]["stats"]
    assert set(stats["action"]) == {"min", "max", "mean", "std", "count"} and stats["action"][
        "count"
    ] == [8]
    assert np.shape(stats["observation.images.front"]["mean"]) == (3, 1, 1)
    assert (
        np.min(stats["observation.images.front"]["min"]) >= 0
        and np.max(stats["observation.images.front"]["max"]) <= 1
    )
    found = pq.read_table(root / "data/chunk-000/episode_000001.parquet")
    assert found["index"].to_pylist() == list(range(8, 16))
    hugging = json.loads(found.schema.metadata[b"huggingface"])["info"]["features"]
    assert list(hugging) == found.schema.names and hugging["observation.depth.front"] == {
        "_type": "Image"
    }
    with av.open(
        str(root / "videos/chunk-000/observation.images.front/episode_000001.mp4")
    ) as file:
        assert sum(1 for _ in file.decode(video=0)) == ROWS


# ---- robomimic
# ------------------------------------------------------------------------------


def test_robomimic_layout(made, tables):
    """https://robomimic.github.io/docs/datasets/overview.html"""
    # as its SequenceDataset opens it
    with h5py.File(made / "demos.hdf5", "r", swmr=True, libver="latest") as file:
        assert file["data"].attrs["total"] == 24
        args = json.loads(file["data"].attrs["env_args"])
        assert {"env_name", "type", "env_kwargs"} <= set(args)
        assert sorted(file["data"]) == ["demo_0", "demo_1", "demo_2"]
        train, valid = (
            [name.decode() for name in file[f"mask/{part}"][:]] for part in ("train", "valid")
        )
        assert sorted(train + valid) == sorted(file["data"]) and len(valid) == 1
        demo = file["data/demo_0"]
        assert demo.attrs["num_samples"] == ROWS
        np.testing.assert_array_equal(demo["actions"][()], tables[0].columns["action"])
        np.testing.assert_array_equal(demo["obs/state"][()], tables[0].columns["observation.state"])
        assert demo["dones"][()].tolist() == [0] * 7 + [1] and demo["rewards"][()].tolist() == [
            0
        ] * 7 + [1]
        assert file["data/demo_1/rewards"][()].sum() == 0 and demo["states"].shape == (ROWS, 9)
        image, depth = demo["obs/front_image"], demo["obs/front_depth"]
        assert (image.shape, image.dtype, image.compression) == ((ROWS, *SIZE, 3), np.uint8, "gzip")
        assert (depth.shape, depth.dtype) == ((ROWS, *SIZE, 1), np.uint16)
        np.testing.assert_array_equal(image[2][..., ::-1], pixels(tables[0].color["front"][2]))
        np.testing.assert_array_equal(demo["next_obs/front_image"][:-1], image[1:])
        assert set(demo["next_obs"]) == set(demo["obs"])


# ---- there and back
# ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["v3.0-images", "v2.1-images"])
def test_images_come_back_byte_by_byte(made, tables, name):
    back = list(import_lerobot(made / name))
    assert [digest(table) for table in back] == [digest(table) for table in tables]
    for table, one in zip(back, tables):
        assert table.color == one.color and table.depth == one.depth and table.info == one.info


@pytest.mark.parametrize("name", ["v3.0-video", "v2.1-video"])
def test_videos_come_back_but_for_what_the_codec_loses(made, tables, name):
    for table, one in zip(import_lerobot(made / name), tables, strict=True):
        for column in COLUMNS:
            np.testing.assert_array_equal(table.columns[column], one.columns[column])
        np.testing.assert_array_equal(table.usable, one.usable)
        assert table.info == one.info and table.color["front"][0].startswith(b"\x89PNG")
        for camera in CAMERAS:
            np.testing.assert_array_equal(table.intrinsics[camera], one.intrinsics[camera])
            for found, wanted in zip(table.depth[camera], one.depth[camera]):
                assert np.abs(pixels(found) - pixels(wanted)).max() <= 1  # [mm]
            for found, wanted in zip(table.color[camera], one.color[camera]):
                assert np.sqrt(np.mean((pixels(found) - pixels(wanted)) ** 2)) < 12


def test_depth_codes_are_within_a_millimetre_where_the_arm_works():
    mm = np.arange(300, 1301, dtype=np.uint16)
    assert np.abs(from_codes(to_codes(mm)).astype(int) - mm).max() <= 1
    assert from_codes(to_codes(np.uint16([0]))) == 0  # nothing measured


def test_robomimic_comes_back_exactly(made, tables):
    assert [digest(table) for table in import_robomimic(made / "demos.hdf5")] == [
        digest(table) for table in tables
    ]


def test_what_comes_back_is_an_episode_again(made, tables, tmp_path):
    table = next(import_lerobot(made / "v3.0-images"))
    again = resample_longest(read_episode(write_resampled(table, tmp_path / "episode")))
    for name in ("observation.state", "observation.velocity", "action.joints"):
        np.testing.assert_array_equal(again.columns[name], table.columns[name])
    assert again.color == tables[0].color


@pytest.mark.parametrize("kind", ["v3.0", "v2.1", "hdf5", "others"])
def test_interventions_are_known_by_row_and_come_back(tables, tmp_path, kind):
    led = np.array([0, 1, 1, 0, 0, 0, 1, 0], bool)
    taken = [
        replace(tables[0], info=tables[0].info | {"interventions": row_windows(led, FPS)}),
        replace(tables[1], info=tables[1].info | {"interventions": []}),
        tables[2],
    ]
    np.testing.assert_array_equal(taken[0].intervened, led)
    out = tmp_path / f"out.{kind}"
    if kind == "hdf5":
        export_robomimic(taken, out)
        back = list(import_robomimic(out))
    else:
        export_lerobot(taken, out, "v3.0" if kind == "others" else kind, video=False)
        if kind == "others":  # whose sidecar tells cameras alone
            entry = loaded(out / "meta/gwm.json")["episodes"][0]
            about = {
                "info": {"cameras": entry["info"]["cameras"]},
                "intrinsics": entry["intrinsics"],
            }
            (out / "meta/gwm.json").write_text(json.dumps({"all": about}))
            (out / "meta/SHA256SUMS").unlink()
        else:
            column = pq.read_table(sorted(out.glob("data/*/*.parquet"))[0])[
                INTERVENTION
            ].to_pylist()
            assert column[: len(led)] == led.tolist()
        back = list(import_lerobot(out))
    said = [table.info.get("interventions") for table in back]
    assert said == [row_windows(led, FPS), None if kind == "others" else [], None]
    episode = read_episode(write_resampled(back[0], tmp_path / "episode"))
    again = resample_longest(episode, FPS)
    np.testing.assert_array_equal(again.intervened, led)
    # rows 0, 3 to 5 and 7 are the policy's
    policy = [
        any(begin <= BEGUN + k * 10**8 <= end for begin, end in episode.led_by_policy)
        for k in range(ROWS)
    ]
    np.testing.assert_array_equal(policy, ~led)


def test_a_dataset_of_others_needs_to_be_told_where_its_cameras_are(made, tables, tmp_path):
    """Eight numbers of state and action, no velocity, no poses: what a common FR3 recording has."""
    subprocess.run(["cp", "-r", str(made / "v3.0-images"), str(tmp_path / "others")], check=True)
    root = tmp_path / "others"
    (root / "meta/SHA256SUMS").unlink()
    info = loaded(root / "meta/info.json")
    kinds, path = info["features"], root / "data/chunk-000/file-000.parquet"
    data = pq.read_table(path)
    for name in ("observation.velocity", "observation.pose", "action", "action.usable"):
        del kinds[name]
    kinds["observation.state"]["shape"], kinds["action"] = [8], kinds.pop("action.joints")
    short = pa.array(
        [row[:8] for row in data["observation.state"].to_pylist()], pa.list_(pa.float32(), 8)
    )
    joints = data["action.joints"]
    data = data.drop_columns(
        [
            "observation.velocity",
            "observation.pose",
            "action",
            "action.joints",
            "action.usable",
            "observation.state",
        ]
    )
    pq.write_table(
        data.append_column("observation.state", short).append_column("action", joints), path
    )
    (root / "meta/info.json").write_text(json.dumps(info))
    sidecar = loaded(root / "meta/gwm.json")["episodes"][0]
    (root / "meta/gwm.json").unlink()
    with pytest.raises(InputError, match=r"gwm.json is missing"):
        next(import_lerobot(root))
    cameras = {"cameras": sidecar["info"]["cameras"]}
    (root / "meta/gwm.json").write_text(
        json.dumps({"all": {"info": cameras, "intrinsics": sidecar["intrinsics"]}})
    )
    table = next(import_lerobot(root))
    assert table.info["task"] == "stack" and table.info["success"] and table.usable.all()
    for name in ("observation.pose", "action"):
        np.testing.assert_allclose(table.columns[name], tables[0].columns[name], atol=1e-6)
    np.testing.assert_array_equal(
        table.columns["observation.state"][1:, 8], table.columns["action.joints"][:-1, 7]
    )


# ---- LeRobot datasets as its own tools write them
# ------------------------------------------------------------------------------


def theirs(made, tmp_path, change=lambda info, data: None, base="v3.0-images"):
    """A copy whose info.json and data file are changed."""
    root = tmp_path / "theirs"
    subprocess.run(["cp", "-r", str(made / base), str(root)], check=True)
    (root / "meta/SHA256SUMS").unlink()
    info = loaded(root / "meta/info.json")
    for path in root.glob("data/*/*.parquet"):
        data = pq.read_table(path)
        pq.write_table(change(info, data) or data, path)
    (root / "meta/info.json").write_text(json.dumps(info))
    return root


def float_rate(info, data):  # lerobot's convert_dataset_v21_to_v30.py
    info["fps"] = 10.0


def their_names_of_depth(info, data):  # lerobot-record with use_depth
    def renamed(name):
        return f"{name.replace('.depth.', '.images.')}_depth" if ".depth." in name else name

    info["features"] = {renamed(name): kind for name, kind in info["features"].items()}
    return data.rename_columns([renamed(name) for name in data.column_names])


def channels_first(info, data):
    for name, kind in info["features"].items():
        if ".images." in name:
            kind |= {"shape": [3, *SIZE], "names": ["channels", "height", "width"]}


def depth_as_png(info, data):
    for camera in CAMERAS:
        name, found = f"observation.depth.{camera}", []
        for row in data[name].to_pylist():
            found.append(
                row
                | {
                    "bytes": encode_png(
                        cv2.imdecode(np.frombuffer(row["bytes"], np.uint8), cv2.IMREAD_UNCHANGED)
                    )
                }
            )
        data = data.set_column(
            data.schema.get_field_index(name), name, pa.array(found, data.schema.field(name).type)
        )
    return data


def other_features(info, data):
    info["features"]["language instruction"] = {"dtype": "string", "shape": [1], "names": None}


@pytest.mark.parametrize(
    "change", [float_rate, their_names_of_depth, channels_first, depth_as_png, other_features]
)
def test_what_lerobots_own_tools_write_is_read(made, tables, tmp_path, change):
    back = list(import_lerobot(theirs(made, tmp_path, change)))
    assert [digest(table) for table in back] == [digest(table) for table in tables]


def changed(path, change):
    pq.write_table(change(pq.read_table(path)), path)


def as_pandas(table):
    """DataFrame({"task_index": ...}, index=tasks).to_parquet, whose index has no name."""
    return table.rename_columns(["task_index", "__index_level_0__"]).replace_schema_metadata()


def narrow(table):
    for k, name in enumerate(table.column_names):
        if name in ("episode_index", "length", "dataset_from_index", "dataset_to_index"):
            table = table.set_column(k, name, table[name].cast(pa.int32()))
        if name == "tasks":
            table = table.set_column(k, name, table[name].cast(pa.large_list(pa.large_string())))
    return table


def both_tasks(table):
    return table.set_column(
        table.column_names.index("tasks"), "tasks", pa.array([["lift", "stack"]] * 3)
    )


@pytest.mark.parametrize("change", [lambda t: t.drop_columns(["tasks"]), narrow, both_tasks])
def test_an_episodes_task_is_the_one_it_names_or_that_of_its_rows(made, tmp_path, change):
    root = theirs(made, tmp_path)
    sidecar = loaded(root / "meta/gwm.json")
    for entry in sidecar["episodes"]:
        del entry["info"]["task"]
    (root / "meta/gwm.json").write_text(json.dumps(sidecar))
    changed(root / "meta/episodes/chunk-000/file-000.parquet", change)
    assert [table.info["task"] for table in import_lerobot(root)] == ["stack", "lift", "stack"]
    changed(root / "meta/tasks.parquet", as_pandas)
    assert [table.info["task"] for table in import_lerobot(root)] == ["stack", "lift", "stack"]
    if change is not narrow:
        changed(root / "meta/tasks.parquet", lambda t: t.slice(1))
        with pytest.raises(InputError, match="task_index 0 is not in the dataset's list of tasks"):
            list(import_lerobot(root))


def in_their_units(info, data, joints=np.rad2deg, opening=lambda width: width / 0.08):
    for name, width in (("observation.state", 9), ("action.joints", 8)):
        rows = np.array(data[name].to_pylist())
        rows[:, :7], rows[:, 7:] = joints(rows[:, :7]), opening(rows[:, 7:])
        info["features"][name]["shape"] = [width]
        column = pa.array(list(np.float32(rows)), pa.list_(pa.float32(), width))
        data = data.set_column(data.schema.get_field_index(name), name, column)
    rows = np.float32(joints(np.array(data["observation.velocity"].to_pylist())))
    k = data.schema.get_field_index("observation.velocity")
    return data.set_column(
        k, "observation.velocity", pa.array(list(rows), pa.list_(pa.float32(), 7))
    )


def same(values):
    return values


@pytest.mark.parametrize(
    "joints, opening, units, said",
    [
        (
            np.rad2deg,
            same,
            ("degrees", "m"),
            r"joint \d is .* reaches in rad: --joint-unit degrees",
        ),
        (
            same,
            lambda width: width / 0.08,
            ("rad", "fraction"),
            "the gripper opens to .*--gripper-unit fraction",
        ),
        (same, lambda width: width * 1e3, ("rad", "mm"), "the gripper opens to .*m, mm, fraction"),
    ],
)
def test_units_are_refused_where_they_cannot_be_true_and_converted_where_they_are_told(
    made, tables, tmp_path, joints, opening, units, said
):
    root = theirs(made, tmp_path, lambda info, data: in_their_units(info, data, joints, opening))
    with pytest.raises(InputError, match=said) as error:
        next(import_lerobot(root))
    assert "\n" not in str(error.value)
    for table, one in zip(import_lerobot(root, *units), tables, strict=True):
        for name in COLUMNS:  # poses too, though theirs are in the dataset
            np.testing.assert_allclose(table.columns[name], one.columns[name], atol=2e-6)
    for wrong in (("degrees", "m"), ("rad", "m")):
        if wrong != units and not (wrong[0] == "rad" and units[0] == "rad" and units[1] == "m"):
            with pytest.raises(InputError):
                next(import_lerobot(root, *wrong))


def test_what_is_in_radians_is_not_taken_for_degrees(made):
    with pytest.raises(InputError, match="reaches in degrees: --joint-unit rad"):
        next(import_lerobot(made / "v3.0-images", "degrees"))
    with pytest.raises(InputError, match="valid are degrees, rad"):
        next(import_lerobot(made / "v3.0-images", "turns"))


# ---- imports of several datasets into one folder
# ------------------------------------------------------------------------------


def gwm(monkeypatch, capsys, *words):
    monkeypatch.setattr("sys.argv", ["gwm", "data", *map(str, words)])
    code = main()
    return code, "".join(capsys.readouterr())


def test_a_second_dataset_is_added_and_the_same_one_goes_on_where_it_stopped(
    made, tmp_path, monkeypatch, capsys
):
    other, out = tmp_path / "other", tmp_path / "mine"
    export_lerobot(samples(2, ROWS, seed=7, size=SIZE), other, video=False)
    assert gwm(monkeypatch, capsys, "import", "lerobot", made / "v3.0-images", out) == (
        0,
        f"{out}: 3 episodes added\nnext: gwm data verify {out}\n",
    )
    code, said = gwm(monkeypatch, capsys, "import", "lerobot", other, out)
    assert code == 0 and "2 episodes added\n" in said  # were once skipped, as many as were there
    tasks = [read_info(path)["imported"] for path in list_episodes(out)]
    assert [(t["dataset"], t["episode"]) for t in tasks] == [
        *(("v3.0-images", k) for k in range(3)),
        ("other", 0),
        ("other", 1),
    ]
    shutil.rmtree(out / "imported_000001")
    (out / "imported_000004").rename(out / "imported_000004.partial")  # interrupted
    for source, added in (
        (made / "v3.0-images", 1),
        (other, 1),
        (made / "v2.1-images", 0),
        (made / "demos.hdf5", 3),
    ):
        kind = "robomimic" if source.suffix == ".hdf5" else "lerobot"
        code, said = gwm(monkeypatch, capsys, "import", kind, source, out)
        assert code == 0 and f"{added} episodes added" in said, said
    # robomimic decodes JPEG: other pixels' encoding, so other episodes
    assert "were there already" not in said
    assert len(list_episodes(out)) == 8 and not list(out.glob("*.partial"))


def test_an_import_does_not_write_into_what_it_reads_or_beside_episodes_of_unknown_origin(
    made, tmp_path, monkeypatch, capsys
):
    root = theirs(made, tmp_path)
    before = sorted(root.rglob("*"))
    for out in (root, root / "data"):
        code, said = gwm(monkeypatch, capsys, "import", "lerobot", root, out)
        assert code == 2 and "lies in, " in said and sorted(root.rglob("*")) == before
    write_resampled(samples(1, ROWS)[0], tmp_path / "mine/imported_000000")  # of an older version
    code, said = gwm(monkeypatch, capsys, "import", "lerobot", root, tmp_path / "mine")
    assert (
        code == 2
        and "does not say which dataset" in said
        and len(list_episodes(tmp_path / "mine")) == 1
    )


# ---- whole or not at all
# ------------------------------------------------------------------------------


def exports():
    return [(export_lerobot, "out"), (export_robomimic, "out.hdf5")]


@pytest.mark.parametrize(("export", "name"), exports())
def test_what_cannot_be_exported_leaves_nothing(tmp_path, tables, export, name):
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / name).mkdir()
    with pytest.raises(InputError, match="exists"):
        export(tables, tmp_path / "there" / name)
    nan = dict(tables[1].columns) | {"action": tables[1].columns["action"] * np.nan}
    bad = [replace(tables[1], fps=20), replace(tables[1], columns=nan)]
    bad.append(replace(tables[1], color=tables[1].depth))
    bad.append(
        replace(
            tables[1],
            depth={
                c: [encode_png(np.ones((4, 4), np.uint16))] * k for c, k in zip(CAMERAS, (8, 7))
            },
        )
    )
    bad.append(replace(tables[1], info={"cameras": {"../x": {}}}))
    for table in bad:
        with pytest.raises(InputError) as raised:
            export([tables[0], table], tmp_path / name)
        assert "\n" not in str(raised.value)
    with pytest.raises(InputError, match="no episodes"):
        export([], tmp_path / name)
    with pytest.raises(InputError, match="unknown version"):
        export_lerobot(tables, tmp_path / name, "v1")
    assert [path.name for path in tmp_path.iterdir()] == ["there"]


def _die(export, out):
    def some():
        yield samples()[0]
        os._exit(9)  # as kill -9 would

    export(some(), out)


@pytest.mark.parametrize(("export", "name"), exports())
def test_an_interrupted_export_starts_over(tmp_path, tables, export, name):
    child = multiprocessing.get_context("spawn").Process(
        target=_die, args=(export, tmp_path / name)
    )
    child.start()
    child.join()
    assert child.exitcode == 9
    assert [path.name for path in tmp_path.iterdir()] == [f"{name}.partial"]
    export(tables, tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    back = {"out": import_lerobot, "out.hdf5": import_robomimic}[name](tmp_path / name)
    assert len(list(back)) == 3


def test_a_folder_that_is_not_an_exports_is_left_alone(tmp_path, tables):
    (tmp_path / "out.partial").mkdir()
    (tmp_path / "out.partial/thesis.tex").write_text("years of work")
    with pytest.raises(InputError, match="not what an export left"):
        export_lerobot(tables, tmp_path / "out")
    assert (tmp_path / "out.partial/thesis.tex").read_text() == "years of work"


def test_two_exports_to_one_place_do_not_mix(tmp_path, tables):
    for export, name in exports():

        def during(episodes, export=export, name=name):
            with pytest.raises(InputError, match="another export is writing"):
                export(tables, tmp_path / name)

        export(tables[:1], tmp_path / name, progress=during)
        assert (tmp_path / name).exists()


def test_without_depth_a_dataset_holds_colour_alone(tables, tmp_path):
    for version in ("v3.0", "v2.1"):
        export_lerobot(tables, tmp_path / version, version, depth=False)
        features = loaded(tmp_path / version / "meta/info.json")["features"]
        images = {name for name, kind in features.items() if kind["dtype"] in ("image", "video")}
        assert images == {f"observation.images.{camera}" for camera in CAMERAS}
        with pytest.raises(InputError, match="both are wanted of each"):
            list(import_lerobot(tmp_path / version))
    assert not list((tmp_path / "v3.0").rglob("*depth*"))


def test_sums_are_for_sha256sum(made):
    done = subprocess.run(
        ["sha256sum", "-c", "--strict", "meta/SHA256SUMS"],
        cwd=made / "v3.0-video",
        capture_output=True,
    )
    assert done.returncode == 0, done.stdout
    listed = (made / "v3.0-video/meta/SHA256SUMS").read_text()
    name = "meta/info.json"
    assert (
        f"{hashlib.sha256((made / 'v3.0-video' / name).read_bytes()).hexdigest()}  {name}\n"
        in listed
    )


LOAD = """
import json, sys
import numpy as np, torch
from lerobot.datasets.lerobot_dataset import LeRobotDataset
deltas = {"observation.state": [-0.1, 0.0], "action": [k / 10 for k in range(8)]}
found = []
for root in sys.argv[1:]:
    data = LeRobotDataset("local/gwm", root=root, delta_timestamps=deltas)
    item, last = data[11], data[15]
    batch = next(iter(torch.utils.data.DataLoader(data, batch_size=8)))
    found.append({
        "counts": [data.num_episodes, data.num_frames, data.fps],
        "cameras": sorted(data.meta.camera_keys),
        "depths": sorted(data.meta.depth_keys),
        "state": item["observation.state"].tolist(),
        "task": item["task"],
        "depth": item["observation.depth.front"].squeeze().tolist(),
        "time": item["timestamp"].item(),
        "color": list(item["observation.images.front"].shape),
        "batch": list(batch["action"].shape),
        "success": [bool(data[k]["next.success"]) for k in (7, 15)],
        "pad": last["action_is_pad"].tolist(),
    })
print(json.dumps(found))
"""


@pytest.mark.skipif(
    "GWM_LEROBOT_PYTHON" not in os.environ, reason="GWM_LEROBOT_PYTHON: a Python with lerobot 0.6.1"
)
def test_lerobot_itself_loads_it(made, tables, tmp_path):
    roots = [str(made / "v3.0-images"), str(made / "v3.0-video")]
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}
    done = subprocess.run(
        [os.environ["GWM_LEROBOT_PYTHON"], "-c", LOAD, *roots],
        env=environment,
        capture_output=True,
        text=True,
        cwd=Path(tmp_path),
    )
    assert done.returncode == 0, done.stderr[-3000:]
    for found, error in zip(json.loads(done.stdout.splitlines()[-1]), (0, 1)):
        assert found["counts"] == [3, 24, 10] and found["cameras"] == sorted(IMAGES)
        assert found["depths"] == ["observation.depth.front", "observation.depth.wrist"]
        np.testing.assert_array_equal(
            np.float32(found["state"]), tables[1].columns["observation.state"][2:4]
        )
        wanted = pixels(tables[1].depth["front"][3])
        seen = wanted > 0  # what was not measured is 10 mm in a video, as LeRobot reads it
        assert np.abs(np.array(found["depth"]) - wanted)[seen].max() <= error
        assert (
            found["task"] == "lift"
            and found["time"] == pytest.approx(0.3)
            and found["color"] == [3, *SIZE]
        )
        assert found["batch"] == [8, 8, 10] and found["success"] == [True, False]
        assert found["pad"] == [False] + [True] * 7
