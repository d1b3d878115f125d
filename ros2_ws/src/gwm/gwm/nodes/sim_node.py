"""The simulated robot, and its cameras, with the topics of the real drivers."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import dataclass

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.node import Node
from sensor_msgs.msg import JointState
from std_msgs.msg import String

from gwm.graph.environment import prioritize, simulated_robot
from gwm.nodes.parts.sim_commands import SimCommands
from gwm.nodes.parts.sim_images import CameraParameters, SentSnapshots, SimImages
from gwm.ros import messages
from gwm.ros.node import NEWEST, RELIABLE, STEADY, declare, now_ns, spin
from gwm_core import topics
from gwm_core.errors import InputError
from gwm_core.files.json_files import to_json
from gwm_core.geometry.kinematics import fk
from gwm_core.sim.simulator import Simulator
from gwm_core.sim.tasks import Success, sample_layout

TICK = 0.01  # [s] joint states at 100 Hz
FCI_TICK = 0.002  # [s] between steps of a robot that exchanges commands at 1 kHz
ROBOT_PRIORITY = 20  # of SCHED_FIFO, below that of its client
MAX_CATCH_UP = 0.05  # [s] of physics in one tick; what exceeds it is reported as slipped time


@dataclass(frozen=True)
class SimParameters(CameraParameters):
    """Parameters of the node."""

    camera_hz: float = 15.0
    publish_objects: bool = False
    controller: str = "crisp"


class SimNode(Node):
    """Runs physics in real time in the executor's thread.

    It never waits for rendering, which has a thread, or beside the FCI a process, of its own.
    """

    def __init__(self):
        super().__init__("sim")
        self._settings = declare(self, SimParameters)
        own_states = self._settings.controller != "fci"  # else the FCI's client publishes them
        self._sim = Simulator()
        self._sim.reset(sample_layout("pick_place", 0))
        self._success = Success("pick_place")
        self._result = {}
        self._slipped = 0.0  # [s]
        self._cameras_on = True
        self._joints = self._gripper = None
        if own_states:
            self._joints = self.create_publisher(JointState, topics.JOINT_STATES, RELIABLE)
            self._gripper = self.create_publisher(JointState, topics.GRIPPER_STATES, RELIABLE)
        self._results = self.create_publisher(String, topics.SIM_RESULT, RELIABLE)
        self._objects = self.create_publisher(String, topics.SIM_OBJECTS, NEWEST)
        self._diagnostics = self.create_publisher(DiagnosticArray, topics.DIAGNOSTICS, RELIABLE)
        self._robot = self._commands = None
        if own_states:
            self._commands = SimCommands(self, self._sim, self._behind, self._settings.controller)
        else:
            self._robot = self._fci_robot()
            self.create_timer(FCI_TICK, self._advance, clock=STEADY)
        self.create_subscription(String, topics.SIM_EPISODE, self._on_episode, RELIABLE)
        self._cameras = (
            SimImages(self, self._settings, self._sim.snapshot, nice=5)
            if self._robot is None
            else SentSnapshots(self)
        )
        self._ticks, self._origin, self._next_image = 0, time.monotonic() - self._sim.time, 0.0
        self.create_timer(TICK, self._tick, clock=STEADY)
        self.create_timer(0.1, self._report_result, clock=STEADY)
        self.create_timer(0.5, self._report, clock=STEADY)
        if self._robot is not None:
            prioritize(ROBOT_PRIORITY)
        self.get_logger().info("simulation: Panda meshes with FR3 limits")

    def _fci_robot(self):
        """The robot that a client of libfranka drives."""
        from gwm_core.sim.fci.arm import TorqueArm
        from gwm_core.sim.fci.robot_server import RobotServer

        robot = RobotServer(TorqueArm(self._sim), [simulated_robot()])
        try:
            robot.init()
        except OSError:
            raise InputError(
                f"{simulated_robot()} has a robot already: stop the other graph in this ROS domain,"
                " or set ROS_DOMAIN_ID to a free one (0-101)"
            ) from None
        return robot

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

    def _behind(self) -> float:
        """How late the physics is [s]."""
        return time.monotonic() - self._origin - self._sim.time

    def _advance(self) -> None:
        """Let the simulated time catch up with the clock."""
        behind = self._behind()
        if behind > MAX_CATCH_UP:
            self._origin += behind - MAX_CATCH_UP
            self._slipped += behind - MAX_CATCH_UP
            behind = MAX_CATCH_UP
        if self._robot is None:
            self._sim.step(behind)
        else:
            self._robot.advance(behind)

    def _tick(self) -> None:
        self._advance()
        stamp, sim = now_ns(self), self._sim
        self._ticks += 1
        if self._robot is None:
            self._publish_states(stamp)
        if sim.time >= self._next_image and self._cameras.ready and self._cameras_on:
            self._next_image = max(
                self._next_image + 1.0 / self._settings.camera_hz, sim.time - TICK
            )
            self._cameras.put(stamp, sim.snapshot())
        if self._result and not self._result["success"] and self._ticks % 2 == 0:
            done = self._success.update(sim.time, sim.objects(), fk(sim.q)[:3, 3], sim.width)
            self._result |= {"success": done, "seconds": round(sim.time - self._result["began"], 3)}
            if done:
                self._report_result()

    def _publish_states(self, stamp: int) -> None:
        sim = self._sim
        self._joints.publish(messages.joint_state(stamp, topics.ARM_JOINTS, sim.q, sim.dq))
        if self._ticks % 3 == 0:
            self._gripper.publish(
                messages.joint_state(stamp, topics.FINGER_JOINTS, [sim.width / 2] * 2)
            )

    def _report_result(self) -> None:
        if self._result:
            self._results.publish(String(data=to_json(self._result)))
        if self._settings.publish_objects:
            objects = {name: pose.tolist() for name, pose in self._sim.objects().items()}
            self._objects.publish(String(data=to_json(objects)))

    def _report(self) -> None:
        values = {
            "ready": self._cameras.ready,
            "slipped_s": f"{self._slipped:.3f}",
            **(self._commands.counts if self._commands else {}),
            **self._cameras.report,
            **self._robot_report(),
        }
        self._diagnostics.publish(messages.diagnostics(now_ns(self), "sim", "running", values))

    def _robot_report(self) -> dict[str, object]:
        """What the robot of controller:=fci counted: reflexes, and the largest use of limits."""
        if self._robot is None:
            return {}
        uses = {f"use {name}": f"{use:.3f}" for name, use in self._robot.limits_used.items()}
        return {"reflexes": len(self._robot.reflexes), **uses}

    def close(self) -> None:
        """End the rendering thread, and the robot's sockets."""
        self._cameras.close()
        if self._robot is not None:
            self._robot.cleanup()


def main() -> int:
    """Entry point."""
    return spin(SimNode)


if __name__ == "__main__":
    sys.exit(main())
