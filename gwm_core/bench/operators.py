"""An operator's device that goes away, and two that want the arm at once."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from gwm_core.bench.rig import Rig
from gwm_core.bench.staging import Outcome, clean
from gwm_core.control.devices import DEVICES
from gwm_core.control.kinematics import fk, fk_jacobian
from gwm_core.control.teleop import Teleop

JOY = 0.02  # [s] between messages of a device
PAD = DEVICES["gamepad"]
WATCHED = 120  # periods
SETTLES = 0.002  # [m] back from the farthest point; at the rival's speed the tool would go 150 mm
SLOWER = 0.98  # share of the speed at the fault, below which the arm counts as slowing down


class Hand:
    """A hand that pushes a gamepad along one axis of the base with the clutch held, or holds nothing."""

    def __init__(self, axis: int, sign: float, begin: float):
        self.next, self.axes, self.buttons = begin, np.zeros(8), np.zeros(12, int)
        index, positive = PAD.axes[axis]
        self.axes[index] = sign * positive

    def squeeze(self, on: bool) -> None:
        """The clutch."""
        self.buttons[PAD.clutch] = on


class Desk:
    """A rig with an operator in the policy's place; everything at a random phase."""

    def __init__(self, rng):
        self.rig, self.teleop = Rig(phases=(rng.uniform(0, 0.02), rng.uniform(0, 0.01))), Teleop(PAD)
        self.rig.start()
        self.axis, self.sign = int(rng.integers(3)), float(rng.choice([-1.0, 1.0]))
        self.hands = [Hand(self.axis, self.sign, self.rig.now + rng.uniform(0, JOY))]
        self._next_plan = self.rig.now + rng.uniform(0, self.teleop.config.period)
        self.run(0.1)
        self.hands[0].squeeze(True)
        self.run(rng.uniform(0.5, 1.0))

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
                teleop.joy(hand.axes, hand.buttons, hand.next)
                hand.next += JOY
        while self._next_plan <= rig.now:
            teleop.rivals(len(self.hands))  # as the node does before each plan
            chunk = teleop.plan(rig.stamp(rig.now - self._next_plan), self._next_plan)
            rig.offer(chunk, rig.now - self._next_plan)
            self._next_plan += teleop.config.period

    def velocity(self) -> np.ndarray:
        """Of the TCP by the last command (3,) [m/s]."""
        q, dq, _ = self.rig.sent[-1].reference
        return fk_jacobian(q)[1][:3] @ dq

    def until_slower(self, fault: float) -> float:
        """Seconds from ``fault`` until the TCP is slower, for good."""
        cruise, speeds = np.linalg.norm(self.velocity()), []
        self.run(WATCHED * self.rig.dt, lambda: speeds.append((self.rig.now, np.linalg.norm(self.velocity()))))
        return max((at for at, speed in speeds if speed > SLOWER * cruise), default=fault) + self.rig.dt - fault

    def rests(self, trouble: str) -> bool:
        """At rest for that reason, and it stays there until the clutch was let go of; then it moves again."""
        self.run(0.3)
        where, named = self.rig.q.copy(), trouble in self.teleop.trouble
        self.hands = [Hand(self.axis, -self.sign, self.rig.now)]
        self.hands[0].squeeze(True)
        self.run(0.5)
        stays = bool(np.abs(where - self.rig.q).max() < 1e-6)
        self.hands[0].squeeze(False)
        self.run(0.1)
        self.hands[0].squeeze(True)
        self.run(0.5)
        return named and stays and np.linalg.norm(self.velocity()) > 0.05 and clean(self.rig)


def device_killed(rng) -> Outcome:
    """28: the process that publishes the device's messages is gone."""
    desk = Desk(rng)
    fault, desk.hands = desk.rig.now, []
    return Outcome(desk.until_slower(fault), desk.rests("input stale"))


def two_devices(rng) -> Outcome:
    """29: a second device pushes the other way, clutch held; not one command goes its way, and neither is obeyed."""
    desk = Desk(rng)
    fault = desk.rig.now
    rival = Hand(desk.axis, -desk.sign, fault + rng.uniform(0, JOY))
    rival.squeeze(True)
    desk.hands.append(rival)
    seconds = desk.until_slower(fault)
    way = fk(np.array([c.reference.q for c in desk.rig.sent[-WATCHED:]]))[:, desk.axis, 3] * desk.sign
    return Outcome(seconds, bool(way.max() - way[-1] < SETTLES) and desk.rests("one operator at a time"))
