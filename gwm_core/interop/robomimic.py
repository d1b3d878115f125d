"""Write episodes as one robomimic HDF5 file.

The format is https://robomimic.github.io/docs/datasets/overview.html (0.5).
``robomimic_read`` reads such files.

``data/demo_<k>``: ``actions`` (T, 10) and ``actions_joints`` (T, 8), which are the columns "action"
and "action.joints"; ``obs/{state,velocity,pose}``, ``obs/<camera>_image`` (T, H, W, 3) uint8 RGB
and ``obs/<camera>_depth`` (T, H, W, 1) uint16 [mm]; ``rewards`` and ``dones``, ``states`` (as there
is no simulator: obs/state), ``usable``; and ``gwm``, JSON of episode.json and the camera matrices.
There is no environment behind it: train without rollouts.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

from gwm_core.data.resampled_episode import ResampledEpisode
from gwm_core.errors import InputError
from gwm_core.files import atomic_write
from gwm_core.files.json_files import to_json
from gwm_core.interop.untrusted import check_table, decode_image, needed, parse_record

NAMES = {
    "observation.state": "obs/state",
    "observation.velocity": "obs/velocity",
    "observation.pose": "obs/pose",
    "action": "actions",
    "action.joints": "actions_joints",
}
VALIDATION = 0.1  # fraction of episodes in mask/valid


def export_robomimic(
    tables: Iterable[ResampledEpisode],
    out: Path,
    next_obs: bool = False,
    seed: int = 0,
    progress: Callable[[int], None] = lambda episodes: None,
) -> atomic_write.Exported:
    """Write episodes as the HDF5 file ``out``; one episode is in memory at a time.

    Args:
        tables: all of one rate.
        next_obs: also keep every observation one row later (robomimic can do without), twice the
            size.
        seed: of the split into mask/train and mask/valid.
        progress: called with the number of episodes after each.

    Raises:
        InputError: ``out`` exists or cannot be written, nothing to export, episodes that do not fit
            each other, or h5py missing.
    """
    h5py = needed("h5py")
    lengths: list[int] = []
    first = None
    with atomic_write.file(out) as path:
        with h5py.File(path, "w", locking=False) as file:
            data = file.create_group("data")
            for table in tables:
                _write_demo(
                    data.create_group(f"demo_{len(lengths)}"),
                    table,
                    f"episode {len(lengths)}",
                    next_obs,
                )
                first = first or table
                if table.fps != first.fps:
                    raise InputError(
                        f"episode {len(lengths)}: {table.fps} Hz, the first has {first.fps} Hz"
                    )
                lengths.append(len(table))
                progress(len(lengths))
            if first is None:
                raise InputError("no episodes to export")
            _finish(file, first, lengths, seed)
        size = path.stat().st_size
    return atomic_write.Exported(Path(out), len(lengths), sum(lengths), size)


def _finish(file, first: ResampledEpisode, lengths: list[int], seed: int) -> None:
    args = {
        "env_name": f"gwm-{first.info.get('task', 'real')}",
        "type": 2,
        "env_version": "1",
        "env_kwargs": {},
    }
    file["data"].attrs["total"] = sum(lengths)
    file["data"].attrs["env_args"] = to_json(args | {"fps": first.fps})
    order = np.random.default_rng(seed).permutation(len(lengths))
    cut = min(max(round(VALIDATION * len(lengths)), 1), len(lengths) - 1)
    for name, chosen in (("valid", order[:cut]), ("train", order[cut:])):
        demos = np.array([f"demo_{k}" for k in sorted(chosen.tolist())], dtype="S16")
        file.create_dataset(f"mask/{name}", data=demos)


def _write_demo(demo, table: ResampledEpisode, where: str, next_obs: bool) -> None:
    rows = len(check_table(where, table))
    info = {key: value for key, value in table.info.items() if key != "sha256"}
    record = {
        "info": info,
        "intrinsics": {name: np.asarray(K).tolist() for name, K in table.intrinsics.items()},
    }
    parse_record(where, record)
    text = to_json(record | {"fps": table.fps}).encode()
    ended = np.zeros(rows, np.uint8)
    ended[-1] = 1
    arrays = {name: np.float32(table.columns[column]) for column, name in NAMES.items()}
    arrays |= {
        "states": arrays["obs/state"],
        "dones": ended,
        "usable": np.uint8(table.usable),
        "rewards": np.float32(ended * bool(info.get("success", False))),
        "gwm": np.frombuffer(text, np.uint8),
    }
    total = hashlib.sha256()
    for name, values in arrays.items():
        demo.create_dataset(name, data=values, chunks=values.shape, fletcher32=True)
    for name in sorted(arrays):
        total.update(np.ascontiguousarray(arrays[name]))
    for camera in sorted(table.color):
        for ending, images in (("image", table.color[camera]), ("depth", table.depth[camera])):
            _write_images(demo, f"obs/{camera}_{ending}", images, where, total)
    if next_obs:
        for name in list(demo["obs"]):
            _shift(demo, name)
    demo.attrs["num_samples"] = rows
    demo.attrs["sha256"] = total.hexdigest()


def _write_images(demo, name: str, images: list[bytes], where: str, total) -> None:
    depth, size = name.endswith("_depth"), decode_image(where, images[0]).shape[:2]
    shape = (len(images), *size, 1 if depth else 3)
    made = demo.create_dataset(
        name,
        shape,
        np.uint16 if depth else np.uint8,
        chunks=(1, *shape[1:]),
        compression="gzip",
        compression_opts=1,
        shuffle=True,
        fletcher32=True,
    )
    for k, data in enumerate(images):
        image = decode_image(where, data, size)
        if (image.ndim == 2) != depth:
            raise InputError(f"{where}: colour and depth are exchanged")
        image = image[..., None] if depth else np.ascontiguousarray(image[..., ::-1])
        total.update(image)
        made[k] = image


def _shift(demo, name: str) -> None:
    """Observations one row later; the last row stays."""
    source = demo["obs"][name]
    made = demo.create_dataset(
        f"next_obs/{name}",
        source.shape,
        source.dtype,
        chunks=source.chunks,
        compression=source.compression,
        compression_opts=source.compression_opts,
        shuffle=source.shuffle,
        fletcher32=True,
    )
    for k in range(len(source)):
        made[k] = source[min(k + 1, len(source) - 1)]
