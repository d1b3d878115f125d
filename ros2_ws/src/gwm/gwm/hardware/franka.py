"""What only a real Franka has: the hand's actions, the robot's mode, and recovery after a reflex.

The messages come with franka_ros2 and ros2_control and are loaded only where those are installed.
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
from rclpy.qos import QoSPresetProfiles

from gwm.ros.node import RELIABLE
from gwm_core.control import recovery
from gwm_core.control.gripper_goals import GripperGoal, GripperGoals
from gwm_core.errors import InputError
from gwm_core.types import OPEN_WIDTH

ANY_OBJECT = OPEN_WIDTH  # [m] grasp epsilon: whatever the fingers close on counts
HARDWARE = "FrankaHardwareInterface"
ERROR_RECOVERY = "action_server/error_recovery"
LIST, SET_HARDWARE, SWITCH = "list_controllers", "set_hardware_component_state", "switch_controller"
ENDINGS = {GoalStatus.STATUS_ABORTED: "aborted", GoalStatus.STATUS_CANCELED: "canceled"}
ACTIVE = 3  # lifecycle_msgs/State.PRIMARY_STATE_ACTIVE
SWITCH_TIME = 5  # [s] after which controller_manager gives a switch up; 0 would be never


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


def _run(client: ActionClient, goal, ended, refused, closing: bool = False) -> None:
    """Send an action goal; ``ended(success, error)`` or ``refused(error)`` is called once, from the
    executor.
    """
    if not client.server_is_ready():
        refused(f"no action server for {type(goal).__qualname__}")
        return

    def accepted(future):
        handle = future.result()
        if not handle.accepted:
            refused("goal refused")
            return
        handle.get_result_async().add_done_callback(over)

    def over(future):
        ended(*outcome(future.result().status, future.result().result, closing))

    client.send_goal_async(goal).add_done_callback(accepted)


def outcome(status: int, result, closing: bool = False) -> tuple[bool, str]:
    """Whether a goal that ended with this status reached what was asked, and the error.

    Servers that fail may abort with an empty result, so the status counts first. A GripperCommand
    that ``stalled`` while it was ``closing`` holds something, whatever else it says.
    """
    if closing and getattr(result, "stalled", False):
        return True, ""
    error = getattr(result, "error", "")
    if status != GoalStatus.STATUS_SUCCEEDED:
        return False, error or ENDINGS.get(status, f"goal status {status}")
    return getattr(result, "success", getattr(result, "reached_goal", True)), error


def hand(node: Node):
    """The Franka hand: franka_msgs Grasp to close, Move to open."""
    _need("franka_msgs", "choose gripper:=forward")
    from franka_msgs.action import Grasp, Move

    grasp = ActionClient(node, Grasp, "franka_gripper/grasp")
    move = ActionClient(node, Move, "franka_gripper/move")

    def start(goal: GripperGoal, told: GripperGoals) -> None:
        if goal.grasp:
            wish = Grasp.Goal(width=goal.width, speed=goal.speed, force=goal.force)
            wish.epsilon.inner = wish.epsilon.outer = ANY_OBJECT
            _run(grasp, wish, partial(told.answered, goal), partial(told.refused, goal))
        else:
            wish = Move.Goal(width=goal.width, speed=goal.speed)
            _run(move, wish, partial(told.answered, goal), partial(told.refused, goal))

    return start


def gripper_action(node: Node):
    """Any gripper with control_msgs GripperCommand; its position is that of one finger."""
    _need("control_msgs", "choose gripper:=forward")
    from control_msgs.action import GripperCommand

    client = ActionClient(node, GripperCommand, "franka_gripper/gripper_action")

    def start(goal: GripperGoal, told: GripperGoals) -> None:
        wish = GripperCommand.Goal()
        wish.command.position, wish.command.max_effort = goal.width / 2, goal.force
        _run(
            client,
            wish,
            partial(told.answered, goal),
            partial(told.refused, goal),
            closing=goal.grasp,
        )

    return start


class FrankaRobot:
    """The robot's state, and its recovery by ``gate/reset``.

    Args:
        node: whose executor calls ``tick`` every 0.1 s or so.
        controller: its name.
        stopped: called with the cause when the robot follows no command.
        place: publishes the measured joints as the controller's target; returns "" or why it
            cannot.
    """

    def __init__(
        self, node: Node, controller: str, stopped: Callable[[str], None], place: Callable[[], str]
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
        self._watch = recovery.RobotMonitor(self._ask, stopped, steps)
        self._clear, self._no_error = (
            ActionClient(node, ErrorRecovery, ERROR_RECOVERY),
            ErrorRecovery.Goal(),
        )
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
        self._acts = {
            recovery.CLEAR: self._clear_error,
            recovery.HARDWARE: self._activate_hardware,
            recovery.SENSE: lambda answer: self._switch(recovery.BROADCASTERS, True, answer),
            recovery.PLACE: lambda answer: answer(place()),
            recovery.CONTROL: lambda answer: self._switch((controller,), True, answer),
            recovery.RELEASE: lambda answer: self._switch((controller,), False, answer),
        }
        node.create_subscription(
            FrankaRobotState, recovery.STATE, self._on_state, QoSPresetProfiles.SENSOR_DATA.value
        )

    @property
    def trouble(self) -> str:
        """Why the arm may not be moved, or ""."""
        return self._watch.trouble(time.monotonic())

    def needs_recovery(self, cause: str) -> bool:
        """Whether ``recover`` must come before the gate leaves a FAULT for ``cause``."""
        return self._watch.needed(cause, time.monotonic())

    def recover(self, finished: Callable[[], None]) -> str:
        """Run the steps in their order, then ``finished()``. Returns "" or why it cannot begin."""
        return self._watch.recover(time.monotonic(), finished)

    def tick(self) -> None:
        """Look after silence and after the recovery."""
        self._watch.tick(time.monotonic())

    def _on_state(self, message) -> None:
        self._watch.heard(message.robot_mode, time.monotonic())

    def _ask(self, step: str, answer: Callable[[str], None]) -> None:
        self._acts[step](answer)

    def _clear_error(self, answer) -> None:
        _run(
            self._clear,
            self._no_error,
            lambda success, error: answer("" if success else error or "refused"),
            answer,
        )

    def _activate_hardware(self, answer) -> None:
        def filled(wish) -> None:
            wish.name, wish.target_state.id, wish.target_state.label = HARDWARE, ACTIVE, "active"

        self._call(SET_HARDWARE, filled, answer, lambda response: answer(_refusal(response)))

    def _switch(self, names: tuple[str, ...], active: bool, answer) -> None:
        """Switch those that are not yet as they shall be, and look whether they are then.

        A switch has been called done of a controller that stayed inactive (franka_ros #232).
        """

        def left(response) -> tuple[list[str], str]:
            states = {controller.name: controller.state for controller in response.controller}
            return recovery.to_switch(states, names, active)

        def looked(response) -> None:
            wanted, error = left(response)
            still = "inactive" if active else "active"
            answer(f"{', '.join(wanted)} still {still} after the switch" if wanted else error)

        def switched(response) -> None:
            if error := _refusal(response):
                answer(error)
            else:
                self._call(LIST, lambda wish: None, answer, looked)

        def listed(response) -> None:
            wanted, error = left(response)

            def filled(wish) -> None:
                setattr(
                    wish, "activate_controllers" if active else "deactivate_controllers", wanted
                )
                wish.strictness, wish.timeout.sec = wish.STRICT, SWITCH_TIME

            if wanted:
                self._call(SWITCH, filled, answer, switched)
            else:
                answer(error)

        self._call(LIST, lambda wish: None, answer, listed)

    def _call(self, name: str, fill, failed, answered) -> None:
        """Send a request that ``fill`` has filled; ``answered(response)`` or ``failed(error)`` is
        called.
        """
        client, kind = self._manager[name]
        if not client.service_is_ready():
            failed(f"no service controller_manager/{name}")
            return
        wish = kind()
        fill(wish)
        client.call_async(wish).add_done_callback(lambda future: answered(future.result()))


def _refusal(response) -> str:
    """Why controller_manager refused, or ""; not every answer of every version says it."""
    return (
        "" if response.ok else getattr(response, "message", "") or "refused by controller_manager"
    )
