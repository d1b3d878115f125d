"""Physics of the simulated arm, driven as the real one: streamed joint targets, blocking gripper.

``command`` and ``reach`` are CRISP's joint and Cartesian impedance controllers: when commands stop,
the last target is held. ``follow`` is joint_trajectory_controller: it executes its trajectory to
the end, and begins each one from its desired or from the measured state, as configured. In both
cases the caller must bring the arm to rest. ``drive`` is the torque interface, after
``follow_torques``. The gripper behaves like the Franka hand: it moves at
0.1 m/s, executes one command at a time, and then takes the newest one.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import mujoco
import numpy as np

from gwm_core.geometry.kinematics import HOME_Q, fk_jacobian, pose_error
from gwm_core.geometry.quintic import Quintic
from gwm_core.sim.scene import CUBE_COLORS, KV_OVER_KP, Layout, apply_layout, build_model
from gwm_core.types import OPEN_WIDTH

GRIPPER_SPEED = 0.1  # [m/s] Franka hand default
# [s] a velocity feed-forward older than this is dropped; the position target stays
COMMAND_HOLD = 0.02

_ZERO = np.zeros(7)


@dataclass(frozen=True)
class Snapshot:
    """The state that cameras render."""

    time: float  # [s] simulated
    qpos: np.ndarray
    layout: Layout


class Simulator:
    """One arm, one table, one episode at a time."""

    def __init__(self):
        self.model = build_model()
        self.data = mujoco.MjData(self.model)
        self.layout: Layout | None = None
        self._driven_by_torques = False
        first, last = (self.model.joint(f"arm_panda_joint{i}") for i in (1, 7))
        self._arm = slice(first.qposadr[0], last.qposadr[0] + 1)
        self._arm_v = slice(first.dofadr[0], last.dofadr[0] + 1)
        self._fingers = [
            self.model.joint(f"arm_hand_panda_finger_joint{i}").qposadr[0] for i in (1, 2)
        ]
        self.teleport(HOME_Q)

    @property
    def time(self) -> float:
        """Simulated time [s]."""
        return float(self.data.time)

    @property
    def q(self) -> np.ndarray:
        """Joint positions (7,) [rad]."""
        return self.data.qpos[self._arm].copy()

    @property
    def dq(self) -> np.ndarray:
        """Joint velocities (7,) [rad/s]."""
        return self.data.qvel[self._arm_v].copy()

    @property
    def width(self) -> float:
        """Finger opening [m]."""
        return float(self.data.qpos[self._fingers].sum())

    def reset(self, layout: Layout) -> None:
        """Apply a layout. The arm stays where it is, as a real one would."""
        self.layout = layout
        for name in CUBE_COLORS:
            self.model.geom(name).friction[0], self.model.geom(name).priority = 1.0, 0
        apply_layout(self.model, self.data, layout)
        mujoco.mj_forward(self.model, self.data)

    def teleport(self, q: np.ndarray, width: float = OPEN_WIDTH) -> None:
        """Put the arm at rest at ``q``, the gripper open to ``width`` [m]."""
        self.data.qpos[self._arm], self.data.qpos[self._fingers] = q, width / 2
        self.data.qvel[:] = 0
        self._q_target = np.array(q, float)
        self._dq_target = np.zeros(7)
        self._commanded_at = -np.inf
        self._path: Quintic | None = None
        self._torques = np.zeros(7)
        self._grip_goal = self._grip_next = self._grip_now = width
        self._grip_done = -np.inf
        mujoco.mj_forward(self.model, self.data)

    def command(self, q: np.ndarray, dq: np.ndarray) -> None:
        """Stream a joint target [rad] with its velocity [rad/s]."""
        self._q_target = np.array(q, float)
        self._dq_target = np.array(dq, float)
        self._commanded_at = self.time
        self._path = None

    def reach(self, T: np.ndarray, q_null: np.ndarray) -> None:
        """Stream a TCP pose (4, 4), with joints (7,) [rad] as the target of the null space."""
        q = np.array(q_null, float)
        for _ in range(5):
            T_now, J = fk_jacobian(q)
            q += J.T @ np.linalg.solve(J @ J.T + 1e-4 * np.eye(6), pose_error(T_now, T))
        self.command(q, np.zeros(7))

    def follow(
        self, times: np.ndarray, q: np.ndarray, dq: np.ndarray, ddq: np.ndarray, from_desired: bool
    ) -> None:
        """Replace the trajectory. Raises ValueError as ``Quintic`` does.

        Args:
            times: (P,) [s] from now; points in the past are skipped.
            q, dq, ddq: (P, 7) [rad], [rad/s], [rad/s2] at those times.
            from_desired: the controller's ``interpolate_from_desired_state``; False: begin at the
                measured state.
        """
        start = np.stack(self.target) if from_desired else np.stack([self.q, self.dq, _ZERO])
        self._path, self._commanded_at = Quintic(times, q, dq, ddq, start), self.time

    def follow_torques(self, timestep: float) -> None:
        """From now on the arm follows ``drive`` alone, in physics steps of ``timestep`` [s].

        Gravity stays compensated. The joints have no friction, which the robot compensates too.
        """
        self._driven_by_torques = True
        self.model.opt.timestep = timestep
        self.model.actuator_gainprm[:7, 0] = 1.0
        self.model.actuator_biasprm[:7] = 0.0
        self.model.dof_damping[self._arm_v] = 0.0

    def drive(self, torques: np.ndarray) -> None:
        """Apply joint torques (7,) [N m] until the next call."""
        self._torques = np.array(torques, float)

    @property
    def contact_torques(self) -> np.ndarray:
        """Torques (7,) [N m] on the arm of contacts and of the ends of its joints."""
        return self.data.qfrc_constraint[self._arm_v].copy()

    def grip(self, width: float) -> None:
        """Command the gripper to an opening [m]."""
        self._grip_next = float(np.clip(width, 0.0, OPEN_WIDTH))

    def step(self, duration: float) -> None:
        """Advance by ``duration`` [s], a multiple of the physics step."""
        for _ in range(round(duration / self.model.opt.timestep)):
            self._drive()
            mujoco.mj_step(self.model, self.data)

    @property
    def target(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Position, velocity and acceleration (7,) of the controller's target now."""
        age = self.time - self._commanded_at
        if self._path is not None:
            return tuple(self._path.at(age))
        if age < COMMAND_HOLD:
            return self._q_target + self._dq_target * age, self._dq_target, _ZERO
        return self._q_target, _ZERO, _ZERO

    def _drive(self) -> None:
        if self._driven_by_torques:
            self.data.ctrl[:7] = self._torques
        else:
            q, dq, _ = self.target
            self.data.ctrl[:7] = q + KV_OVER_KP * dq
        if self._grip_next != self._grip_goal and self.time >= self._grip_done:
            travel = abs(self._grip_next - self._grip_goal)
            self._grip_goal = self._grip_next
            self._grip_done = self.time + travel / GRIPPER_SPEED
        step = GRIPPER_SPEED * self.model.opt.timestep
        self._grip_now += float(np.clip(self._grip_goal - self._grip_now, -step, step))
        self.data.ctrl[7:9] = self._grip_now / 2

    def objects(self) -> dict[str, np.ndarray]:
        """Ground truth: name -> (x, y, z, yaw, size) of every object of the layout."""
        result = {
            "plate": np.array([*self.data.mocap_pos[0], 0.0, 2 * self.model.geom("plate").size[0]])
        }
        for name in CUBE_COLORS:
            if name in self.layout.cubes:
                w, x, y, z = self.data.joint(name).qpos[3:]
                yaw = np.arctan2(2 * (w * z + x * y), 1 - 2 * (y * y + z * z))
                result[name] = np.array(
                    [*self.data.joint(name).qpos[:3], yaw, self.layout.size(name)]
                )
        return result

    def put(self, name: str, x: float, y: float) -> None:
        """Move a cube, at rest, to a position on the table [m]."""
        joint = self.data.joint(name)
        joint.qpos[:3], joint.qvel = (x, y, self.layout.size(name) / 2 + 1e-4), 0
        mujoco.mj_forward(self.model, self.data)

    def remove_friction(self, name: str) -> None:
        """Remove a cube's friction until the next layout: it slips out of any grip."""
        # the priority puts it before the friction of what it touches
        self.model.geom(name).friction[0], self.model.geom(name).priority = 0.02, 1

    def shift_camera(self, name: str, twist: np.ndarray) -> None:
        """Move a camera by a rotation vector (3,) [rad] and (3,) [m] in its own frame.

        Its known extrinsics stay as they are.
        """
        error = self.layout.camera_error
        self.layout = replace(self.layout, camera_error=error | {name: error[name] + twist})

    def snapshot(self) -> Snapshot:
        """A copy of the state for the cameras."""
        return Snapshot(self.time, self.data.qpos.copy(), self.layout)
