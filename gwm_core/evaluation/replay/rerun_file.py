"""A recorded episode as a file of the Rerun viewer: scene, cameras, joints, gate, predictions.

Rerun (https://rerun.io) is an optional package. The file carries the layout of the viewer.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from gwm_core import topics
from gwm_core.data.episode import Episode, read_episode, synced_observations
from gwm_core.errors import InputError
from gwm_core.evaluation.replay.timeline import ReplayTimeline, read_replay
from gwm_core.files.atomic_write import PARTIAL
from gwm_core.geometry.kinematics import fk
from gwm_core.scene.gaussians import COLORS, MEANS, SCALES
from gwm_core.scene.lift import BlindError, LiftConfig, lift
from gwm_core.types import CHUNK_DT

SCENE_PERIOD = 0.3  # [s] between lifted scenes
_SCENE = LiftConfig(count=4096)
_TIME = "episode"  # [s] since the first frame
_PLOTS = {  # entity -> its title
    "joints": "joints [deg]",
    "speed": "speed of the TCP [m/s]",
    "width": "gripper [mm]",
    "latency": "frame to command [ms]",
    "divergence": "divergence score, 1 is the limit",
}


def write_rerun(path: Path, out: Path) -> None:
    """Write the episode in ``path`` to the file ``out``.

    Raises:
        InputError: the episode is damaged, rerun-sdk is missing, or ``out`` cannot be written.
    """
    rerun = _rerun()
    replay, episode = read_replay(path), read_episode(path)
    stream = rerun.RecordingStream("gwm", recording_id=path.name)
    views = [*replay.cameras, topics.AFAR] if replay.predicted else list(replay.cameras)
    partial = out.with_name(out.name + PARTIAL)
    try:
        stream.save(partial, default_blueprint=_layout(replay.cameras, views))
    except (OSError, RuntimeError) as error:
        raise InputError(f"cannot write {out}: {error}") from None
    _log_scenes(stream, episode, replay.start)
    _log_pictures(stream, replay)
    _log_numbers(stream, replay)
    _log_words(stream, replay)
    stream.disconnect()
    partial.replace(out)


def _rerun():
    try:
        import rerun
    except ImportError:
        raise InputError("rerun-sdk is not installed: pip install 'gwm[rerun]'") from None
    return rerun


def _log_scenes(stream, episode: Episode, begun: int) -> None:
    """Cameras, and every ``SCENE_PERIOD`` the lifted Gaussians and the gripper's path.

    Args:
        begun: stamp [ns] of time 0.
    """
    rr, path = _rerun(), []
    due = -np.inf
    for stamp, pairs, state in synced_observations(episode):
        seconds = (stamp - begun) * 1e-9
        if seconds < due:
            continue
        due = seconds + SCENE_PERIOD
        frames = tuple(episode.frame(camera, *pair) for camera, pair in pairs.items())
        stream.set_time(_TIME, duration=seconds)
        for frame in frames:
            entity, T = f"world/{frame.camera}", frame.T_base_camera
            height, width = frame.depth.shape
            stream.log(entity, rr.Transform3D(translation=T[:3, 3], mat3x3=T[:3, :3]))
            pinhole = rr.Pinhole(image_from_camera=frame.K, resolution=[width, height])
            stream.log(f"{entity}/image", pinhole)
        try:
            scene = lift(frames, _SCENE)
        except BlindError:
            scene = np.empty((0, 14), np.float32)
        radii = scene[:, SCALES].max(1)
        colors = np.rint(255 * scene[:, COLORS]).astype(np.uint8)
        points = rr.Points3D(scene[:, MEANS], colors=colors, radii=radii)
        stream.log("world/scene", points)
        path.append(fk(state.q)[:3, 3])
        stream.log("world/gripper", rr.Points3D(path[-1:], colors=[255, 200, 0], radii=0.01))
        stream.log("world/path", rr.LineStrips3D([np.array(path)], colors=[255, 200, 0]))


def _log_pictures(stream, replay: ReplayTimeline) -> None:
    """What the cameras saw, and at the time that it is of, what was predicted before."""
    rr = _rerun()
    for camera, frames in replay.observed.items():
        for seconds, data in frames:
            stream.set_time(_TIME, duration=seconds)
            stream.log(f"world/{camera}/image", _picture(rr, data))
    for begun, views in replay.predicted:
        for view, pictures in views.items():
            for steps, data in zip(replay.lookaheads, pictures):
                stream.set_time(_TIME, duration=begun + steps * CHUNK_DT)
                stream.log(f"predicted/{view}/{1000 * steps * CHUNK_DT:.0f}ms", _picture(rr, data))


def _picture(rr, data: bytes):
    kind = "image/jpeg" if data[:2] == b"\xff\xd8" else "image/png"
    return rr.EncodedImage(contents=data, media_type=kind)


def _log_numbers(stream, replay: ReplayTimeline) -> None:
    rr = _rerun()

    def log(entity: str, seconds: float, value) -> None:
        stream.set_time(_TIME, duration=seconds)
        stream.log(entity, rr.Scalars(value))

    names = rr.SeriesLines(names=[f"joint {k}" for k in range(1, 8)])
    stream.log("plots/joints", names, static=True)
    for seconds, q, speed in replay.arm:
        log("plots/joints", seconds, np.degrees(q))
        log("plots/speed", seconds, speed)
    for seconds, width in replay.gripper:
        log("plots/width", seconds, 1e3 * width)
    for seconds, terms in replay.divergence:
        if "score" in terms:
            log("plots/divergence", seconds, terms["score"])
    for seconds, status in replay.status:
        if "latency_ms" in status:
            log("plots/latency", seconds, float(status["latency_ms"]))


def _log_words(stream, replay: ReplayTimeline) -> None:
    """States of the gate as they change, decisions of the operator, and the verdict."""
    rr, before = _rerun(), ""
    for seconds, status in replay.status:
        text = ": ".join(filter(None, (status.get("state", ""), status.get("cause", ""))))
        if text != before:
            level = "ERROR" if status.get("state") == "FAULT" else "INFO"
            stream.set_time(_TIME, duration=seconds)
            stream.log("gate", rr.TextLog(text, level=level))
            before = text
    for seconds, decision in replay.decisions:
        stream.set_time(_TIME, duration=seconds)
        text = ", ".join(f"{name} {value}" for name, value in decision.items())
        stream.log("operator", rr.TextLog(text))
    stream.set_time(_TIME, duration=replay.duration)
    verdict = {True: "success", False: "failure"}.get(replay.info.get("success"), "no verdict")
    stream.log("verdict", rr.TextLog(" ".join(filter(None, (verdict, replay.info.get("note"))))))


def _layout(cameras: tuple[str, ...], views: list[str]):
    """Scene at the left, cameras above their predictions in the middle, plots at the right."""
    import rerun.blueprint as rrb

    seen = [rrb.Spatial2DView(origin=f"world/{name}/image", name=name) for name in cameras]
    predicted = [
        rrb.Spatial2DView(origin=f"predicted/{name}/800ms", name=f"{name}, predicted 0.8 s before")
        for name in views
    ]
    plots = [
        rrb.TimeSeriesView(origin=f"plots/{name}", name=title) for name, title in _PLOTS.items()
    ]
    words = rrb.TextLogView(origin="/", name="gate and operator")
    middle = [rrb.Horizontal(*seen), rrb.Tabs(*predicted), words]
    return rrb.Blueprint(
        rrb.Horizontal(
            rrb.Spatial3DView(origin="world", name="scene"),
            rrb.Vertical(*middle),
            rrb.Vertical(*plots),
            column_shares=[4, 3, 3],
        ),
        rrb.TimePanel(state="collapsed"),
        collapse_panels=True,
    )
