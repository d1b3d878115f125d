"""The conditions that an FR3 sets to the commands of a motion, one every millisecond.

Source: libfranka 0.21 and frankarobotics/docs (2026-05), "Control parameters": a command that comes
later than 1 ms is lost. A lost position or velocity is replaced by one of constant acceleration, a
lost torque by the last one. After more than 20 lost in a row the robot stops.
"""

from __future__ import annotations

import numpy as np

from gwm_core.geometry.limits import FR3, ArmLimits

PERIOD = 0.001  # [s]
MAX_LOST = 20  # in a row
MAX_TORQUE_STEP = 1.0  # [N m] in one period
MAX_TORQUE = np.array([87.0, 87.0, 87.0, 87.0, 12.0, 12.0, 12.0])  # [N m]
_SLACK = 1.001  # of a limit, for rounding

# The errors of libfranka 0.21 in the order of its state message.
ERRORS = (
    "joint_position_limits_violation",
    "cartesian_position_limits_violation",
    "self_collision_avoidance_violation",
    "joint_velocity_violation",
    "cartesian_velocity_violation",
    "force_control_safety_violation",
    "joint_reflex",
    "cartesian_reflex",
    "max_goal_pose_deviation_violation",
    "max_path_pose_deviation_violation",
    "cartesian_velocity_profile_safety_violation",
    "joint_position_motion_generator_start_pose_invalid",
    "joint_motion_generator_position_limits_violation",
    "joint_motion_generator_velocity_limits_violation",
    "joint_motion_generator_velocity_discontinuity",
    "joint_motion_generator_acceleration_discontinuity",
    "cartesian_position_motion_generator_start_pose_invalid",
    "cartesian_motion_generator_elbow_limit_violation",
    "cartesian_motion_generator_velocity_limits_violation",
    "cartesian_motion_generator_velocity_discontinuity",
    "cartesian_motion_generator_acceleration_discontinuity",
    "cartesian_motion_generator_elbow_sign_inconsistent",
    "cartesian_motion_generator_start_elbow_invalid",
    "force_controller_desired_force_tolerance_violation",
    "start_elbow_sign_inconsistent",
    "communication_constraints_violation",
    "power_limit_violation",
    "cartesian_motion_generator_joint_position_limits_violation",
    "cartesian_motion_generator_joint_velocity_limits_violation",
    "cartesian_motion_generator_joint_velocity_discontinuity",
    "cartesian_motion_generator_joint_acceleration_discontinuity",
    "cartesian_position_motion_generator_invalid_frame",
    "controller_torque_discontinuity",
    "joint_p2p_insufficient_torque_for_planning",
    "tau_j_range_violation",
    "instability_detected",
    "joint_move_in_wrong_direction",
    "cartesian_spline_motion_generator_violation",
    "joint_via_motion_generator_planning_joint_limit_violation",
    "base_acceleration_initialization_timeout",
    "base_acceleration_invalid_reading",
)
STATE_CHECK = 5  # periods between two checks of the measured state


class MotionRules:
    """The joint positions of a motion, their limits and those of their derivatives.

    Args:
        q: the desired position at the start of the motion (7,) [rad], at rest.
        limits: the arm's.

    Attributes:
        q, dq, ddq: the desired state now.
        use: the largest use of each limit so far; 1 is at the limit.
    """

    def __init__(self, q: np.ndarray, limits: ArmLimits = FR3):
        self._limits = limits
        self.q = np.array(q, float)
        self.dq = np.zeros(7)
        self.ddq = np.zeros(7)
        self.use: dict[str, float] = {}

    def position(self, q: np.ndarray) -> str:
        """Take a commanded position. Returns "" or the error of the robot."""
        return self._move(np.array(q, float), (np.asarray(q) - self.q) / PERIOD)

    def velocity(self, dq: np.ndarray) -> str:
        """Take a commanded velocity. Returns "" or the error of the robot."""
        dq = np.array(dq, float)
        return self._move(self.q + dq * PERIOD, dq)

    def lost(self) -> str:
        """Go on with constant acceleration. Returns "" or the error of the robot."""
        dq = self.dq + self.ddq * PERIOD
        return self._move(self.q + dq * PERIOD, dq)

    def _move(self, q: np.ndarray, dq: np.ndarray) -> str:
        limits = self._limits
        ddq = (dq - self.dq) / PERIOD
        dddq = (ddq - self.ddq) / PERIOD
        low, high = limits.velocity_bounds(q)
        bound = np.maximum(np.where(dq >= 0, high, -low), 1e-9)
        uses = {
            "joint_motion_generator_position_limits_violation": _position_use(q, limits),
            "joint_motion_generator_velocity_limits_violation": np.abs(dq) / bound,
            "joint_motion_generator_velocity_discontinuity": np.abs(ddq) / limits.ddq_max,
            "joint_motion_generator_acceleration_discontinuity": np.abs(dddq) / limits.dddq_max,
        }
        self.q, self.dq, self.ddq = q, dq, ddq
        return _broken(uses, self.use)


class TorqueRules:
    """The torques of a motion and their change in a period.

    Attributes:
        torque: (7,) [N m] commanded now, without gravity.
        use: the largest use of each limit so far; 1 is at the limit.
    """

    def __init__(self):
        self.torque = np.zeros(7)
        self.use: dict[str, float] = {}

    def take(self, torque: np.ndarray) -> str:
        """Take commanded torques. Returns "" or the error of the robot."""
        torque = np.array(torque, float)
        uses = {
            "controller_torque_discontinuity": np.abs(torque - self.torque) / MAX_TORQUE_STEP,
            "tau_j_range_violation": np.abs(torque) / MAX_TORQUE,
        }
        self.torque = torque
        return _broken(uses, self.use)


class ArmRules:
    """The measured state of the arm, and the torques of contacts.

    Attributes:
        thresholds: (7,) [N m] of a contact, from which the robot stops.
        use: the largest use of each limit so far; 1 is at the limit.
    """

    def __init__(self, limits: ArmLimits = FR3):
        self._limits = limits
        self.thresholds = np.full(7, 20.0)
        self._checks = 0
        self.use: dict[str, float] = {}

    def check(self, q: np.ndarray, dq: np.ndarray, external: np.ndarray) -> str:
        """Check the measured joints, and external torques (7,) [N m].

        Returns "" or the error of the robot.
        """
        uses = {"joint_reflex": np.abs(external) / self.thresholds}
        self._checks += 1
        if self._checks % STATE_CHECK == 0:
            limits = self._limits
            low, high = limits.velocity_bounds(q)
            bound = np.maximum(np.where(dq >= 0, high, -low), 1e-9)
            uses["joint_position_limits_violation"] = _position_use(q, limits)
            uses["joint_velocity_violation"] = np.abs(dq) / bound
        return _broken(uses, self.use)


def _position_use(q: np.ndarray, limits: ArmLimits) -> np.ndarray:
    """Use of the position limits: 0 in the middle of the range, 1 at an end."""
    middle, half = (limits.q_max + limits.q_min) / 2, (limits.q_max - limits.q_min) / 2
    return np.abs(q - middle) / half


def _broken(uses: dict[str, np.ndarray], largest: dict[str, float]) -> str:
    """The first limit that is broken, or "". NaN breaks every limit."""
    broken = ""
    for name, use in uses.items():
        worst = float(use.max())
        largest[name] = max(largest.get(name, 0.0), worst)
        if not worst <= _SLACK and not broken:
            broken = name
    return broken
