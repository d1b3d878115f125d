"""The messages of franky-sim 1.0.4, some of them with an effect of our own."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from gwm_core.errors import InputError

try:
    from franky_sim import franka_robot_protocol as protocol
    from franky_sim import franka_server
    from franky_sim.franka_robot_state import FrankaRobotState
except ImportError as error:
    raise InputError(
        "a simulated robot with the FCI needs franky-sim: pip install 'gwm[fci-sim]'"
    ) from error

__all__ = ["FrankaRobotState", "protocol"]  # and what follows

if TYPE_CHECKING:
    from gwm_core.sim.fci.robot_server import RobotServer

Mode = protocol.RobotMode
Controller = protocol.MoveCommandControllerMode
Generator = protocol.MoveCommandMotionGeneratorMode
Status = protocol.MoveStatus
RecoveryStatus = protocol.AutomaticErrorRecoveryStatus
UdpCommand = protocol.UDPCommand


@dataclass
class Connect(franka_server.ConnectCommand):
    """The request of a client to connect."""

    def handle(self, server: RobotServer, command_type_struct: str = "I") -> None:
        """Accept a client of the server's own version, and refuse others."""
        if self.version == server.library_version:
            super().handle(server, command_type_struct)
            return
        refused = franka_server.ConnectStatus.kIncompatibleLibraryVersion
        content = struct.pack("<HH4x", refused, server.library_version)
        header = franka_server.MessageHeader(self.command_type, self.command_id, len(content))
        self.client_socket.sendall(
            header.to_bytes(command_type_struct=command_type_struct) + content
        )


@dataclass
class SetCollisionBehavior(protocol.SetCollisionBehaviorCommand):
    """The thresholds of contacts."""

    def handle(self, server: RobotServer) -> None:
        """Take them."""
        server.arm_rules.thresholds = np.array(self.upper_torque_thresholds_nominal)
        self.reply(0)


@dataclass
class Recovery(protocol.AutomaticErrorRecoveryCommand):
    """The request to clear the errors."""

    def handle(self, server: RobotServer) -> None:
        """Begin; the answer comes later."""
        server.recover(self)


@dataclass
class Move(protocol.MoveCommand):
    """The request to begin a motion."""

    def handle(self, server: RobotServer) -> None:
        """Begin, or say why not."""
        self.reply(server.begin(self))


def answer_move(socket, motion: int, status: Status) -> None:
    """Tell the client how a motion ended."""
    Move.send_response(socket, protocol.RobotCommand.kMove, motion, status)


_KINDS = protocol.RobotCommand
COMMANDS = {
    _KINDS.kMove: Move,
    _KINDS.kStopMove: protocol.StopMoveCommand,
    _KINDS.kSetCollisionBehavior: SetCollisionBehavior,
    _KINDS.kSetJointImpedance: protocol.SetJointImpedanceCommand,
    _KINDS.kSetCartesianImpedance: protocol.SetCartesianImpedanceCommand,
    _KINDS.kGetRobotModel: protocol.GetRobotModelCommand,
    _KINDS.kAutomaticErrorRecovery: Recovery,
    _KINDS.kSetLoad: protocol.SetLoadCommand,
    _KINDS.kSetNEToEE: protocol.SetNEToEECommand,
    _KINDS.kSetEEToK: protocol.SetEEToKCommand,
}
