"""The gate's messages: its command and its status."""

from __future__ import annotations

from diagnostic_msgs.msg import DiagnosticArray
from sensor_msgs.msg import JointState

from gwm.ros.messages import diagnostics, joint_state, read_diagnostics
from gwm_core import topics
from gwm_core.control.gate.state_machine import Command
from gwm_core.gate_status import GateStatus, State

NAME = "gate"  # of its status in diagnostics


def command_message(stamp: int, command: Command) -> JointState:
    """gate/command: the arm's joints, and the gripper's width as one more joint."""
    q, dq, ddq = command.reference
    names = (*topics.ARM_JOINTS, topics.WIDTH)
    frame = topics.RESET_FRAME if command.reference_reset else ""
    return joint_state(stamp, names, [*q, command.width], [*dq, 0.0], [*ddq, 0.0], frame)


def status_message(stamp: int, status: GateStatus) -> DiagnosticArray:
    """gate/status."""
    ok = status.state is not State.FAULT
    return diagnostics(stamp, NAME, status.text, status.to_fields(), ok)


def status_of(message) -> GateStatus:
    """Read gate/status. Raises ValueError for anything else."""
    found = read_diagnostics(message)
    if NAME not in found:
        raise ValueError(f"no status of the gate, but of {', '.join(found) or 'nobody'}")
    return GateStatus.from_fields(found[NAME])
