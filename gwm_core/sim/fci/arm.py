"""The simulated arm as a robot sees its own: driven by torques, with the robot's controllers."""

from __future__ import annotations

import numpy as np

from gwm_core.geometry.kinematics import fk
from gwm_core.sim.fci.command_rules import MAX_TORQUE, PERIOD
from gwm_core.sim.simulator import Simulator
from gwm_core.types import OPEN_WIDTH

# Of the robot's internal joint impedance, which holds the arm and follows positions.
STIFFNESS = np.array([3000.0, 3000.0, 3000.0, 2500.0, 2500.0, 2000.0, 2000.0])  # [N m/rad]
DAMPING = np.array([200.0, 200.0, 150.0, 120.0, 60.0, 45.0, 30.0])  # [N m s/rad]
POSE = 10  # periods between two poses of the TCP, which no controller here uses
BRAKE = 6.0  # [rad/s2] of the arm after an error


class TorqueArm:
    """One simulated arm at 1 kHz.

    Args:
        sim: the physics; its arm follows torques from now on.

    Attributes:
        torque: (7,) [N m] applied in the last period, without gravity.
        push: (7,) [N m] of a contact that is only pretended.
        pose: of the TCP, (16,) column by column.
    """

    def __init__(self, sim: Simulator):
        self.sim = sim
        sim.follow_torques(PERIOD)
        self.torque = np.zeros(7)
        self.push = np.zeros(7)
        self._hold_q = sim.q
        self._periods = 0
        self.pose = self._pose()
        self._hold_dq = np.zeros(7)

    @property
    def external(self) -> np.ndarray:
        """Torques of contacts (7,) [N m]."""
        return self.sim.contact_torques + self.push

    def apply(self, torque: np.ndarray) -> None:
        """Apply torques (7,) [N m] for one period."""
        self.torque = np.clip(torque, -MAX_TORQUE, MAX_TORQUE)
        self.sim.drive(self.torque + self.push)
        self.sim.step(PERIOD)
        self._periods += 1
        if self._periods % POSE == 0:
            self.pose = self._pose()

    def _pose(self) -> tuple[float, ...]:
        return tuple(fk(self.sim.q).flatten(order="F"))

    def track(self, q: np.ndarray, dq: np.ndarray) -> None:
        """Follow a desired state (7,) [rad], [rad/s] for one period."""
        self._hold_q, self._hold_dq = q, dq
        self.apply(STIFFNESS * (q - self.sim.q) + DAMPING * (dq - self.sim.dq))

    def hold_here(self) -> None:
        """Begin to brake from the measured state."""
        self._hold_q, self._hold_dq = self.sim.q, self.sim.dq

    def hold(self) -> None:
        """Brake, then stay, for one period."""
        slower = np.maximum(np.abs(self._hold_dq) - BRAKE * PERIOD, 0.0)
        dq = np.sign(self._hold_dq) * slower
        self.track(self._hold_q + dq * PERIOD, dq)

    def float(self) -> None:
        """Let a person guide the arm for one period."""
        self.apply(-2.0 * self.sim.dq)
        self.hold_here()

    # What the gripper's server of franky-sim asks for.

    @property
    def hand_width(self) -> float:
        """Opening of the fingers [m]."""
        return self.sim.width

    def set_hand_goal(self, width: float, speed: float, force: float) -> None:
        """Move the fingers; the simulated hand has one speed and one force."""
        self.sim.grip(min(max(width, 0.0), OPEN_WIDTH))
