"""What only a real Franka has: the hand's actions, the robot's mode, and recovery after a reflex.

The messages come with franka_ros2 and ros2_control and are loaded only where those are installed.
"""

from __future__ import annotations

import importlib.util
import os
import time
from functools import partial

from rclpy.action import ActionClient
from rclpy.node import Node
from rclpy.qos import QoSPresetProfiles

from gwm.node import RELIABLE
from gwm_core.control import recovery
from gwm_core.control.hand import Goal, Hand
from gwm_core.errors import InputError
from gwm_core.types import OPEN_WIDTH

STATE = "franka_robot_state_broadcaster/robot_state"
ANY_OBJECT = OPEN_WIDTH  # [m] grasp epsilon: whatever the fingers close on counts
HARDWARE = "FrankaHardwareInterface"


def has(package: str) -> bool:
    """Whether a message package is installed."""
    return importlib.util.find_spec(package) is not None


def best_gripper() -> str:
    """The kind of gripper whose messages are installed."""
    return "franka" if has("franka_msgs") else "action" if has("control_msgs") else "forward"


def _need(package: str) -> None:
    if not has(package):
        raise InputError(
            f"{package} is not installed: source the workspace with franka_ros2, or choose gripper:=forward"
        )


def _run(client: ActionClient, goal, ended, refused) -> None:
    """Send an action goal; ``ended(success, error)`` or ``refused(error)`` is called once, from the executor."""
    if not client.server_is_ready():
        refused(f"no action server for {type(goal).__qualname__}")
        return

    def accepted(future):
        handle = future.result()
        if not handle.accepted:
            refused("goal refused")
            return
        handle.get_result_async().add_done_callback(lambda f: ended(*_outcome(f.result().result)))

    client.send_goal_async(goal).add_done_callback(accepted)


def _outcome(result) -> tuple[bool, str]:
    return getattr(result, "success", getattr(result, "reached_goal", True)), getattr(result, "error", "")


def hand(node: Node):
    """The Franka hand: franka_msgs Grasp to close, Move to open."""
    _need("franka_msgs")
    from franka_msgs.action import Grasp, Move

    grasp = ActionClient(node, Grasp, "franka_gripper/grasp")
    move = ActionClient(node, Move, "franka_gripper/move")

    def start(goal: Goal, told: Hand) -> None:
        if goal.grasp:
            wish = Grasp.Goal(width=goal.width, speed=goal.speed, force=goal.force)
            wish.epsilon.inner = wish.epsilon.outer = ANY_OBJECT
            _run(grasp, wish, told.answered, told.refused)
        else:
            _run(move, Move.Goal(width=goal.width, speed=goal.speed), told.answered, told.refused)

    return start


def gripper_action(node: Node):
    """Any gripper with control_msgs GripperCommand; its position is that of one finger."""
    _need("control_msgs")
    from control_msgs.action import GripperCommand

    client = ActionClient(node, GripperCommand, "franka_gripper/gripper_action")

    def start(goal: Goal, told: Hand) -> None:
        wish = GripperCommand.Goal()
        wish.command.position, wish.command.max_effort = goal.width / 2, goal.force
        _run(client, wish, told.answered, told.refused)

    return start


class Robot:
    """The mode of a Franka, and its recovery step by step. ``stopped(cause)`` is called when it follows no command."""

    def __init__(self, node: Node, controller: str, stopped):
        from franka_msgs.action import ErrorRecovery
        from franka_msgs.msg import FrankaRobotState

        self.mode: int | None = None
        self._heard_at = time.monotonic()
        self._stopped, self._controller = stopped, controller
        humble = os.environ.get("ROS_DISTRO") == "humble"
        self._recovery = recovery.Recovery(recovery.HUMBLE_STEPS if humble else recovery.STEPS)
        self._clear = ActionClient(node, ErrorRecovery, "action_server/error_recovery")
        self._no_error = ErrorRecovery.Goal()
        node.create_subscription(FrankaRobotState, STATE, self._on_state, QoSPresetProfiles.SENSOR_DATA.value)
        self._manager = {}
        if has("controller_manager_msgs"):
            from controller_manager_msgs.srv import SetHardwareComponentState, SwitchController

            for kind, name in ((SetHardwareComponentState, "set_hardware_component_state"),
                               (SwitchController, "switch_controller")):  # fmt: skip
                client = node.create_client(kind, f"controller_manager/{name}", qos_profile=RELIABLE)
                self._manager[name] = client, kind.Request

    @property
    def trouble(self) -> str:
        """Why the robot follows no command, or why the last recovery failed; "" when all is well."""
        return recovery.trouble(self.mode) or self._recovery.failure

    @property
    def needs_recovery(self) -> bool:
        """Whether it is in a mode that follows no command, or has fallen silent as it does after an error."""
        return recovery.needed(self.mode, time.monotonic() - self._heard_at)

    def _on_state(self, message) -> None:
        self.mode, self._heard_at = message.robot_mode, time.monotonic()
        if cause := recovery.trouble(self.mode):
            self._stopped(cause)

    def recover(self, finished) -> str:
        """Run the steps in their order, then ``finished()``. Returns "" or why it cannot begin."""
        if reason := self._recovery.begin(self.mode):
            return reason
        self._step(finished)
        return ""

    def _step(self, finished) -> None:
        step = self._recovery.next
        if step is None:
            if not self._recovery.failure:
                finished()
            return

        def ended(success: bool, error: str = "") -> None:
            self._recovery.ended(step, "" if success else error or "refused")
            self._step(finished)

        if step == "clear the error":
            _run(self._clear, self._no_error, ended, partial(ended, False))
        elif step == "activate the hardware":
            self._ask("set_hardware_component_state", ended, name=HARDWARE, target_state={"id": 3, "label": "active"})
        else:
            which = "activate_controllers" if step == "activate the controller" else "deactivate_controllers"
            self._ask("switch_controller", ended, **{which: [self._controller]}, strictness=2)

    def _ask(self, service: str, ended, /, **fields) -> None:
        client, request = self._manager.get(service, (None, None))
        if client is None or not client.service_is_ready():
            ended(False, f"no service controller_manager/{service}")
            return
        wish = request()
        for field, value in fields.items():
            if isinstance(value, dict):
                for key, part in value.items():
                    setattr(getattr(wish, field), key, part)
            else:
                setattr(wish, field, value)
        client.call_async(wish).add_done_callback(lambda f: ended(f.result().ok))
