"""What a LeRobot dataset says of itself, believed only where it is consistent and can be mapped."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gwm_core.data.resampled_episode import COLUMNS
from gwm_core.errors import InputError
from gwm_core.interop import lerobot_meta as meta
from gwm_core.interop.lerobot_parquet import read_small
from gwm_core.interop.untrusted import (
    MOST_EPISODES,
    MOST_PIXELS,
    MOST_ROWS,
    UntrustedFolder,
    described,
    named,
    whole,
)


@dataclass(frozen=True)
class LeRobotEpisode:
    """Where an episode is."""

    index: int
    length: int
    start: int  # of its rows in the dataset
    task: str | None  # None: that of its first row, by ``LeRobotDataset.tasks``
    data: str  # file
    films: dict[str, tuple[str, int]]  # stream -> file and first frame
    info: dict
    intrinsics: dict[str, np.ndarray]


@dataclass(frozen=True)
class LeRobotDataset:
    """What is read of a dataset."""

    fps: int
    kinds: dict[str, dict]  # features that are read
    cameras: dict[str, tuple[str, str]]  # camera -> features of its colour and its depth
    episodes: list[LeRobotEpisode]
    tasks: dict[int, str]  # by task_index; only where an episode does not say its own

    @property
    def filmed(self) -> list[str]:
        """Features that are videos."""
        return [name for name, kind in self.kinds.items() if kind["dtype"] == "video"]

    @property
    def depths(self) -> set[str]:
        """Features that are depth."""
        return {depth for _, depth in self.cameras.values()}


def read_index(source: UntrustedFolder) -> LeRobotDataset:
    """The ``meta`` folder. Raises InputError when it contradicts itself or a table cannot be made
    of it.
    """
    where, info = source.root / "meta/info.json", source.json("meta/info.json")
    if not isinstance(info, dict) or info.get("codebase_version") not in meta.VERSIONS:
        version = info.get("codebase_version") if isinstance(info, dict) else None
        raise InputError(
            f"{where}: codebase_version is {str(version)[:20]!r}, read are"
            f" {' and '.join(meta.VERSIONS)}"
        )
    version, fps = info["codebase_version"], info.get("fps")
    if isinstance(fps, float) and fps.is_integer():  # as LeRobot's script of v2.1 to v3.0 leaves it
        fps = int(fps)
    whole(f"{where}: fps", fps, 1, 1000)
    for key, known in (("data_path", meta.DATA_PATH), ("video_path", meta.VIDEO_PATH)):
        if info.get(key) not in (known[version], None if key == "video_path" else known[version]):
            raise InputError(
                f"{where}: {key} is {str(info.get(key))[:80]!r}, read is {known[version]!r}"
            )
    chunk = whole(f"{where}: chunks_size", info.get("chunks_size"), 1, 10**6)
    count = whole(f"{where}: total_episodes", info.get("total_episodes"), 1, MOST_EPISODES)
    kinds, cameras = _kinds(where, info.get("features"))
    found = _episodes(
        source,
        version,
        chunk,
        [name for name, kind in kinds.items() if kind["dtype"] == "video"],
        fps,
    )
    if len(found) != count:
        raise InputError(f"{where}: total_episodes is {count}, {len(found)} are described")
    frames_found = sum(episode["length"] for episode in found)
    if info.get("total_frames") != frames_found:
        raise InputError(f"{where}: total_frames is not {frames_found}, the sum of the episodes")
    described_by = _sidecar(source, count)
    tasks = _tasks(source, version) if any(entry["task"] is None for entry in found) else {}
    return LeRobotDataset(
        fps,
        kinds,
        cameras,
        [LeRobotEpisode(**entry, **about) for entry, about in zip(found, described_by)],
        tasks,
    )


def _kinds(where, features) -> tuple[dict[str, dict], dict[str, tuple[str, str]]]:
    """The features that are read, their shapes checked; and ``LeRobotDataset.cameras``."""
    if not isinstance(features, dict) or len(features) > 1000:
        raise InputError(f"{where}: features are missing")
    kinds, streams = {}, {True: {}, False: {}}  # of depth, of colour: camera -> feature
    for name, kind in features.items():
        read = name in (*COLUMNS, meta.USABLE, meta.SUCCESS, "timestamp", *meta.INDICES)
        if not read and not name.startswith((meta.COLOR_KEY, meta.DEPTH_KEY)):
            continue
        named(f"{where}: feature", name)
        shape = kind.get("shape") if isinstance(kind, dict) else None
        if not isinstance(shape, list) or not all(
            isinstance(n, int) and 0 < n < 1 << 16 for n in shape
        ):
            raise InputError(f"{where}: the shape of {name} is {str(shape)[:60]}")
        if kind.get("dtype") not in ("float32", "float64", "int64", "bool", "image", "video"):
            raise InputError(f"{where}: the dtype of {name} is {str(kind.get('dtype'))[:20]!r}")
        if (kind["dtype"] in ("image", "video")) == read:
            raise InputError(f"{where}: {name} is {kind['dtype']}")
        if not read:
            shape = _image_shape(where, name, kind)
            camera, depth = _stream(name, shape)
            if camera in streams[depth]:
                raise InputError(f"{where}: {name} and {streams[depth][camera]} are of one camera")
            streams[depth][camera] = name
        kinds[name] = kind | {"shape": shape}
    return kinds, _mappable(where, kinds, *streams.values())


def _image_shape(where, name: str, kind: dict) -> list[int]:
    """[height, width, channels] of an image feature, which may say channels first by its names."""
    shape, names = kind["shape"], kind.get("names")
    if (
        len(shape) == 3
        and isinstance(names, list)
        and names
        and str(names[0]).startswith("channel")
    ):
        shape = [*shape[1:], shape[0]]
    if len(shape) != 3 or shape[2] != (3, 1)[_stream(name, shape)[1]]:
        raise InputError(
            f"{where}: the shape of {name} is {shape}, [height, width, 3] or 1 for depth is wanted"
        )
    if shape[0] * shape[1] > MOST_PIXELS:
        raise InputError(
            f"{where}: {name} has {shape[1]}x{shape[0]} pixels: at most {MOST_PIXELS} are read"
        )
    return shape


def _stream(name: str, shape: list[int]) -> tuple[str, bool]:
    """Camera of an image feature, and whether it is depth: by our key, or by lerobot-record's,
    ``front_depth``.
    """
    if name.startswith(meta.DEPTH_KEY):
        return name.removeprefix(meta.DEPTH_KEY), True
    camera = name.removeprefix(meta.COLOR_KEY)
    depth = shape[-1:] == [1] and camera.endswith("_depth")
    return camera.removesuffix("_depth") if depth else camera, depth


def _mappable(
    where, kinds: dict[str, dict], depths: dict, colors: dict
) -> dict[str, tuple[str, str]]:
    """``LeRobotDataset.cameras``, or InputError naming what a table needs and the dataset lacks."""
    for name in ("timestamp", *meta.INDICES, "observation.state"):
        if name not in kinds:
            raise InputError(f"{where}: feature {name} is missing")
    if kinds["observation.state"]["shape"] not in ([8], [9]):
        shape = kinds["observation.state"]["shape"]
        raise InputError(
            f"{where}: observation.state has shape {shape}: 7 joints and the gripper's opening are"
            " wanted"
        )
    joints = "action.joints" if "action.joints" in kinds else "action"
    if kinds.get(joints, {}).get("shape") != [8]:
        raise InputError(
            f"{where}: action.joints, or action, with 7 joint targets and an opening, is missing"
        )
    if "observation.velocity" in kinds and kinds["observation.velocity"]["shape"] != [7]:
        raise InputError(f"{where}: observation.velocity has not shape [7]")
    if not colors or set(colors) != set(depths):
        raise InputError(
            f"{where}: colour of {sorted(colors)} and depth of {sorted(depths)}: both are wanted of"
            " each"
        )
    for camera, name in colors.items():
        if kinds[name]["shape"][:2] != kinds[depths[camera]]["shape"][:2]:
            raise InputError(f"{where}: colour and depth of {camera} differ in size")
        about = kinds[depths[camera]].get("info")
        if not isinstance(about, dict) or about.get("depth_unit") != "mm":
            raise InputError(f"{where}: depth of {camera} is not in mm, by its info's depth_unit")
    return {camera: (name, depths[camera]) for camera, name in colors.items()}


def _episodes(
    source: UntrustedFolder, version: str, chunk: int, filmed: list[str], fps: int
) -> list[dict]:
    """Index, length, start, task and files of every episode, in order."""
    read = _episodes_30 if version == "v3.0" else _episodes_21
    found, start = read(source, chunk, filmed, fps), 0
    for k, entry in enumerate(found):
        if entry["index"] != k:
            raise InputError(
                f"{source.root / 'meta'}: episode {entry['index']} where {k} is due: missing or"
                " twice"
            )
        whole(f"{source.root / 'meta'}: length of episode {k}", entry["length"], 1, MOST_ROWS)
        if entry.setdefault("start", start) != start:
            raise InputError(
                f"{source.root / 'meta'}: episode {k} begins at {entry['start']}, not at {start}"
            )
        start += entry["length"]
    return found


def _episodes_30(source: UntrustedFolder, chunk: int, filmed: list[str], fps: int) -> list[dict]:
    keys = [
        "episode_index",
        "length",
        "dataset_from_index",
        "dataset_to_index",
        "data/chunk_index",
        "data/file_index",
    ]
    parts = ("chunk_index", "file_index", "from_timestamp")
    keys += [f"videos/{name}/{part}" for name in filmed for part in parts]
    found, files = [], sorted(source.root.glob("meta/episodes/chunk-*/file-*.parquet"))
    for path in files[:MOST_EPISODES]:
        found += read_small(source, str(path.relative_to(source.root)), keys, ["tasks"])
    entries = []
    for row in sorted(found, key=lambda row: row["episode_index"]):
        where, films = f"{source.root / 'meta/episodes'}, episode {row['episode_index']}", {}
        numbers = {
            key: whole(f"{where}: {key}", row[key], 0, 10**9)
            for key in keys
            if not key.endswith("timestamp")
        }
        if row["dataset_to_index"] - row["dataset_from_index"] != row["length"]:
            raise InputError(f"{where}: length is not from dataset_from_index to dataset_to_index")
        for name in filmed:
            place = dict(
                zip(
                    ("chunk_index", "file_index"),
                    (numbers[f"videos/{name}/{part}"] for part in parts[:2]),
                )
            )
            begin = row[f"videos/{name}/from_timestamp"]
            if (
                not isinstance(begin, float)
                or not 0 <= begin < 1e6
                or abs(begin * fps - round(begin * fps)) > 0.1
            ):
                raise InputError(f"{where}: from_timestamp of {name} is {str(begin)[:30]}")
            films[name] = (
                meta.VIDEO_PATH["v3.0"].format(video_key=name, **place),
                round(begin * fps),
            )
        data = meta.DATA_PATH["v3.0"].format(
            chunk_index=row["data/chunk_index"], file_index=row["data/file_index"]
        )
        entries.append(
            {
                "index": row["episode_index"],
                "length": row["length"],
                "start": row["dataset_from_index"],
                "task": _task(where, row),
                "data": data,
                "films": films,
            }
        )
    return entries


def _episodes_21(source: UntrustedFolder, chunk: int, filmed: list[str], fps: int) -> list[dict]:
    entries = []
    for k, row in enumerate(source.lines("meta/episodes.jsonl")):
        where = f"{source.root / 'meta/episodes.jsonl'}, line {k + 1}"
        if not isinstance(row, dict):
            raise InputError(f"{where}: no object")
        index = whole(f"{where}: episode_index", row.get("episode_index"), 0, MOST_EPISODES)
        place = {"episode_chunk": index // chunk, "episode_index": index}
        films = {
            name: (meta.VIDEO_PATH["v2.1"].format(video_key=name, **place), 0) for name in filmed
        }
        data = meta.DATA_PATH["v2.1"].format(**place)
        length = whole(f"{where}: length", row.get("length"), 1, MOST_ROWS)
        entries.append(
            {
                "index": index,
                "length": length,
                "task": _task(where, row),
                "data": data,
                "films": films,
            }
        )
    return sorted(entries, key=lambda entry: entry["index"])


def _task(where, row: dict) -> str | None:
    """The task of an episode that says one; of several LeRobot keeps no order."""
    if "tasks" not in row:
        return None
    tasks = row["tasks"]
    if not isinstance(tasks, list) or not tasks or not all(isinstance(task, str) for task in tasks):
        raise InputError(f"{where}: tasks are no list of texts")
    return tasks[0] if len(tasks) == 1 else None


def _tasks(source: UntrustedFolder, version: str) -> dict[int, str]:
    """Tasks by their index; pandas calls the column of texts by the name of its index, or as
    below.
    """
    name, text = (
        ("meta/tasks.parquet", "task") if version == "v3.0" else ("meta/tasks.jsonl", "task")
    )
    if version == "v3.0":
        rows = read_small(source, name, ["task_index"], ["task", "__index_level_0__"])
        rows = [row if text in row else {**row, text: row.get("__index_level_0__")} for row in rows]
    else:
        rows = source.lines(name)
    found = {}
    for row in rows:
        if not isinstance(row, dict) or not isinstance(row.get(text), str):
            raise InputError(f"{source.root / name}: a task_index and a task are wanted in a row")
        found[whole(f"{source.root / name}: task_index", row.get("task_index"), 0, 10**6)] = row[
            text
        ]
    return found


def _sidecar(source: UntrustedFolder, count: int) -> list[dict]:
    """Info and intrinsics of every episode."""
    if not source.has(meta.SIDECAR):
        raise InputError(
            f"{source.root / meta.SIDECAR} is missing: it places the cameras, see"
            " gwm_core/interop/lerobot_read.py"
        )
    where, about = source.root / meta.SIDECAR, source.json(meta.SIDECAR)
    records = about.get("episodes", [about.get("all")] * count) if isinstance(about, dict) else None
    if not isinstance(records, list) or len(records) != count:
        raise InputError(f"{where}: {count} 'episodes', or 'all', are wanted")
    found = [described(f"{where}, episode {k}", record) for k, record in enumerate(records)]
    return [{"info": info, "intrinsics": intrinsics} for info, intrinsics in found]
