"""The gate against drivers of a real robot that refuse, abort, hang and fall silent, as the real
ones do.
"""

import threading

import interfaces
import pytest
import yaml

pytest.importorskip("rclpy")

from gwm.graph.config import GraphConfig
from gwm.graph.process_list import processes
from gwm.hardware.franka import ERROR_RECOVERY
from gwm.process.supervisor import Supervisor
from gwm.ros.polling_node import PollingNode
from rclpy.action import ActionServer
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.task import Future
from sensor_msgs.msg import JointState
from test_teleop_graph import CLUTCH, Gamepad, moving
from trajectory_msgs.msg import JointTrajectory

from gwm_core import topics
from gwm_core.control.devices import DEVICES
from gwm_core.control.recovery import BROADCASTERS, MODES, STATE, STEP_TIME
from gwm_core.gate_status import State
from gwm_core.site import simulation_site

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
IDLE, MOVE, REFLEX = (MODES.index(name) for name in ("idle", "move", "reflex"))
ARM = "fr3_arm_controller"


class Driver(Node):
    """What franka_ros2 and ros2_control offer, apart from the joints, which the simulation brings.

    ``hangs`` and ``aborts`` name actions and services that never answer or fail, ``stuck``
    controllers that no switch changes although it says so. A strict switch is refused where a
    controller is already as wished, and the robot's state is told only while its broadcaster is
    active.
    """

    def __init__(self):
        super().__init__("driver")
        from controller_manager_msgs import srv
        from controller_manager_msgs.msg import ControllerState
        from franka_msgs.action import ErrorRecovery, Grasp, Move
        from franka_msgs.msg import FrankaRobotState

        self.mode, self.done, self.hangs, self.aborts = MOVE, [], set(), set()
        self.stuck = set()
        self.states = dict.fromkeys((*BROADCASTERS, ARM), "active")
        state = self.create_publisher(FrankaRobotState, STATE, 1)

        def tell():
            if self.states["franka_robot_state_broadcaster"] == "active":
                state.publish(FrankaRobotState(robot_mode=self.mode))

        def listed(request, response):
            response.controller = [ControllerState(name=n, state=s) for n, s in self.states.items()]
            return response

        self.create_timer(0.02, tell)
        self.create_service(srv.ListControllers, "controller_manager/list_controllers", listed)
        hardware, switch = "set_hardware_component_state", "switch_controller"
        self.create_service(
            srv.SetHardwareComponentState,
            f"controller_manager/{hardware}",
            self._hardware,
            callback_group=ReentrantCallbackGroup(),  # while it hangs the others answer
        )
        self.create_service(srv.SwitchController, f"controller_manager/{switch}", self._switch)
        self._servers = [
            ActionServer(self, Grasp, "franka_gripper/grasp", self._act("grasp", Grasp.Result)),
            ActionServer(self, Move, "franka_gripper/move", self._act("move", Move.Result)),
            ActionServer(
                self, ErrorRecovery, ERROR_RECOVERY, self._act("recover", ErrorRecovery.Result)
            ),
        ]

    def reflex(self):
        """The hardware's error deactivates all that is on it."""
        self.mode = REFLEX
        self.states = dict.fromkeys(self.states, "inactive")

    def _act(self, name, result):
        def act(handle):
            self.done.append((name, round(getattr(handle.request, "width", 0.0), 3)))
            if name in self.aborts:
                handle.abort()  # with an empty result, as franka_ros2 does
                return result()
            handle.succeed()
            if name == "recover":
                self.mode = IDLE
                return result()
            return result(success=True)

        return act

    async def _hardware(self, request, response):
        self.done.append(("hardware", request.name, request.target_state.label))
        if "hardware" in self.hangs:
            await Future()
        response.ok = True
        return response

    def _switch(self, request, response):
        wanted = dict.fromkeys(request.activate_controllers, "active")
        wanted |= dict.fromkeys(request.deactivate_controllers, "inactive")
        same = [name for name, state in wanted.items() if self.states[name] == state]
        response.ok = not (same and request.strictness == request.STRICT)
        response.message = f"already as wished: {same}" if same else ""
        if response.ok:
            self.states |= {name: state for name, state in wanted.items() if name not in self.stuck}
            self.done.append(("activate", sorted(request.activate_controllers)))
        return response


@pytest.fixture
def driver(operator, monkeypatch):
    interfaces.provide(monkeypatch)
    driver = Driver()
    # in a thread of its own: behind the operator's callbacks it would fall silent on a busy machine
    executor = SingleThreadedExecutor()
    executor.add_node(driver)
    thread = threading.Thread(target=executor.spin, daemon=True)
    thread.start()
    yield driver
    executor.shutdown()
    thread.join()
    driver.destroy_node()


@pytest.fixture
def supervisor(operator, driver, tmp_path):
    """The graph of a real robot under teleoperation, the simulation in its arm's place."""
    site = tmp_path / "site.yaml"
    site.write_text(
        yaml.safe_dump({"cameras": {n: c.to_dict() for n, c in simulation_site().cameras.items()}})
    )
    (sim,) = (n for n in processes(GraphConfig(controller="jtc")) if n.name == "sim")
    nodes = [
        sim,
        *processes(
            GraphConfig(
                robot="fr3", site=str(site), controller="jtc", mode="teleop", record=str(tmp_path)
            )
        ),
    ]
    supervisor = Supervisor(nodes, log=open(tmp_path / "log", "w"))
    supervisor.start()
    operator.widths = []
    operator.create_subscription(
        JointState, topics.COMMAND, lambda m: operator.widths.append(m.position[7]), 10
    )
    ready = lambda: operator.status and {"sim", "teleop"} <= set(operator.reports)  # noqa: E731
    assert operator.wait("start", ready, 60, supervisor.poll), (tmp_path / "log").read_text()
    yield supervisor
    supervisor.stop()


def test_the_hand_gets_one_goal_for_each_edge_and_its_failures_are_named(
    operator, driver, supervisor
):
    poll, gamepad, pad = supervisor.poll, Gamepad(operator), DEVICES["gamepad"]
    arm(operator, poll)
    assert gamepad.push(poll, moving(operator), y=1.0)
    assert driver.done == []  # arming and moving ask nothing of the hand

    def press(button, count):
        for _ in range(10):  # on a busy machine the arm may rest, and the clutch be open
            gamepad.hold(0.2, [], poll)
            gamepad.hold(0.3, [CLUTCH], poll)
            gamepad.hold(0.6, [CLUTCH, button], poll)
            if len(driver.done) >= count:
                return

    press(pad.close, 1)
    assert driver.done == [("grasp", 0.0)], operator.status
    press(pad.open, 2)
    assert driver.done[1:] == [("move", 0.08)], operator.status
    assert operator.status.trouble == ""
    driver.aborts = {"grasp"}
    press(pad.close, 3)
    named = lambda: operator.status.trouble == "gripper: aborted"  # noqa: E731
    assert operator.wait("trouble", named, 15, poll), (operator.status, driver.done)
    gamepad.hold(0.1, [], poll)
    assert operator.widths[-1] == pytest.approx(0.08), "an open hand is not recorded as closed"


def state(operator, name, poll, seconds=10):
    return operator.wait(name, lambda: operator.state is State[name], seconds, poll)


def arm(operator, poll):
    """On a busy machine the simulated joints may be late for a real arm's limit of 40 ms.

    The gate holds until teleop's next chunk of rest; a later status says RUNNING, and one after
    late joints STOPPING for a while.
    """
    operator.request_with_retry("gate/arm", poll)
    resumed = lambda: operator.status.armed and operator.state in (State.HOLD, State.RUNNING)  # noqa: E731
    assert operator.wait("an armed gate", resumed, 10, poll), operator.status


def test_a_reflex_is_a_fault_until_the_operator_recovers_the_robot_in_order(
    operator, driver, supervisor
):
    poll = supervisor.poll
    arm(operator, poll)
    driver.mode = REFLEX
    assert state(operator, "FAULT", poll), operator.status
    assert operator.status.cause == "robot: reflex" and driver.done == []
    driver.reflex()
    with pytest.raises(Exception, match="robot: reflex"):
        operator.request("gate/arm", poll)
    placed = []
    operator.create_subscription(JointTrajectory, topics.TRAJECTORY, placed.append, 10)
    operator.wait("discovery", lambda: False, 1.0, lambda: "")
    placed.clear()
    operator.request("gate/reset", poll)
    assert state(operator, "DISARMED", poll, 10)
    assert driver.done == [
        ("recover", 0.0),
        ("hardware", "FrankaHardwareInterface", "active"),
        ("activate", sorted(BROADCASTERS)),
        ("activate", [ARM]),
    ]
    (place,) = placed  # before the controller was activated: rest where the arm is
    assert len(place.points) == 1 and not any(place.points[0].velocities)
    assert operator.status.trouble == ""
    count = len(operator.commands)
    arm(operator, poll)
    assert operator.wait("command", lambda: len(operator.commands) > count, 10, poll)
    first = operator.commands[count]
    assert first[3], "the reference is latched anew"


def test_silence_is_a_fault_and_ends_with_a_recovery(operator, driver, supervisor):
    poll = supervisor.poll
    arm(operator, poll)
    driver.states = dict.fromkeys(driver.states, "inactive")  # told to nobody, in mode "move"
    assert state(operator, "FAULT", poll), (operator.status.cause, operator.status.trouble)
    assert "silent" in operator.status.cause
    operator.request("gate/reset", poll)
    assert state(operator, "DISARMED", poll), operator.status.trouble
    arm(operator, poll)


@pytest.fixture
def robot(operator, driver):
    """The gate's side of the drivers, without the gate."""
    from gwm.hardware.franka import FrankaRobot

    node = PollingNode("alone")
    node.placed, node.stops = [], []
    robot = FrankaRobot(node, ARM, node.stops.append, lambda: node.placed.append(1) or "")
    node.create_timer(0.02, node.take_messages)
    node.create_timer(0.1, robot.tick)
    robot.node = node
    operator._executor.add_node(node)
    assert operator.wait("state", lambda: robot.trouble == "", 10, lambda: "")
    yield robot
    node.destroy_node()


def test_a_recovery_that_aborts_or_hangs_can_be_tried_again(operator, driver, robot):
    finished = []

    def recover(until, seconds):
        assert robot.recover(lambda: finished.append(1)) == ""
        assert operator.wait("recovery", until, seconds, lambda: ""), robot.trouble

    driver.reflex()
    driver.aborts = {"recover"}
    recover(lambda: robot.trouble.startswith("clear the error: aborted"), 10)
    driver.aborts, driver.hangs = set(), {"hardware"}
    recover(lambda: "no answer within" in robot.trouble, STEP_TIME + 10)
    assert robot.trouble.startswith("activate the hardware") and finished == []
    driver.hangs = set()
    driver.states["joint_state_broadcaster"] = "active"  # somebody helped: that is no failure
    driver.done.clear()
    recover(lambda: finished, 10)
    assert driver.done == [
        ("recover", 0.0),
        ("hardware", "FrankaHardwareInterface", "active"),
        ("activate", ["franka_robot_state_broadcaster"]),
        ("activate", [ARM]),
    ]
    assert robot.trouble == "" and robot.node.placed == [1]


def test_a_controller_that_is_not_active_after_its_switch_fails_the_recovery(
    operator, driver, robot
):
    """The switch is called done, the controller is not running: franka_ros #232."""
    finished = []
    driver.reflex()
    driver.stuck = {ARM}
    assert robot.recover(lambda: finished.append(1)) == ""
    told = f"activate the controller: {ARM} still inactive after the switch"
    assert operator.wait("recovery", lambda: robot.trouble.startswith(told), 10, lambda: ""), (
        robot.trouble
    )
    assert finished == []
    driver.stuck = set()
    assert robot.recover(lambda: finished.append(1)) == ""
    assert operator.wait("recovery", lambda: finished, 10, lambda: ""), robot.trouble
