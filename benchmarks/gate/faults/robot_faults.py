"""Faults of the robot: silence, recoveries that hang or fail, a controller set up differently."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from benchmarks.gate.trials import FaultOutcome, Scenario, give_chunk, moving_arm, no_violations
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
STATE_PERIOD = 0.02  # [s] of the robot's state
TICK_PERIOD = 0.1  # [s] in which the gate's process looks at it


class Drivers:
    """Hardware, both broadcasters and a controller, as ros2_control runs them. Reads no clock.

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
        self._place, self._state_at, self._tick_at = place, 0.0, phase

    def reflex(self) -> None:
        """The hardware's error deactivates everything on it, so nothing is published any more."""
        self.mode = MODES.index("reflex")
        self.states = dict.fromkeys(self.states, "inactive")

    def step(self, now: float) -> None:
        """Publish the robot's state and tick its monitor, when due."""
        if now >= self._state_at and self.states[STATE] == "active":
            self._state_at = now + STATE_PERIOD
            self.monitor.receive(self.mode, now)
        if now >= self._tick_at:
            self._tick_at = now + TICK_PERIOD
            self.monitor.tick(now)

    def reset(self, now: float, finished: Callable[[], object] = lambda: None) -> str:
        """Do what gate/reset does. Returns "" or why not."""

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
        """Activate controllers strictly: an active one is refused, as by controller_manager."""
        active = [name for name in names if self.states[name] == "active"]
        if not active:
            self.states |= dict.fromkeys(names, "active")
        return f"{', '.join(active)} active already" if active else ""


class RecoveringArm:
    """A gate in motion with the drivers behind it."""

    def __init__(self, rng: np.random.Generator):
        self.arm = moving_arm(rng)
        self.drivers = Drivers(
            self._place, self.arm.gate.fault, self.arm.now + rng.uniform(0, TICK_PERIOD)
        )
        self.until(lambda: self.trouble == "", 0.2)

    @property
    def trouble(self) -> str:
        """The robot's trouble, as in gate/status."""
        return self.drivers.monitor.trouble(self.arm.now)

    def until(self, done: Callable[[], bool], limit: float) -> float:
        """Run until ``done()``. Returns the time [s] it took; inf when it exceeds ``limit``."""

        def over() -> bool:
            self.drivers.step(self.arm.now)
            self.arm.sends_joints = self.drivers.states[JOINTS] == "active"
            return done()

        return self.arm.run_until(over, limit)

    def reflex(self) -> bool:
        """Stop the robot and silence it. Returns whether that became a fault."""
        self.arm.follows = False
        self.drivers.reflex()
        faulty = np.isfinite(self.until(lambda: self.arm.gate.state is State.FAULT, 2.0))
        return faulty and self.arm.gate.arm(self.arm.now) != ""

    def reset(self) -> str:
        """Do what gate/reset does."""
        return self.drivers.reset(self.arm.now, self.arm.gate.reset)

    def comes_back(self, rng: np.random.Generator) -> bool:
        """Whether, pushed by hand, recovered and armed, it starts from where the arm is."""
        arm = self.arm
        arm.q = arm.q + rng.uniform(-0.02, 0.02, 7)
        if self.reset() or not np.isfinite(
            self.until(lambda: arm.gate.state is State.DISARMED, 3.0)
        ):
            return False
        arm.follows = True
        armed = arm.gate.arm(arm.now) == "" and set(self.drivers.states.values()) == {"active"}
        where = arm.q.copy()
        first = arm.tick()
        return bool(
            armed
            and first.reference_reset
            and np.abs(first.reference.q - where).max() <= 1e-3
            and no_violations(arm)
        )

    def _place(self) -> str:
        return (
            "" if self.arm.gate.rest_position(self.arm.now) is not None else "no fresh joint state"
        )


def silent(rng) -> FaultOutcome:
    """33: the robot's state ends while a chunk is followed; joint states still come."""
    robot = RecoveringArm(rng)
    give_chunk(rng, robot.arm)
    fault = robot.arm.now
    robot.drivers.states[STATE] = "inactive"
    robot.until(lambda: robot.arm.gate.state is State.FAULT, 2.0)
    robot.arm.tick()
    faulted = robot.arm.log[-1] is not None and robot.arm.log[-1].reference_reset
    named = robot.arm.gate.cause.startswith("robot: silent") and "silent" in robot.trouble
    return FaultOutcome(robot.arm.now - fault, faulted and named and no_violations(robot.arm))


def recovery_hangs(rng) -> FaultOutcome:
    """34: a step of the recovery hangs: it is named, and the next gate/reset recovers."""
    robot, step = RecoveringArm(rng), str(rng.choice([CLEAR, HARDWARE, SENSE, CONTROL]))
    ready = robot.reflex()
    robot.drivers.hangs = {step}
    ready = ready and robot.reset() == ""
    seconds = robot.until(lambda: "no answer" in robot.trouble, 2 * STEP_TIME)
    named = robot.trouble.startswith(step) and robot.arm.gate.state is State.FAULT
    robot.drivers.hangs = set()
    return FaultOutcome(seconds, ready and named and robot.comes_back(rng))


def recovery_fails(rng) -> FaultOutcome:
    """34: a step of the recovery is refused: it is named, and the next gate/reset recovers."""
    robot, step = RecoveringArm(rng), str(rng.choice([CLEAR, HARDWARE, SENSE, CONTROL]))
    ready = robot.reflex()
    robot.drivers.fails = {step}
    ready = ready and robot.reset() == ""
    seconds = robot.until(lambda: "refused" in robot.trouble, 2.0)
    named = robot.trouble.startswith(step) and robot.arm.gate.state is State.FAULT
    robot.drivers.fails = set()
    return FaultOutcome(seconds, ready and named and robot.comes_back(rng))


def from_measured(rng) -> FaultOutcome:
    """25: a trajectory controller without ``interpolate_from_desired_state``: seconds of motion
    until it asks for more acceleration than the robot allows, which it never does with it.
    """
    arm = moving_arm(rng)
    arm.run(0.3)
    references = [command.reference for command in arm.sent]
    begun = next(k for k, reference in enumerate(references) if reference.dq.any())
    phases = rng.uniform(0, 0.005, len(references))  # [s] by which the gate is late
    broken, kept = (_too_hard(references, phases, flag) for flag in (False, True))
    return FaultOutcome(broken - begun * arm.dt, np.isinf(kept) and no_violations(arm))


def _too_hard(references: list[Reference], late: np.ndarray, from_desired: bool) -> float:
    """When [s] the simulated trajectory controller first asks for more than FR3's acceleration;
    inf: never.
    """
    sim, dt = Simulator(), 0.01
    stops, schedule, step = StopPlanner(dt), CommandSchedule(dt), sim.model.opt.timestep
    sim.teleport(references[0].q)
    for k, reference in enumerate(references):
        states = [reference, *stops.tail(reference)]
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
    Scenario(
        33, "robot state silent in motion: to the fault", SILENCE + TICK_PERIOD + 0.03, silent
    ),
    Scenario(
        34, "recovery step never answered: until that is named", STEP_TIME + 0.7, recovery_hangs
    ),
    Scenario(
        34, "recovery step refused, then tried again: until that is named", 0.7, recovery_fails
    ),
]
