"""``robot:=panda``: drivers that call the robot another name, between the gate and the arm."""

from dataclasses import replace

import numpy as np
import pytest
import yaml

pytest.importorskip("rclpy")

from gwm.graph.config import GraphConfig
from gwm.graph.process_list import processes
from gwm.process.supervisor import Supervisor
from rclpy.node import Node
from sensor_msgs.msg import JointState
from test_teleop_graph import Gamepad
from trajectory_msgs.msg import JointTrajectory

from gwm_core import topics
from gwm_core.data.episode import read_episode
from gwm_core.gate_status import State
from gwm_core.geometry.limits import PANDA
from gwm_core.site import simulation_site

pytestmark = [pytest.mark.slow, pytest.mark.timeout(200)]
HIDDEN = "hidden"  # namespace of the simulation's own topics
TRAJECTORY = "panda_arm_controller/joint_trajectory"


def renamed(names, robot):
    return [topics.name_of(robot, name) for name in names]


class Drivers(Node):
    """A Panda's drivers: the simulated arm under a Panda's names.

    ``robot`` is what they call it.
    """

    def __init__(self):
        super().__init__("drivers")
        self.robot, self.commands = "panda", []
        for topic in (topics.JOINT_STATES, topics.GRIPPER_STATES):
            publisher = self.create_publisher(JointState, topic, 10)

            def pass_on(message, publisher=publisher):
                message.name = renamed(message.name, self.robot)
                publisher.publish(message)

            self.create_subscription(JointState, f"{HIDDEN}/{topic}", pass_on, 10)
        self._arm = self.create_publisher(JointTrajectory, topics.TRAJECTORY, 1)
        self.create_subscription(JointTrajectory, TRAJECTORY, self._command, 1)

    def _command(self, message):
        self.commands.append(list(message.joint_names))
        message.joint_names = renamed(message.joint_names, "fr3")
        self._arm.publish(message)


@pytest.fixture
def graph(operator, tmp_path):
    """A Panda's graph under teleoperation, its drivers, and its poll."""
    drivers = Drivers()
    operator._executor.add_node(drivers)
    site = tmp_path / "site.yaml"
    cameras = {name: camera.to_dict() for name, camera in simulation_site().cameras.items()}
    site.write_text(yaml.safe_dump({"cameras": cameras, "robot": {"type": "panda"}}))
    (sim,) = (n for n in processes(GraphConfig(controller="jtc")) if n.name == "sim")
    hidden = {t: f"{HIDDEN}/{t}" for t in (topics.JOINT_STATES, topics.GRIPPER_STATES)}
    config = GraphConfig(
        robot="panda", site=str(site), controller="jtc", mode="teleop", record=str(tmp_path)
    )
    supervisor = Supervisor(
        [replace(sim, remaps=hidden), *processes(config)], log=open(tmp_path / "log", "w")
    )
    supervisor.start()
    ready = lambda: operator.status and {"sim", "teleop"} <= set(operator.reports)  # noqa: E731
    assert operator.wait("start", ready, 60, supervisor.poll), (tmp_path / "log").read_text()
    yield drivers, supervisor.poll
    supervisor.stop()
    drivers.destroy_node()


def test_a_panda_moves_and_is_recorded_under_its_own_names(operator, graph, tmp_path):
    drivers, poll = graph
    gamepad = Gamepad(operator)
    operator.request("recorder/start", poll)
    operator.request_with_retry("gate/arm", poll)
    turned = lambda: operator.commands and abs(operator.commands[-1][0][0]) > 0.05  # noqa: E731
    assert gamepad.push(poll, turned, y=1.0), operator.status
    gamepad.hold(0.5, [], poll)
    assert operator.command_check(arm=PANDA).total == 0
    assert drivers.commands[-1] == renamed(topics.ARM_JOINTS, "panda")
    operator.request("recorder/save", poll)
    (folder,) = tmp_path.glob("episode_*")
    episode = read_episode(folder)
    assert np.ptp([state.q[0] for state in episode.states]) > 0.02
    drivers.robot = "fr3"  # the drivers of another arm
    fault = lambda: operator.state is State.FAULT or not operator.status.armed  # noqa: E731
    assert operator.wait("a fault", fault, 10, poll), operator.status
    with pytest.raises(Exception, match="fr3_joint1; those of robot:=panda are wanted"):
        operator.request("gate/reset", poll)
        operator.request("gate/arm", poll)
