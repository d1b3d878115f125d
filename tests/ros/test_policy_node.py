"""The policy's process on streams as broken drivers publish them: it says what is wrong and plans
again afterwards.
"""

import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

rclpy = pytest.importorskip("rclpy")
from gwm.ros import image_messages, messages
from gwm.ros.node import RELIABLE, now_ns
from sensor_msgs.msg import CameraInfo, Image, JointState

from gwm_core import topics
from gwm_core.geometry.camera import intrinsics
from gwm_core.geometry.kinematics import HOME_Q
from gwm_core.geometry.simulated_cameras import CAMERAS
from gwm_core.sync import MS

pytestmark = pytest.mark.slow
MODEL = Path(__file__).parents[2] / "models/demo"
K = intrinsics(424, 240, 42.5)
GOOD = {
    "names": topics.ARM_JOINTS,
    "joints_off": 0,
    "gripper": True,
    "images_off": 0,
    "info": (K, 424, 240),
    "encoding": "rgb8",
    "blind": (),
    "near": 900,
}


class Drivers:
    """A robot at rest and two cameras, published from the operator's node; ``now`` holds what is
    wrong with them.
    """

    def __init__(self, node):
        self._node, self.now, self._ticks = node, dict(GOOD), 0
        self._joints = node.create_publisher(JointState, topics.JOINT_STATES, RELIABLE)
        self._gripper = node.create_publisher(JointState, topics.GRIPPER_STATES, RELIABLE)
        self._images = {
            name: [
                node.create_publisher(kind, topic(topics.prefix_of(name)), RELIABLE)
                for kind, topic in (
                    (Image, topics.color),
                    (Image, topics.depth),
                    (CameraInfo, topics.info),
                )
            ]
            for name in CAMERAS
        }
        node.create_timer(0.01, self._tick)

    def _tick(self) -> None:
        stamp, wrong = now_ns(self._node), self.now
        self._joints.publish(
            messages.joint_state(stamp + wrong["joints_off"], wrong["names"], HOME_Q, np.zeros(7))
        )
        if wrong["gripper"]:
            self._gripper.publish(messages.joint_state(stamp, topics.FINGER_JOINTS, [0.04, 0.04]))
        self._ticks += 1
        if self._ticks % 10:
            return
        stamp += wrong["images_off"]
        for name, (color, depth, info) in self._images.items():
            image = image_messages.image(stamp, name, np.full((240, 424, 3), 90, np.uint8))
            image.encoding = wrong["encoding"]
            color.publish(image)
            far = 0 if name in wrong["blind"] else wrong["near"]
            depth.publish(image_messages.image(stamp, name, np.full((240, 424), far, np.uint16)))
            info.publish(image_messages.camera_info(stamp, name, *wrong["info"]))


@pytest.mark.long
def test_what_keeps_a_policy_from_planning_is_named(operator):
    command = [
        sys.executable,
        "-m",
        "gwm.nodes.policy_node",
        "--ros-args",
        "-p",
        f"policy:={MODEL}",
    ]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    drivers = Drivers(operator)

    def report() -> dict:
        return operator.reports.get("policy", {})

    def await_(what, until):
        operator.require(
            what,
            until,
            90.0,
            lambda: "" if process.poll() is None else f"policy ended, {process.poll()}",
        )

    def plans() -> int:
        return int(report().get("plans", 0))

    try:
        await_("plans", lambda: plans() > 2)
        cases = [
            (
                {"names": [f"panda_joint{i}" for i in range(1, 8)]},
                "joint states",
                "names: panda_joint1; those of robot:=fr3 are wanted",
            ),
            ({"joints_off": 1000 * MS}, "joint states", "clocks: a joint state is stamped"),
            (
                {"joints_off": -400 * MS},
                "joint states",
                "gripper: its state is 0.4 s newer than the joints",
            ),
            ({"gripper": False}, "joint states", "gripper: its state is"),
            ({"images_off": 135 * MS}, "front color", "clocks: an image is stamped"),
            ({"images_off": -400 * MS}, "moments", "age: images and joints were"),
            (
                {"info": (K, 848, 480)},
                "no plan",
                "camera_info: front's is of 848x480 pixels, its images are 424x240",
            ),
            ({"info": (0 * K, 424, 240)}, "side info", "has no focal length"),
            ({"encoding": "mono8"}, "side color", "encoding: mono8 was published"),
            ({"blind": tuple(CAMERAS)}, "no plan", "blind: front sees 0 points"),
            ({"near": 6000}, "no plan", "blind: front sees 0 points"),
        ]
        for wrong, subject, said in cases:
            drivers.now = GOOD | wrong
            await_(said, lambda: said in report().get(f"reason {subject}", ""))  # noqa: B023
            before, deadline = plans(), time.monotonic() + 0.8  # a plan under way may still come
            operator.wait("nothing", lambda: time.monotonic() > deadline, 10.0, lambda: "")  # noqa: B023
            assert plans() <= before + 1, wrong
        drivers.now = dict(GOOD)
        await_("plans again", lambda: plans() > before + 2)
        await_("no reason", lambda: not any(key.startswith("reason ") for key in report()))
        drivers.now = GOOD | {"blind": ("side",)}
        await_(
            "one blind",
            lambda: "side sees 0 points" in report().get("reason side in the scene", ""),
        )
        before = plans()
        await_("plans by one camera", lambda: plans() > before + 2)
        assert "reason front in the scene" not in report() and "reason no plan" not in report()
    finally:
        process.terminate()
        said = process.communicate(timeout=60)[1]
    lines = [line for line in said.splitlines() if "blind: front sees" in line]
    assert len(lines) == 1 and "its depth is empty" in lines[0], said


def test_a_policy_says_how_many_candidates_it_ranked(operator, tiny_policy):
    """A policy with random weights: its plans may be refused, but it ranks them."""
    parameters = (f"policy:={tiny_policy}", "task:=lift", "candidates:=3")
    command = [sys.executable, "-m", "gwm.nodes.policy_node", "--ros-args"]
    command += [word for parameter in parameters for word in ("-p", parameter)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    Drivers(operator)

    def report() -> dict:
        return operator.reports.get("policy", {})

    try:
        operator.require(
            "plans",
            lambda: int(report().get("plans", 0)) + int(report().get("rejected", 0)) > 2,
            90.0,
            lambda: "" if process.poll() is None else f"policy ended, {process.poll()}",
        )
        assert report()["candidates"] == "3"
        assert 0 < float(report()["candidates_ranked_mean"]) <= 3
    finally:
        process.terminate()
        process.communicate(timeout=60)
