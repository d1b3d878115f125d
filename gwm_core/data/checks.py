"""Whether an episode is what it says and all there."""

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

_GAP = 3, 50_000_000  # times the usual spacing, and [ns] on top: what may pass without a message
_END = 1_000_000_000  # [ns] by which a stream may end before the longest one
_WINDOW = 10  # moments 0.1 s apart that the world model learns from: 2 it knows and 8 that follow


@dataclass(frozen=True)
class Findings:
    """What an episode is worth.

    Attributes:
        errors: what makes it unusable. warnings: what is missing of it, or was left out.
        policy, world: why no policy, or no world model, can be trained on it; "" where one can.
    """

    errors: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    policy: str = ""
    world: str = ""

    @property
    def fit(self) -> str:
        """In words."""
        if self.errors:
            return "fit to train on: no"
        told = [
            f"{name} {'no (' + why + ')' if why else 'yes'}"
            for name, why in (("policy", self.policy), ("world model", self.world))
        ]
        return "fit to train on: " + ("yes" if not (self.policy or self.world) else ", ".join(told))


def problems(path: Path) -> list[str]:
    """Errors and warnings of ``findings``."""
    found = findings(path)
    return [*found.errors, *found.warnings]


def findings(path: Path) -> Findings:
    """Errors: hashes, streams, NaN, images. Warnings: gaps, time. Whether it is fit to train on."""
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
        warnings += _times(name, stamps, last)
    values = {
        "measured joints": np.array([np.append(state.q, state.width) for state in episode.states]),
        "measured velocities": np.array([state.dq for state in episode.states]),
        "commands": episode.commands,
    }
    errors = [
        f"{name}: not finite in {n} rows" for name, v in values.items() if (n := _not_finite(v))
    ]
    for (camera, kind), stream in episode.images.items():
        errors += _pictures(f"{camera} {kind}", stream, len(DEPTH_HEADER) * (kind == "depth"))
    stamps = np.array([stamp for stamp, _, _ in synced_observations(episode)], np.int64)
    if not errors and not len(stamps):
        errors.append("no moment at which colour, depth and joints of every camera are there")
    return Findings(errors, warnings, *(_unfit(episode, stamps) if not errors else ("", "")))


def _unfit(episode: Episode, stamps: np.ndarray) -> tuple[str, str]:
    """Why no policy and no world model can be trained on moments (M,) of an episode."""
    at = stamps[on_grid(stamps)]
    wished = ~np.any(
        [(at >= begin) & (at <= end) for begin, end in [(1, 0), *episode.unusable]], axis=0
    )
    policy = "" if wished.any() else "at no moment did the arm follow the task"
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


def _times(name: str, stamps: np.ndarray, last: int) -> list[str]:
    apart, found = np.diff(stamps), []
    if len(apart):
        allowed = _GAP[0] * np.median(apart) + _GAP[1]
        gaps = np.flatnonzero(apart > allowed)
        if len(gaps):
            at = (stamps[gaps[0]] - stamps[0]) * 1e-9
            found.append(
                f"{name}: {len(gaps)} gaps, the longest {apart.max() * 1e-9:.2f} s, the first after"
                f" {at:.2f} s"
            )
    if last - stamps[-1] > _END:
        found.append(f"{name}: ends {(last - stamps[-1]) * 1e-9:.1f} s before the others")
    return found


def _not_finite(rows: np.ndarray) -> int:
    return int((~np.isfinite(rows.reshape(len(rows), -1))).any(1).sum()) if len(rows) else 0


def _pictures(name: str, stream: ImageStream, header: int) -> list[str]:
    sizes = set()
    for k, stamp in enumerate(stream.stamps.tolist()):
        try:
            with Image.open(io.BytesIO(stream[k][1][header:].tobytes())) as picture:
                sizes.add(picture.size)
        except (UnidentifiedImageError, OSError, ValueError) as error:
            return [f"{name}: image of {stamp} cannot be read ({error})"]
    return [f"{name}: images of several sizes, {sorted(sizes)}"] if len(sizes) > 1 else []


def numbering(paths: list[Path]) -> list[str]:
    """Numbers that are missing between episodes the recorder numbered: one may have been removed or
    lost.
    """
    found, numbers = [], {}
    for path in paths:
        if match := re.fullmatch(r"(episode|kept)_(\d+)", path.name):
            numbers.setdefault((path.parent, match[1]), set()).add(int(match[2]))
    for (parent, kind), there in numbers.items():
        if missing := sorted(set(range(max(there))) - there):
            few = ", ".join(map(str, missing[:5])) + (", ..." if len(missing) > 5 else "")
            found.append(f"{parent}: {kind} {few} not there (in the trash, unfinished, or lost)")
    return found
