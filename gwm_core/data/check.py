"""Whether an episode is what it says and all there."""

from __future__ import annotations

import io
import re
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from gwm_core import topics
from gwm_core.data.cdr import DEPTH_HEADER
from gwm_core.data.episode import Episode, moments, read_episode
from gwm_core.errors import InputError

_GAP = 3, 50_000_000  # times the usual spacing, and [ns] on top: what may pass without a message
_END = 1_000_000_000  # [ns] by which a stream may end before the longest one


def problems(path: Path) -> list[str]:
    """What is wrong with an episode, a line each: hashes, streams, gaps, time, NaN, image sizes."""
    try:
        episode = read_episode(path)
    except InputError as error:
        return [str(error)]
    streams = _streams(episode)
    found = [f"{name}: nothing recorded" for name, stamps in streams.items() if not len(stamps)]
    last = max((stamps[-1] for stamps in streams.values() if len(stamps)), default=0)
    for name, stamps in streams.items():
        found += _times(name, stamps, last) if len(stamps) else []
    values = {
        "measured joints": np.array([np.append(state.q, state.width) for state in episode.states]),
        "measured velocities": np.array([state.dq for state in episode.states]),
        "commands": episode.commands,
    }
    found += [f"{name}: not finite in {n} rows" for name, v in values.items() if (n := _not_finite(v))]
    for (camera, kind), stream in episode.images.items():
        found += _pictures(f"{camera} {kind}", stream, len(DEPTH_HEADER) * (kind == "depth"))
    if not found and next(moments(episode), None) is None:
        found.append("no moment at which colour, depth and joints of every camera are there")
    return found


def _streams(episode: Episode) -> dict[str, np.ndarray]:
    images = {f"{c} {kind}": np.array([stamp for stamp, _ in s], np.int64) for (c, kind), s in episode.images.items()}
    states = np.array([state.stamp for state in episode.states], np.int64)
    return images | {topics.JOINT_STATES: states, topics.COMMAND: episode.command_stamps}


def _times(name: str, stamps: np.ndarray, last: int) -> list[str]:
    apart, found = np.diff(stamps), []
    if (apart < 0).any():
        found.append(f"{name}: time runs back {np.sum(apart < 0)} times")
    if len(apart):
        allowed = _GAP[0] * np.median(apart) + _GAP[1]
        gaps = np.flatnonzero(apart > allowed)
        if len(gaps):
            at = (stamps[gaps[0]] - stamps[0]) * 1e-9
            found.append(
                f"{name}: {len(gaps)} gaps, the longest {apart.max() * 1e-9:.2f} s, the first after {at:.2f} s"
            )
    if last - stamps[-1] > _END:
        found.append(f"{name}: ends {(last - stamps[-1]) * 1e-9:.1f} s before the others")
    return found


def _not_finite(rows: np.ndarray) -> int:
    return int((~np.isfinite(rows.reshape(len(rows), -1))).any(1).sum()) if len(rows) else 0


def _pictures(name: str, stream: list[tuple[int, np.ndarray]], header: int) -> list[str]:
    sizes = set()
    for stamp, data in stream:
        try:
            with Image.open(io.BytesIO(data[header:].tobytes())) as picture:
                sizes.add(picture.size)
        except (UnidentifiedImageError, OSError, ValueError) as error:
            return [f"{name}: image of {stamp} cannot be read ({error})"]
    return [f"{name}: images of several sizes, {sorted(sizes)}"] if len(sizes) > 1 else []


def numbering(paths: list[Path]) -> list[str]:
    """Numbers that are missing between episodes the recorder numbered: one may have been removed or lost."""
    found, numbers = [], {}
    for path in paths:
        if match := re.fullmatch(r"(episode|kept)_(\d+)", path.name):
            numbers.setdefault((path.parent, match[1]), set()).add(int(match[2]))
    for (parent, kind), there in numbers.items():
        if missing := sorted(set(range(max(there))) - there):
            few = ", ".join(map(str, missing[:5])) + (", ..." if len(missing) > 5 else "")
            found.append(f"{parent}: {kind} {few} not there (in the trash, unfinished, or lost)")
    return found
