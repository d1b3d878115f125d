"""Collect demonstrations of the scripted expert, without ROS, in parallel processes.

All labels are actions of the expert: disturbances happen before the recording, or are marked as
unusable. 45 % of the episodes start from an unusual pose (near or low beside an object, 35 % of
them with a closed gripper), and 35 % get a push while carrying. ``episode.json`` lists the
intervals whose labels must not be used.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from gwm_core import topics
from gwm_core.data.episode_writer import EpisodeWriter
from gwm_core.data.ros_messages import camera_info, compressed_color, compressed_depth, joint_state
from gwm_core.errors import InputError
from gwm_core.files.atomic_write import PARTIAL
from gwm_core.geometry.kinematics import HOME_Q, Unreachable, fk, solve, to_rows
from gwm_core.runtime.planner import Planner
from gwm_core.sim.expert import Expert
from gwm_core.sim.rollout import Observer, RolloutConfig, SimEnvironment, rollout
from gwm_core.sim.tasks import TIME_LIMIT, sample_layout
from gwm_core.site import simulation_site
from gwm_core.training.play_data import SECONDS, PlayPolicy
from gwm_core.types import CHUNK_ROWS, OPEN_WIDTH, RESERVED, Observation
from gwm_core.worker_processes import workers

# [s] a sample every 0.1 s trains as well as one every 1/15 s, and costs less
CAMERA_PERIOD = 0.1
# [s] uniform: the loop of the demonstrations is as late as the real one
LATENCY = (0.06, 0.14)
PUSH_TIME = 0.5  # [s]


@dataclass(frozen=True)
class CollectConfig:
    """What to collect."""

    task: str
    out: Path
    episodes: int = 200
    seed: int = 0
    difficulty: str = "nominal"
    renderer: str = "egl"
    play: bool = False  # motion without a task instead of demonstrations


class PerturbedExpert:
    """The expert, which is sometimes pushed aside while it carries a cube."""

    sees = "objects"

    def __init__(self, rng: np.random.Generator):
        self._expert, self._rng = Expert(), rng
        # number of chunks while carrying
        self._push_at = rng.integers(1, 8) if rng.random() < 0.35 else -1
        self._carried, self._until, self._goal = 0, 0, None
        self.window: list[int] = []  # [ns] from, to

    def act(self, scene, observation: Observation) -> np.ndarray:
        """Pose rows (H, 10)."""
        T = fk(observation.state.q)
        red = observation.objects["red"]
        if red[2] > red[4] / 2 + 0.01 and observation.state.width_command < 0.04:
            self._carried += 1
            if self._carried == self._push_at:
                self._until = observation.stamp + int(PUSH_TIME * 1e9)
                shift = self._rng.uniform([-0.06, -0.06, -0.02], [0.06, 0.06, 0.06])
                self._goal = np.clip(T[:3, 3] + shift, [0.36, -0.3, 0.05], [0.66, 0.3, 0.32])
                self.window = [observation.stamp, self._until + int(0.35e9)]
        if observation.stamp >= self._until:
            return self._expert.act(scene, observation)
        rows = to_rows(np.repeat(T[None], CHUNK_ROWS, axis=0), observation.state.width_command)
        fraction = np.minimum(1.0, np.arange(1, CHUNK_ROWS + 1) / 5)[:, None]
        rows[:, :3] += fraction * (self._goal - T[:3, 3])
        return rows


class EpisodeObserver(Observer):
    """Writes observations and commands of a rollout as the live recorder does."""

    def __init__(self, writer: EpisodeWriter, world: SimEnvironment):
        self._writer, self._world = writer, world
        self._next_image = 0.0
        for name in world.cameras.T_base_camera:
            topic = topics.info(topics.prefix_of(name))
            writer.write(
                topic,
                camera_info(1, name, world.cameras.K, world.cameras.width, world.cameras.height),
                1,
            )

    def tick(self, state, command) -> None:
        """Joint states and command every 10 ms, images every CAMERA_PERIOD."""
        stamp, write = state.stamp, self._writer.write
        write(topics.JOINT_STATES, joint_state(stamp, topics.ARM_JOINTS, state.q, state.dq), stamp)
        write(
            topics.GRIPPER_STATES,
            joint_state(stamp, topics.FINGER_JOINTS, [state.width / 2] * 2),
            stamp,
        )
        r = command.reference
        message = joint_state(
            stamp,
            (*topics.ARM_JOINTS, topics.WIDTH),
            [*r.q, command.width],
            [*r.dq, 0],
            [*r.ddq, 0],
            topics.RESET_FRAME if command.reference_reset else "",
        )
        write(topics.COMMAND, message, stamp)
        if stamp * 1e-9 >= self._next_image - 1e-6:
            self._next_image += CAMERA_PERIOD
            for image in self._world.cameras(self._world.sim.snapshot()):
                prefix = topics.prefix_of(image.camera)
                color = compressed_color(stamp, image.camera, image.color)
                depth = compressed_depth(stamp, image.camera, image.depth_mm)
                write(topics.color(prefix) + "/compressed", color, stamp)
                write(topics.depth(prefix) + "/compressedDepth", depth, stamp)


def _unusual_start(rng: np.random.Generator, layout) -> tuple[np.ndarray, float]:
    """Initial joints and gripper width; HOME_Q and open in 55 % of the cases."""
    if rng.random() > 0.45:
        return HOME_Q, OPEN_WIDTH
    near = layout.cubes["red"][:2] if rng.random() < 0.6 else layout.plate
    xy = near + rng.uniform(-0.09, 0.09, 2)
    # low only where no object stands
    spots = np.array([c[:2] for c in layout.cubes.values()])
    clear = (
        np.linalg.norm(spots - xy, axis=1).min() > 0.075
        and np.linalg.norm(layout.plate - xy) > 0.11
    )
    z = rng.uniform(0.03 if clear else 0.11, 0.28)
    yaw = rng.uniform(-0.8, 0.8)
    c, s = np.cos(yaw), np.sin(yaw)
    T = np.array([[c, s, 0, xy[0]], [s, -c, 0, xy[1]], [0, 0, -1, z], [0, 0, 0, 1]])
    try:
        q = solve(to_rows(T, 0.0)[None], HOME_Q)[0]
    except Unreachable:
        return HOME_Q, OPEN_WIDTH
    return q, (0.0 if rng.random() < 0.35 else OPEN_WIDTH)


_world: SimEnvironment | None = None


def _record(job: tuple[CollectConfig, int]) -> bool:
    """Collect one episode; returns whether the expert succeeded. Failures are not kept."""
    global _world
    config, seed = job
    folder = (
        Path(config.out) / f"{'play_' * config.play}{config.task}_{config.difficulty}_{seed:06d}"
    )
    if folder.exists():
        return True  # collected before an interruption
    _world = _world or SimEnvironment(renderer=config.renderer)
    rng = np.random.default_rng([seed, 0xC0])
    layout = sample_layout(config.task, seed, config.difficulty)
    expert = PlayPolicy(rng) if config.play else PerturbedExpert(rng)
    q, width = _unusual_start(rng, layout)
    # left by an interrupted run
    shutil.rmtree(folder.with_name(folder.name + PARTIAL), ignore_errors=True)
    cameras = {name: camera.to_dict() for name, camera in simulation_site().cameras.items()}
    policy = "play" if config.play else "expert"
    info = {
        "task": config.task,
        "seed": seed,
        "difficulty": config.difficulty,
        "policy": policy,
        "robot": "sim",
    }
    writer = EpisodeWriter(folder, info | {"cameras": cameras})
    observer = EpisodeObserver(writer, _world)
    limit = SECONDS if config.play else TIME_LIMIT
    plan = RolloutConfig(
        latency=LATENCY, replan_every=2, camera_period=CAMERA_PERIOD, time_limit=limit
    )
    trial = rollout(
        _world, Planner(expert), layout, plan, observer, lambda sim: sim.teleport(q, width)
    )
    if not trial.success and not config.play:
        writer.abort()
        shutil.rmtree(writer.partial)
        return False
    window = [] if config.play else expert.window
    info |= {
        "success": not config.play,
        "seconds": trial.seconds,
        "unusable": [window] if window else [],
    }
    writer.close(info | {"cameras": cameras, "trial": asdict(trial)})
    return True


def collect(
    config: CollectConfig, processes: int, progress: Callable[[bool], None] = lambda ok: None
) -> int:
    """Collect demonstrations on seeds from ``seed`` on; returns how many the expert failed.

    Seeds from 4000 on are reserved for choosing and reporting; no training takes them.
    """
    last = config.seed + config.episodes - 1
    if config.seed < 0 or config.seed < RESERVED <= last:
        raise InputError(
            f"seeds {config.seed} to {last} will not do: 0-{RESERVED - 1} are for training,"
            f" {RESERVED} and up for choosing and reporting, and a folder holds one or the other"
        )
    # check the names before any work
    sample_layout(config.task, config.seed, config.difficulty)
    jobs = [(config, config.seed + i) for i in range(config.episodes)]
    failed = 0
    with workers(processes, len(jobs)) as pool:
        for ok in pool.imap_unordered(_record, jobs):
            failed += not ok
            progress(ok)
    return failed
