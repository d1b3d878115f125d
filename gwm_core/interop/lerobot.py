"""Write episodes as a LeRobot dataset, v3.0 or v2.1, without lerobot, pandas or torch.

``lerobot_read`` reads such datasets. A dataset holds the columns of
``resampled_episode.COLUMNS`` under their names, ``action.usable``,
``next.success`` (true in the last row of an episode that succeeded),
``complementary_info.is_intervention`` (1 where an operator led in a policy's place),
``observation.images.<camera>`` and ``observation.depth.<camera>``. In videos, colour has the loss
of H.264, and depth that of at most 1 mm up to 1.3 m. Images are lossless. episode.json and the
camera matrices are in ``meta/gwm.json``. ``meta/SHA256SUMS`` is for `sha256sum -c`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

from gwm_core.data.resampled_episode import ResampledEpisode
from gwm_core.errors import InputError, one_of
from gwm_core.files import atomic_write
from gwm_core.files.checksums import sha256
from gwm_core.files.json_files import to_json, write_json
from gwm_core.interop import lerobot_meta as meta
from gwm_core.interop.lerobot_read import import_lerobot
from gwm_core.interop.lerobot_video import Encoder, tiff
from gwm_core.interop.untrusted import (
    MAXIMUM_ROWS,
    SUMS,
    check_table,
    decode_image,
    needed,
    parse_record,
)

__all__ = ["export_lerobot", "import_lerobot"]
_GROUP = 64 << 20  # [bytes] of images in one row group, so that a reader needs no more at once


def export_lerobot(
    tables: Iterable[ResampledEpisode],
    out: Path,
    version: str = "v3.0",
    video: bool = True,
    depth: bool = True,
    progress: Callable[[int], None] = lambda episodes: None,
) -> atomic_write.Exported:
    """Write episodes as the LeRobot dataset ``out``; one episode is in memory at a time.

    Args:
        tables: all of one rate, with the same cameras of the same sizes.
        version: of the layout, "v3.0" or "v2.1" (read by openpi; its depth is always images).
        video: colour as H.264 and depth as 12-bit HEVC; else the recorded JPEG or PNG itself, and
            16-bit TIFF.
        depth: else without it, as LeRobot's policies want that see colour alone. Such a dataset
            cannot be imported again.
        progress: called with the number of episodes after each.

    Raises:
        InputError: ``out`` exists or cannot be written, nothing to export, episodes that do not fit
            each other, or pyarrow or av missing.
    """
    one_of("version", version, meta.VERSIONS)
    needed("pyarrow.parquet"), needed("av")
    with atomic_write.folder(out) as folder:
        writer = _Writer(folder, version, video, depth)
        try:
            for table in tables:
                writer.add(table)
                progress(len(writer.lengths))
        finally:
            writer.close()
        writer.finish()
        _write_sums(folder)
        size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    return atomic_write.Exported(Path(out), len(writer.lengths), sum(writer.lengths), size)


class _Writer:
    """A dataset while it is written, with an open Parquet file and an open video per stream."""

    def __init__(self, folder: Path, version: str, video: bool, depth: bool):
        self.folder = folder
        self.version = version
        self.video = video
        self.kinds = (meta.COLOR_KEY, meta.DEPTH_KEY) if depth else (meta.COLOR_KEY,)
        self.lengths: list[int] = []
        self._fps = 0
        self._sizes: dict[str, tuple[int, int]] = {}  # camera -> (H, W)
        self._features: dict[str, dict] = {}
        self._tasks: dict[str, int] = {}
        self._episodes: list[dict] = []  # meta/episodes
        self._stats = meta.FeatureStats()
        self._records: list[dict] = []  # meta/gwm.json
        self._rows = None
        self._encoders: dict[str, Encoder] = {}
        self._positions: dict[str, tuple[int, int]] = {}  # stream -> chunk and file

    def add(self, table: ResampledEpisode) -> None:
        """Write an episode."""
        e, rows = len(self.lengths), len(table)
        where = f"episode {e}"
        info = {key: value for key, value in table.info.items() if key != "sha256"}
        intrinsics = {
            camera: np.asarray(K, float).tolist() for camera, K in table.intrinsics.items()
        }
        parse_record(where, {"info": info, "intrinsics": intrinsics})
        self._require_fit(where, check_table(where, table))
        text = str(info.get("instruction") or info.get("task") or "unknown")
        task = self._tasks.setdefault(text, len(self._tasks))
        start, stats = sum(self.lengths), meta.FeatureStats()
        columns = self._columns(table, e, start, task)
        for name, values in columns.items():
            stats.vector(name, values.reshape(rows, -1))
        entry = {
            "episode_index": e,
            "tasks": [text],
            "length": rows,
            "dataset_from_index": start,
            "dataset_to_index": start + rows,
        }
        entry |= self._begin(e)
        self._write_rows(table, columns, stats)
        if self.version == "v2.1":
            self.close()
        for name in self._encoders:
            entry[f"videos/{name}/to_timestamp"] = (
                entry[f"videos/{name}/from_timestamp"] + rows / table.fps
            )
        self._stats.add(stats)
        self._episodes.append(entry | {"stats": stats.result(self.version)})
        self._records.append({"info": info, "intrinsics": intrinsics})
        self.lengths.append(rows)

    def _require_fit(self, where: str, table: ResampledEpisode) -> None:
        """Raise InputError unless the episode fits the earlier ones."""
        if not 0 < len(table) <= MAXIMUM_ROWS:
            raise InputError(f"{where} has {len(table)} rows: 1 to {MAXIMUM_ROWS} are wanted")
        sizes = {
            camera: decode_image(where, images[0]).shape for camera, images in table.depth.items()
        }
        if set(sizes) != set(table.color) or set(sizes) != set(table.info["cameras"]):
            raise InputError(
                f"{where}: colour, depth and cameras differ: {sorted(table.color)}, {sorted(sizes)}"
            )
        if not self.lengths:
            self._fps, self._sizes = table.fps, sizes
            self._features = meta.features(table, sizes, self.version, self.video, self.kinds)
            if self.video and any(height % 2 or width % 2 for height, width in sizes.values()):
                raise InputError(
                    f"H.264 wants even heights and widths, not {sizes}: export images instead"
                )
        if (table.fps, sizes) != (self._fps, self._sizes):
            raise InputError(
                f"{where}: {table.fps} Hz, {sizes}, the first has {self._fps} Hz, {self._sizes}"
            )

    def _columns(
        self, table: ResampledEpisode, episode: int, start: int, task: int
    ) -> dict[str, np.ndarray]:
        rows = len(table)
        success = np.zeros(rows, bool)
        success[-1] = bool(table.info.get("success", False))
        indices = (
            np.arange(rows),
            np.full(rows, episode),
            start + np.arange(rows),
            np.full(rows, task),
        )
        made = {name: np.float32(table.columns[name]) for name in meta.COLUMNS}
        made |= {meta.USABLE: np.asarray(table.usable, bool), meta.SUCCESS: success}
        made[meta.INTERVENTION] = np.float32(table.intervened)
        made["timestamp"] = np.float32(np.arange(rows) / table.fps)
        return made | dict(zip(meta.INDICES, indices))

    def _begin(self, episode: int) -> dict:
        """Open the files of the episode; returns their entries of meta/episodes."""
        pq, entry = needed("pyarrow.parquet"), {}
        path = self._next_file("data", meta.DATA_PATH, meta.DATA_MB, episode)
        if path is not None:
            if self._rows is not None:
                self._rows.close()
            path.parent.mkdir(parents=True, exist_ok=True)
            images = [name for name, kind in self._features.items() if kind["dtype"] == "image"]
            plain = [
                name
                for name in meta.schema(self._features, self.version).names
                if name not in images
            ]
            self._rows = pq.ParquetWriter(
                path,
                meta.schema(self._features, self.version),
                compression="snappy",
                use_dictionary=plain,
            )
        entry["data/chunk_index"], entry["data/file_index"] = self._positions["data"]
        for name, kind in self._features.items():
            if kind["dtype"] != "video":
                continue
            path = self._next_file(name, meta.VIDEO_PATH, meta.VIDEO_MB, episode)
            if path is not None:
                if name in self._encoders:
                    self._encoders[name].close()
                self._encoders[name] = Encoder(
                    path, kind["shape"][:2], self._fps, kind["shape"][2] == 1
                )
            keys = (
                f"videos/{name}/{key}" for key in ("chunk_index", "file_index", "from_timestamp")
            )
            entry |= dict(
                zip(keys, (*self._positions[name], self._encoders[name].count / self._fps))
            )
        return entry

    def _next_file(
        self, stream: str, template: dict[str, str], limit: int, episode: int
    ) -> Path | None:
        """The path of a new file of ``stream``; None while the current one may grow."""
        if self.version == "v2.1":
            self._positions[stream] = divmod(episode, meta.CHUNK)
            numbers = {"episode_chunk": episode // meta.CHUNK, "episode_index": episode}
        else:
            k = -1
            if stream in self._positions:
                k = self._positions[stream][0] * meta.CHUNK + self._positions[stream][1]
                chunk, number = self._positions[stream]
                name = template["v3.0"].format(
                    video_key=stream, chunk_index=chunk, file_index=number
                )
                path = self.folder / name
                # an encoder may still buffer all its frames
                if not path.exists() or path.stat().st_size < limit << 20:
                    return None
            self._positions[stream] = divmod(k + 1, meta.CHUNK)
            numbers = dict(zip(("chunk_index", "file_index"), self._positions[stream]))
        return self.folder / template[self.version].format(video_key=stream, **numbers)

    def _write_rows(
        self, table: ResampledEpisode, columns: dict[str, np.ndarray], stats: meta.FeatureStats
    ) -> None:
        pa = needed("pyarrow")
        schema = meta.schema(self._features, self.version)
        heavy = sum(
            np.prod(kind["shape"]) for kind in self._features.values() if kind["dtype"] == "image"
        )
        block = int(np.clip(_GROUP // max(2 * heavy, 1), 1, len(table))) if heavy else len(table)
        for start in range(0, len(table), block):
            part, arrays = slice(start, min(start + block, len(table))), {}
            for name, values in columns.items():
                piece = values[part]
                arrays[name] = pa.array(
                    list(piece) if piece.ndim > 1 else piece, schema.field(name).type
                )
            for camera in self._sizes:
                for key in self.kinds:
                    images = table.color if key == meta.COLOR_KEY else table.depth
                    kept = self._images(key + camera, images[camera][part], start, stats)
                    if kept:
                        arrays[key + camera] = pa.array(kept, schema.field(key + camera).type)
            self._rows.write_table(pa.table([arrays[name] for name in schema.names], schema=schema))

    def _images(
        self, name: str, images: list[bytes], start: int, stats: meta.FeatureStats
    ) -> list[dict]:
        """Write images to their video, or return their entries of the Parquet file."""
        kind, kept = self._features[name], []
        for k, data in enumerate(images, start):
            image = decode_image(name, data, kind["shape"][:2])
            if (image.ndim == 2) != (kind["shape"][2] == 1):
                raise InputError(f"{name} row {k}: colour and depth are exchanged")
            stats.image(name, image)
            if kind["dtype"] == "video":
                self._encoders[name].write(image)
            elif image.ndim == 2:
                kept.append({"bytes": tiff(image), "path": f"frame-{k:06d}.tiff"})
            else:
                ending = "jpg" if data[:2] == b"\xff\xd8" else "png"
                kept.append({"bytes": data, "path": f"frame-{k:06d}.{ending}"})
        return kept

    def close(self) -> None:
        """Close the open files."""
        if self._rows is not None:
            self._rows.close()
        for film in self._encoders.values():
            film.close()
        self._rows, self._encoders = None, {}

    def finish(self) -> None:
        """Write the ``meta`` folder."""
        if not self.lengths:
            raise InputError("no episodes to export")
        folder = self.folder / "meta"
        folder.mkdir()
        tasks, about = list(self._tasks), {"format": 1, "episodes": self._records}
        info = meta.info_json(self.version, self._fps, self._features, self.lengths, len(tasks))
        write_json(folder / "info.json", info)
        write_json(self.folder / meta.SIDECAR, about)
        if self.version == "v3.0":
            write_json(folder / "stats.json", self._stats.result(self.version))
            meta.write_tasks(folder / "tasks.parquet", tasks)
            meta.write_episodes(folder / "episodes/chunk-000/file-000.parquet", self._episodes)
            return
        lines = [{"task_index": k, "task": task} for k, task in enumerate(tasks)]
        _lines(folder / "tasks.jsonl", lines)
        keys = ("episode_index", "tasks", "length")
        _lines(
            folder / "episodes.jsonl",
            [{key: entry[key] for key in keys} for entry in self._episodes],
        )
        keys = ("episode_index", "stats")
        _lines(
            folder / "episodes_stats.jsonl",
            [{key: entry[key] for key in keys} for entry in self._episodes],
        )


def _lines(path: Path, values: list[dict]) -> None:
    path.write_text("".join(to_json(value) + "\n" for value in values))


def _write_sums(folder: Path) -> None:
    """Write the list of hashes, without hidden files and the list itself."""
    paths = sorted(
        path for path in folder.rglob("*") if path.is_file() and not path.name.startswith(".")
    )
    text = "".join(f"{sha256(path)}  {path.relative_to(folder)}\n" for path in paths)
    (folder / SUMS).write_text(text)
