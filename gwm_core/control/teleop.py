"""Teleoperation: what an operator's hand on a device becomes as a plan. It passes the gate like any
other plan.

The clutch is a dead-man's switch: nothing moves unless it is held. Every plan holds its own end:
motion goes on to the moment when the last input is ``timeout`` old and then slows down to rest, so
a device, a cable or a process that is gone means a stop whoever notices. After that the clutch must
be let go of before it counts again.

A driver may go on with a device that is out of range or unplugged: joy_node and spacenav_node
repeat the last message with new stamps (ros-drivers/joystick_drivers#92). A hand that holds still
looks the same, so the clutch counts only while something of the device changes. A leader arm needs
no such rule: it tells a place near the arm, not a speed.
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
_EDGE = 0.005  # [m] the target stays this far inside the workspace


@dataclass(frozen=True)
class TeleopConfig:
    """Every number of teleoperation."""

    speed: float = 0.15  # [m/s] at full deflection
    turn_speed: float = 0.6  # [rad/s]
    acceleration: float = 0.6  # [m/s2] slew limit of the motion
    turn_acceleration: float = 3.0  # [rad/s2]
    deadband: float = 0.08  # share of full deflection
    timeout: float = 0.25  # [s] an older input counts as none
    # [s] a clutch held for longer while nothing of the device changes is void
    unchanged: float = 1.0
    # [m] and, times five, [rad]: the target may run ahead of the arm by this
    most_lead: float = 0.08
    leader_speed: float = 0.5  # [rad/s] for catching up with a leader arm
    leader_near: float = 0.3  # [rad] so close must each of its joints be to be taken,
    # [rad] and so close to stay followed, as in run_env.py of wuphilipp/gello_software
    leader_gap: float = 0.8
    rows: int = 12
    dt: float = 0.05  # [s] between rows
    period: float = 0.08  # [s] between plans

    def __post_init__(self):
        for name, value in asdict(self).items():
            if not 0 < value < 1000:
                raise InputError(f"teleop parameter {name} must be a positive number, got {value}")


class Teleop:
    """Joy or leader-arm input and the gate's reference in; plans out. Times ``now`` in monotonic
    seconds.
    """

    def __init__(
        self,
        device: Device,
        config: TeleopConfig = TeleopConfig(),
        workspace: Workspace = Workspace(),
        arm: ArmLimits = FR3,
    ):
        self.config, self._device, self._arm = config, device, arm
        self.engaged, self.gives_back, self.trouble = False, False, "no input yet"
        self._low, self._high = np.array(workspace.low) + _EDGE, np.array(workspace.high) - _EDGE
        self._wish, self._input_at, self._buttons = np.zeros(6), -np.inf, set()
        # the last message, and since when it is the same
        self._told, self._changed_at = None, -np.inf
        # why it may not engage; empty when it may
        self._bar = "clutch held from the start: let go of it"
        self._reference: np.ndarray | None = None  # (7,) [rad]
        self._width = OPEN_WIDTH
        self._T, self._twist, self._at = np.eye(4), np.zeros(6), -np.inf
        self._planned = np.zeros(6), -np.inf  # wish of the last plan, and when it was told
        self._leader: np.ndarray | None = None

    # ---- what comes in
    # ------------------------------------------------------------------------------

    def joy(self, axes, buttons, now: float) -> None:
        """Take a Joy message's axes and buttons. One that does not fit the device is as good as
        none.
        """
        d, c = self._device, self.config
        if misfit := d.misfit(axes, buttons):
            self._fail(misfit)
            return
        pressed = {i for i, value in enumerate(buttons) if value}
        if (told := (*axes, *pressed)) != self._told:
            self._told, self._changed_at = told, now
        self._edges(pressed - self._buttons)
        self._buttons, self._input_at = pressed, now
        if d.clutch not in pressed:
            self._bar, self.trouble = d.away_from_rest(axes, c.deadband), ""
        elif self._bar:
            self.trouble = self._bar
        self._clutch(d.clutch in pressed and not self._bar)
        if self.engaged and now - self._changed_at > c.unchanged:
            self._fail(
                f"nothing of the device changed for {c.unchanged:g} s (out of range?): let go of"
                " the clutch"
            )
        raw = d.deflection(axes)
        share = np.sign(raw) * np.maximum(0.0, np.abs(raw) - c.deadband) / (1.0 - c.deadband)
        self._wish = share * np.repeat([c.speed, c.turn_speed], 3) if self.engaged else np.zeros(6)

    def leader(self, q: np.ndarray, width: float | None, now: float) -> None:
        """Take the joints (7,) [rad] of a leader arm and the opening [m] of its handle, if it has
        one.
        """
        q = np.asarray(q, float)
        if q.shape != (7,) or not np.all(np.isfinite(q)):
            self._fail("leader: seven finite joints wanted")
            return
        self._input_at, c = now, self.config
        most = c.leader_gap if self.engaged else c.leader_near
        if misfit := leader_misfit(q, self._arm, self._reference, most):
            self._fail(misfit)
            return
        if width is not None and not -0.01 <= width <= OPEN_WIDTH + 0.01:
            self._fail(f"leader: the opening reads {width:g}, 0 to {OPEN_WIDTH} m is wanted")
            return
        self._leader, self.trouble = q, ""
        if width is not None and self.engaged:
            self._width = OPEN_WIDTH if width > OPEN_WIDTH / 2 else 0.0

    def engage(self, on: bool) -> str:
        """The clutch of a device that has none: a leader arm is engaged by its operator's word. Why
        not, or empty.
        """
        unsent = "the gate sends nothing yet: gate/arm" if self._reference is None else ""
        reason = (self.trouble or unsent) if on else ""
        self._clutch(on and not reason)
        return reason

    def rivals(self, publishers: int) -> None:
        """Two devices on one topic: neither is obeyed."""
        if publishers > 1:
            self._fail(f"{publishers} publishers of the input: one operator at a time")

    def reference(self, q: np.ndarray, width: float) -> None:
        """What the gate last sent: joints (7,) [rad] and gripper width [m]."""
        self._reference = np.asarray(q, float)
        if not self.engaged:
            self._width = float(width)

    def _fail(self, trouble: str) -> None:
        self.trouble = self._bar = trouble
        self._clutch(False)
        self._wish = np.zeros(6)

    def _clutch(self, on: bool) -> None:
        self.engaged = on and self._reference is not None

    def _edges(self, new: set[int]) -> None:
        d = self._device
        self.gives_back = d.give_back is not None and d.give_back in new
        if not self.engaged:
            return
        if d.close in new or d.open in new:
            toggled = OPEN_WIDTH if self._width < OPEN_WIDTH / 2 else 0.0
            self._width = toggled if d.close == d.open else 0.0 if d.close in new else OPEN_WIDTH

    # ---- what goes out
    # ------------------------------------------------------------------------------

    def plan(self, stamp: int, now: float) -> ActionChunk | None:
        """The plan of this moment, observed at ``stamp`` [ns]; None before the gate has sent
        anything.

        While nothing is asked for it stays where the reference is, so that arming the gate moves
        nothing.
        """
        if self._reference is None:
            return None
        if now - self._input_at > self.config.timeout and (self.engaged or not self.trouble):
            self._fail("input stale")
        if self._leader is not None:
            return self._after_leader(stamp, now)
        resting = not np.any(self._twist)
        if resting and (not np.any(self._wish) or now - self._at > 2 * self.config.period):
            self._T, self._at, self._planned = fk(self._reference), now, (np.zeros(6), -np.inf)
            return self._stay(stamp)
        # up to now the arm went the way of the last plan: what was asked since counts from now on,
        # or it turns back
        self._T, self._twist = self._carry((self._T, self._twist), self._at, now, *self._planned)[
            -1
        ]
        self._lead()
        self._planned = self._wish, self._input_at
        rows = self._carry(
            (self._T, self._twist), now, now + self.config.rows * self.config.dt, *self._planned
        )
        every = round(self.config.dt / _STEP)
        poses = to_rows(np.array([T for T, _ in rows[every::every]]), self._width)
        self._at = now
        try:
            q = solve(poses, self._reference, arm=self._arm)
        except Unreachable as error:
            self._T, self._twist, self.trouble = (
                fk(self._reference),
                np.zeros(6),
                f"out of reach: {error}",
            )
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

    def _carry(self, start, begin: float, end: float, wish: np.ndarray, wished_at: float) -> list:
        """Pose and twist every 10 ms from ``begin`` to ``end``: towards the wish until it is too
        old, then to rest.
        """
        c, (T, twist), states = self.config, start, [start]
        slew = np.repeat([c.acceleration, c.turn_acceleration], 3) * _STEP
        for k in range(max(0, round((end - begin) / _STEP))):
            towards = wish if begin + k * _STEP - wished_at < c.timeout else np.zeros(6)
            twist = twist + np.clip(towards - twist, -slew, slew)
            T = T.copy()
            # where it is outside the workspace it may come back, and go no further out
            at = T[:3, 3]
            T[:3, 3] = np.clip(
                at + twist[:3] * _STEP, np.minimum(at, self._low), np.maximum(at, self._high)
            )
            T[:3, :3] = Rotation.from_rotvec(twist[3:] * _STEP).as_matrix() @ T[:3, :3]
            states.append((T, twist))
        return states

    def _lead(self) -> None:
        """Pull the target back to where it is at most ``most_lead`` ahead of the arm."""
        most, T_now = self.config.most_lead, fk(self._reference)
        gap = pose_error(T_now, self._T)
        shift, turn = np.linalg.norm(gap[:3]), np.linalg.norm(gap[3:])
        T = self._T.copy()
        if shift > most:
            T[:3, 3] = T_now[:3, 3] + gap[:3] * most / shift
        if turn > 5 * most:
            T[:3, :3] = Rotation.from_rotvec(gap[3:] * 5 * most / turn).as_matrix() @ T_now[:3, :3]
        self._T = T

    def _after_leader(self, stamp: int, now: float) -> ActionChunk:
        """Joint by joint towards the leader, no faster than ``leader_speed``; still once its word
        is too old.
        """
        if not self.engaged:
            return self._stay(stamp)
        c = self.config
        times = c.dt * np.arange(1, c.rows + 1)
        moving = np.minimum(times, max(0.0, self._input_at + c.timeout - now))[:, None]
        gap = self._leader - self._reference
        q = self._reference + np.clip(gap, -c.leader_speed * moving, c.leader_speed * moving)
        return ActionChunk(stamp, self._inside(q), np.full(c.rows, self._width), c.dt)


AHEAD = 20_000_000  # [ns] a plan may be stamped later than now: two clocks of one machine


class Authority:
    """Whose plans go to the gate: the policy's or the operator's, never both; ids only ever
    rise.
    """

    def __init__(self, holder: str):
        self.holder, self.last = holder, 0

    def give(self, to: str, now: int) -> None:
        """Hand over at ``now`` [ns]. The gate blends into the next plan, whoever made it."""
        self.holder, self.last = to, min(self.last, now)  # should the clock have been set back

    def passes(self, source: str, plan: int, now: int) -> bool:
        """Whether this plan goes on to the gate; one from the future would keep all later ones
        out.
        """
        if source != self.holder or not self.last < plan <= now + AHEAD:
            return False
        self.last = plan
        return True
