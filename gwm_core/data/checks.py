"""Check an episode: its hashes, streams, numbers and images, and whether it can be trained on."""

from __future__ import annotations

import io
import re
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from gwm_core import topics
from gwm_core.data.bag import ImageStream
from gwm_core.data.episode import Episode, read_episode, synced_observations
from gwm_core.data.episode_info import info_problem
from gwm_core.data.ros_messages import DEPTH_HEADER
from gwm_core.data.time_grid import on_grid, stream_rate, stretches
from gwm_core.errors import InputError

# the longest gap without a warning is this factor times the median period, plus this margin [ns]
_GAP_FACTOR = 3
_GAP_MARGIN = 50_000_000
_EARLY_END = 1_000_000_000  # [ns] a stream may end so long before the longest one
_WINDOW = 10  # consecutive observations that predictions are to be learned from


@dataclass(frozen=True)
class Findings:
    """The result of a check.

    Attributes:
        errors: reasons why the episode is unusable.
        warnings: parts that are missing, or were left out.
        policy: why no policy can be trained on it, or "".
        world: why no world model can be trained on it, or "".
    """

    errors: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    policy: str = ""
    world: str = ""

    @property
    def fit(self) -> str:
        """In words, what can be trained on the episode."""
        if self.errors:
            return "fit to train on: no"
        if not (self.policy or self.world):
            return "fit to train on: yes"
        reasons = {"policy": self.policy, "world model": self.world}
        parts = [f"{name} no ({why})" if why else f"{name} yes" for name, why in reasons.items()]
        return "fit to train on: " + ", ".join(parts)


def findings(path: Path) -> Findings:
    """Check an episode: errors, warnings, and whether it is fit to train on."""
    if why := info_problem(path):
        return Findings([why])
    try:
        episode = read_episode(path)
    except InputError as error:
        return Findings([str(error)])
    streams = _streams(episode)
    last = max(stamps[-1] for stamps in streams.values())
    warnings = [*episode.notes]
    for name, stamps in streams.items():
        warnings += _timing_warnings(name, stamps, last)
    unknown = sum(not np.isfinite(state.width) for state in episode.states)
    if unknown:  # no gripper state near them: no observation is made of these
        warnings.append(
            f"gripper width: unknown at {unknown} of {len(episode.states)} joint states"
        )
    values = {
        "measured joints": np.array([state.q for state in episode.states]),
        "measured velocities": np.array([state.dq for state in episode.states]),
        "commands": episode.commands,
    }
    errors = [
        f"{name}: not finite in {n} rows"
        for name, v in values.items()
        if (n := _count_not_finite(v))
    ]
    for (camera, kind), stream in episode.images.items():
        errors += _image_errors(f"{camera} {kind}", stream, len(DEPTH_HEADER) * (kind == "depth"))
    stamps = np.array([stamp for stamp, _, _ in synced_observations(episode)], np.int64)
    if not errors and not len(stamps):
        errors.append("no moment at which colour, depth and joints of every camera are there")
    return Findings(
        errors, warnings, *(_training_obstacles(episode, stamps) if not errors else ("", ""))
    )


def _training_obstacles(episode: Episode, stamps: np.ndarray) -> tuple[str, str]:
    """Why no policy and no world model can be trained on the observations (M,) of an episode."""
    at = stamps[on_grid(stamps)]
    unusable = np.zeros(len(at), bool)
    for begin, end in episode.unusable:
        unusable |= (at >= begin) & (at <= end)
    policy = "" if not unusable.all() else "at no moment did the arm follow the task"
    if episode.info.get("success") is False:
        policy = "it failed"
    at = at[episode.last_commands(at).valid]
    longest = max((part.stop - part.start for part in stretches(at)), default=0)
    world = f"{longest} moments 0.1 s apart at most, {_WINDOW} are wanted; {stream_rate(stamps)}"
    return policy, "" if longest >= _WINDOW else world


def _streams(episode: Episode) -> dict[str, np.ndarray]:
    images = {
        f"{camera} {kind}": stream.stamps for (camera, kind), stream in episode.images.items()
    }
    states = np.array([state.stamp for state in episode.states], np.int64)
    return images | {topics.JOINT_STATES: states, topics.COMMAND: episode.command_stamps}


def _timing_warnings(name: str, stamps: np.ndarray, last: int) -> list[str]:
    """Warnings for gaps in a stream, and for an early end."""
    periods = np.diff(stamps)
    found = []
    if len(periods):
        allowed = _GAP_FACTOR * np.median(periods) + _GAP_MARGIN
        gaps = np.flatnonzero(periods > allowed)
        if len(gaps):
            at = (stamps[gaps[0]] - stamps[0]) * 1e-9
            found.append(
                f"{name}: {len(gaps)} gaps, the longest {periods.max() * 1e-9:.2f} s, the first"
                f" after {at:.2f} s"
            )
    if last - stamps[-1] > _EARLY_END:
        found.append(f"{name}: ends {(last - stamps[-1]) * 1e-9:.1f} s before the others")
    return found


def _count_not_finite(rows: np.ndarray) -> int:
    """The number of rows with a number that is not finite."""
    return int((~np.isfinite(rows.reshape(len(rows), -1))).any(1).sum()) if len(rows) else 0


def _image_errors(name: str, stream: ImageStream, header: int) -> list[str]:
    """Errors for images that cannot be read, or have several sizes."""
    sizes = set()
    for k, stamp in enumerate(stream.stamps.tolist()):
        try:
            with Image.open(io.BytesIO(stream[k][1][header:].tobytes())) as picture:
                sizes.add(picture.size)
        except (UnidentifiedImageError, OSError, ValueError) as error:
            return [f"{name}: image of {stamp} cannot be read ({error})"]
    return [f"{name}: images of several sizes, {sorted(sizes)}"] if len(sizes) > 1 else []


def numbering(paths: list[Path]) -> list[str]:
    """Warnings for missing numbers between episodes of the recorder."""
    found, numbers = [], {}
    for path in paths:
        if match := re.fullmatch(r"(episode|kept)_(\d+)", path.name):
            numbers.setdefault((path.parent, match[1]), set()).add(int(match[2]))
    for (parent, kind), present in numbers.items():
        if missing := sorted(set(range(max(present))) - present):
            few = ", ".join(map(str, missing[:5])) + (", ..." if len(missing) > 5 else "")
            found.append(f"{parent}: {kind} {few} not there (in the trash, unfinished, or lost)")
    return found
