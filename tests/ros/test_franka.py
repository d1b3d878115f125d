"""The gate against the real robot's messages, where they are installed: hand, mode and recovery."""

import pytest
import yaml

pytest.importorskip("rclpy")
pytest.importorskip("franka_msgs")
pytest.importorskip("controller_manager_msgs")

from controller_manager_msgs.srv import SetHardwareComponentState, SwitchController
from franka_msgs.action import ErrorRecovery, Grasp, Move
from franka_msgs.msg import FrankaRobotState
from gwm.graph import graph
from gwm.supervise import Supervisor
from rclpy.action import ActionServer
from rclpy.node import Node
from test_teleop_graph import CLUTCH, Gamepad, moving

from gwm_core.control.devices import DEVICES
from gwm_core.control.recovery import MODES
from gwm_core.site import simulation_site

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]
MOVE, REFLEX = MODES.index("move"), MODES.index("reflex")


class Driver(Node):
    """What franka_ros2 and ros2_control offer, apart from the joints, which the simulation brings."""

    def __init__(self):
        super().__init__("driver")
        self.mode, self.done, self.hand_works = MOVE, [], True
        self._state = self.create_publisher(FrankaRobotState, "franka_robot_state_broadcaster/robot_state", 1)
        self.create_timer(0.02, lambda: self._state.publish(FrankaRobotState(robot_mode=self.mode)))
        self._servers = [
            ActionServer(self, Grasp, "franka_gripper/grasp", self._grasp),
            ActionServer(self, Move, "franka_gripper/move", self._move),
            ActionServer(self, ErrorRecovery, "action_server/error_recovery", self._recover),
        ]
        for kind, name, act in (
            (SetHardwareComponentState, "set_hardware_component_state", self._hardware),
            (SwitchController, "switch_controller", self._switch),
        ):
            self.create_service(kind, f"controller_manager/{name}", act)

    def _grasp(self, handle):
        self.done.append(("grasp", handle.request.width, handle.request.force))
        handle.succeed()
        return Grasp.Result(success=self.hand_works, error="" if self.hand_works else "lost the object")

    def _move(self, handle):
        self.done.append(("move", handle.request.width))
        handle.succeed()
        return Move.Result(success=True)

    def _recover(self, handle):
        self.done.append("clear the error")
        handle.succeed()
        return ErrorRecovery.Result()

    def _hardware(self, request, response):
        self.done.append(("hardware", request.name, request.target_state.label))
        response.ok = True
        return response

    def _switch(self, request, response):
        self.done.append(("controllers", list(request.activate_controllers)))
        self.mode, response.ok = MOVE, True
        return response


@pytest.fixture
def driver(operator):
    driver = Driver()
    operator._executor.add_node(driver)
    yield driver
    driver.destroy_node()


@pytest.fixture
def supervisor(operator, driver, tmp_path):
    """The graph of a real robot under teleoperation, the simulation in its arm's place."""
    site = tmp_path / "site.yaml"
    site.write_text(yaml.safe_dump({"cameras": {n: c.to_dict() for n, c in simulation_site().cameras.items()}}))
    (sim,) = (n for n in graph(controller="jtc") if n.name == "sim")
    nodes = [sim, *graph(robot="fr3", site=str(site), controller="jtc", mode="teleop", record=str(tmp_path))]
    supervisor = Supervisor(nodes, log=open(tmp_path / "log", "w"))
    supervisor.start()
    ready = lambda: operator.status and {"sim", "teleop"} <= set(operator.reports)  # noqa: E731
    assert operator.wait("start", ready, 60, supervisor.poll), (tmp_path / "log").read_text()
    yield supervisor
    supervisor.stop()


def test_the_hand_gets_one_goal_for_each_edge_and_its_failures_are_named(operator, driver, supervisor):
    poll, gamepad, pad = supervisor.poll, Gamepad(operator), DEVICES["gamepad"]
    operator.wish("gate/arm", poll)
    assert gamepad.push(poll, moving(operator), y=1.0)
    assert driver.done == []  # arming and moving ask nothing of the hand

    def press(button, count):
        for _ in range(3):
            gamepad.hold(0.2, [], poll)
            gamepad.hold(0.3, [CLUTCH], poll)
            gamepad.hold(0.6, [CLUTCH, button], poll)
            if len(driver.done) >= count:
                return

    press(pad.close, 1)
    assert driver.done == [("grasp", 0.0, 30.0)]
    press(pad.open, 2)
    assert driver.done[1:] == [("move", pytest.approx(0.08))]
    assert operator.status["trouble"] == ""
    driver.hand_works = False
    press(pad.close, 3)
    named = lambda: operator.status["trouble"] == "gripper: lost the object"  # noqa: E731
    assert operator.wait("trouble", named, 2, poll)


def test_a_reflex_is_a_fault_until_the_operator_recovers_the_robot_in_order(operator, driver, supervisor):
    poll, gamepad = supervisor.poll, Gamepad(operator)
    operator.wish("gate/arm", poll)
    assert gamepad.push(poll, moving(operator), y=1.0)
    driver.mode = REFLEX
    assert operator.wait("fault", lambda: operator.status["state"] == "FAULT", 2, poll)
    assert operator.status["cause"] == "robot: reflex" and driver.done == []
    with pytest.raises(Exception, match="robot: reflex"):
        operator.wish("gate/arm", poll)
    operator.wish("gate/reset", poll)
    assert operator.wait("recovery", lambda: operator.status["state"] == "DISARMED", 5, poll)
    assert driver.done == [
        "clear the error",
        ("hardware", "FrankaHardwareInterface", "active"),
        ("controllers", ["fr3_arm_controller"]),
    ]
    count = len(operator.commands)
    operator.wish("gate/arm", poll)
    gamepad.hold(0.3, [], poll)
    first = operator.commands[count]
    assert first[3], "the reference is latched anew"
    assert operator.status["state"] in ("HOLD", "RUNNING")
