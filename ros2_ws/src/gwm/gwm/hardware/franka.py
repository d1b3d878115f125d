"""Parts of a real Franka: the hand's actions, the robot's mode, and recovery after a reflex.

The messages come with franka_ros2 and ros2_control. They are imported only where those are
installed.
"""

from __future__ import annotations

import importlib.util
import os
import time
from collections.abc import Callable
from functools import partial

from action_msgs.msg import GoalStatus
from rclpy.action import ActionClient
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy

from gwm.hardware.reporting_robot import ReportingRobot
from gwm.ros.hand_over import FutureCallbacks
from gwm.ros.node import RELIABLE
from gwm.ros.polling_node import PollingNode
from gwm_core.control import recovery
from gwm_core.control.gripper_goals import GripperGoal, GripperGoals
from gwm_core.errors import InputError
from gwm_core.types import OPEN_WIDTH

# It is large, and comes up to 1000 times a second.
NEWEST_STATE = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
ANY_OBJECT = OPEN_WIDTH  # [m] grasp epsilon: a grasp of any width counts as reached
HARDWARE = "FrankaHardwareInterface"
ERROR_RECOVERY = "action_server/error_recovery"
LIST, SET_HARDWARE, SWITCH = "list_controllers", "set_hardware_component_state", "switch_controller"
ENDINGS = {GoalStatus.STATUS_ABORTED: "aborted", GoalStatus.STATUS_CANCELED: "canceled"}
ACTIVE = 3  # lifecycle_msgs/State.PRIMARY_STATE_ACTIVE
SWITCH_TIME = 5  # [s] after which controller_manager gives up a switch; 0 would be never


def has(package: str) -> bool:
    """Whether a message package is installed."""
    return importlib.util.find_spec(package) is not None


def best_gripper() -> str:
    """The kind of gripper whose messages are installed."""
    return "franka" if has("franka_msgs") else "action" if has("control_msgs") else "forward"


def _need(package: str, otherwise: str) -> None:
    if not has(package):
        raise InputError(
            f"{package} is not installed: source the workspace with franka_ros2, or {otherwise}"
        )


def _run(
    client: ActionClient, callbacks: FutureCallbacks, goal, ended, refused, closing: bool = False
) -> None:
    """Send an action goal.

    ``ended(success, error)`` or ``refused(error)`` is called once, from the executor.
    """
    if not client.server_is_ready():
        refused(f"no action server for {type(goal).__qualname__}")
        return

    def accepted(handle) -> None:
        if not handle.accepted:
            refused("goal refused")
            return
        callbacks.when_done(handle.get_result_async(), over)

    def over(result) -> None:
        ended(*outcome(result.status, result.result, closing))

    callbacks.when_done(client.send_goal_async(goal), accepted)


def outcome(status: int, result, closing: bool = False) -> tuple[bool, str]:
    """Whether a goal that ended with this status was reached, and the error.

    Servers that fail may abort with an empty result, so the status counts first. A GripperCommand
    that ``stalled`` while it was ``closing`` holds an object, whatever else its result says.
    """
    if closing and getattr(result, "stalled", False):
        return True, ""
    error = getattr(result, "error", "")
    if status != GoalStatus.STATUS_SUCCEEDED:
        return False, error or ENDINGS.get(status, f"goal status {status}")
    return getattr(result, "success", getattr(result, "reached_goal", True)), error


def franka_hand(node: Node):
    """The Franka hand: franka_msgs Grasp to close, Move to open."""
    _need("franka_msgs", "choose gripper:=forward")
    from franka_msgs.action import Grasp, Move

    grasp = ActionClient(node, Grasp, "franka_gripper/grasp")
    move = ActionClient(node, Move, "franka_gripper/move")
    callbacks = FutureCallbacks(node)

    def start(goal: GripperGoal, goals: GripperGoals) -> None:
        if goal.grasp:
            request = Grasp.Goal(width=goal.width, speed=goal.speed, force=goal.force)
            request.epsilon.inner = ANY_OBJECT
            request.epsilon.outer = ANY_OBJECT
            client = grasp
        else:
            request = Move.Goal(width=goal.width, speed=goal.speed)
            client = move
        ended, refused = partial(goals.ended, goal), partial(goals.refused, goal)
        _run(client, callbacks, request, ended, refused)

    return start


def gripper_action(node: Node):
    """Any gripper with control_msgs GripperCommand; its position is that of one finger."""
    _need("control_msgs", "choose gripper:=forward")
    from control_msgs.action import GripperCommand

    client = ActionClient(node, GripperCommand, "franka_gripper/gripper_action")
    callbacks = FutureCallbacks(node)

    def start(goal: GripperGoal, goals: GripperGoals) -> None:
        request = GripperCommand.Goal()
        request.command.position = goal.width / 2
        request.command.max_effort = goal.force
        ended, refused = partial(goals.ended, goal), partial(goals.refused, goal)
        _run(client, callbacks, request, ended, refused, closing=goal.grasp)

    return start


class FrankaRobot(ReportingRobot):
    """A robot behind franka_ros2 and ros2_control.

    Args:
        node: its executor calls ``tick`` about every 0.1 s.
        controller: its name.
        stopped: called with the cause when the robot follows no command.
        set_target: publishes the measured joints as the controller's target; returns "" or why it
            cannot.
    """

    def __init__(
        self,
        node: PollingNode,
        controller: str,
        stopped: Callable[[str], None],
        set_target: Callable[[], str],
    ):
        _need("controller_manager_msgs", "one without franka_msgs")
        from controller_manager_msgs.srv import (
            ListControllers,
            SetHardwareComponentState,
            SwitchController,
        )
        from franka_msgs.action import ErrorRecovery
        from franka_msgs.msg import FrankaRobotState

        steps = (
            recovery.HUMBLE_STEPS if os.environ.get("ROS_DISTRO") == "humble" else recovery.STEPS
        )
        super().__init__(recovery.RobotMonitor(self._run_step, stopped, steps))
        self._callbacks = FutureCallbacks(node)
        self._error_recovery = ActionClient(node, ErrorRecovery, ERROR_RECOVERY)
        self._error_recovery_goal = ErrorRecovery.Goal()
        self._manager = {
            name: (
                node.create_client(kind, f"controller_manager/{name}", qos_profile=RELIABLE),
                kind.Request,
            )
            for name, kind in (
                (LIST, ListControllers),
                (SET_HARDWARE, SetHardwareComponentState),
                (SWITCH, SwitchController),
            )
        }
        self._actions = {
            recovery.CLEAR: self._clear_error,
            recovery.HARDWARE: self._activate_hardware,
            recovery.SENSE: lambda answer: self._switch(recovery.BROADCASTERS, True, answer),
            recovery.PLACE: lambda answer: answer(set_target()),
            recovery.CONTROL: lambda answer: self._switch((controller,), True, answer),
            recovery.RELEASE: lambda answer: self._switch((controller,), False, answer),
        }
        node.poll_topic(FrankaRobotState, recovery.STATE, self._on_state, NEWEST_STATE)

    def _on_state(self, message) -> None:
        self._monitor.receive(message.robot_mode, time.monotonic())

    def _run_step(self, step: str, answer: Callable[[str], None]) -> None:
        self._actions[step](answer)

    def _clear_error(self, answer) -> None:
        _run(
            self._error_recovery,
            self._callbacks,
            self._error_recovery_goal,
            lambda success, error: answer("" if success else error or "refused"),
            answer,
        )

    def _activate_hardware(self, answer) -> None:
        def fill(request) -> None:
            request.name = HARDWARE
            request.target_state.id = ACTIVE
            request.target_state.label = "active"

        self._call(SET_HARDWARE, fill, answer, lambda response: answer(_refusal(response)))

    def _switch(self, names: tuple[str, ...], active: bool, answer) -> None:
        """Switch the controllers that are not in their state yet, and check that they are then.

        A switch has been reported as done for a controller that stayed inactive (franka_ros #232).
        """

        def remaining(response) -> tuple[list[str], str]:
            states = {controller.name: controller.state for controller in response.controller}
            return recovery.to_switch(states, names, active)

        def check(response) -> None:
            wanted, error = remaining(response)
            still = "inactive" if active else "active"
            answer(f"{', '.join(wanted)} still {still} after the switch" if wanted else error)

        def switched(response) -> None:
            if error := _refusal(response):
                answer(error)
            else:
                self._call(LIST, lambda request: None, answer, check)

        def switch(response) -> None:
            wanted, error = remaining(response)

            def fill(request) -> None:
                field = "activate_controllers" if active else "deactivate_controllers"
                setattr(request, field, wanted)
                request.strictness = request.STRICT
                request.timeout.sec = SWITCH_TIME

            if wanted:
                self._call(SWITCH, fill, answer, switched)
            else:
                answer(error)

        self._call(LIST, lambda request: None, answer, switch)

    def _call(self, name: str, fill, failed, answered) -> None:
        """Send a request that ``fill(request)`` fills in.

        ``answered(response)`` or ``failed(error)`` is called once.
        """
        client, kind = self._manager[name]
        if not client.service_is_ready():
            failed(f"no service controller_manager/{name}")
            return
        request = kind()
        fill(request)
        self._callbacks.when_done(client.call_async(request), answered)


def _refusal(response) -> str:
    """Why controller_manager refused, or "". Answers of some versions give no reason."""
    return (
        "" if response.ok else getattr(response, "message", "") or "refused by controller_manager"
    )
