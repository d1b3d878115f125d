"""What a folder of episodes holds, and what its numbers are like."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gwm_core.data.episode_info import (
    TRASH,
    info_problem,
    list_episodes,
    list_unfinished,
    read_info,
)
from gwm_core.data.resampled_episode import COLUMNS, ResampledEpisode


@dataclass(frozen=True)
class TaskGroup:
    """Episodes of one task and outcome."""

    task: str
    outcome: str  # success, failed or unrated
    episodes: int
    megabytes: float
    seconds: float  # as far as the episodes say


@dataclass(frozen=True)
class DatasetSummary:
    """Of the episodes in and below a folder.

    Attributes:
        groups: of the finished ones. broken: path -> why its episode.json cannot be read.
        unfinished: those that were never closed. trash: how many are in the trash.
    """

    groups: list[TaskGroup]
    broken: dict[Path, str]
    unfinished: list[Path]
    trash: int


def overview(folder: Path) -> DatasetSummary:
    """What there is in and below ``folder``."""
    groups: dict[tuple[str, str], list[tuple[float, float]]] = defaultdict(list)
    wrong = {}
    for path in list_episodes(folder):
        if why := info_problem(path):
            wrong[path] = why
            continue
        info = read_info(path)
        outcome = {True: "success", False: "failed"}.get(info.get("success"), "unrated")
        size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
        groups[str(info.get("task", "?")), outcome].append(
            (size / 1e6, float(info.get("seconds", 0.0)))
        )
    rows = [
        TaskGroup(*key, len(found), *np.sum(found, axis=0).tolist())
        for key, found in sorted(groups.items())
    ]
    trash = sum(1 for path in Path(folder).rglob(TRASH) if path.is_dir() for _ in path.iterdir())
    return DatasetSummary(rows, wrong, list_unfinished(folder), trash)


def statistics(tables: list[ResampledEpisode]) -> dict[str, dict[str, list[float]]]:
    """Column -> least, greatest, mean and standard deviation of every number, over all rows of some
    episodes.
    """
    found = {}
    for column, names in COLUMNS.items():
        rows = np.concatenate([table.columns[column] for table in tables]).astype(np.float64)
        found[column] = {
            "names": list(names),
            "min": rows.min(0).tolist(),
            "max": rows.max(0).tolist(),
            "mean": rows.mean(0).tolist(),
            "std": rows.std(0).tolist(),
        }
    return found
