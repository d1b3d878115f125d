"""The policy's process: images and joint states in, action chunks out.

The planner runs in one worker thread, which always takes the newest observation.
"""

from __future__ import annotations

import gc
import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.node import Node
from sensor_msgs.msg import CameraInfo, Image, JointState, PointCloud2
from std_msgs.msg import Float64MultiArray, String, UInt64
from trajectory_msgs.msg import JointTrajectory

from gwm.graph.environment import deprioritize, prioritize
from gwm.nodes.parts.policy_worker import EXPERT, PlanRequest, make_planner, prepare, stages
from gwm.ros import image_messages, messages, scene_messages
from gwm.ros.node import (
    HEARTBEAT_PRIORITY,
    RELIABLE,
    SENSOR,
    STEADY,
    declare,
    now_ns,
    spin,
    with_time_sent,
)
from gwm.ros.worker import LatestWorker
from gwm_core import topics
from gwm_core.calibration.coverage import misses
from gwm_core.geometry.camera_info import CameraModel, read_camera_info
from gwm_core.joint_states import ArmReader, read_command
from gwm_core.model.weights_file import read_weights
from gwm_core.observation_timing import Observations
from gwm_core.reasons import Reasons
from gwm_core.site import site_of
from gwm_core.types import CHUNK_DT, Decision, Frame, Observation

if TYPE_CHECKING:
    from gwm_core.runtime.best_of_plans import BestOfPlans

NO_PLAN = "no plan"  # subject of a reason, see gwm_core.reasons


@dataclass(frozen=True)
class PolicyParameters:
    """Parameters of the node."""

    robot: str = "sim"
    site: str = ""
    policy: str = EXPERT
    task: str = "pick_place"
    replan_every: int = 4  # waypoints between observations
    threads: int = 1
    backend: str = "auto"
    precision: str = "auto"
    candidates: int = 1  # plans of one scene, of which the best is sent
    imagine: bool = False  # publish scenes, of the size that predictions take


class PolicyNode(Node):
    """Pairs images and joint states, requests chunks, and publishes them.

    A policy heartbeat is published at 50 Hz.
    """

    def __init__(self):
        given = prioritize(HEARTBEAT_PRIORITY)  # before DDS starts its threads, which inherit it
        super().__init__("policy")
        self._settings = p = declare(self, PolicyParameters)
        self._site = site_of(p.robot, p.site)
        self._observations = Observations(
            tuple(self._site.cameras), round(p.replan_every * CHUNK_DT * 1e9)
        )
        self._models: dict[str, CameraModel] = {}
        self._received: dict[str, int] = {}
        self._reasons = Reasons(self.get_logger().warn)
        self._arm, self._objects = ArmReader(self._site.robot), None
        self._last_chunk = 0  # stamp [ns]
        self._chunks = 0
        self._rejected = 0
        self._stages: dict[str, float] = {}  # [ms] of the newest chunk
        self._best_of_plans: BestOfPlans | None = None  # where there are several candidates
        self._observing = False  # whether observations were possible since the last report
        self._chunk = self.create_publisher(JointTrajectory, topics.CHUNK, RELIABLE)
        self._alive = self.create_publisher(UInt64, topics.ALIVE, SENSOR)
        self._times = self.create_publisher(Float64MultiArray, topics.STAGES, RELIABLE)
        self._scene = (
            self.create_publisher(PointCloud2, topics.SCENE, RELIABLE) if p.imagine else None
        )
        self._diagnostics = self.create_publisher(DiagnosticArray, topics.DIAGNOSTICS, RELIABLE)
        for name, camera in self._site.cameras.items():
            self._subscribe(Image, topics.color(camera.prefix), self._image(name, "color"))
            self._subscribe(Image, topics.depth(camera.prefix), self._image(name, "depth"))
            self.create_subscription(
                CameraInfo, topics.info(camera.prefix), self._info(name), SENSOR
            )
        self.create_subscription(JointState, topics.JOINT_STATES, self._on_joints, SENSOR)
        self.create_subscription(JointState, topics.GRIPPER_STATES, self._on_gripper, SENSOR)
        self.create_subscription(JointState, topics.COMMAND, self._on_command, SENSOR)
        self.create_subscription(String, topics.SIM_OBJECTS, self._on_objects, SENSOR)
        self._planner = LatestWorker(self, self._build, self._publish)
        self.create_timer(0.02, self._publish_heartbeat, clock=STEADY)
        self.create_timer(0.5, self._report, clock=STEADY)
        self.get_logger().info(f"policy: heartbeat with {given}")

    def _build(self):
        deprioritize()  # above the console, plans would delay STOP (docs/benchmarks.md)
        p, cameras = self._settings, tuple(self._site.cameras)
        gaussians = read_weights(Path(p.policy), "vae").config.lift.count if p.imagine else 0
        options = p.policy, p.threads, p.backend, p.precision, gaussians
        planner = make_planner(*options, p.candidates, p.replan_every * CHUNK_DT)
        if p.candidates > 1:
            self._best_of_plans = planner.policy
            planner.policy.limits = self._site.limits
        planner.limits = self._site.limits
        prepare(planner, cameras, p.task)
        gc.collect()
        gc.freeze()  # a full collection could delay the heartbeat beyond the gate's timeout
        return lambda request: [(request, planner.decide(request.observation))]

    def _subscribe(self, kind, topic, callback) -> None:
        self._received[topic] = 0

        def count(message, sent: int) -> None:
            self._received[topic] += 1
            callback(message, sent)

        self.create_subscription(kind, topic, with_time_sent(count), SENSOR)

    def _note(self, subject: str, reason: str) -> None:
        self._reasons.note(subject, reason, time.monotonic())

    def _image(self, camera: str, kind: str):
        def take(message, sent: int):
            try:
                content = image_messages.pixels(message, kind)
            except ValueError as error:
                self._note(f"{camera} {kind}", str(error))
                return
            stamp = messages.stamp_ns(message.header.stamp)
            self._note(
                f"{camera} {kind}",
                self._observations.image(camera, kind, stamp, content, now_ns(self)),
            )
            self._note(f"{camera} clock", self._observations.drift_reason(camera))
            self._request_chunk(sent)

        return take

    def _info(self, camera: str):
        def take(message):
            try:
                model = read_camera_info(message)
            except ValueError as error:
                self._models.pop(camera, None)
                self._note(f"{camera} info", str(error))
                return
            self._models[camera] = model
            self._note(f"{camera} info", model.remark)
            view = (model.K, model.width, model.height)
            self._note(f"{camera} view", misses(self._site, camera, view))

        return take

    def _on_joints(self, message) -> None:
        state, reason = self._arm.complete(message, now_ns(self))
        self._note("joint states", reason)
        if state is not None:
            self._observations.joints(state)

    def _on_gripper(self, message) -> None:
        self._note("gripper", self._arm.gripper(message))

    def _on_command(self, message) -> None:
        command = read_command(message)
        if command is not None:
            self._arm.width_command = command.width

    def _on_objects(self, message) -> None:
        self._objects = {name: np.array(pose) for name, pose in json.loads(message.data).items()}

    def _request_chunk(self, sent: int) -> None:
        """Request a chunk when one is due and a new, complete, fresh observation is there.

        Args:
            sent: when the observation's last image was published [ns].
        """
        if not self._planner.ready or len(self._models) < len(self._site.cameras):
            return
        # Objects may arrive later than images.
        if self._settings.policy == EXPERT and self._objects is None:
            return
        matched = self._observations.take(now_ns(self))
        if matched is None:
            return
        stamp, pairs, state = matched
        try:
            frames = tuple(self._frame(name, *pair) for name, pair in pairs.items())
        except ValueError as error:
            self._note(NO_PLAN, str(error))
            return
        observation = Observation(stamp, frames, state, self._settings.task, self._objects)
        self._planner.put(PlanRequest(observation, sent, now_ns(self)))

    def _frame(self, camera: str, stamp: int, color: np.ndarray, depth: np.ndarray) -> Frame:
        """Return the frame of an image pair, with the camera's pose at the pair's stamp."""
        camera_pose = self._site.cameras[camera].pose_at(self._observations.joints_at(stamp))
        return self._models[camera].frame(camera, stamp, color, depth, camera_pose)

    def _publish(self, done: tuple[PlanRequest, Decision]) -> None:
        request, decision = done
        self._stages = stages(request, decision, now_ns(self))
        self._note(NO_PLAN, decision.reason)
        for camera in self._site.cameras:
            self._note(f"{camera} in the scene", decision.blind_cameras.get(camera, ""))
        if decision.chunk is None:
            self._rejected += 1
            return
        self._chunk.publish(messages.trajectory(decision.chunk))
        self._last_chunk = decision.chunk.stamp
        self._chunks += 1
        self._times.publish(
            messages.numbers(
                ("plan", *self._stages), [decision.chunk.stamp, *self._stages.values()]
            )
        )
        if self._scene is not None:
            self._scene.publish(scene_messages.scene(decision.stamp, decision.scene))

    def _publish_heartbeat(self) -> None:
        if self._planner.ready:
            self._alive.publish(UInt64(data=self._last_chunk))

    def _report(self) -> None:
        self._note("moments", self._missing())
        values = {
            "policy": self._settings.policy,
            "ready": self._planner.ready,
            "plans": self._chunks,
            "rejected": self._rejected,
            **{f"received {topic}": n for topic, n in self._received.items()},
            **{f"{name}_ms": f"{value:.1f}" for name, value in self._stages.items()},
            **self._ranking(),
            **self._reasons.values(),
        }
        current = self._reasons.current
        text = (
            f"{NO_PLAN}: {current[NO_PLAN]}"
            if NO_PLAN in current
            else current.get("moments", self._settings.policy)
        )
        self._diagnostics.publish(
            messages.diagnostics(now_ns(self), "policy", text, values, not current)
        )

    def _ranking(self) -> dict[str, object]:
        """Return how many of the candidates there was time to rank, a mean over the last plans."""
        if self._best_of_plans is None:
            return {}
        ranked = f"{self._best_of_plans.mean_ranked:.1f}"
        return {"candidates": self._settings.candidates, "candidates_ranked_mean": ranked}

    def _missing(self) -> str:
        """Return why the planner got no observation, or ""."""
        observing, self._observing = self._observing, self._planner.ready
        if not observing:
            return ""
        if missing := [name for name in self._site.cameras if name not in self._models]:
            return f"camera_info: none that can be used of {', '.join(missing)}"
        if self._settings.policy == EXPERT and self._objects is None:
            return f"objects: none yet on {topics.SIM_OBJECTS}, which the scripted expert needs"
        return self._observations.reason()

    def close(self) -> None:
        """End the worker thread."""
        self._planner.close()


def main() -> int:
    """Entry point."""
    return spin(PolicyNode)


if __name__ == "__main__":
    sys.exit(main())
