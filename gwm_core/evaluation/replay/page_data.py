"""Episodes as the JSON of a page: images small enough that one file can be sent by mail."""

from __future__ import annotations

import base64
from typing import NamedTuple

import cv2
import numpy as np

from gwm_core.errors import InputError
from gwm_core.evaluation.replay.timeline import ReplayTimeline
from gwm_core.files.json_files import script_json

MAX_BYTES = 14_000_000  # of a page; mail servers take 20 MB and more


class Compression(NamedTuple):
    """How the images of an episode are stored."""

    width: int  # [pixels]
    quality: int  # of WebP, 0 to 100
    period: float  # [s] between observed images, at least
    predicted: float  # the same between predicted futures


LEVELS = (  # the first that fits is used
    Compression(424, 70, 0.1, 0.0),
    Compression(320, 55, 0.1, 0.0),
    Compression(320, 40, 0.1, 0.5),
    Compression(320, 35, 0.2, 0.8),
    Compression(256, 30, 0.2, 1.6),
    Compression(192, 25, 0.4, 1.6),
    Compression(192, 20, 1.0, 3.0),
    Compression(192, 20, 3.0, 9.0),  # of minutes, a picture now and then
)
_PLOT_PERIOD = 0.1  # [s] between values of the plots
_NOT_SHOWN = ("cameras", "sha256")  # fields of episode.json


def episode_data(name: str, replay: ReplayTimeline, size: int) -> str:
    """JSON of one episode for a script element of the page, ``size`` characters at most.

    The first level of compression that fits is used. Times are in seconds, rounded to
    milliseconds.

    Raises:
        InputError: an image is damaged, or no level fits.
    """
    try:
        values = _values(name, replay)
        for level in LEVELS:
            text = script_json(values | _images(replay, level), separators=(",", ":"))
            if len(text) <= size:
                return text
    except (cv2.error, AttributeError, ValueError) as error:
        raise InputError(f"episode {name} cannot be replayed ({error!r})") from None
    raise InputError(
        f"episode {name} of {replay.duration:.0f} s does not fit into a page with that many others:"
        " name fewer episodes"
    )


def _values(name: str, replay: ReplayTimeline) -> dict:
    """What the page shows of an episode, without its images."""
    return {
        "name": name,
        "info": {k: v for k, v in replay.info.items() if k not in _NOT_SHOWN},
        "cameras": replay.cameras,
        "duration": round(replay.duration, 3),
        "lookaheads": replay.lookaheads,
        "divergence": _timed(replay.divergence),
        "status": _timed((t, _shown_status(s)) for t, s in _changes(replay.status)),
        "latency": _thinned(
            (t, float(s["latency_ms"])) for t, s in replay.status if "latency_ms" in s
        ),
        "joints": _thinned((t, q.round(3).tolist()) for t, q, _ in replay.arm),
        "speed": _thinned((t, round(speed, 3)) for t, _, speed in replay.arm),
        "gripper": _thinned((t, round(1e3 * width, 1)) for t, width in replay.gripper),
        "decisions": _timed(replay.decisions),
    }


def _timed(rows) -> list:
    return [[round(time, 3), value] for time, value in rows]


def _thinned(rows, period: float = _PLOT_PERIOD) -> list:
    """Rows (time, value) with at least ``period`` [s] between them."""
    kept: list = []
    for time, value in rows:
        if not kept or time - kept[-1][0] >= period - 0.01:
            kept.append([round(time, 3), value])
    return kept


def _changes(status: list[tuple[float, dict]]) -> list[tuple[float, dict]]:
    """The gate's status where what the page shows of it changes."""
    kept: list[tuple[float, dict]] = []
    for time, values in status:
        if not kept or _shown_status(values) != _shown_status(kept[-1][1]):
            kept.append((time, values))
    return kept


def _shown_status(values: dict[str, str]) -> dict[str, str]:
    return {key: values[key] for key in ("state", "cause", "mode") if key in values}


def _images(replay: ReplayTimeline, level: Compression) -> dict:
    """The images of an episode as base64 of WebP, by what they show."""
    observed = {
        camera: [[time, _webp(data, level)] for time, data in _thinned(frames, level.period)]
        for camera, frames in replay.observed.items()
    }
    plans = _thinned(replay.predicted, level.predicted)
    predicted = [
        [time, {view: [_webp(data, level) for data in steps] for view, steps in views.items()}]
        for time, views in plans
    ]
    return {"observed": observed, "imagined": predicted}


def _webp(data: bytes, level: Compression) -> str:
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    height, width = image.shape[:2]
    if width > level.width:
        size = (level.width, round(height * level.width / width))
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    encoded = cv2.imencode(".webp", image, [cv2.IMWRITE_WEBP_QUALITY, level.quality])[1]
    return base64.b64encode(encoded).decode()
