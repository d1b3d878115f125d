"""Attacks on a LeRobot dataset: paths, links, false counts, other types, large images."""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.data.hostile_attacks import link_elsewhere, write_text
from gwm_core.interop.lerobot_video import Encoder


def parquet(root: Path, pattern: str, edit: Callable[[pa.Table], pa.Table]) -> None:
    """Write the first Parquet file that fits ``pattern`` anew."""
    path = sorted(root.glob(pattern))[0]
    pq.write_table(edit(pq.read_table(path)), path)


def column(name: str, change: Callable[[list], list], kind=None) -> Callable[[pa.Table], pa.Table]:
    """An edit that changes the values of a column, and its type where ``kind`` is given."""

    def edit(table: pa.Table) -> pa.Table:
        made = pa.array(change(table[name].to_pylist()), kind or table.schema.field(name).type)
        return table.set_column(table.schema.get_field_index(name), name, made)

    return edit


def many_rows(path: Path, rows: int = 10**9) -> None:
    """Let a Parquet footer promise ``rows``: every 64-bit number that is its count of rows is
    replaced.
    """
    data, about = path.read_bytes(), pq.read_metadata(path)
    length = int.from_bytes(data[-8:-4], "little")
    footer = data[-8 - length : -8].replace(
        b"\x16" + _varint(about.num_rows), b"\x16" + _varint(rows)
    )
    path.write_bytes(data[: -8 - length] + footer + len(footer).to_bytes(4, "little") + b"PAR1")


def _varint(value: int) -> bytes:
    """Zigzag, as Thrift's compact protocol has it."""
    value, out = value << 1, b""
    while value > 127:
        out, value = out + bytes([value & 127 | 128]), value >> 7
    return out + bytes([value])


def _meta(key: str, value) -> Callable[[Path], None]:
    def attack(root: Path) -> None:
        info = json.loads((root / "meta/info.json").read_text())
        info[key] = value(info[key]) if callable(value) else value
        (root / "meta/info.json").write_text(json.dumps(info))

    return attack


def _fifo(root: Path) -> None:
    (root / "meta/gwm.json").unlink()
    os.mkfifo(root / "meta/gwm.json")


def _film(size: tuple[int, int], count: int) -> Callable[[Path], None]:
    def attack(root: Path) -> None:
        for path in sorted(root.glob("videos/**/*images*/**/*.mp4"))[:1]:
            encoder = Encoder(path, size, 10, depth=False)
            for _ in range(count):
                encoder.write(np.zeros((*size, 3), np.uint8))
            encoder.close()

    return attack


def _huge_png(side: int = 60_000) -> bytes:
    """A PNG whose head promises ``side`` x ``side`` pixels."""
    head = b"IHDR" + side.to_bytes(4, "big") * 2 + b"\x08\x02\x00\x00\x00"
    body = zlib.compress(bytes(1 << 20))
    data = b"IDAT" + body
    parts = [
        b"\x89PNG\r\n\x1a\n",
        (13).to_bytes(4, "big"),
        head,
        zlib.crc32(head).to_bytes(4, "big"),
    ]
    return b"".join(
        [*parts, len(body).to_bytes(4, "big"), data, zlib.crc32(data).to_bytes(4, "big")]
    )


def _data(name: str, change, kind=None) -> Callable[[Path], None]:
    return lambda root: parquet(root, "data/*/*.parquet", column(name, change, kind))


def _renamed(key: str) -> Callable[[Path], None]:
    """Cameras with a name that leads elsewhere."""

    def attack(root: Path) -> None:
        for name in ("meta/info.json", "meta/gwm.json"):
            path = root / name
            path.write_text(
                path.read_text().replace('"front"', f'"{key}"').replace(".front", f".{key}")
            )

    return attack


LEROBOT: dict[str, Callable[[Path], None]] = {
    "data_path leaves the folder": _meta("data_path", "../{chunk_index}/{file_index}.parquet"),
    "video_path formats a gigabyte": _meta("video_path", "{video_key:>1000000000}"),
    "version": _meta("codebase_version", "v9.9"),
    "no features": _meta("features", {}),
    "a feature less": _meta(
        "features", lambda kinds: {k: v for k, v in kinds.items() if k != "action.joints"}
    ),
    "fps is zero": _meta("fps", 0),
    "a billion episodes": _meta("total_episodes", 10**9),
    "more frames than there are": _meta("total_frames", lambda count: count + 1),
    "giant JSON": write_text("meta/info.json", " " * (80 << 20)),
    "JSON of ten million lists": write_text("meta/gwm.json", "[" + "[]," * 10_000_000 + "[]]"),
    "deep JSON": write_text("meta/gwm.json", "[" * 1_000_000),
    "NaN in JSON": write_text("meta/gwm.json", '{"episodes": [NaN, NaN]}'),
    "camera name leaves the folder": _renamed("../../front"),
    "data linked to elsewhere": link_elsewhere("data/*/*.parquet"),
    "info linked to elsewhere": link_elsewhere("meta/info.json"),
    "video linked to elsewhere": lambda root: (
        next(root.glob("videos"), None) and link_elsewhere("videos/**/*.mp4")(root)
    ),
    "a pipe instead of a file": _fifo,
    "a billion rows": lambda root: many_rows(sorted(root.glob("data/*/*.parquet"))[0]),
    "NaN in the state": _data("observation.state", lambda rows: [[float("nan")] * 9, *rows[1:]]),
    "infinite actions": _data("action", lambda rows: [*rows[:-1], [float("inf")] * 10]),
    "state of text": _data(
        "observation.state", lambda rows: [str(row) for row in rows], pa.string()
    ),
    "state of another length": _data(
        "observation.state", lambda rows: [row[:8] for row in rows], pa.list_(pa.float32())
    ),
    "gaps": _data("frame_index", lambda rows: [None, *rows[1:]]),
    "rows exchanged": _data("index", lambda rows: rows[::-1]),
    "episodes exchanged": _data("episode_index", lambda rows: [1 - row for row in rows]),
    "time stands still": _data("timestamp", lambda rows: [0.0] * len(rows)),
    "a row less": lambda root: parquet(root, "data/*/*.parquet", lambda table: table.slice(1)),
    "a column less": lambda root: parquet(
        root, "data/*/*.parquet", lambda table: table.drop_columns(["action.joints"])
    ),
    "video of another size": _film((64, 48), 30),
    "video that ends early": _film((24, 32), 3),
}
V3: dict[str, Callable[[Path], None]] = {
    f"{name} in meta/episodes": lambda root, key=key, change=change: parquet(
        root, "meta/episodes/*/*.parquet", column(key, change)
    )
    for name, key, change in (
        ("an episode twice", "episode_index", lambda rows: [0] * len(rows)),
        ("a length that is wrong", "length", lambda rows: [rows[0] + 1, *rows[1:]]),
        ("a billion rows", "length", lambda rows: [10**9] * len(rows)),
        ("a file that is not there", "data/file_index", lambda rows: [7] * len(rows)),
        ("a negative chunk", "data/chunk_index", lambda rows: [-1] * len(rows)),
        ("no tasks", "tasks", lambda rows: [[]] * len(rows)),
    )
}
V3["a billion episodes"] = lambda root: many_rows(sorted(root.glob("meta/episodes/*/*.parquet"))[0])
V21: dict[str, Callable[[Path], None]] = {
    "an episode twice": lambda root: write_text(
        "meta/episodes.jsonl", (root / "meta/episodes.jsonl").read_text().splitlines()[0] * 2
    )(root),
    "lines that are no objects": write_text("meta/episodes.jsonl", "[]\n3\n"),
    "a billion rows in a line": write_text(
        "meta/episodes.jsonl", '{"episode_index": 0, "tasks": ["x"], "length": 1000000000}'
    ),
}
IMAGES: dict[str, Callable[[Path], None]] = {
    name: _data(
        key,
        lambda rows, make=make: [
            {"bytes": make(row["bytes"]), "path": row["path"]} for row in rows
        ],
    )
    for name, key, make in (
        ("images of 60000x60000", "observation.images.front", lambda data: _huge_png()),
        ("images elsewhere", "observation.images.front", lambda data: None),
        ("images cut", "observation.images.front", lambda data: data[: len(data) // 2]),
        ("depth cut", "observation.depth.front", lambda data: data[: len(data) // 2]),
        ("depth that is text", "observation.depth.front", lambda data: b"II*\x00" + b"A" * 500),
    )
}
