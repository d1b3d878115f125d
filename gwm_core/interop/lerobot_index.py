"""The index of a LeRobot dataset: its episodes and features, checked for consistency."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gwm_core.errors import InputError
from gwm_core.interop import lerobot_meta as meta
from gwm_core.interop.lerobot_features import read_features
from gwm_core.interop.lerobot_parquet import read_small
from gwm_core.interop.untrusted import (
    MAXIMUM_EPISODES,
    MAXIMUM_ROWS,
    UntrustedFolder,
    parse_record,
    whole,
)


@dataclass(frozen=True)
class LeRobotEpisode:
    """The position of an episode in a dataset."""

    index: int
    length: int
    start: int  # first of its rows in the dataset
    task: str | None  # None: that of its first row, by ``LeRobotDataset.tasks``
    data: str  # file
    videos: dict[str, tuple[str, int]]  # stream -> file and first frame
    info: dict
    intrinsics: dict[str, np.ndarray]


@dataclass(frozen=True)
class LeRobotDataset:
    """The index of a dataset."""

    fps: int
    features: dict[str, dict]  # those that are read
    cameras: dict[str, tuple[str, str]]  # camera -> features of its colour and its depth
    episodes: list[LeRobotEpisode]
    tasks: dict[int, str]  # by task_index; empty where all episodes have their own

    @property
    def video_features(self) -> list[str]:
        """Names of the features that are videos."""
        return [name for name, kind in self.features.items() if kind["dtype"] == "video"]

    @property
    def depth_features(self) -> set[str]:
        """Names of the features that are depth."""
        return {depth for _, depth in self.cameras.values()}


def read_index(source: UntrustedFolder) -> LeRobotDataset:
    """Read the ``meta`` folder. Raises InputError when it is inconsistent or cannot be mapped."""
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
    count = whole(f"{where}: total_episodes", info.get("total_episodes"), 1, MAXIMUM_EPISODES)
    kinds, cameras = read_features(where, info.get("features"))
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
        whole(f"{source.root / 'meta'}: length of episode {k}", entry["length"], 1, MAXIMUM_ROWS)
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
    for name in filmed:
        keys += [f"videos/{name}/{part}" for part in ("chunk_index", "file_index")]
    times = [f"videos/{name}/from_timestamp" for name in filmed]
    rows = []
    files = sorted(source.root.glob("meta/episodes/chunk-*/file-*.parquet"))
    for path in files[:MAXIMUM_EPISODES]:
        rows += read_small(source, str(path.relative_to(source.root)), [*keys, *times], ["tasks"])
    entries = []
    for row in sorted(rows, key=lambda row: row["episode_index"]):
        where = f"{source.root / 'meta/episodes'}, episode {row['episode_index']}"
        for key in keys:
            whole(f"{where}: {key}", row[key], 0, 10**9)
        if row["dataset_to_index"] - row["dataset_from_index"] != row["length"]:
            raise InputError(f"{where}: length is not from dataset_from_index to dataset_to_index")
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
                "videos": {name: _video_30(where, row, name, fps) for name in filmed},
            }
        )
    return entries


def _video_30(where: str, row: dict, name: str, fps: int) -> tuple[str, int]:
    """File and first frame of an episode's video."""
    begin = row[f"videos/{name}/from_timestamp"]
    if (
        not isinstance(begin, float)
        or not 0 <= begin < 1e6
        or abs(begin * fps - round(begin * fps)) > 0.1
    ):
        raise InputError(f"{where}: from_timestamp of {name} is {str(begin)[:30]}")
    file = meta.VIDEO_PATH["v3.0"].format(
        video_key=name,
        chunk_index=row[f"videos/{name}/chunk_index"],
        file_index=row[f"videos/{name}/file_index"],
    )
    return file, round(begin * fps)


def _episodes_21(source: UntrustedFolder, chunk: int, filmed: list[str], fps: int) -> list[dict]:
    entries = []
    for k, row in enumerate(source.lines("meta/episodes.jsonl")):
        where = f"{source.root / 'meta/episodes.jsonl'}, line {k + 1}"
        if not isinstance(row, dict):
            raise InputError(f"{where}: no object")
        index = whole(f"{where}: episode_index", row.get("episode_index"), 0, MAXIMUM_EPISODES)
        position = {"episode_chunk": index // chunk, "episode_index": index}
        videos = {
            name: (meta.VIDEO_PATH["v2.1"].format(video_key=name, **position), 0) for name in filmed
        }
        data = meta.DATA_PATH["v2.1"].format(**position)
        length = whole(f"{where}: length", row.get("length"), 1, MAXIMUM_ROWS)
        entries.append(
            {
                "index": index,
                "length": length,
                "task": _task(where, row),
                "data": data,
                "videos": videos,
            }
        )
    return sorted(entries, key=lambda entry: entry["index"])


def _task(where, row: dict) -> str | None:
    """The task of an episode; None for none or several, as LeRobot keeps no order of them."""
    if "tasks" not in row:
        return None
    tasks = row["tasks"]
    if not isinstance(tasks, list) or not tasks or not all(isinstance(task, str) for task in tasks):
        raise InputError(f"{where}: tasks are no list of texts")
    return tasks[0] if len(tasks) == 1 else None


def _tasks(source: UntrustedFolder, version: str) -> dict[int, str]:
    """Tasks by their index. pandas names the column of texts after its index, or as below."""
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
    found = [parse_record(f"{where}, episode {k}", record) for k, record in enumerate(records)]
    return [{"info": info, "intrinsics": intrinsics} for info, intrinsics in found]
