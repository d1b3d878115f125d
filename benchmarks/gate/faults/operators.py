"""An operator's device that goes away or is another one than assumed, and two at once."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from benchmarks.gate.simulated_arm import SimulatedArm
from benchmarks.gate.trials import FaultOutcome, no_violations
from gwm_core.control.devices import DEVICES
from gwm_core.control.teleop import Teleop, TeleopConfig
from gwm_core.geometry.kinematics import fk, fk_jacobian

JOY = 0.02  # [s] between messages of a device
PAD = DEVICES["gamepad"]
ELSEWHERE = tuple(axis[0] for axis in PAD.axes if axis is not None)
WATCHED = 120  # periods
SETTLES = 0.002  # [m] back from the farthest point; the rival's speed would be 150 mm
SLOWER = 0.98  # fraction of the speed at the fault, below which the arm counts as slower
TREMOR = 0.01  # of full deflection: no hand holds perfectly still
# [s] until the tool slows down when a driver repeats its last message
REPEATED = TeleopConfig().unchanged + 0.25


class SimulatedHand:
    """A hand that pushes a gamepad along one axis of the base."""

    def __init__(self, axis: int, sign: float, begin: float):
        self.next, self.axes, self.buttons = begin, np.zeros(8), np.zeros(12, int)
        index, positive = PAD.axes[axis]
        self.axes[index] = sign * positive
        # the other way of a stick
        self._trembles = np.full(8, TREMOR) * (np.arange(8) == (index + 1) % 2)

    def send(self, teleop: Teleop) -> None:
        """Send one message."""
        teleop.joy(self.axes, self.buttons, self.next)
        self.axes, self._trembles = self.axes + self._trembles, -self._trembles
        self.next += JOY

    def go_out_of_range(self) -> None:
        """From now on the driver repeats the last message."""
        self._trembles = np.zeros(8)

    def hold_clutch(self, on: bool) -> None:
        """Hold the clutch, or release it."""
        self.buttons[PAD.clutch] = on


class OperatedArm:
    """An arm with an operator in the policy's place; everything at a random phase."""

    def __init__(self, rng):
        self.arm, self.teleop = (
            SimulatedArm(phases=(rng.uniform(0, 0.02), rng.uniform(0, 0.01))),
            Teleop(PAD),
        )
        self.arm.start()
        self.axis, self.sign = int(rng.integers(3)), float(rng.choice([-1.0, 1.0]))
        self.hands = [SimulatedHand(self.axis, self.sign, self.arm.now + rng.uniform(0, JOY))]
        # joints (7,) that a leader arm says, instead of hands
        self.leader: np.ndarray | None = None
        self._next_plan = self.arm.now + rng.uniform(0, self.teleop.config.period)

    def push(self, seconds: float) -> None:
        """Release the pad for a moment, then push it with the clutch held."""
        hand = self.hands[0]
        pushed, hand.axes = hand.axes, np.zeros(8)
        hand.hold_clutch(False)
        self.run(0.1)
        hand.axes = pushed
        hand.hold_clutch(True)
        self.run(seconds)

    def run(self, seconds: float, watch: Callable[[], None] = lambda: None) -> None:
        """Run for many periods; ``watch`` is called after each."""
        for _ in range(round(seconds / self.arm.dt)):
            self.arm.tick()
            self._periods()
            watch()

    def _periods(self) -> None:
        arm, teleop = self.arm, self.teleop
        teleop.reference(arm.sent[-1].reference.q, arm.sent[-1].width, arm.now)
        for hand in self.hands:
            while hand.next <= arm.now:
                hand.send(teleop)
        if self.leader is not None:
            teleop.leader(self.leader, None, arm.now)
        while self._next_plan <= arm.now:
            teleop.rivals(len(self.hands))  # as the node does before each plan
            chunk = teleop.make_chunk(arm.stamp(arm.now - self._next_plan), self._next_plan)
            arm.offer(chunk, arm.now - self._next_plan)
            self._next_plan += teleop.config.period

    def velocity(self) -> np.ndarray:
        """Of the TCP by the last command (3,) [m/s]."""
        q, dq, _ = self.arm.sent[-1].reference
        return fk_jacobian(q)[1][:3] @ dq

    def until_slower(self, fault: float, watched: float = WATCHED) -> float:
        """Seconds from ``fault`` until the TCP stays slower."""
        cruise, speeds = np.linalg.norm(self.velocity()), []
        self.run(
            watched * self.arm.dt,
            lambda: speeds.append((self.arm.now, np.linalg.norm(self.velocity()))),
        )
        return (
            max((at for at, speed in speeds if speed > SLOWER * cruise), default=fault)
            + self.arm.dt
            - fault
        )

    def ignores(self, trouble: str) -> FaultOutcome:
        """Whether the arm does not move at all for a second, for that reason."""
        where = self.arm.q.copy()
        self.run(1.0)
        still = max(
            np.abs(command.reference.q - where).max()
            for command in self.arm.sent[-round(1.0 / self.arm.dt) :]
        )
        return FaultOutcome(
            0.0, bool(still < 1e-6 and trouble in self.teleop.trouble and no_violations(self.arm))
        )

    def rests(self, trouble: str) -> bool:
        """Whether it rests for that reason until the clutch is released, and then moves again."""
        self.run(0.3)
        where, named = self.arm.q.copy(), trouble in self.teleop.trouble
        self.hands = [SimulatedHand(self.axis, -self.sign, self.arm.now)]
        self.hands[0].hold_clutch(True)
        self.run(0.5)
        stays = bool(np.abs(where - self.arm.q).max() < 1e-6)
        self.push(0.5)
        return bool(
            named and stays and np.linalg.norm(self.velocity()) > 0.05 and no_violations(self.arm)
        )


def pushed_arm(rng, longest: float = 1.0) -> OperatedArm:
    """An arm whose operator has pushed for half a second to ``longest`` [s]."""
    operated = OperatedArm(rng)
    operated.push(rng.uniform(0.5, longest))
    return operated


def device_killed(rng) -> FaultOutcome:
    """28: the process that publishes the device's messages is gone."""
    operated = pushed_arm(rng)
    fault, operated.hands = operated.arm.now, []
    return FaultOutcome(operated.until_slower(fault), operated.rests("input stale"))


def pad_out_of_range(rng) -> FaultOutcome:
    """28: a wireless pad is out of range, and its driver repeats the last message."""
    operated = pushed_arm(rng, 0.6)
    fault = operated.arm.now
    operated.hands[0].go_out_of_range()
    return FaultOutcome(
        operated.until_slower(fault, 2 * WATCHED), operated.rests("nothing of the device changed")
    )


def axes_elsewhere(rng) -> FaultOutcome:
    """28: triggers that rest at full deflection are in the place of sticks; nothing moves."""
    operated = OperatedArm(rng)
    hand = operated.hands[0]
    hand.axes = np.zeros(8)
    hand.axes[rng.choice(ELSEWHERE)] = rng.choice([-1.0, 1.0])
    operated.run(0.1)
    hand.hold_clutch(True)
    return operated.ignores("not at rest")


def leader_far(rng) -> FaultOutcome:
    """28: a leader arm is far off or in other units when engaged, or jumps while followed."""
    operated = OperatedArm(rng)
    operated.hands, home = [], operated.arm.q.copy()
    wrong = [
        home + 2 * np.pi * np.eye(7)[rng.integers(7)],
        np.rad2deg(home),
        np.mod(home, 2 * np.pi),
        np.zeros(7),
        home + 1.2 * np.eye(7)[rng.integers(7)] * rng.choice([-1.0, 1.0]),
    ][rng.integers(5)]
    if rng.integers(2):
        operated.leader = home
        operated.run(0.1)
        operated.teleop.engage(True)
        operated.run(0.3)
    operated.leader = wrong
    operated.run(0.1)
    operated.teleop.engage(True)
    return operated.ignores("leader: joint")


def two_devices(rng) -> FaultOutcome:
    """29: a second device pushes the other way with the clutch held; neither is obeyed."""
    operated = pushed_arm(rng)
    fault = operated.arm.now
    rival = SimulatedHand(operated.axis, -operated.sign, fault + rng.uniform(0, JOY))
    rival.hold_clutch(True)
    operated.hands.append(rival)
    seconds = operated.until_slower(fault)
    way = (
        fk(np.array([c.reference.q for c in operated.arm.sent[-WATCHED:]]))[:, operated.axis, 3]
        * operated.sign
    )
    return FaultOutcome(
        seconds, bool(way.max() - way[-1] < SETTLES) and operated.rests("one operator at a time")
    )
