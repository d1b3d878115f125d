"""An operator with a gamepad at the live graph: records episodes as a person would.

    python tests/teleoperated_live.py 20 runs/taught

records 20 episodes of `lift` from seed 320 up, and saves those that succeed.
"""

import json
import os
import random
import sys
import time
from pathlib import Path

import numpy as np
import rclpy
from gwm.graph.config import GraphConfig
from gwm.graph.environment import process_environment
from gwm.graph.process_list import processes
from gwm.process.supervisor import Supervisor
from gwm.ros import messages
from gwm.ros.operator_client import OperatorClient
from sensor_msgs.msg import JointState, Joy
from std_msgs.msg import String
from teleoperated import AXES, BUTTONS, JOY_PERIOD, Hand

from gwm_core import topics

FIRST, LIMIT = 320, 30.0  # seed, [s] of an episode


class Eyes(OperatorClient):
    """What the person sees of arm and table, and their gamepad."""

    def __init__(self):
        super().__init__()
        self.q, self._things = None, {}
        self.create_subscription(JointState, topics.JOINT_STATES, self._on_arm, 5)
        self.create_subscription(String, topics.SIM_OBJECTS, self._on_objects, 5)
        self._joy = self.create_publisher(Joy, topics.JOY, 10)

    def _on_arm(self, message) -> None:
        self.q = messages.by_name(message.name, message.position, topics.ARM_JOINTS)

    def _on_objects(self, message) -> None:
        self._things = {name: np.array(pose) for name, pose in json.loads(message.data).items()}

    def objects(self) -> dict:
        """Name -> x, y, z, yaw, size."""
        return self._things

    def deflect(self, axes, buttons) -> None:
        """Publish what the gamepad tells."""
        self._joy.publish(Joy(axes=[float(a) for a in axes], buttons=[int(b) for b in buttons]))


def teach(eyes: Eyes, poll, seed: int) -> bool:
    """One episode: home, lay, record, lift, and save or discard."""
    eyes.request("gate/arm", poll)
    eyes.hold(poll)
    eyes.home(poll)
    eyes.result = {}
    eyes.reset_simulation("lift", seed, "nominal")
    eyes.require("layout", lambda: eyes.result.get("seed") == seed, 10.0, poll)
    eyes.request("recorder/start", poll)
    eyes.request("gate/arm", poll)
    hand, begun = Hand(), time.monotonic()
    for k in range(round(LIMIT / JOY_PERIOD)):
        eyes.deflect(*hand.joy(eyes, time.monotonic() - begun))
        eyes.wait(
            "the next", lambda due=begun + (k + 1) * JOY_PERIOD: time.monotonic() >= due, 1.0, poll
        )
        if eyes.result.get("success"):
            break
    eyes.deflect(np.zeros(AXES), np.zeros(BUTTONS, int))
    won = bool(eyes.result.get("success"))
    eyes.request("recorder/save" if won else "recorder/discard", poll)
    return won


def main(count: int, out: Path) -> None:
    os.environ.setdefault("ROS_DOMAIN_ID", str(random.SystemRandom().randint(1, 100)))
    os.environ.update(process_environment())
    rclpy.init(signal_handler_options=rclpy.signals.SignalHandlerOptions.NO)
    eyes = Eyes()
    nodes = processes(
        GraphConfig(
            mode="teleop",
            task="lift",
            record=str(out),
            operator="gamepad",
            publish_objects=True,
            console=0,
        )
    )
    out.mkdir(parents=True, exist_ok=True)
    supervisor = Supervisor(nodes, open(out / "nodes.log", "w"))
    try:
        supervisor.start()

        def ready():
            return eyes.status and all(
                eyes.reports.get(n, {}).get("ready") == "True" for n in ("sim", "teleop")
            )

        eyes.require("start", ready, 90.0, supervisor.poll)
        taught = tried = 0
        while taught < count:
            taught += teach(eyes, supervisor.poll, FIRST + tried)
            tried += 1
            print(f"{taught} of {tried} taught", flush=True)
    finally:
        supervisor.stop()
        eyes.destroy_node()
        rclpy.try_shutdown()


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
