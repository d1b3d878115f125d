"""The policy's process: images and joints in, plans out. The brain runs in one worker thread, newest moment first."""

from __future__ import annotations

import gc
import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.node import Node
from sensor_msgs.msg import CameraInfo, Image, JointState, PointCloud2
from std_msgs.msg import Float64MultiArray, String, UInt64
from trajectory_msgs.msg import JointTrajectory

from gwm import messages, scene_messages
from gwm.node import BEAT_PRIORITY, RELIABLE, SENSOR, STEADY, declare, now_ns, prioritize, spin
from gwm.worker import Latest
from gwm_core import topics
from gwm_core.control.kinematics import HOME_Q
from gwm_core.errors import one_of
from gwm_core.learn.evaluate import make_brain
from gwm_core.model.weights import read_weights
from gwm_core.scene.camera import intrinsics
from gwm_core.site import Site, site_of
from gwm_core.sync import Sync
from gwm_core.types import CHUNK_DT, OPEN_WIDTH, ArmState, Decision, Frame, Observation

MAX_AGE = 0.3  # [s] an older observation yields no plan


@dataclass(frozen=True)
class PolicyParameters:
    """Parameters of the node."""

    robot: str = "sim"
    site: str = ""
    policy: str = "expert"
    task: str = "pick_place"
    replan_every: int = 4  # rows between observations
    threads: int = 1
    backend: str = "auto"
    precision: str = "auto"
    imagine: bool = False  # publish scenes, as large as the world model wants them


class PolicyNode(Node):
    """Pairs what arrives, asks the brain when a new plan is due, publishes the plan and a beat at 50 Hz."""

    def __init__(self):
        super().__init__("policy")
        self._settings = p = declare(self, PolicyParameters)
        self._site = site_of(p.robot, p.site)
        self._sync = Sync(tuple(self._site.cameras))
        self._K: dict[str, np.ndarray] = {}
        self._received: dict[str, int] = {}
        self._width, self._width_command, self._objects = np.nan, OPEN_WIDTH, None
        self._asked, self._last_plan, self._plans, self._rejected, self._stages = 0, 0, 0, 0, {}
        self._chunk = self.create_publisher(JointTrajectory, topics.CHUNK, RELIABLE)
        self._alive = self.create_publisher(UInt64, topics.ALIVE, SENSOR)
        self._times = self.create_publisher(Float64MultiArray, topics.STAGES, RELIABLE)
        self._begun: dict[str, float] = {}  # [ms] capture and receive of the moment the brain is at
        self._scene = self.create_publisher(PointCloud2, topics.SCENE, RELIABLE) if p.imagine else None
        self._put = 0  # [ns] when it was given to the brain
        self._diagnostics = self.create_publisher(DiagnosticArray, topics.DIAGNOSTICS, RELIABLE)
        for name, camera in self._site.cameras.items():
            self._subscribe(Image, topics.color(camera.prefix), self._image(name, "color"))
            self._subscribe(Image, topics.depth(camera.prefix), self._image(name, "depth"))
            self.create_subscription(CameraInfo, topics.info(camera.prefix), self._info(name), SENSOR)
        self.create_subscription(JointState, topics.JOINT_STATES, self._on_joints, SENSOR)
        self.create_subscription(JointState, topics.GRIPPER_STATES, self._on_gripper, SENSOR)
        self.create_subscription(JointState, topics.COMMAND, self._on_command, SENSOR)
        self.create_subscription(String, topics.SIM_OBJECTS, self._on_objects, SENSOR)
        self._brain = Latest(self, self._build, self._publish)
        self.create_timer(0.02, self._beat, clock=STEADY)
        self.create_timer(0.5, self._report, clock=STEADY)
        self.get_logger().info(f"policy: beats with {prioritize(BEAT_PRIORITY)}")  # not the worker, which runs already

    def _build(self):
        p = self._settings
        gaussians = read_weights(Path(p.policy), "vae").config.lift.count if p.imagine else 0
        brain = make_brain(p.policy, p.threads, p.backend, p.precision, gaussians)
        brain.clock = time.monotonic
        one_of("task", p.task, getattr(brain.policy, "tasks", (p.task,)))
        if bundle := getattr(brain.policy, "bundle", None):
            bundle.check_site(len(self._site.cameras))
        if brain.policy.sees == "scene":
            for _ in range(3):  # compile and warm up before anything may be armed
                brain.decide(_blank_observation(self._site, self._settings.task))
        gc.collect()
        gc.freeze()  # else a full collection may hold a beat back for longer than the gate waits
        return lambda observation: [brain.decide(observation)]

    def _subscribe(self, kind, topic, callback) -> None:
        self._received[topic] = 0

        def count(message, about):
            self._received[topic] += 1
            callback(message, about["source_timestamp"])

        self.create_subscription(kind, topic, count, SENSOR)

    def _image(self, camera: str, kind: str):
        def take(message, sent: int):
            try:
                content = messages.pixels(message, kind)
            except ValueError as error:
                self.get_logger().error(f"{camera} {kind} image refused: {error}", throttle_duration_sec=2.0)
                return
            self._sync.image(camera, kind, messages.stamp_ns(message.header.stamp), content)
            self._try(sent)

        return take

    def _info(self, camera: str):
        def take(message):
            self._K[camera] = messages.camera_matrix(message)

        return take

    def _on_joints(self, message) -> None:
        q = messages.by_name(message.name, message.position, topics.ARM_JOINTS)
        dq = messages.by_name(message.name, message.velocity, topics.ARM_JOINTS)
        if q is not None and dq is not None and np.isfinite(self._width):
            stamp = messages.stamp_ns(message.header.stamp)
            self._sync.joints(ArmState(stamp, q, dq, self._width, self._width_command))

    def _on_gripper(self, message) -> None:
        fingers = messages.by_name(message.name, message.position, topics.FINGER_JOINTS)
        if fingers is not None and np.all(np.isfinite(fingers)):
            self._width = float(fingers.sum())

    def _on_command(self, message) -> None:
        width = messages.by_name(message.name, message.position, (topics.WIDTH,))
        if width is not None:
            self._width_command = float(width[0])

    def _on_objects(self, message) -> None:
        self._objects = {name: np.array(pose) for name, pose in json.loads(message.data).items()}

    def _try(self, sent: int) -> None:
        """Ask the brain when a plan is due and a new, whole, fresh moment is there, its last image ``sent`` at [ns]."""
        moment = self._sync.latest()
        if moment is None or not self._brain.ready or len(self._K) < len(self._site.cameras):
            return
        if self._settings.policy == "expert" and self._objects is None:  # may be heard after the cameras
            return
        stamp, pairs, state = moment
        period = self._settings.replan_every * CHUNK_DT
        if stamp < self._asked:  # the clock was set back
            self._asked = 0
        if (stamp - self._asked) * 1e-9 < period - 0.02 or (now_ns(self) - stamp) * 1e-9 > MAX_AGE:
            return
        try:
            frames = tuple(
                Frame(name, t, color, depth * np.float32(1e-3), self._K[name], self._place(name, t))
                for name, (t, color, depth) in pairs.items()
            )
        except ValueError as error:
            self.get_logger().error(f"no plan: {error}", throttle_duration_sec=2.0)
            return
        self._asked, self._put = stamp, now_ns(self)
        self._begun = {"capture": (sent - stamp) * 1e-6, "receive": (self._put - sent) * 1e-6}
        self._brain.put(Observation(stamp, frames, state, self._settings.task, self._objects))

    def _place(self, camera: str, stamp: int) -> np.ndarray:
        """Where a camera was at its own stamp."""
        return self._site.cameras[camera].place(self._sync.joints_at(stamp))

    def _publish(self, decision: Decision) -> None:
        handed = (now_ns(self) - self._put) * 1e-6 - sum(decision.stages_ms.values())  # to the brain and back
        self._stages = self._begun | decision.stages_ms | {"handover": handed}
        if decision.chunk is None:
            self._rejected += 1
            self.get_logger().warn(f"no plan: {decision.reason}", throttle_duration_sec=1.0)
            return
        self._chunk.publish(messages.trajectory(decision.chunk))
        self._last_plan, self._plans = decision.chunk.stamp, self._plans + 1
        self._times.publish(messages.numbers(("plan", *self._stages), [decision.chunk.stamp, *self._stages.values()]))
        if self._scene is not None:
            self._scene.publish(scene_messages.scene(decision.stamp, decision.scene))

    def _beat(self) -> None:
        if self._brain.ready:
            self._alive.publish(UInt64(data=self._last_plan))

    def _report(self) -> None:
        values = {
            "ready": self._brain.ready, "plans": self._plans, "rejected": self._rejected,
            **{f"received {topic}": n for topic, n in self._received.items()},
            **{f"{name}_ms": f"{value:.1f}" for name, value in self._stages.items()},
        }  # fmt: skip
        self._diagnostics.publish(messages.diagnostics(now_ns(self), "policy", self._settings.policy, values))

    def close(self) -> None:
        """End the worker thread."""
        self._brain.close()


def _blank_observation(site: Site, task: str) -> Observation:
    K, rng = intrinsics(424, 240, 42.5), np.random.default_rng(0)
    state = ArmState(1, HOME_Q, np.zeros(7), OPEN_WIDTH)
    frames = tuple(
        Frame(name, 1, np.zeros((240, 424, 3), np.uint8), rng.uniform(0.7, 1.2, (240, 424)).astype(np.float32), K,
              camera.place(state))
        for name, camera in site.cameras.items()
    )  # fmt: skip
    return Observation(1, frames, state, task)


def main() -> int:
    """Entry point."""
    return spin(PolicyNode)


if __name__ == "__main__":
    sys.exit(main())
