"""A motion under way, and the state message that tells of it."""

from __future__ import annotations

import functools
from typing import NamedTuple

import numpy as np

from gwm_core.sim.fci.arm import TorqueArm
from gwm_core.sim.fci.command_rules import ERRORS, MAX_LOST, MotionRules, TorqueRules
from gwm_core.sim.fci.messages import (
    Controller,
    FrankaRobotState,
    Generator,
    Mode,
    Move,
    UdpCommand,
    protocol,
)

COMMUNICATION = "communication_constraints_violation"
# The Franka hand in the robot's settings: its manual, and franky-sim 1.0.4.
HAND_MASS = 0.73  # [kg]
HAND_CENTER = (-0.01, 0.0, 0.03)  # [m] in the flange's frame
HAND_INERTIA = (0.001, 0.0, 0.0, 0.0, 0.0025, 0.0, 0.0, 0.0, 0.0017)  # [kg m2]
_ZERO = (0.0,) * 7


class Load(NamedTuple):
    """A load that the client configured."""

    mass: float = 0.0  # [kg]
    center: tuple[float, ...] = (0.0,) * 3  # [m] in the flange's frame
    inertia: tuple[float, ...] = (0.0,) * 9  # [kg m2]


class Motion:
    """A motion and the rules of its commands.

    Attributes:
        torques: whether its commands are torques.
        begun: whether the first command has come.
    """

    def __init__(self, command: Move, q: np.ndarray):
        self.id = command.command_id
        self.torques = command.controller_mode == Controller.kExternalController
        self.generator = command.motion_generator_mode
        self.desired = MotionRules(q)
        self.torque = TorqueRules()
        self.begun = False
        self._lost = 0  # in a row

    def take(self, command: UdpCommand) -> str:
        """Take a command. Returns "" or the error of the robot."""
        self.begun = True
        self._lost = 0
        error = self.torque.take(command.tau_J_d) if self.torques else ""
        if self.generator == Generator.kJointPosition:
            return error or self.desired.position(command.q_c)
        if self.generator == Generator.kJointVelocity:
            return error or self.desired.velocity(command.dq_c)
        return error

    def miss(self) -> str:
        """Go on without a command. Returns "" or the error of the robot."""
        if not self.begun:
            return ""
        self._lost += 1
        if self._lost > MAX_LOST:
            return COMMUNICATION
        return "" if self.torques else self.desired.lost()


def state_message(
    arm: TorqueArm,
    motion: Motion | None,
    *,
    mode: Mode,
    success_rate: float,
    errors: tuple[str, ...],
    last_errors: tuple[str, ...],
    load: Load,
) -> bytes:
    """The state of the robot as it is sent."""
    q, dq = arm.sim.q.tolist(), arm.sim.dq.tolist()
    torques = motion is not None and motion.torques
    desired = (q, dq, _ZERO)
    if motion is not None and not torques:
        desired = (motion.desired.q, motion.desired.dq, motion.desired.ddq)
    controllers = protocol.StateControllerMode
    return FrankaRobotState(
        q=q,
        dq=dq,
        q_d=desired[0],
        dq_d=desired[1],
        ddq_d=desired[2],
        tau_J=arm.torque.tolist(),
        tau_J_d=motion.torque.torque.tolist() if torques else _ZERO,
        tau_ext_hat_filtered=arm.external.tolist(),
        robot_mode=mode,
        control_command_success_rate=success_rate,
        O_T_EE=arm.pose,
        O_T_EE_d=arm.pose,
        O_T_EE_c=arm.pose,
        errors=_flags(errors),
        reflex_reason=_flags(last_errors),
        m_ee=HAND_MASS,
        F_x_Cee=HAND_CENTER,
        I_ee=HAND_INERTIA,
        m_load=load.mass,
        F_x_Cload=load.center,
        I_load=load.inertia,
        controller_mode=controllers.kExternalController if torques else controllers.kJointImpedance,
        motion_generator_mode=_generator_state(motion),
    ).pack_state()


@functools.lru_cache(maxsize=64)
def _flags(errors: tuple[str, ...]) -> tuple[bool, ...]:
    return tuple(name in errors for name in ERRORS)


def _generator_state(motion: Motion | None) -> protocol.StateMotionGeneratorMode:
    states = protocol.StateMotionGeneratorMode
    if motion is None:
        return states.kIdle
    return {
        Generator.kJointPosition: states.kJointPosition,
        Generator.kJointVelocity: states.kJointVelocity,
    }.get(motion.generator, states.kNone)
