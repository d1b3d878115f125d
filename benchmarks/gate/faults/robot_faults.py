"""Faults of the robot behind the gate: silence, recoveries that hang or fail, a controller set up
otherwise.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from benchmarks.gate.trials import FaultOutcome, Scenario, clean, give_plan, moving
from gwm_core.control.loop_timing import CommandSchedule
from gwm_core.control.recovery import (
    BROADCASTERS,
    CLEAR,
    CONTROL,
    HARDWARE,
    MODES,
    PLACE,
    SENSE,
    SILENCE,
    STEP_TIME,
    RobotMonitor,
    to_switch,
)
from gwm_core.control.stop_trajectory import Reference, StopPlanner
from gwm_core.gate_status import State
from gwm_core.geometry.limits import FR3
from gwm_core.sim.simulator import Simulator

JOINTS, STATE = BROADCASTERS
ARM = "arm"  # the controller
TELLS = 0.02  # [s] how often the robot tells its state
LOOKS = 0.1  # [s] how often the gate's process looks after it


class Drivers:
    """Hardware, both broadcasters and a controller, as ros2_control keeps them. Owns no clock.

    Args:
        place: what the step ``PLACE`` does; returns "" or why it cannot.
        stopped: called with the cause when the robot follows no command.

    ``hangs`` and ``fails`` hold steps of the recovery that are never answered, or refused.
    """

    def __init__(
        self, place: Callable[[], str], stopped: Callable[[str], None], phase: float = 0.0
    ):
        self.states = dict.fromkeys((JOINTS, STATE, ARM), "active")
        self.mode, self.hangs, self.fails, self.log = MODES.index("move"), set(), set(), []
        self.monitor = RobotMonitor(self._carry_out, stopped)
        self.finished = 0
        self._place, self._tell_at, self._look_at = place, 0.0, phase

    def reflex(self) -> None:
        """The hardware's error deactivates all that is on it, so nothing is told any more."""
        self.mode = MODES.index("reflex")
        self.states = dict.fromkeys(self.states, "inactive")

    def step(self, now: float) -> None:
        """Tell the robot's state and look after it, when that is due."""
        if now >= self._tell_at and self.states[STATE] == "active":
            self._tell_at = now + TELLS
            self.monitor.receive(self.mode, now)
        if now >= self._look_at:
            self._look_at = now + LOOKS
            self.monitor.tick(now)

    def reset(self, now: float, finished: Callable[[], object] = lambda: None) -> str:
        """What gate/reset does; returns "" or why not."""

        def over() -> None:
            self.finished += 1
            finished()

        return self.monitor.recover(now, over)

    def _carry_out(self, step: str, answer: Callable[[str], None]) -> None:
        self.log.append(step)
        if step in self.hangs:
            return
        if step in self.fails:
            answer("refused by the robot")
        elif step == PLACE:
            answer(self._place())
        elif step in (SENSE, CONTROL):
            wanted, error = to_switch(self.states, BROADCASTERS if step == SENSE else (ARM,), True)
            answer(error or self.switch(wanted))
        else:
            if step == CLEAR:
                self.mode = MODES.index("idle")
            answer("")

    def switch(self, names: list[str]) -> str:
        """Activate controllers strictly: one that is active already is refused, as by
        controller_manager.
        """
        active = [name for name in names if self.states[name] == "active"]
        if not active:
            self.states |= dict.fromkeys(names, "active")
        return f"{', '.join(active)} active already" if active else ""


class RecoveringArm:
    """A gate in motion with the drivers behind it."""

    def __init__(self, rng: np.random.Generator):
        self.rig = moving(rng)
        self.drivers = Drivers(
            self._place, self.rig.gate.fault, self.rig.now + rng.uniform(0, LOOKS)
        )
        self.until(lambda: self.trouble == "", 0.2)

    @property
    def trouble(self) -> str:
        """What gate/status says of the robot."""
        return self.drivers.monitor.trouble(self.rig.now)

    def until(self, done: Callable[[], bool], limit: float) -> float:
        """Periods until ``done()``; the time they took [s], inf when it does not come true within
        ``limit``.
        """

        def over() -> bool:
            self.drivers.step(self.rig.now)
            self.rig.measures = self.drivers.states[JOINTS] == "active"
            return done()

        return self.rig.run_until(over, limit)

    def reflex(self) -> bool:
        """The robot stops and falls silent; whether that became a fault."""
        self.rig.obeys = False
        self.drivers.reflex()
        faulty = np.isfinite(self.until(lambda: self.rig.gate.state is State.FAULT, 2.0))
        return faulty and self.rig.gate.arm(self.rig.now) != ""

    def reset(self) -> str:
        """What gate/reset does."""
        return self.drivers.reset(self.rig.now, self.rig.gate.reset)

    def comes_back(self, rng: np.random.Generator) -> bool:
        """Pushed by hand, recovered and armed: all is active, and the first command is where the
        arm is.
        """
        rig = self.rig
        rig.q = rig.q + rng.uniform(-0.02, 0.02, 7)
        if self.reset() or not np.isfinite(
            self.until(lambda: rig.gate.state is State.DISARMED, 3.0)
        ):
            return False
        rig.obeys = True
        armed = rig.gate.arm(rig.now) == "" and set(self.drivers.states.values()) == {"active"}
        where = rig.q.copy()
        first = rig.tick()
        return bool(
            armed
            and first.reference_reset
            and np.abs(first.reference.q - where).max() <= 1e-3
            and clean(rig)
        )

    def _place(self) -> str:
        return (
            "" if self.rig.gate.rest_position(self.rig.now) is not None else "no fresh joint state"
        )


def silent(rng) -> FaultOutcome:
    """33: the robot's state is told no more while a plan is followed; joints still come."""
    robot = RecoveringArm(rng)
    give_plan(rng, robot.rig)
    fault = robot.rig.now
    robot.drivers.states[STATE] = "inactive"
    robot.until(lambda: robot.rig.gate.state is State.FAULT, 2.0)
    robot.rig.tick()
    latched = robot.rig.log[-1] is not None and robot.rig.log[-1].reference_reset
    named = robot.rig.gate.cause.startswith("robot: silent") and "silent" in robot.trouble
    return FaultOutcome(robot.rig.now - fault, latched and named and clean(robot.rig))


def recovery_hangs(rng) -> FaultOutcome:
    """34: a step of the recovery is never answered: it is named, and the next gate/reset
    recovers.
    """
    robot, step = RecoveringArm(rng), str(rng.choice([CLEAR, HARDWARE, SENSE, CONTROL]))
    ready = robot.reflex()
    robot.drivers.hangs = {step}
    ready = ready and robot.reset() == ""
    seconds = robot.until(lambda: "no answer" in robot.trouble, 2 * STEP_TIME)
    named = robot.trouble.startswith(step) and robot.rig.gate.state is State.FAULT
    robot.drivers.hangs = set()
    return FaultOutcome(seconds, ready and named and robot.comes_back(rng))


def recovery_fails(rng) -> FaultOutcome:
    """34: a step of the recovery is refused: it is named, and the next gate/reset recovers."""
    robot, step = RecoveringArm(rng), str(rng.choice([CLEAR, HARDWARE, SENSE, CONTROL]))
    ready = robot.reflex()
    robot.drivers.fails = {step}
    ready = ready and robot.reset() == ""
    seconds = robot.until(lambda: "refused" in robot.trouble, 2.0)
    named = robot.trouble.startswith(step) and robot.rig.gate.state is State.FAULT
    robot.drivers.fails = set()
    return FaultOutcome(seconds, ready and named and robot.comes_back(rng))


def from_measured(rng) -> FaultOutcome:
    """25: a trajectory controller without ``interpolate_from_desired_state``: seconds of motion
    until it asks for more acceleration than the robot allows, which it never does with it.
    """
    rig = moving(rng)
    rig.run(0.3)
    references = [command.reference for command in rig.sent]
    begun = next(k for k, reference in enumerate(references) if reference.dq.any())
    phases = rng.uniform(0, 0.005, len(references))  # [s] by which the gate is late
    broken, kept = (_too_hard(references, phases, flag) for flag in (False, True))
    return FaultOutcome(broken - begun * rig.dt, np.isinf(kept) and clean(rig))


def _too_hard(references: list[Reference], late: np.ndarray, from_desired: bool) -> float:
    """When [s] the simulated trajectory controller first asks for more than FR3's acceleration;
    inf: never.
    """
    sim, dt = Simulator(), 0.01
    brake, schedule, step = StopPlanner(dt), CommandSchedule(dt), sim.model.opt.timestep
    sim.teleport(references[0].q)
    for k, reference in enumerate(references):
        states = [reference, *brake.tail(reference)]
        due = schedule.next(round(1e9 * (1.0 + k * dt + late[k]))) * 1e-9 - 1.0 - k * dt
        sim.follow(
            due + dt * np.arange(1, len(states) + 1), *map(np.array, zip(*states)), from_desired
        )
        for _ in range(round(dt / step)):
            if np.any(np.abs(sim.target[2]) > FR3.ddq_max):
                return k * dt
            sim.step(step)
    return np.inf


ROWS = [
    Scenario(
        25,
        "trajectory controller begins at the measured state: until it asks too much",
        0.5,
        from_measured,
    ),
    Scenario(33, "robot state silent in motion: to the fault", SILENCE + LOOKS + 0.03, silent),
    Scenario(
        34, "recovery step never answered: until that is named", STEP_TIME + 0.7, recovery_hangs
    ),
    Scenario(
        34, "recovery step refused, then tried again: until that is named", 0.7, recovery_fails
    ),
]
