"""An operator's device that goes away or is not what was assumed, and two that want the arm at
once.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from benchmarks.gate.simulated_arm import SimulatedArm
from benchmarks.gate.trials import FaultOutcome, clean
from gwm_core.control.devices import DEVICES
from gwm_core.control.teleop import Teleop, TeleopConfig
from gwm_core.geometry.kinematics import fk, fk_jacobian

JOY = 0.02  # [s] between messages of a device
PAD = DEVICES["gamepad"]
ELSEWHERE = tuple(axis[0] for axis in PAD.axes if axis is not None)
WATCHED = 120  # periods
SETTLES = 0.002  # [m] back from the farthest point; at the rival's speed the tool would go 150 mm
SLOWER = 0.98  # share of the speed at the fault, below which the arm counts as slowing down
TREMOR = 0.01  # of full deflection: a hand is never quite still
# [s] until the tool slows down when a driver repeats its last message
REPEATED = TeleopConfig().unchanged + 0.25


class SimulatedHand:
    """A hand that pushes a gamepad along one axis of the base with the clutch held, or holds
    nothing.
    """

    def __init__(self, axis: int, sign: float, begin: float):
        self.next, self.axes, self.buttons = begin, np.zeros(8), np.zeros(12, int)
        index, positive = PAD.axes[axis]
        self.axes[index] = sign * positive
        # the other way of a stick
        self._trembles = np.full(8, TREMOR) * (np.arange(8) == (index + 1) % 2)

    def tell(self, teleop: Teleop) -> None:
        """One message."""
        teleop.joy(self.axes, self.buttons, self.next)
        self.axes, self._trembles = self.axes + self._trembles, -self._trembles
        self.next += JOY

    def vanish(self) -> None:
        """Out of range: the driver repeats the last message."""
        self._trembles = np.zeros(8)

    def squeeze(self, on: bool) -> None:
        """The clutch."""
        self.buttons[PAD.clutch] = on


class OperatedArm:
    """A rig with an operator in the policy's place; everything at a random phase."""

    def __init__(self, rng):
        self.rig, self.teleop = (
            SimulatedArm(phases=(rng.uniform(0, 0.02), rng.uniform(0, 0.01))),
            Teleop(PAD),
        )
        self.rig.start()
        self.axis, self.sign = int(rng.integers(3)), float(rng.choice([-1.0, 1.0]))
        self.hands = [SimulatedHand(self.axis, self.sign, self.rig.now + rng.uniform(0, JOY))]
        # joints (7,) that a leader arm says, instead of hands
        self.leader: np.ndarray | None = None
        self._next_plan = self.rig.now + rng.uniform(0, self.teleop.config.period)

    def push(self, seconds: float) -> None:
        """Let go of the pad for a moment, then push it with the clutch held."""
        hand = self.hands[0]
        pushed, hand.axes = hand.axes, np.zeros(8)
        hand.squeeze(False)
        self.run(0.1)
        hand.axes = pushed
        hand.squeeze(True)
        self.run(seconds)

    def run(self, seconds: float, watch: Callable[[], None] = lambda: None) -> None:
        """Many periods; ``watch`` is called after each."""
        for _ in range(round(seconds / self.rig.dt)):
            self.rig.tick()
            self._periods()
            watch()

    def _periods(self) -> None:
        rig, teleop = self.rig, self.teleop
        teleop.reference(rig.sent[-1].reference.q, rig.sent[-1].width)
        for hand in self.hands:
            while hand.next <= rig.now:
                hand.tell(teleop)
        if self.leader is not None:
            teleop.leader(self.leader, None, rig.now)
        while self._next_plan <= rig.now:
            teleop.rivals(len(self.hands))  # as the node does before each plan
            chunk = teleop.make_chunk(rig.stamp(rig.now - self._next_plan), self._next_plan)
            rig.offer(chunk, rig.now - self._next_plan)
            self._next_plan += teleop.config.period

    def velocity(self) -> np.ndarray:
        """Of the TCP by the last command (3,) [m/s]."""
        q, dq, _ = self.rig.sent[-1].reference
        return fk_jacobian(q)[1][:3] @ dq

    def until_slower(self, fault: float, watched: float = WATCHED) -> float:
        """Seconds from ``fault`` until the TCP is slower, for good."""
        cruise, speeds = np.linalg.norm(self.velocity()), []
        self.run(
            watched * self.rig.dt,
            lambda: speeds.append((self.rig.now, np.linalg.norm(self.velocity()))),
        )
        return (
            max((at for at, speed in speeds if speed > SLOWER * cruise), default=fault)
            + self.rig.dt
            - fault
        )

    def ignores(self, trouble: str) -> FaultOutcome:
        """For a second the arm does not move at all, for that reason."""
        where = self.rig.q.copy()
        self.run(1.0)
        still = max(
            np.abs(command.reference.q - where).max()
            for command in self.rig.sent[-round(1.0 / self.rig.dt) :]
        )
        return FaultOutcome(
            0.0, bool(still < 1e-6 and trouble in self.teleop.trouble and clean(self.rig))
        )

    def rests(self, trouble: str) -> bool:
        """At rest for that reason, and it stays there until the clutch was let go of; then it moves
        again.
        """
        self.run(0.3)
        where, named = self.rig.q.copy(), trouble in self.teleop.trouble
        self.hands = [SimulatedHand(self.axis, -self.sign, self.rig.now)]
        self.hands[0].squeeze(True)
        self.run(0.5)
        stays = bool(np.abs(where - self.rig.q).max() < 1e-6)
        self.push(0.5)
        return bool(named and stays and np.linalg.norm(self.velocity()) > 0.05 and clean(self.rig))


def pushing(rng, most: float = 1.0) -> OperatedArm:
    """A desk whose operator has pushed for half a second to ``most`` [s]."""
    desk = OperatedArm(rng)
    desk.push(rng.uniform(0.5, most))
    return desk


def device_killed(rng) -> FaultOutcome:
    """28: the process that publishes the device's messages is gone."""
    desk = pushing(rng)
    fault, desk.hands = desk.rig.now, []
    return FaultOutcome(desk.until_slower(fault), desk.rests("input stale"))


def pad_out_of_range(rng) -> FaultOutcome:
    """28: a wireless pad is out of range, and its driver goes on with the last message, newly
    stamped.
    """
    desk = pushing(rng, 0.6)
    fault = desk.rig.now
    desk.hands[0].vanish()
    return FaultOutcome(
        desk.until_slower(fault, 2 * WATCHED), desk.rests("nothing of the device changed")
    )


def axes_elsewhere(rng) -> FaultOutcome:
    """28: triggers that rest at full deflection are where sticks were assumed; seconds until the
    arm has moved.
    """
    desk = OperatedArm(rng)
    hand = desk.hands[0]
    hand.axes = np.zeros(8)
    hand.axes[rng.choice(ELSEWHERE)] = rng.choice([-1.0, 1.0])
    desk.run(0.1)
    hand.squeeze(True)
    return desk.ignores("not at rest")


def leader_far(rng) -> FaultOutcome:
    """28: a leader arm is taken that is far off or speaks something else; or it leaps while it is
    followed.
    """
    desk = OperatedArm(rng)
    desk.hands, home = [], desk.rig.q.copy()
    wrong = [
        home + 2 * np.pi * np.eye(7)[rng.integers(7)],
        np.rad2deg(home),
        np.mod(home, 2 * np.pi),
        np.zeros(7),
        home + 1.2 * np.eye(7)[rng.integers(7)] * rng.choice([-1.0, 1.0]),
    ][rng.integers(5)]
    if rng.integers(2):
        desk.leader = home
        desk.run(0.1)
        desk.teleop.engage(True)
        desk.run(0.3)
    desk.leader = wrong
    desk.run(0.1)
    desk.teleop.engage(True)
    return desk.ignores("leader: joint")


def two_devices(rng) -> FaultOutcome:
    """29: a second device pushes the other way, clutch held; not one command goes its way, and
    neither is obeyed.
    """
    desk = pushing(rng)
    fault = desk.rig.now
    rival = SimulatedHand(desk.axis, -desk.sign, fault + rng.uniform(0, JOY))
    rival.squeeze(True)
    desk.hands.append(rival)
    seconds = desk.until_slower(fault)
    way = (
        fk(np.array([c.reference.q for c in desk.rig.sent[-WATCHED:]]))[:, desk.axis, 3] * desk.sign
    )
    return FaultOutcome(
        seconds, bool(way.max() - way[-1] < SETTLES) and desk.rests("one operator at a time")
    )
