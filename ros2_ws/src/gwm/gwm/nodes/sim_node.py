"""The simulated robot and cameras, with the topics of the real drivers."""

from __future__ import annotations

import json
import math
import os
import sys
import time
from dataclasses import dataclass

import numpy as np
import yaml
from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import PoseStamped
from rclpy.node import Node
from sensor_msgs.msg import CameraInfo, Image, JointState
from std_msgs.msg import Float64MultiArray, String
from trajectory_msgs.msg import JointTrajectory

from gwm.graph.config import CONTROLLERS
from gwm.graph.environment import resource
from gwm.ros import image_messages, messages
from gwm.ros.node import NEWEST, RELIABLE, STEADY, declare, now_ns, spin, subscribe_to_all
from gwm.ros.worker import LatestWorker
from gwm_core import topics
from gwm_core.errors import InputError, one_of
from gwm_core.files.json_files import to_json
from gwm_core.geometry.kinematics import fk
from gwm_core.geometry.simulated_cameras import CAMERAS
from gwm_core.joint_states import by_name
from gwm_core.sim.cameras import SimCameras, by_clock, choose_renderer
from gwm_core.sim.simulator import Simulator
from gwm_core.sim.tasks import Success, sample_layout

TICK = 0.01  # [s] joint states at 100 Hz
MAX_CATCH_UP = 0.05  # [s] of physics in one tick; what exceeds it is reported as slipped time


def _configured(controller: str) -> dict:
    """Return the parameters of a real controller, which the simulated one follows."""
    text = resource("launch/controllers.yaml").read_text()
    return yaml.safe_load(text)["/**"][CONTROLLERS[controller]]["ros__parameters"]


@dataclass(frozen=True)
class SimParameters:
    """Parameters of the node."""

    renderer: str = "auto"
    width: int = 424
    height: int = 240
    camera_hz: float = 15.0
    publish_objects: bool = False
    controller: str = "crisp"
    # How far the cameras' clock is ahead of the host's at the start, and its drift from then on, as
    # of a RealSense without global time.
    camera_offset_ms: float = 0.0
    camera_drift_ppm: float = 0.0


class SimNode(Node):
    """Runs physics in real time in the executor's thread, and renders in a thread of its own.

    Physics never waits for rendering.
    """

    def __init__(self):
        super().__init__("sim")
        self._settings = declare(self, SimParameters)
        self._renderer = choose_renderer(self._settings.renderer)
        self._sim = Simulator()
        self._sim.reset(sample_layout("pick_place", 0))
        self._success = Success("pick_place")
        self._result = {}
        self._commands = 0
        self._slipped = 0.0  # [s]
        self._q_null = self._sim.q
        self._images = {}
        self._frames_due = self._frames_sent = 0
        self._cameras_on = True
        for name in CAMERAS:
            prefix = topics.prefix_of(name)
            self._images[name] = (
                self.create_publisher(Image, topics.color(prefix), RELIABLE),
                self.create_publisher(Image, topics.depth(prefix), RELIABLE),
                self.create_publisher(CameraInfo, topics.info(prefix), RELIABLE),
            )
        self._joints = self.create_publisher(JointState, topics.JOINT_STATES, RELIABLE)
        self._gripper = self.create_publisher(JointState, topics.GRIPPER_STATES, RELIABLE)
        self._results = self.create_publisher(String, topics.SIM_RESULT, RELIABLE)
        self._objects = self.create_publisher(String, topics.SIM_OBJECTS, NEWEST)
        self._diagnostics = self.create_publisher(DiagnosticArray, topics.DIAGNOSTICS, RELIABLE)
        # The controller's own default is False.
        self._from_desired = _configured("jtc").get("interpolate_from_desired_state", False)
        self._command_topic = self._subscribe_as(self._settings.controller)
        self.create_subscription(Float64MultiArray, topics.GRIPPER_COMMAND, self._on_grip, RELIABLE)
        self.create_subscription(String, topics.SIM_EPISODE, self._on_episode, RELIABLE)
        self._cameras = LatestWorker(self, self._build_cameras, self._publish_images)
        self._begun = time.monotonic()
        self._ticks, self._origin, self._next_image = 0, self._begun - self._sim.time, 0.0
        self.create_timer(TICK, self._tick, clock=STEADY)
        self.create_timer(0.1, self._report_result, clock=STEADY)
        self.create_timer(0.5, self._report, clock=STEADY)
        self.get_logger().info(
            f"simulation: renderer {self._renderer}; Panda meshes with FR3 limits"
        )

    def _build_cameras(self):
        os.setpriority(os.PRIO_PROCESS, 0, 10)  # this thread only: rendering gives way to physics
        p = self._settings
        cameras = SimCameras(p.width, p.height, self._renderer)
        cameras(self._sim.snapshot())

        def render(item):
            stamp, snapshot = item
            yield stamp, cameras, cameras(snapshot)

        return render

    def _subscribe_as(self, controller: str) -> str:
        """Subscribe and behave as that controller. Returns the topic of its commands."""
        kind, topic, act = {
            "crisp": (JointState, topics.TARGET_JOINT, self._on_target),
            "crisp_pose": (PoseStamped, topics.TARGET_POSE, self._on_pose),
            "jtc": (JointTrajectory, topics.TRAJECTORY, self._on_trajectory),
            "forward": (Float64MultiArray, topics.FORWARD, self._on_positions),
        }[one_of("controller", controller, CONTROLLERS)]

        def take(message):
            if act(message):
                self._commands += 1
            else:
                self.get_logger().error(f"{topic} ignored: malformed", throttle_duration_sec=2.0)

        # All waiting commands are taken at once, also on a busy machine.
        subscribe_to_all(self, kind, topic, take, RELIABLE)
        if controller == "crisp_pose":
            self.create_subscription(JointState, topics.TARGET_JOINT, self._on_null_space, RELIABLE)
        return topic

    def _on_target(self, message) -> bool:
        q = by_name(message.name, message.position, topics.ARM_JOINTS)
        dq = by_name(message.name, message.velocity, topics.ARM_JOINTS)
        if q is None or not np.all(np.isfinite(q)):
            return False
        self._sim.command(q, np.zeros(7) if dq is None else dq)
        return True

    def _on_null_space(self, message) -> None:
        q = by_name(message.name, message.position, topics.ARM_JOINTS)
        if q is not None:
            self._q_null = q

    def _on_pose(self, message) -> bool:
        self._sim.reach(messages.transform(message.pose), self._q_null)
        return True

    def _on_positions(self, message) -> bool:
        q = np.array(message.data, float)
        if q.shape != (7,) or not np.all(np.isfinite(q)):
            return False
        self._sim.command(q, np.zeros(7))
        return True

    def _on_trajectory(self, message) -> bool:
        stamp = messages.stamp_ns(message.header.stamp)  # 0: it starts now
        # How late the simulation is, which is stepped every 10 ms.
        late = time.monotonic() - self._origin - self._sim.time
        start = late + (stamp - now_ns(self)) * 1e-9 if stamp else 0.0
        try:
            times, *states = messages.joint_states_of(message)
            if times[-1] + start <= 0:  # refused by the real controller too
                reason = (
                    f"a trajectory came {-start:.3f} s after its stamp, when it was over: ignored"
                )
                self.get_logger().warn(reason, throttle_duration_sec=2.0)
                return True
            self._sim.follow(times + start, *states, self._from_desired)
        except ValueError:
            return False
        return True

    def _on_grip(self, message) -> None:
        if len(message.data) == 1 and math.isfinite(message.data[0]):
            self._sim.grip(message.data[0])
        else:
            self.get_logger().error(
                f"{topics.GRIPPER_COMMAND} ignored: one finite width wanted, got {message.data}"
            )

    def _on_episode(self, message) -> None:
        try:
            request = json.loads(message.data)
            if "cameras" in request:
                self._cameras_on = bool(request["cameras"])
                return
            layout = sample_layout(
                request["task"], int(request["seed"]), request.get("difficulty", "nominal")
            )
        except (ValueError, KeyError, TypeError, OverflowError, InputError) as error:
            self.get_logger().error(f"{topics.SIM_EPISODE} ignored: {error}")
            return
        self._sim.reset(layout)
        self._success = Success(layout.task)
        self._result = {
            "task": layout.task,
            "seed": layout.seed,
            "success": False,
            "seconds": 0.0,
            "began": self._sim.time,
        }

    def _tick(self) -> None:
        behind = time.monotonic() - self._origin - self._sim.time
        if behind > MAX_CATCH_UP:
            self._origin += behind - MAX_CATCH_UP
            self._slipped += behind - MAX_CATCH_UP
            behind = MAX_CATCH_UP
        self._sim.step(behind)
        stamp, sim = now_ns(self), self._sim
        self._joints.publish(messages.joint_state(stamp, topics.ARM_JOINTS, sim.q, sim.dq))
        self._ticks += 1
        if self._ticks % 3 == 0:
            self._gripper.publish(
                messages.joint_state(stamp, topics.FINGER_JOINTS, [sim.width / 2] * 2)
            )
        if sim.time >= self._next_image and self._cameras.ready and self._cameras_on:
            self._frames_due += 1
            self._next_image = max(
                self._next_image + 1.0 / self._settings.camera_hz, sim.time - TICK
            )
            p, seconds = self._settings, time.monotonic() - self._begun
            self._cameras.put(
                (by_clock(stamp, seconds, p.camera_offset_ms, p.camera_drift_ppm), sim.snapshot())
            )
        if self._result and not self._result["success"] and self._ticks % 2 == 0:
            done = self._success.update(sim.time, sim.objects(), fk(sim.q)[:3, 3], sim.width)
            self._result |= {"success": done, "seconds": round(sim.time - self._result["began"], 3)}
            if done:
                self._report_result()

    def _publish_images(self, rendered) -> None:
        stamp, cameras, images = rendered
        for item in images:
            color, depth, info = self._images[item.camera]
            color.publish(image_messages.image(stamp, item.camera, item.color))
            depth.publish(image_messages.image(stamp, item.camera, item.depth_mm))
            info.publish(
                image_messages.camera_info(
                    stamp, item.camera, cameras.K, cameras.width, cameras.height
                )
            )
        self._frames_sent += 1

    def _report_result(self) -> None:
        if self._result:
            self._results.publish(String(data=to_json(self._result)))
        if self._settings.publish_objects:
            objects = {name: pose.tolist() for name, pose in self._sim.objects().items()}
            self._objects.publish(String(data=to_json(objects)))

    def _report(self) -> None:
        prefixes = [topics.prefix_of(name) for name in CAMERAS]
        sent = {
            f"sent {kind(p)}": self._frames_sent
            for p in prefixes
            for kind in (topics.color, topics.depth)
        }
        values = {
            "renderer": self._renderer,
            "ready": self._cameras.ready,
            "slipped_s": f"{self._slipped:.3f}",
            f"received {self._command_topic}": self._commands,
            **sent,
            "frames_due": self._frames_due,
            "frames_drawn": self._frames_sent,
        }
        self._diagnostics.publish(messages.diagnostics(now_ns(self), "sim", "running", values))

    def close(self) -> None:
        """End the rendering thread."""
        self._cameras.close()


def main() -> int:
    """Entry point."""
    return spin(SimNode)


if __name__ == "__main__":
    sys.exit(main())
