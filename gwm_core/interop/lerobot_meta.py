"""The ``meta`` folder of a LeRobot dataset, v3.0 and v2.1.

v3.0 as lerobot 0.6.1 reads and writes it; v2.1 as lerobot 0.3.3 and openpi do
(`datasets/lerobot_dataset.py` there).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from gwm_core.data.resampled_episode import COLUMNS, ResampledEpisode
from gwm_core.files.json_files import to_json
from gwm_core.interop.lerobot_video import FAR, NEAR, SHIFT
from gwm_core.interop.untrusted import needed

VERSIONS = ("v3.0", "v2.1")
CHUNK = 1000  # files (v3.0) or episodes (v2.1) in a folder
DATA_MB, VIDEO_MB = 100, 200  # a new file begins when one is larger
DATA_PATH = {
    "v3.0": "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet",
    "v2.1": "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet",
}
VIDEO_PATH = {
    "v3.0": "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4",
    "v2.1": "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4",
}
SIDECAR = "meta/gwm.json"  # episode.json and the camera matrices
USABLE, SUCCESS = "action.usable", "next.success"
INTERVENTION = "complementary_info.is_intervention"  # as lerobot's HIL-SERL names it
FLAGS = (USABLE, SUCCESS, INTERVENTION)
COLOR_KEY, DEPTH_KEY = "observation.images.", "observation.depth."
INDICES = ("frame_index", "episode_index", "index", "task_index")
_QUANTILES = {"q01": 0.01, "q10": 0.1, "q50": 0.5, "q90": 0.9, "q99": 0.99}


def features(
    table: ResampledEpisode,
    sizes: dict[str, tuple[int, int]],
    version: str,
    video: bool,
    kinds: tuple[str, ...],
) -> dict[str, dict]:
    """The entry "features" of info.json; ``sizes`` are camera -> (H, W), ``kinds`` of images.

    Depth of v2.1 is always images: its readers make 8-bit colour of whatever video they find.
    """
    made = {
        name: {"dtype": "float32", "shape": [len(signs)], "names": list(signs)}
        for name, signs in COLUMNS.items()
    }
    made |= {name: {"dtype": "bool", "shape": [1], "names": None} for name in (USABLE, SUCCESS)}
    made[INTERVENTION] = {"dtype": "float32", "shape": [1], "names": None}
    for camera in table.color:
        for kind in kinds:
            depth = kind == DEPTH_KEY
            filmed = video and (version == "v3.0" or not depth)
            made[kind + camera] = _camera(sizes[camera], table.fps, depth, filmed)
    made["timestamp"] = {"dtype": "float32", "shape": [1], "names": None}
    return made | {name: {"dtype": "int64", "shape": [1], "names": None} for name in INDICES}


def _camera(size: tuple[int, int], fps: int, depth: bool, video: bool) -> dict:
    shape = [*size, 1 if depth else 3]
    info = {"is_depth_map": True, "depth_unit": "mm"} if depth else {"is_depth_map": False}
    if video:
        info |= {
            "video.height": size[0],
            "video.width": size[1],
            "video.codec": "hevc" if depth else "h264",
            "video.pix_fmt": "gray12le" if depth else "yuv420p",
            "video.fps": fps,
            "video.channels": shape[2],
            "has_audio": False,
        }
    if video and depth:
        info |= {
            "video.extra_options": {"x265-params": "lossless=1"},
            "video.depth_min": NEAR,
            "video.depth_max": FAR,
            "video.shift": SHIFT,
            "video.use_log": True,
        }
    made = {
        "dtype": "video" if video else "image",
        "shape": shape,
        "names": ["height", "width", "channels"],
    }
    return made | ({"info": info} if video or depth else {})


def info_json(version: str, fps: int, kinds: dict, lengths: list[int], tasks: int) -> dict:
    """meta/info.json. ``kinds`` are the features, ``lengths`` the rows of each episode."""
    count, videos = len(lengths), sum(kind["dtype"] == "video" for kind in kinds.values())
    sizes = {"data_files_size_in_mb": DATA_MB, "video_files_size_in_mb": VIDEO_MB}
    older = {"total_videos": videos * count, "total_chunks": -(-count // CHUNK)}
    return {
        "codebase_version": version,
        "robot_type": "fr3",
        "total_episodes": count,
        "total_frames": sum(lengths),
        "total_tasks": tasks,
        "chunks_size": CHUNK,
        "fps": fps,
        "splits": {"train": f"0:{count}"},
        "data_path": DATA_PATH[version],
        "video_path": VIDEO_PATH[version] if videos else None,
        "features": kinds,
        **(sizes if version == "v3.0" else older),
        "gwm": {"format": 1, "sidecar": SIDECAR},
    }


def schema(kinds: dict, version: str):
    """Arrow schema of the data files."""
    pa = needed("pyarrow")
    image = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    scalars = {"float32": pa.float32(), "int64": pa.int64(), "bool": pa.bool_(), "image": image}
    fields = []
    for name, kind in kinds.items():
        if kind["dtype"] == "video":
            continue
        vector = kind["dtype"] == "float32" and name in COLUMNS
        made = pa.list_(pa.float32(), kind["shape"][0]) if vector else scalars[kind["dtype"]]
        fields.append(pa.field(name, made))
    extra = (
        {"huggingface": to_json({"info": {"features": _huggingface_features(kinds)}})}
        if version == "v2.1"
        else None
    )
    return pa.schema(fields, extra)


def _huggingface_features(kinds: dict) -> dict:
    """The features in the form of `datasets`, by which readers of v2.1 find the images."""
    made = {}
    for name, kind in kinds.items():
        value = {"dtype": kind["dtype"], "_type": "Value"}
        if kind["dtype"] == "image":
            made[name] = {"_type": "Image"}
        elif name in COLUMNS:
            made[name] = {"feature": value, "length": kind["shape"][0], "_type": "Sequence"}
        elif kind["dtype"] != "video":
            made[name] = value
    return made


class FeatureStats:
    """Exact statistics of features, from the values of vectors and the histograms of images."""

    def __init__(self):
        self._values: dict[str, list[np.ndarray]] = {}
        self._counts: dict[str, np.ndarray] = {}  # (C, bins)
        self._frames: dict[str, int] = {}

    def vector(self, name: str, values: np.ndarray) -> None:
        """Add rows (T, n)."""
        self._values.setdefault(name, []).append(np.asarray(values))

    def image(self, name: str, image: np.ndarray) -> None:
        """Add (H, W, 3) uint8 BGR or (H, W) uint16 [mm]; every fourth pixel counts."""
        part, bins = image[::4, ::4], 256 if image.ndim == 3 else 65536
        channels = [part[..., k] for k in (2, 1, 0)] if part.ndim == 3 else [part]
        counts = np.stack([np.bincount(channel.ravel(), minlength=bins) for channel in channels])
        self._counts[name] = self._counts.get(name, 0) + counts
        self._frames[name] = self._frames.get(name, 0) + 1

    def add(self, other: FeatureStats) -> None:
        """Add the values and histograms of ``other``."""
        for name, blocks in other._values.items():
            self._values.setdefault(name, []).extend(blocks)
        for name, counts in other._counts.items():
            self._counts[name] = self._counts.get(name, 0) + counts
            self._frames[name] = self._frames.get(name, 0) + other._frames[name]

    def result(self, version: str) -> dict[str, dict[str, list]]:
        """Feature -> statistic -> list of n, or [C, 1, 1] for images.

        Colour is in [0, 1], depth in mm.
        """
        quantiles = _QUANTILES if version == "v3.0" else {}
        made = {
            name: _of_values(np.concatenate(blocks), quantiles)
            for name, blocks in self._values.items()
        }
        for name, counts in self._counts.items():
            made[name] = _of_counts(counts, self._frames[name], quantiles)
        return made


def _of_values(values: np.ndarray, quantiles: dict) -> dict[str, list]:
    values = values.astype(np.float64)
    made = {
        "min": values.min(0),
        "max": values.max(0),
        "mean": values.mean(0),
        "std": values.std(0),
    }
    made |= dict(
        zip(quantiles, np.quantile(values, list(quantiles.values()), axis=0) if quantiles else ())
    )
    return {name: value.tolist() for name, value in made.items()} | {"count": [len(values)]}


def _of_counts(counts: np.ndarray, frames: int, quantiles: dict) -> dict[str, list]:
    levels, total = np.arange(counts.shape[1]), counts.sum(1)
    mean = counts @ levels / total
    squares = counts @ levels.astype(np.float64) ** 2 / total
    below = np.cumsum(counts, axis=1)
    made = {
        "min": [int(np.flatnonzero(row)[0]) for row in counts],
        "max": [int(np.flatnonzero(row)[-1]) for row in counts],
        "mean": mean,
        "std": np.sqrt(np.maximum(squares - mean**2, 0)),
    }
    for name, part in quantiles.items():
        made[name] = [int(np.searchsorted(row, part * row[-1])) for row in below]
    scale = 255.0 if counts.shape[1] == 256 else 1.0
    shaped = {
        name: (np.array(value, float) / scale).reshape(-1, 1, 1).tolist()
        for name, value in made.items()
    }
    return shaped | {"count": [frames]}


def write_tasks(path: Path, tasks: list[str]) -> None:
    """meta/tasks.parquet: pandas finds its index, the text, by the schema's metadata."""
    pa, pq = needed("pyarrow"), needed("pyarrow.parquet")
    text = {"pandas_type": "unicode", "numpy_type": "object"}
    number = {
        "name": "task_index",
        "field_name": "task_index",
        "pandas_type": "int64",
        "numpy_type": "int64",
    }
    pandas = {
        "index_columns": ["task"],
        "column_indexes": [
            {"name": None, "field_name": None, **text, "metadata": {"encoding": "UTF-8"}}
        ],
        "columns": [
            number | {"metadata": None},
            {"name": "task", "field_name": "task", **text, "metadata": None},
        ],
        "creator": {"library": "pyarrow", "version": pa.__version__},
        "pandas_version": "2.3.3",
    }
    fields = pa.schema(
        [("task_index", pa.int64()), ("task", pa.string())], {"pandas": to_json(pandas)}
    )
    pq.write_table(pa.table([list(range(len(tasks))), tasks], schema=fields), path)


def write_episodes(path: Path, episodes: list[dict]) -> None:
    """meta/episodes of v3.0; each entry's "stats" become columns stats/<feature>/<statistic>."""
    pa, pq = needed("pyarrow"), needed("pyarrow.parquet")
    rows = []
    for entry in episodes:
        row = {key: value for key, value in entry.items() if key != "stats"}
        for name, stats in entry["stats"].items():
            row |= {f"stats/{name}/{key}": value for key, value in stats.items()}
        rows.append(row | {"meta/episodes/chunk_index": 0, "meta/episodes/file_index": 0})
    path.parent.mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(rows), path, compression="snappy")
