"""Compare every scene with predictions of it, and predict the outcome of chunks.

It runs in the idle time after a chunk was published. It may lag or die: nothing waits for it. One
thread compares. Another one predicts the newest chunk whenever nothing is to be compared, so the
rate of predictions follows the machine. The node reports that rate and the age of its predictions.
"""

from __future__ import annotations

import os
import sys
import time
from collections import deque
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.node import Node
from sensor_msgs.msg import CameraInfo, CompressedImage, JointState, PointCloud2
from std_msgs.msg import Float64MultiArray
from trajectory_msgs.msg import JointTrajectory

from gwm.nodes.parts.imagination_workers import (
    ComparedScene,
    ShownFuture,
    Turns,
    comparison,
    prediction,
)
from gwm.ros import gate_messages, messages, scene_messages
from gwm.ros.node import EVERY, NEWEST, RELIABLE, SENSOR, STEADY, declare, now_ns, spin
from gwm.ros.worker import LatestWorker
from gwm_core import topics
from gwm_core.geometry.camera_info import read_camera_info
from gwm_core.joint_states import ArmReader, read_command
from gwm_core.reasons import Reasons
from gwm_core.runtime.imagination import PredictionRequest
from gwm_core.site import site_of
from gwm_core.types import CHUNK_DT, ActionChunk, ArmState

HISTORY = 500  # joint states and commands, five seconds of them


@dataclass(frozen=True)
class ImaginationParameters:
    """Parameters of the node."""

    robot: str = "sim"
    site: str = ""
    policy: str = ""
    task: str = "pick_place"
    threads: int = 1


class ImaginationNode(Node):
    """Matches scenes and chunks, predicts, publishes pictures and divergence."""

    def __init__(self):
        # Before any thread is started. Other processes then get the core at once, which nice alone
        # does not guarantee.
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
        super().__init__("imagination")
        self._settings = p = declare(self, ImaginationParameters)
        self._site = site_of(p.robot, p.site)
        self._chunks: deque[ActionChunk] = deque(maxlen=8)
        self._asked: deque[PredictionRequest] = deque(maxlen=8)
        self._compared: deque[ComparedScene] = deque(maxlen=8)
        self._waiting = 0  # id of the chunk that waits for approval
        self._turns = Turns(lambda: now_ns(self))
        self._states: deque[ArmState] = deque(maxlen=HISTORY)
        self._commands: deque[ArmState] = deque(maxlen=HISTORY)
        self._Ks: dict[str, tuple] = {}
        self._arm, self._reasons = ArmReader(self._site.robot), Reasons(self.get_logger().warn)
        self._done = 0
        self._requests = 0
        self._figures: dict[str, str] = {}
        self._future = self.create_publisher(Float64MultiArray, topics.IMAGINED, RELIABLE)
        self._scene = self.create_publisher(PointCloud2, topics.IMAGINED_SCENE, RELIABLE)
        self._divergence = self.create_publisher(Float64MultiArray, topics.DIVERGENCE, RELIABLE)
        self._diagnostics = self.create_publisher(DiagnosticArray, topics.DIAGNOSTICS, RELIABLE)
        self._pictures = {
            (name, step): self.create_publisher(
                CompressedImage, topics.imagined(name, step), RELIABLE
            )
            for name in (*self._site.cameras, topics.AFAR)
            for step in topics.LOOKAHEADS
        }
        for name, camera in self._site.cameras.items():
            self.create_subscription(
                CameraInfo, topics.info(camera.prefix), self._info(name), SENSOR
            )
        self.create_subscription(JointState, topics.JOINT_STATES, self._on_joints, SENSOR)
        self.create_subscription(JointState, topics.GRIPPER_STATES, self._on_gripper, SENSOR)
        self.create_subscription(JointState, topics.COMMAND, self._on_command, EVERY)
        self.create_subscription(DiagnosticArray, topics.STATUS, self._on_status, NEWEST)
        self.create_subscription(JointTrajectory, topics.CHUNK, self._on_chunk, RELIABLE)
        self.create_subscription(PointCloud2, topics.SCENE, self._on_scene, RELIABLE)
        given = Path(p.policy), self._site, p.threads, self._turns
        self._comparer = LatestWorker(self, partial(comparison, *given), self._on_compared)
        self._predictor = LatestWorker(self, partial(prediction, *given), self._show)
        self.create_timer(0.5, self._report, clock=STEADY)

    def _note(self, subject: str, reason: str) -> None:
        self._reasons.note(subject, reason, time.monotonic())

    def _info(self, camera: str):
        def take(message):
            try:
                model = read_camera_info(message)
            except ValueError as error:
                self._note(f"{camera} info", str(error))
                return
            self._Ks[camera] = model.K, model.width, model.height
            self._note(f"{camera} info", "")

        return take

    def _on_joints(self, message) -> None:
        state, reason = self._arm.complete(message, now_ns(self), velocity=False)
        self._note("joint states", reason)
        if state is not None:
            self._states.append(state)

    def _on_gripper(self, message) -> None:
        self._note("gripper", self._arm.gripper(message))

    def _on_command(self, message) -> None:
        command = read_command(message)
        if command is not None:
            self._commands.append(command)
            self._arm.width_command = command.width

    def _on_chunk(self, message) -> None:
        if (chunk := messages.chunk_of(message)) is None:
            return
        if self._chunks:  # chunks come at a steady pace
            self._turns.expect_chunk((2 * chunk.stamp - self._chunks[-1].stamp) * 1e-9)
        self._chunks.append(chunk)

    def _on_scene(self, message) -> None:
        """Take a scene, which arrives after its chunk."""
        stamp = messages.stamp_ns(message.header.stamp)
        chunk = next((c for c in self._chunks if c.stamp == stamp), None)
        if chunk is None:
            return
        missing = [name for name in self._site.cameras if name not in self._Ks]
        try:
            scene = scene_messages.gaussians_of(message)
        except ValueError as error:
            self._note("scene", f"malformed: {error}")
            return
        if missing:
            self._note("scene", f"camera_info: none that can be used of {', '.join(missing)}")
            return
        if not self._states:
            self._note("scene", "joints: no joint state that can be used")
            return
        self._note("scene", "")
        self._requests += 1
        request = PredictionRequest(
            self._settings.task,
            chunk,
            scene,
            tuple(self._states),
            tuple(self._commands),
            dict(self._Ks),
        )
        self._asked.append(request)
        if self._first() in (None, request):
            self._compare(request)

    def _first(self) -> PredictionRequest | None:
        """The chunk that waits for approval, if its scene is still to be compared."""
        if any(compared.plan == self._waiting for compared in self._compared):
            return None
        return next((asked for asked in self._asked if asked.plan == self._waiting), None)

    def _compare(self, request: PredictionRequest) -> None:
        self._turns.asked(request.plan)
        self._comparer.put(request)

    def _on_compared(self, compared: ComparedScene) -> None:
        """Publish it. Its chunk is predicted next, unless another one waits for approval."""
        self._turns.compared(compared.plan)
        self._publish_divergence(compared)
        self._compared.append(compared)
        if self._waiting in (0, compared.plan):
            self._predictor.put(compared)

    def _on_status(self, message) -> None:
        """Take the chunk that waits for approval: it goes before the newest one."""
        pending = gate_messages.status_of(message).waiting
        waiting = int(pending.chunk_id) if pending else 0
        if waiting == self._waiting:
            return
        self._waiting = waiting
        if (first := self._first()) is not None:
            self._compare(first)
        for compared in self._compared:
            if compared.plan == waiting:
                self._predictor.put(compared)

    def _publish_divergence(self, compared: ComparedScene) -> None:
        gaps = {
            f"h{steps} {term}": value
            for steps, terms in compared.gaps.items()
            for term, value in terms.items()
        }
        if compared.score is not None:
            gaps["score"] = compared.score
        if gaps:
            plan = compared.plan
            self._divergence.publish(messages.numbers(("plan", *gaps), (plan, *gaps.values())))
            age = (now_ns(self) - plan) * 1e-6
            self._figures |= {"judged_age_ms": f"{age:.0f}"} | {
                name: f"{value:.3f}" for name, value in gaps.items()
            }

    def _show(self, shown: ShownFuture) -> None:
        future, ms = shown.future, shown.ms
        age = (now_ns(self) - future.stamp) * 1e-6
        self._done += 1
        self._figures |= {"ms": f"{ms:.0f}", "age_ms": f"{age:.0f}"}
        horizon = topics.LOOKAHEADS[-1]
        end = future.stamp + round(horizon * CHUNK_DT * 1e9)
        self._scene.publish(scene_messages.scene(end, future.scene))
        for name, pictures in future.images.items():
            for step, picture in zip(topics.LOOKAHEADS, pictures):
                due = future.stamp + round(step * CHUNK_DT * 1e9)
                self._pictures[name, step].publish(scene_messages.jpeg(due, name, picture))
        values = {"plan": future.stamp, "horizon": horizon, "ms": ms, "age_ms": age}
        if future.success:
            names = ("success", "success_low", "success_high")
            values |= dict(zip(names, future.success))
        self._future.publish(messages.numbers(values, values.values()))

    def _report(self) -> None:
        values = {
            "ready": self._comparer.ready and self._predictor.ready,
            "asked": self._requests,
            "imagined": self._done,
            **self._figures,
        }
        values |= self._reasons.values()
        self._diagnostics.publish(
            messages.diagnostics(now_ns(self), "imagination", "running", values)
        )

    def close(self) -> None:
        """End the worker threads."""
        self._comparer.close()
        self._predictor.close()


def main() -> int:
    """Entry point."""
    return spin(ImaginationNode)


if __name__ == "__main__":
    sys.exit(main())
