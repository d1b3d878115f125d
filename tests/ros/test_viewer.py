"""The 3D scene costs next to nothing while no page is open."""

import numpy as np
import pytest

rclpy = pytest.importorskip("rclpy")

from gwm.nodes.viewer_node import ViewerNode
from gwm.ros import scene_messages
from gwm.ros.node import RELIABLE, SENSOR
from rclpy.experimental import EventsExecutor
from sensor_msgs.msg import JointState, PointCloud2

from gwm_core import topics


@pytest.fixture
def viewer(domain):
    rclpy.init()
    node = ViewerNode()
    executor = EventsExecutor()
    executor.add_node(node)

    def spin_until(holds):
        for _ in range(400):
            if holds():
                return True
            executor.spin_once(timeout_sec=0.05)
        return False

    node.spin_until = spin_until
    yield node
    executor.shutdown()
    node.close()
    node.destroy_node()
    rclpy.try_shutdown()


def test_it_receives_joints_while_a_page_is_open_and_shows_the_newest_scene(viewer, monkeypatch):
    scenes = viewer.create_publisher(PointCloud2, topics.SCENE, RELIABLE)
    joints = viewer.create_publisher(JointState, topics.JOINT_STATES, SENSOR)
    scene = np.zeros((3, 14), np.float32)
    scene[:, 6] = 1
    pages = {}
    monkeypatch.setattr(viewer._server, "get_clients", lambda: dict(pages))
    assert viewer.spin_until(lambda: scenes.get_subscription_count() == 1)
    scenes.publish(scene_messages.scene(1, scene))
    assert viewer.spin_until(lambda: "/seen" in viewer._pending)
    receivers = joints.get_subscription_count
    assert receivers() == 0 and not viewer._splats
    for _ in range(2):  # a page is opened again
        pages[0] = "a page"
        assert viewer.spin_until(lambda: receivers() == 1 and "/seen" in viewer._splats)
        pages.clear()
        assert viewer.spin_until(lambda: receivers() == 0)
