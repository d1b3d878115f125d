"""Faults of every part between the gate and the arm, at random phases of a motion.

An injection passes when the gate reaches a state whose cause names the fault, no command breaks a
limit, and the arm follows a plan again after one recovery.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from benchmarks.fci.station import Station
from gwm_core.control.recovery import STEP_TIME
from gwm_core.gate_status import State
from gwm_core.geometry.kinematics import fk
from gwm_core.sim.fci.messages import Mode

REST = 0.01  # [m/s] of the TCP
_WINDOW = 20  # measurements over which a speed is computed


@dataclass(frozen=True)
class Outcome:
    """Of one injection."""

    seconds: float  # from the fault to the state that names it
    cause: str  # of that state
    held: bool  # whether all else that was wanted held
    note: str = ""


@dataclass(frozen=True)
class Fault:
    """A row of the table."""

    name: str
    inject: Callable[[Station, np.random.Generator], Outcome]
    causes: tuple[str, ...]  # texts, one of which the cause has
    limit: float  # [s]


def moving(station: Station, rng: np.random.Generator) -> None:
    """Bring the arm into the middle of a plan."""
    follows = station.control.in_control and station.robot_answers
    if station.gate.state is not State.HOLD or not follows:
        station.arm()
    station.offer()
    station.run(rng.uniform(0.3, 0.9))


def _named(station: Station, limit: float) -> tuple[float, str]:
    """Wait for the gate to fault or to hold. Returns the time [s] it took, and the cause."""
    over = (State.FAULT, State.HOLD)
    taken = station.run_until(lambda: station.gate.state in over, limit)
    return taken, station.gate.cause


def gate_killed(station: Station, rng: np.random.Generator) -> Outcome:
    """The references end."""
    moving(station, rng)
    begin, first = time.monotonic(), len(station.measured)
    station.gate_runs = False
    station.run(0.5)
    times, q, _ = zip(*station.measured[first:])
    tcp = fk(np.array(q))[:, :3, 3]
    seconds = np.array(times) - begin
    speed = np.linalg.norm(tcp[_WINDOW:] - tcp[:-_WINDOW], axis=1) / (
        seconds[_WINDOW:] - seconds[:-_WINDOW]
    )
    rest = float(seconds[_WINDOW:][speed > REST].max(initial=0.0))
    travel = float(np.linalg.norm(tcp - tcp[0], axis=1).max())
    left = station.run_until(lambda: not station.control.in_control, 2.0) + 0.5
    station.gate_runs = True
    station.run(0.1)
    held = travel <= 0.015 * max(1.0, speed[0] / 0.2) and left <= 1.0
    return Outcome(rest, station.gate.cause, held, f"{1e3 * travel:.1f} mm at {speed[0]:.2f} m/s")


def gate_stopped(station: Station, rng: np.random.Generator) -> Outcome:
    """The gate's process stands still for 200 ms."""
    moving(station, rng)
    station.gate_runs = False
    station.run(0.2)
    station.gate_runs = True
    seconds, cause = _named(station, 1.0)
    station.run(0.3)
    return Outcome(seconds, cause, True)


def control_killed(station: Station, rng: np.random.Generator) -> Outcome:
    """The control process dies."""
    moving(station, rng)
    os.kill(station.control.pid, signal.SIGKILL)
    seconds, cause = _named(station, 1.0)
    return Outcome(seconds, cause, True)


def control_stopped(milliseconds: int) -> Callable[[Station, np.random.Generator], Outcome]:
    """The control process stands still, while the robot's time goes on."""

    def inject(station: Station, rng: np.random.Generator) -> Outcome:
        moving(station, rng)
        station.robot.lock_step = False
        os.kill(station.control.pid, signal.SIGSTOP)
        process, end = station.control.pid, time.monotonic() + 1e-3 * milliseconds
        while time.monotonic() < end and station.control.pid == process:
            station.tick() if milliseconds > 50 else time.sleep(1e-3)
        if station.control.pid == process:
            os.kill(process, signal.SIGCONT)
        station.robot.lock_step = True
        if milliseconds <= 20:
            station.run(0.3)
            return Outcome(0.0, station.gate.cause, True)
        seconds, cause = _named(station, 1.0)
        return Outcome(seconds, cause, True)

    return inject


def robot_silent(station: Station, rng: np.random.Generator) -> Outcome:
    """The robot sends nothing for a while."""
    moving(station, rng)
    station.robot.silent = True
    seconds, cause = _named(station, 3.0)
    station.run(1.5)
    station.robot.silent = False
    return Outcome(seconds, cause, True)


def robot_gone(station: Station, rng: np.random.Generator) -> Outcome:
    """The robot's server ends, and comes back."""
    moving(station, rng)
    station.robot.silent = True
    station.at_robot(station.robot.cleanup)
    seconds, cause = _named(station, 3.0)
    station.run(0.5)
    station.at_robot(station.robot.init)
    station.robot.silent = False
    return Outcome(seconds, cause, True)


def held_by_person(mode: Mode, said: str) -> Callable[[Station, np.random.Generator], Outcome]:
    """A person stops or guides the arm; recovery is refused until it is let go."""

    def inject(station: Station, rng: np.random.Generator) -> Outcome:
        moving(station, rng)
        station.at_robot(lambda: station.robot.hold(mode, True))
        seconds, cause = _named(station, 1.0)
        station.run(0.3)
        refusal = station.monitor.recover(time.monotonic(), station.gate.reset)
        station.at_robot(lambda: station.robot.hold(mode, False))
        station.run(0.2)
        return Outcome(seconds, cause, said in refusal, refusal)

    return inject


def contact(station: Station, rng: np.random.Generator) -> Outcome:
    """Something pushes a joint harder than the thresholds."""
    moving(station, rng)
    push = np.zeros(7)
    push[rng.integers(4)] = 60.0
    station.at_robot(lambda: setattr(station.robot.arm, "push", push))
    time.sleep(0.02)
    station.at_robot(lambda: setattr(station.robot.arm, "push", np.zeros(7)))
    seconds, cause = _named(station, 1.0)
    return Outcome(seconds, cause, True)


LOST = ("joint state stale", "robot")
FAULTS = (
    Fault("gate killed: until the TCP rests", gate_killed, ("",), 0.15),
    Fault("gate stopped 200 ms", gate_stopped, ("late", "gap"), 0.5),
    Fault("control process killed", control_killed, LOST, 0.2),
    Fault("control process stopped 15 ms: goes on, or a reflex", control_stopped(15), ("",), 0.2),
    Fault("control process stopped 200 ms", control_stopped(200), LOST, 0.3),
    Fault("robot silent", robot_silent, LOST, 0.2),
    Fault("robot's server gone", robot_gone, LOST, 0.2),
    Fault(
        "user stop, recovery refused while pressed",
        held_by_person(Mode.kUserStopped, "user stop is pressed"),
        ("user stop",),
        0.2,
    ),
    Fault(
        "guided by hand, recovery refused",
        held_by_person(Mode.kGuiding, "guided"),
        ("guiding", "guided"),
        0.2,
    ),
    Fault("contact", contact, ("reflex",), 0.2),
)


def run(station: Station, fault: Fault, injections: int, rng: np.random.Generator) -> dict:
    """Inject a fault many times. Returns its row of the table."""
    outcomes, passed, misses = [], 0, []
    for _ in range(injections):
        try:
            outcome = fault.inject(station, rng)
            moving(station, rng)  # after one recovery
        except (RuntimeError, TimeoutError) as error:
            misses.append(str(error))
            station.run(STEP_TIME)  # after which a recovery under way is given up
            continue
        outcomes.append(outcome)
        named = any(cause in outcome.cause for cause in fault.causes)
        if outcome.held and named and outcome.seconds <= fault.limit:
            passed += 1
        else:
            misses.append(f"{outcome.seconds:.3f} s, '{outcome.cause}', {outcome.note}")
    seconds = [outcome.seconds for outcome in outcomes]
    return {
        "name": fault.name,
        "injected": injections,
        "passed": passed,
        "worst_ms": round(1e3 * max(seconds)) if seconds else None,
        "limit_ms": round(1e3 * fault.limit),
        "causes": sorted({outcome.cause for outcome in outcomes}),
        "misses": misses,
        "ok": passed == injections,
    }
