"""What the console knows of the robot: its joints while they are new, and nothing of old ones."""

import time

import pytest

rclpy = pytest.importorskip("rclpy")

from gwm.console.robot_view import JOINT_TIMEOUT, RobotView
from gwm.ros import messages
from gwm.ros.node import SENSOR, now_ns
from sensor_msgs.msg import JointState

from gwm_core import topics
from gwm_core.geometry.kinematics import HOME_Q
from gwm_core.site import simulation_site

pytestmark = [pytest.mark.slow, pytest.mark.timeout(60)]


def test_old_joints_are_no_joints(operator):
    view = RobotView(operator, simulation_site(), lambda topic, take: take)
    publisher = operator.create_publisher(JointState, topics.JOINT_STATES, SENSOR)
    view.watch(True)

    def shown():
        state = messages.joint_state(now_ns(operator), topics.ARM_JOINTS, HOME_Q, [0.0] * 7)
        publisher.publish(state)
        return view.values(())["arm"]

    assert operator.wait("joints", shown, 10, lambda: None)
    arm = view.values(())["arm"]
    assert arm["joints_deg"][3] == pytest.approx(-131.8, abs=0.1) and arm["width_mm"] is None
    end = time.monotonic() + JOINT_TIMEOUT + 0.2
    operator.wait("silence", lambda: time.monotonic() > end, 5, lambda: None)
    assert view.values(()) == {"arm": {}, "plan": {}}
    view.watch(False)
    operator.destroy_publisher(publisher)
