"""Contact sheet of a run: one row of images per episode, from begin to end."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from gwm_core.data.episode import Episode, read_episode
from gwm_core.data.episode_info import list_episodes
from gwm_core.errors import InputError

COLUMNS = 6
ROWS = 20
WIDTH = 240  # [pixels] of an image
CAPTION_HEIGHT = 20  # [pixels]


def contact_sheet(folder: Path, camera: str = "front") -> Path:
    """Write ``contact_sheet.png`` of the first episodes below ``folder`` and return its path."""
    rows = [_row(read_episode(path), camera) for path in list_episodes(folder)[:ROWS]]
    path = Path(folder) / "contact_sheet.png"
    if not cv2.imwrite(str(path), np.concatenate(rows)[..., ::-1]):
        raise OSError(f"cannot write {path}")
    return path


def _row(episode: Episode, camera: str) -> np.ndarray:
    """(CAPTION_HEIGHT + height, COLUMNS * WIDTH, 3) RGB."""
    tiles = sample_images(episode, camera, COLUMNS)
    info = episode.info
    success = info.get("success", False)
    outcome = "success" if success else "FAILED"
    text = f"{info.get('task', '?')}, seed {info.get('seed', '?')}: {outcome}"
    text += f" after {info['seconds']:.1f} s" if "seconds" in info else ""
    return np.concatenate([caption(text, COLUMNS * WIDTH, success), np.concatenate(tiles, axis=1)])


def sample_images(episode: Episode, camera: str, count: int) -> list[np.ndarray]:
    """``count`` images (height, WIDTH, 3) RGB, evenly in time.

    Raises InputError when there are none, or they cannot be decoded.
    """
    images = [cv2.imdecode(data, cv2.IMREAD_COLOR) for data in _evenly(episode, camera, count)]
    if not images or any(image is None for image in images):
        raise InputError(
            f"episode {episode.path} has no pictures of camera {camera}, or broken ones"
        )
    images = [image[..., ::-1] for image in images]
    return [
        cv2.resize(i, (WIDTH, round(i.shape[0] * WIDTH / i.shape[1])), interpolation=cv2.INTER_AREA)
        for i in images
    ]


def _evenly(episode: Episode, camera: str, count: int) -> list[np.ndarray]:
    """``count`` colour images, compressed, at even times; none where there are none."""
    color = episode.images[camera, "color"]
    if not len(color):
        return []
    due = np.linspace(color.stamps[0], color.stamps[-1], count)
    return [color[int(np.abs(color.stamps - stamp).argmin())][1] for stamp in due]


def stills(path: Path, count: int = 5) -> list[bytes]:
    """Images (JPEG) of an episode's first camera, evenly from begin to end."""
    episode = read_episode(path)
    camera = min(camera for camera, kind in episode.images if kind == "color")
    return [
        cv2.imencode(".jpg", image[..., ::-1])[1].tobytes()
        for image in sample_images(episode, camera, count)
    ]


def caption(text: str, width: int, good: bool) -> np.ndarray:
    """A line of text (CAPTION_HEIGHT, width, 3), green or red on white."""
    strip = np.full((CAPTION_HEIGHT, width, 3), 255, np.uint8)
    ink = (20, 90, 30) if good else (190, 20, 20)
    cv2.putText(
        strip, text, (6, CAPTION_HEIGHT - 6), cv2.FONT_HERSHEY_SIMPLEX, 0.45, ink, 1, cv2.LINE_AA
    )
    return strip
