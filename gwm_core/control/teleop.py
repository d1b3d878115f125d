"""Teleoperation: turn an operator's input device into chunks, which the gate checks like any other.

The clutch is a deadman switch: nothing moves unless it is held. Every chunk ends at rest: the
motion goes on until the last input is ``timeout`` old, and then slows down. So the arm stops when a
device, a cable or a process is gone, whoever notices it. After that the operator must release the
clutch before it counts again.

A driver may go on with a device that is out of range or unplugged: joy_node and spacenav_node
repeat the last message with new stamps (ros-drivers/joystick_drivers#92). A hand that holds still
looks the same, so the clutch counts only while some value of the device changes. A leader arm needs
no such rule, because it gives a position near the arm and not a speed.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
from scipy.spatial.transform import Rotation

from gwm_core.control.devices import Device, leader_misfit
from gwm_core.errors import InputError
from gwm_core.geometry.kinematics import Unreachable, fk, pose_error, solve, to_rows
from gwm_core.geometry.limits import FR3, ArmLimits, Workspace
from gwm_core.types import OPEN_WIDTH, ActionChunk

_STEP = 0.01  # [s] of the integration
_MARGIN = 0.005  # [m] of the target from the edge of the workspace
# [s] for which an opening outlasts the clutch that asked for it: the gate sends it a little later
_GRIP_TIME = 0.5


@dataclass(frozen=True)
class TeleopConfig:
    """The parameters of teleoperation. Names are ROS parameters."""

    speed: float = 0.15  # [m/s] at full deflection
    turn_speed: float = 0.6  # [rad/s]
    acceleration: float = 0.6  # [m/s2] slew limit of the motion
    turn_acceleration: float = 3.0  # [rad/s2]
    deadband: float = 0.08  # fraction of full deflection
    timeout: float = 0.25  # [s] after which an input no longer counts
    # [s] after which a held clutch no longer counts while no value of the device changes
    unchanged: float = 1.0
    # [m] and, times five, [rad]: largest distance from the arm to the target
    most_lead: float = 0.08
    leader_speed: float = 0.5  # [rad/s] of the arm towards a leader arm
    # [rad] largest distance of each joint at which a leader arm is engaged ...
    leader_near: float = 0.3
    # [rad] ... and stays followed, as in run_env.py of wuphilipp/gello_software
    leader_gap: float = 0.8
    rows: int = 12  # waypoints of a chunk
    dt: float = 0.05  # [s] between waypoints
    period: float = 0.08  # [s] between chunks

    def __post_init__(self):
        for name, value in asdict(self).items():
            if not 0 < value < 1000:
                raise InputError(f"teleop parameter {name} must be a positive number, got {value}")


class Teleop:
    """Joy or leader-arm input and the gate's reference in; chunks out.

    Times ``now`` are monotonic seconds.

    Attributes:
        engaged: the operator leads the arm.
        gives_back: the button that returns the arm to the policy was just pressed.
        trouble: why the operator cannot lead, or "".
    """

    def __init__(
        self,
        device: Device,
        config: TeleopConfig = TeleopConfig(),
        workspace: Workspace = Workspace(),
        arm: ArmLimits = FR3,
    ):
        self.config = config
        self._device = device
        self._arm = arm
        self.engaged = False
        self.gives_back = False
        self.trouble = "no input yet"
        self._low = np.array(workspace.low) + _MARGIN
        self._high = np.array(workspace.high) - _MARGIN
        self._input_at = -np.inf  # [s]
        self._pressed: set[int] = set()
        self._values: tuple | None = None  # of the last message
        self._changed_at = -np.inf  # [s] since when they are the same
        # why the clutch does not count until it is released, or ""
        self._blocked = "clutch held from the start: let go of it"
        self._reference: np.ndarray | None = None  # (7,) [rad]
        self._width = OPEN_WIDTH  # of the next chunk
        self._asked_at = -np.inf  # [s] when a button asked for it
        self._leader: np.ndarray | None = None  # (7,) [rad]
        # target pose, its twist, and the time they are of
        self._T = np.eye(4)
        self._twist = np.zeros(6)  # [m/s], [rad/s]
        self._at = -np.inf
        self._requested = np.zeros(6)  # twist by the newest input
        # the same in the last chunk, and the time of that input
        self._planned = np.zeros(6), -np.inf

    # ---- inputs -------------------------------------------------------------

    def joy(self, axes, buttons, now: float) -> None:
        """Take a Joy message. One that does not fit the device counts as none."""
        d, c = self._device, self.config
        if misfit := d.misfit(axes, buttons):
            self._fail(misfit)
            return
        pressed = {i for i, value in enumerate(buttons) if value}
        if (values := (*axes, *pressed)) != self._values:
            self._values = values
            self._changed_at = now
        new = pressed - self._pressed
        self._pressed = pressed
        self._input_at = now
        if d.clutch not in pressed:
            self._blocked = d.away_from_rest(axes, c.deadband)
            self.trouble = ""
        elif self._blocked:
            self.trouble = self._blocked
        self._clutch(d.clutch in pressed and not self._blocked)
        self._take_pressed(new, now)
        if self.engaged and now - self._changed_at > c.unchanged:
            self._fail(
                f"nothing of the device changed for {c.unchanged:g} s (out of range?): let go of"
                " the clutch"
            )
        raw = d.deflection(axes)
        fraction = np.sign(raw) * np.maximum(0.0, np.abs(raw) - c.deadband) / (1.0 - c.deadband)
        twist = fraction * np.repeat([c.speed, c.turn_speed], 3)
        self._requested = twist if self.engaged else np.zeros(6)

    def leader(self, q: np.ndarray, width: float | None, now: float) -> None:
        """Take the joints (7,) [rad] of a leader arm, and the opening [m] of its handle or None."""
        q = np.asarray(q, float)
        if q.shape != (7,) or not np.all(np.isfinite(q)):
            self._fail("leader: seven finite joints wanted")
            return
        c = self.config
        self._input_at = now
        max_distance = c.leader_gap if self.engaged else c.leader_near
        if misfit := leader_misfit(q, self._arm, self._reference, max_distance):
            self._fail(misfit)
            return
        if width is not None and not -0.01 <= width <= OPEN_WIDTH + 0.01:
            self._fail(f"leader: the opening reads {width:g}, 0 to {OPEN_WIDTH} m is wanted")
            return
        self._leader = q
        self.trouble = ""
        if width is not None and self.engaged:
            self._width = OPEN_WIDTH if width > OPEN_WIDTH / 2 else 0.0

    def engage(self, on: bool) -> str:
        """The clutch of a leader arm, which has none: its operator engages it by a service.

        Returns "" or why it cannot be engaged.
        """
        unsent = "the gate sends nothing yet: gate/arm" if self._reference is None else ""
        reason = (self.trouble or unsent) if on else ""
        self._clutch(on and not reason)
        return reason

    def rivals(self, publishers: int) -> None:
        """Obey no device where several publish the input."""
        if publishers > 1:
            self._fail(f"{publishers} publishers of the input: one operator at a time")

    def reference(self, q: np.ndarray, width: float, now: float) -> None:
        """Take what the gate last sent: joints (7,) [rad] and the gripper's width [m]."""
        self._reference = np.asarray(q, float)
        if not self.engaged and now - self._asked_at > _GRIP_TIME:
            self._width = float(width)

    def _fail(self, trouble: str) -> None:
        self.trouble = self._blocked = trouble
        self._clutch(False)
        self._requested = np.zeros(6)

    def _clutch(self, on: bool) -> None:
        self.engaged = on and self._reference is not None

    def _take_pressed(self, new: set[int], now: float) -> None:
        d = self._device
        self.gives_back = d.give_back is not None and d.give_back in new
        if not self.engaged:
            return
        if d.close in new or d.open in new:
            toggled = OPEN_WIDTH if self._width < OPEN_WIDTH / 2 else 0.0
            self._width = toggled if d.close == d.open else 0.0 if d.close in new else OPEN_WIDTH
            self._asked_at = now

    # ---- chunks -------------------------------------------------------------

    def make_chunk(self, stamp: int, now: float) -> ActionChunk | None:
        """A chunk observed at ``stamp`` [ns]; None before the gate has sent anything.

        Without a request it stays where the reference is, so arming the gate moves nothing.
        """
        if self._reference is None:
            return None
        if now - self._input_at > self.config.timeout and (self.engaged or not self.trouble):
            self._fail("input stale")
        if self._leader is not None:
            return self._follow_leader(stamp, now)
        resting = not np.any(self._twist)
        if resting and (not np.any(self._requested) or now - self._at > 2 * self.config.period):
            self._T = fk(self._reference)
            self._at = now
            self._planned = np.zeros(6), -np.inf
            return self._stay(stamp)
        # up to now the arm has followed the last chunk, so a newer input counts from now on; else
        # the arm would move back
        states = self._integrate((self._T, self._twist), self._at, now, *self._planned)
        self._T, self._twist = states[-1]
        self._limit_lead()
        self._planned = self._requested, self._input_at
        end = now + self.config.rows * self.config.dt
        states = self._integrate((self._T, self._twist), now, end, *self._planned)
        every = round(self.config.dt / _STEP)
        poses = to_rows(np.array([T for T, _ in states[every::every]]), self._width)
        self._at = now
        try:
            q = solve(poses, self._reference, arm=self._arm)
        except Unreachable as error:
            self._T = fk(self._reference)
            self._twist = np.zeros(6)
            self.trouble = f"out of reach: {error}"
            return self._stay(stamp)
        return ActionChunk(stamp, q, np.full(len(poses), self._width), self.config.dt)

    def _inside(self, q: np.ndarray) -> np.ndarray:
        return np.clip(q, self._arm.q_low, self._arm.q_high)

    def _stay(self, stamp: int) -> ActionChunk:
        rows = self.config.rows
        q = self._inside(self._reference)
        return ActionChunk(
            stamp, np.repeat(q[None], rows, axis=0), np.full(rows, self._width), self.config.dt
        )

    def _integrate(
        self, start, begin: float, end: float, requested: np.ndarray, requested_at: float
    ) -> list:
        """Pose and twist every 10 ms from ``begin`` to ``end``.

        They go towards the requested twist (6,) until that is too old, and then to rest.
        """
        c, (T, twist), states = self.config, start, [start]
        slew = np.repeat([c.acceleration, c.turn_acceleration], 3) * _STEP
        for k in range(max(0, round((end - begin) / _STEP))):
            valid = begin + k * _STEP - requested_at < c.timeout
            towards = requested if valid else np.zeros(6)
            twist = twist + np.clip(towards - twist, -slew, slew)
            T = T.copy()
            # a target outside the workspace may come back, and goes no further out
            at = T[:3, 3]
            T[:3, 3] = np.clip(
                at + twist[:3] * _STEP, np.minimum(at, self._low), np.maximum(at, self._high)
            )
            T[:3, :3] = Rotation.from_rotvec(twist[3:] * _STEP).as_matrix() @ T[:3, :3]
            states.append((T, twist))
        return states

    def _limit_lead(self) -> None:
        """Pull the target back until it is at most ``most_lead`` ahead of the arm."""
        max_lead, T_now = self.config.most_lead, fk(self._reference)
        gap = pose_error(T_now, self._T)
        distance, angle = np.linalg.norm(gap[:3]), np.linalg.norm(gap[3:])
        T = self._T.copy()
        if distance > max_lead:
            T[:3, 3] = T_now[:3, 3] + gap[:3] * max_lead / distance
        if angle > 5 * max_lead:
            rotation = Rotation.from_rotvec(gap[3:] * 5 * max_lead / angle).as_matrix()
            T[:3, :3] = rotation @ T_now[:3, :3]
        self._T = T

    def _follow_leader(self, stamp: int, now: float) -> ActionChunk:
        """Joint by joint towards the leader, at most at ``leader_speed``; rest once it is late."""
        if not self.engaged:
            return self._stay(stamp)
        c = self.config
        times = c.dt * np.arange(1, c.rows + 1)
        moving = np.minimum(times, max(0.0, self._input_at + c.timeout - now))[:, None]
        gap = self._leader - self._reference
        q = self._reference + np.clip(gap, -c.leader_speed * moving, c.leader_speed * moving)
        return ActionChunk(stamp, self._inside(q), np.full(c.rows, self._width), c.dt)
