"""Import the datasets of other libraries into a folder of episodes, each episode once."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from gwm_core.data.episode_info import INFO, read_info
from gwm_core.data.resampled_episode import ResampledEpisode, write_resampled
from gwm_core.errors import InputError
from gwm_core.files.atomic_write import PARTIAL, refuse_inside
from gwm_core.files.json_files import to_json

NAME = "imported_{:06d}"
# key of episode.json: the dataset, the episode's index in it, and its fingerprint
ORIGIN = "imported"


@dataclass(frozen=True)
class Imported:
    """The result of an import."""

    added: int
    skipped: int  # episodes that the folder had already


def import_tables(tables: Iterable[ResampledEpisode], source: Path, out: Path) -> Imported:
    """Write the tables of a dataset as further episodes of the folder ``out``.

    An episode with the same content as one of ``out`` is skipped. So an interrupted import
    continues, another dataset is appended, and only new episodes of a larger one are added.

    Raises:
        InputError: ``out`` lies in the dataset, or has imported episodes without their origin.
    """
    source, out = Path(source), Path(out)
    refuse_inside(source, out)
    known = _known(out)
    number = len(known)
    added = skipped = 0
    for index, table in enumerate(tables):
        digest = fingerprint(table)
        if digest in known.values():
            skipped += 1
            continue
        while (out / NAME.format(number)).exists():
            number += 1
        folder = out / NAME.format(number)
        _clear(folder)
        origin = {"dataset": source.resolve().name, "episode": index, "sha256": digest}
        write_resampled(replace(table, info=table.info | {ORIGIN: origin}), folder)
        known[folder] = digest
        added += 1
    return Imported(added, skipped)


def fingerprint(table: ResampledEpisode) -> str:
    """Hex digest of a table, with images as they are encoded."""
    intrinsics = {
        name: np.asarray(K, float).tolist() for name, K in sorted(table.intrinsics.items())
    }
    # without the origin of an earlier import
    info = {key: value for key, value in table.info.items() if key != ORIGIN}
    total = hashlib.sha256(to_json([table.fps, info, intrinsics], sort_keys=True).encode())
    for name in sorted(table.columns):
        total.update(np.ascontiguousarray(table.columns[name]))
    total.update(np.ascontiguousarray(table.usable, np.uint8))
    for name in sorted(table.color):
        for data in (*table.color[name], *table.depth[name]):
            total.update(hashlib.sha256(data).digest())
    return total.hexdigest()


def _known(out: Path) -> dict[Path, str]:
    """Imported episodes of a folder and their fingerprints."""
    found = {}
    for folder in sorted(out.glob(NAME.format(0).rpartition("_")[0] + "_*")):
        if folder.suffix == PARTIAL:
            continue
        try:
            found[folder] = str(read_info(folder)[ORIGIN]["sha256"])
        except (OSError, ValueError, LookupError, TypeError, RecursionError):
            raise InputError(
                f"{folder} does not say which dataset it is from: choose another folder"
            ) from None
    return found


def _clear(folder: Path) -> None:
    """Remove an unfinished episode of an interrupted import; others stay."""
    partial = folder.with_name(folder.name + PARTIAL)
    try:
        imported = ORIGIN in json.loads((partial / INFO).read_text())
    except (OSError, ValueError, TypeError, RecursionError):
        return
    if imported:
        shutil.rmtree(partial)
