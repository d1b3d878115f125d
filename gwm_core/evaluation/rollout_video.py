"""Video and sheet of one episode: observations beside predictions."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from PIL import Image

from gwm_core.data.contact_sheet import caption
from gwm_core.data.episode import read_episode, synced_observations
from gwm_core.errors import InputError, one_of
from gwm_core.evaluation.future_predictor import FuturePredictor
from gwm_core.evaluation.image_metrics import ImageScores
from gwm_core.evaluation.world_model_eval import WORLD, rendered_futures, windows
from gwm_core.geometry.camera import intrinsics, look_at
from gwm_core.runtime.views import EYE
from gwm_core.scene.build import render_scene
from gwm_core.scene.lift import LiftConfig
from gwm_core.training.datasets.clips import SIDE, SceneClips, episode_clips, find_regions
from gwm_core.training.vae_reconstruction import background, chamfer, image_over
from gwm_core.types import CHUNK_DT, Frame

FOV = 42.0  # [degrees] of the overview, which no camera has
BACKGROUND = 0.93  # grey, of the overview
COLUMNS = 8  # of the sheet
_SPEED = 0.5  # of the video, relative to the robot


@dataclass
class RolloutVideo:
    """Four images (4, h, w, 3) uint8 RGB for each of H steps, and the figures of each step."""

    tiles: np.ndarray  # (H, 4, h, w, 3): observed, predicted, then both scenes from ``EYE``
    figures: dict


def read_clips(path: Path, config: LiftConfig) -> tuple[SceneClips, tuple[str, ...]]:
    """The clips of one episode and the names of its cameras."""
    episode = read_episode(path)
    arrays = episode_clips(episode, config)
    return SceneClips(**arrays, episode=np.zeros(len(arrays["stamps"]), np.int64)), tuple(
        episode.info["cameras"]
    )


def choose_start(clips: SceneClips, horizon: int, seconds: float | None) -> int:
    """The moment that is ``seconds`` after the episode's first, with ``horizon`` moments after it.

    The middle one if ``seconds`` is None. Raises InputError for a time without such a moment.
    """
    starts = windows(clips, 1, horizon, 1)
    if seconds is None:
        return int(starts[len(starts) // 2])
    times = (clips.stamps[starts] - clips.stamps[0]) * 1e-9
    nearest = np.abs(times - seconds).argmin()
    if not abs(times[nearest] - seconds) <= CHUNK_DT:
        raise InputError(
            f"--start {seconds}: it and {horizon} moments after it are wanted, which this episode"
            f" has from {times[0]:.1f} to {times[-1]:.1f} s"
        )
    return int(starts[nearest])


def make_rollout_video(
    world: FuturePredictor, clips: SceneClips, now: int, camera: int
) -> RolloutVideo:
    """Predict from the moment ``now``, and render every step for ``camera`` and for the
    overview.
    """
    steps, futures = world.steps, world.predict(clips, np.array([now]))
    tiles, chamfer_mm = [], []
    scores = ImageScores(1, len(steps), (WORLD, "repeat_last", "round_trip"))
    K, lift = clips.Ks[now, camera], world.lift_config
    width = 2 * round(SIDE * K[1, 1] / K[0, 0] / 2)  # the camera's own pixels are square
    for h, (images, truth, mask) in enumerate(rendered_futures(futures, steps, clips, 0, camera)):
        scores.add(0, h, images, truth, mask)
        scene, observed = futures.scenes[0, h], clips.scenes[now + steps[h]].astype(np.float32)
        chamfer_mm.append(1e3 * chamfer(scene, torch.from_numpy(observed)))
        time, decibels = f"+{steps[h] * CHUNK_DT:.1f} s", scores.psnr(WORLD)[0, h]
        tiles.append(
            [
                _tile(truth, f"{time} observed", width),
                _tile(images[WORLD], f"imagined {decibels:.1f} dB", width),
                _tile(_overview(observed, lift, width), f"{time} observed scene", width),
                _tile(_overview(scene.numpy(), lift, width), "imagined scene", width),
            ]
        )
    figures = {"start_s": float(clips.stamps[now] - clips.stamps[0]) * 1e-9, "horizon": steps[-1]}
    figures |= {"steps": list(steps), "seconds": [round(step * CHUNK_DT, 3) for step in steps]}
    return RolloutVideo(
        np.array(tiles), figures | scores.figures(WORLD) | {"chamfer_mm": chamfer_mm}
    )


def write_rollout_video(rollout: RolloutVideo, folder: Path) -> tuple[Path, Path]:
    """Write ``imagine.png``, with a column for each of some steps, and ``imagine.mp4``.

    Returns both paths.
    """
    sheet, video = Path(folder) / "imagine.png", Path(folder) / "imagine.mp4"
    steps = np.unique(np.linspace(0, len(rollout.tiles) - 1, COLUMNS).round().astype(int))
    columns = [np.concatenate(list(rollout.tiles[h])) for h in steps]
    frames = [
        np.concatenate([np.hstack(four[:2]), np.hstack(four[2:])])[..., ::-1]
        for four in rollout.tiles
    ]
    lasting = np.diff(rollout.figures["steps"], prepend=0)  # [steps] that each frame is shown for
    size = frames[0].shape[1::-1]
    writer = cv2.VideoWriter(str(video), cv2.VideoWriter_fourcc(*"mp4v"), _SPEED / CHUNK_DT, size)
    if not (cv2.imwrite(str(sheet), np.hstack(columns)[..., ::-1]) and writer.isOpened()):
        raise InputError(
            f"cannot write {sheet} and {video}: a folder to write to and an OpenCV with MPEG-4 are"
            " wanted"
        )
    for frame, count in zip(frames, lasting):
        for _ in range(count):
            writer.write(np.ascontiguousarray(frame))
    writer.release()
    return sheet, video


def lookahead_frames(
    world: FuturePredictor,
    path: Path,
    camera: str | None = None,
    progress: Callable[[int, int], None] = lambda *_: None,
) -> Iterator[np.ndarray]:
    """Frames (H, 2 W, 3) uint8 RGB of an episode, one per step of 0.1 s: what the camera saw, and
    what was predicted of it ``world.steps[-1]`` steps before, from the commands sent since.

    What lies outside the workspace is of the earlier image, also the arm there.

    Raises:
        InputError: an unknown camera, or no moment with enough moments after it.
    """
    clips, names = read_clips(path, world.lift_config)
    seen = _full_frames(path, names[camera_index(names, camera)], world.lift_config)
    steps = world.steps[-1]
    starts = windows(clips, 1, steps, 1)
    for count, now in enumerate(starts, 1):
        (_, behind), (frame, _) = (seen(clips.stamps[k]) for k in (now, now + steps))
        view = torch.from_numpy(np.linalg.inv(frame.T_base_camera)).float()
        scene = world.predict(clips, np.array([now])).scenes[0, -1]
        image = image_over(scene, behind, view, torch.from_numpy(frame.K).float())
        width = frame.color.shape[1]
        time = (clips.stamps[now + steps] - clips.stamps[0]) * 1e-9
        tiles = (
            _tile(frame.color / 255, f"camera, {time:.1f} s", width),
            _tile(image, f"imagined {steps * CHUNK_DT:.1f} s before", width),
        )
        progress(count, len(starts))
        yield np.hstack(tiles)


def write_webp(frames: list[np.ndarray], path: Path) -> None:
    """Write frames (H, W, 3) uint8 RGB, one per step of 0.1 s, as an animation that repeats.

    Raises InputError where the file cannot be written.
    """
    first, *rest = map(Image.fromarray, frames)
    shown = round(1e3 * CHUNK_DT)  # [ms]
    try:
        first.save(path, save_all=True, append_images=rest, duration=shown, loop=0, quality=70)
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}; choose another --out") from None


def camera_index(names: tuple[str, ...], name: str | None) -> int:
    """Index of the camera called ``name``, 0 if None. Raises InputError for an unknown one."""
    return 0 if name is None else names.index(one_of("camera", name, names))


def _full_frames(
    path: Path, camera: str, config: LiftConfig
) -> Callable[[int], tuple[Frame, np.ndarray]]:
    """Reads an episode by stamp: a camera's frame, and its ``background`` (H, W, 3) in [0, 1]."""
    episode = read_episode(path)
    found = {
        stamp: (images[camera], state) for stamp, images, state in synced_observations(episode)
    }

    def read(stamp: int) -> tuple[Frame, np.ndarray]:
        images, state = found[int(stamp)]
        frame = episode.frame(camera, *images)
        regions = find_regions(frame, state.q, state.width, config)
        return frame, background(frame.color / np.float32(255), regions)

    return read


def _overview(scene: np.ndarray, lift: LiftConfig, width: int) -> np.ndarray:
    """Image of the scene (N, 14) from ``EYE``."""
    T = look_at(EYE, (np.add(lift.low, lift.high) / 2).tolist())
    image, alpha = render_scene(scene, intrinsics(width, SIDE, FOV), T, width, SIDE)
    return image + (1 - alpha)[..., None] * BACKGROUND


def _tile(image: np.ndarray, text: str, width: int) -> np.ndarray:
    """An image in [0, 1] at ``width`` pixels under a line of text, as uint8."""
    small = np.rint(image.clip(0, 1) * 255).astype(np.uint8)
    return np.concatenate([caption(text, width, True), cv2.resize(small, (width, len(image)))])
