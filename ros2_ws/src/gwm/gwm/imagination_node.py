"""What the plan will lead to: rolls the world model over it, in the slack after it was published, and shows it.

It may lag or die: nothing waits for it. The newest plan wins; rate and age say how far behind it is.
"""

from __future__ import annotations

import os
import sys
import time
from collections import deque
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.node import Node
from sensor_msgs.msg import CameraInfo, CompressedImage, JointState, PointCloud2
from std_msgs.msg import Float64MultiArray
from trajectory_msgs.msg import JointTrajectory

from gwm import messages, scene_messages
from gwm.node import EVERY, RELIABLE, SENSOR, STEADY, declare, now_ns, spin
from gwm.policy_node import site_of
from gwm.worker import Latest
from gwm_core import topics
from gwm_core.control.kinematics import fk, to_rows
from gwm_core.imagination import HORIZONS, Imagination, Moment, View, Watch
from gwm_core.scene.camera import look_at
from gwm_core.site import Site
from gwm_core.sync import joints_at
from gwm_core.types import CHUNK_DT, ArmState, Chunk

STEPS, SIDE = 8, 128  # steps imagined, and pixels of their pictures
AFAR = ((1.1, 0.5, 0.6), (0.52, 0.0, 0.1))  # [m] eye and target of the view that no camera has
KEPT = 500  # joint states and commands, five seconds of them


@dataclass(frozen=True)
class ImaginationParameters:
    """Parameters of the node."""

    robot: str = "sim"
    site: str = ""
    policy: str = ""
    threads: int = 1
    every: int = 2  # plans to a future that is shown; the others are compared over a longer time instead


@dataclass(frozen=True)
class Task:
    """A plan, what it was made from, and what is known of the arm by then."""

    chunk: Chunk
    scene: np.ndarray  # (N, 14)
    states: tuple[ArmState, ...]
    sent: tuple[ArmState, ...]  # commands, as states
    Ks: dict[str, tuple]  # camera -> (K, width, height)
    shown: bool  # whether its future is wanted


@dataclass(frozen=True)
class Future:
    """What came of a task."""

    plan: int
    pictures: dict[str, list[np.ndarray]]  # view -> a picture for every step
    success: float  # imagined, at the end; NaN where nothing is shown
    gaps: dict[int, dict[str, float]]
    ms: float


class ImaginationNode(Node):
    """Puts scenes and plans together, hands them to the world model, publishes pictures and divergence."""

    def __init__(self):
        # before any thread is started: whoever else wakes up takes the core at once, which nice alone does not grant
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
        super().__init__("imagination")
        self._settings = p = declare(self, ImaginationParameters)
        self._site = site_of(p.robot, p.site)
        self._chunks: deque[Chunk] = deque(maxlen=8)
        self._states: deque[ArmState] = deque(maxlen=KEPT)
        self._sent: deque[ArmState] = deque(maxlen=KEPT)
        self._Ks: dict[str, tuple] = {}
        self._width, self._done, self._asked, self._report_of = np.nan, 0, 0, {}
        self._plan = self.create_publisher(Float64MultiArray, topics.IMAGINED, RELIABLE)
        self._divergence = self.create_publisher(Float64MultiArray, topics.DIVERGENCE, RELIABLE)
        self._diagnostics = self.create_publisher(DiagnosticArray, topics.DIAGNOSTICS, RELIABLE)
        self._pictures = {
            (name, step): self.create_publisher(CompressedImage, topics.imagined(name, step), RELIABLE)
            for name in (*self._site.cameras, "afar") for step in range(1, STEPS + 1)
        }  # fmt: skip
        for name, camera in self._site.cameras.items():
            self.create_subscription(CameraInfo, topics.info(camera.prefix), self._info(name), SENSOR)
        self.create_subscription(JointState, topics.JOINT_STATES, self._on_joints, SENSOR)
        self.create_subscription(JointState, topics.GRIPPER_STATES, self._on_gripper, SENSOR)
        self.create_subscription(JointState, topics.COMMAND, self._on_command, EVERY)
        self.create_subscription(JointTrajectory, topics.CHUNK, self._on_chunk, RELIABLE)
        self.create_subscription(PointCloud2, topics.SCENE, self._on_scene, RELIABLE)
        self._brain = Latest(self, self._build, self._publish)
        self.create_timer(0.5, self._report, clock=STEADY)

    def _build(self):
        imagination = Imagination(Path(self._settings.policy), self._settings.threads)
        watch = Watch(imagination)
        return lambda task: imagine(imagination, watch, task, self._site)

    def _info(self, camera: str):
        def take(message):
            self._Ks[camera] = messages.camera_matrix(message), message.width, message.height

        return take

    def _on_joints(self, message) -> None:
        q = messages.by_name(message.name, message.position, topics.ARM_JOINTS)
        if q is not None and np.isfinite(self._width):
            self._states.append(ArmState(messages.stamp_ns(message.header.stamp), q, np.zeros(7), self._width))

    def _on_gripper(self, message) -> None:
        fingers = messages.by_name(message.name, message.position, topics.FINGER_JOINTS)
        if fingers is not None and np.all(np.isfinite(fingers)):
            self._width = float(fingers.sum())

    def _on_command(self, message) -> None:
        values = messages.by_name(message.name, message.position, (*topics.ARM_JOINTS, topics.WIDTH))
        if values is not None:
            stamp = messages.stamp_ns(message.header.stamp)
            self._sent.append(ArmState(stamp, values[:7], np.zeros(7), float(values[7])))

    def _on_chunk(self, message) -> None:
        if (chunk := messages.chunk_of(message)) is not None:
            self._chunks.append(chunk)

    def _on_scene(self, message) -> None:
        """The scene comes after its plan: now both are there."""
        stamp = messages.stamp_ns(message.header.stamp)
        chunk = next((c for c in self._chunks if c.stamp == stamp), None)
        if chunk is None or not self._brain.ready or len(self._Ks) < len(self._site.cameras):
            return
        try:
            scene = scene_messages.gaussians_of(message)
        except ValueError as error:
            self.get_logger().error(f"scene refused: {error}", throttle_duration_sec=2.0)
            return
        shown = self._asked % self._settings.every == 0
        self._asked += 1
        self._brain.put(Task(chunk, scene, tuple(self._states), tuple(self._sent), dict(self._Ks), shown))

    def _publish(self, future: Future) -> None:
        age = (now_ns(self) - future.plan) * 1e-6
        if future.pictures:
            self._done += 1
            self._show(future, age)
        gaps = {f"h{h} {term}": value for h, terms in future.gaps.items() for term, value in terms.items()}
        if gaps:
            self._divergence.publish(messages.numbers(("plan", *gaps), (future.plan, *gaps.values())))
        self._report_of = {"ms": f"{future.ms:.0f}", "age_ms": f"{age:.0f}"} | {k: f"{v:.3f}" for k, v in gaps.items()}

    def _show(self, future: Future, age: float) -> None:
        for name, pictures in future.pictures.items():
            for step, picture in enumerate(pictures, 1):
                due = future.plan + round(step * CHUNK_DT * 1e9)
                self._pictures[name, step].publish(scene_messages.jpeg(due, name, picture))
        values = {"plan": future.plan, "horizon": STEPS, "success": future.success, "ms": future.ms, "age_ms": age}
        self._plan.publish(messages.numbers(values, values.values()))

    def _report(self) -> None:
        values = {"ready": self._brain.ready, "asked": self._asked, "imagined": self._done, **self._report_of}
        self._diagnostics.publish(messages.diagnostics(now_ns(self), "imagination", "running", values))

    def close(self) -> None:
        """End the worker thread."""
        self._brain.close()


def imagine(imagination: Imagination, watch: Watch, task: Task, site: Site) -> Future:
    """One task, in the worker's thread."""
    begun, views = time.monotonic(), _views(site, task)
    stamp, dt = task.chunk.stamp, round(CHUNK_DT * 1e9)
    now = joints_at(task.states, stamp) or task.states[-1]
    poses = [fk((joints_at(task.states, stamp - k * dt) or now).q) for k in range(imagination.context)]
    history = imagination.encode(task.scene, np.stack(poses[::-1]))

    def sent(at: int) -> np.ndarray | None:
        state = joints_at(task.sent, at)
        return None if state is None else to_rows(fk(state.q), state.width)

    here = [View(name, task.Ks[name][0], c.place(now), *task.Ks[name][1:]) for name, c in site.cameras.items()]
    gaps = watch.observe(Moment(stamp, history), sent, here, HORIZONS[:1] if task.shown else HORIZONS)
    if not task.shown:
        return Future(stamp, {}, np.nan, gaps, 1e3 * (time.monotonic() - begun))
    first = sent(stamp)
    rows = [to_rows(fk(now.q), now.width) if first is None else first]
    rows += [to_rows(fk(q), width) for q, width in zip(task.chunk.q[:STEPS], task.chunk.width)]
    latents, heads = imagination.roll(history, np.stack(rows))
    scenes = [imagination.decode(latent) for latent in latents]
    pictures = {
        name: [np.rint(255 * np.clip(view.draw(scene), 0, 1)).astype(np.uint8) for view, scene in zip(steps, scenes)]
        for name, steps in views.items()
    }
    return Future(stamp, pictures, float(heads[-1, 1]), gaps, 1e3 * (time.monotonic() - begun))


def _views(site: Site, task: Task) -> dict[str, list[View]]:
    """For every camera, and from afar, a view for each step: one on the hand goes where the plan takes it."""
    K, width, height = next(iter(task.Ks.values()))
    views = {"afar": [View("afar", K, look_at(*AFAR), width, height)] * STEPS}
    for name, camera in site.cameras.items():
        states = [replace(task.states[-1], q=q) for q in task.chunk.q[:STEPS]]
        views[name] = [View(name, task.Ks[name][0], camera.place(s), *task.Ks[name][1:]) for s in states]
    return {name: [view.resized(SIDE, SIDE) for view in steps] for name, steps in views.items()}


def main() -> int:
    """Entry point."""
    return spin(ImaginationNode)


if __name__ == "__main__":
    sys.exit(main())
