"""Summary of a folder of episodes, and statistics of their rows."""

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
    seconds: float  # of the episodes that state it


@dataclass(frozen=True)
class DatasetSummary:
    """The episodes in and below a folder."""

    groups: list[TaskGroup]  # of the finished ones
    broken: dict[Path, str]  # path -> why its episode.json cannot be read
    unfinished: list[Path]  # never closed
    trash: int  # number of episodes in the trash


def summarize(folder: Path) -> DatasetSummary:
    """Summarize the episodes in and below ``folder``."""
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
    """Column -> names, minimum, maximum, mean and standard deviation, over all rows of episodes."""
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
