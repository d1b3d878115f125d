"""Parts of the system that fall silent, lie, or get in the gate's way."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from benchmarks.gate.simulated_arm import SimulatedArm
from benchmarks.gate.trials import FaultOutcome, clean, moving, ramp, stopped
from gwm_core.gate_status import State
from gwm_core.geometry.kinematics import HOME_Q, fk, to_rows
from gwm_core.geometry.limits import FR3
from gwm_core.runtime.planner import Planner
from gwm_core.types import OPEN_WIDTH, ActionChunk, ArmState, Frame, Observation

ROBOT_STATE = 1 / 30  # [s] how often the robot tells its mode
LOOK_FOR_RIVALS = 0.1  # [s] how often the gate's process counts publishers
DROPS = 20  # lost cycles in a row after which the robot stops by itself (libfranka)
DROPS_CAUSE = "robot: communication_constraints_violation"


def policy_killed(rng) -> FaultOutcome:
    """12, 13: no beat from a moment on."""
    rig = moving(rng)
    rig.silent_from = rig.now + rng.uniform(0, 0.02)
    return ramp(rig, rig.silent_from, "policy silent")


def joints_lost(kind: str) -> Callable[[np.random.Generator], FaultOutcome]:
    """23: no joint state, one that never changes its stamp, or no numbers."""

    def stage(rng) -> FaultOutcome:
        rig = moving(rng)
        fault = rig.blind_from = rig.now + rng.uniform(0, 0.01)
        frozen = ArmState(rig.gate._joints.measured.stamp, rig.q, np.zeros(7), 0.08)
        while rig.gate.state is State.RUNNING and rig.now - fault < 1.0:
            if kind == "frozen" and rig.now > fault:
                rig.gate.measure(frozen, rig.now)
            elif kind == "not a number" and rig.now > fault:
                rig.gate.measure(replace(frozen, stamp=rig.stamp(), q=np.full(7, np.nan)), rig.now)
            rig.tick()
        return FaultOutcome(rig.now - fault, stopped(rig, "joint state stale"))

    return stage


class _Straight:
    """A policy that would go down from wherever it is."""

    sees = "scene"

    def act(self, scene, observation) -> np.ndarray:
        """Poses (16, 10)."""
        T = np.tile(fk(observation.state.q), (16, 1, 1))
        T[:, 2, 3] -= np.linspace(0.005, 0.08, 16)
        return to_rows(T, OPEN_WIDTH)


def blind_cameras(rng) -> FaultOutcome:
    """61: depth without readings: no plan is made of it, and the arm stops when the last one
    ends.
    """
    rig = moving(rng)
    rig.offer(rig.chunk(rig.q + 0.3 * (HOME_Q - rig.q)))
    planner, taken, plans = Planner(_Straight()), rig.now, 0
    frame = Frame(
        "front",
        1,
        np.zeros((24, 32, 3), np.uint8),
        np.zeros((24, 32), np.float32),
        np.eye(3),
        np.eye(4),
    )
    while rig.gate.state is State.RUNNING:
        rig.run(0.1)
        state = ArmState(rig.stamp(), rig.q, np.zeros(7), OPEN_WIDTH)
        decision = planner.decide(Observation(state.stamp, (frame,), state, "lift"))
        plans += decision.chunk is not None or not decision.reason.startswith("blind")
    return FaultOutcome(rig.now - taken, plans == 0 and stopped(rig, "plan stale"))


def lost_cycles(rng) -> FaultOutcome:
    """25: the robot's 1 kHz loop misses cycles: up to 19 are nothing, 20 stop it, and it says
    so.
    """
    rig = moving(rng)
    few, many = int(rng.integers(1, DROPS)), int(rng.integers(DROPS, 200))
    _miss(rig, few)
    tolerated = rig.gate.state is State.RUNNING and rig.obeys
    rig.run(0.2)
    fault = rig.now
    _miss(rig, many)
    told = fault + DROPS * 1e-3 + rng.uniform(0, ROBOT_STATE)
    rig.run_until(lambda: rig.now >= told)
    rig.gate.fault(DROPS_CAUSE)
    rig.tick()
    latched = (
        rig.gate.state is State.FAULT
        and rig.log[-1].reference_reset
        and rig.gate.counts.stops == {"robot": 1}
    )
    return FaultOutcome(rig.now - fault, tolerated and not rig.obeys and latched and clean(rig))


def _miss(rig: SimulatedArm, cycles: int) -> None:
    """The consumer holds its target through ``cycles`` [ms]; from the twentieth on it has
    stopped.
    """
    held = rig.q.copy()
    rig.run(1e-3 * min(cycles, DROPS))
    rig.q = held if cycles >= DROPS else rig.sent[-1].reference.q
    rig.obeys = cycles < DROPS


def rival(rng) -> FaultOutcome:
    """26: another publisher on the arm's topic, known to discovery at a random phase of the gate's
    look-out.
    """
    rig = moving(rng)
    wait = rng.uniform(0, LOOK_FOR_RIVALS)
    fault = rig.now
    rig.run_until(lambda: rig.now - fault >= wait)
    rig.gate.fault("second publisher: another process writes to target_joint")
    latched = rig.gate.state is State.FAULT and rig.gate.counts.stops == {"second publisher": 1}
    rig.tick()
    refused = rig.offer(rig.chunk(HOME_Q)).startswith("state") and "reset first" in rig.gate.arm(
        rig.now
    )
    return FaultOutcome(wait, latched and refused and rig.tick() is None and clean(rig))


def user_stop(rng) -> FaultOutcome:
    """33: the robot stops and says so; after reset and arming the first step is from where it
    is.
    """
    rig = moving(rng)
    fault = rig.now + rng.uniform(0, 0.01)
    rig.obeys = False
    told = fault + rng.uniform(0, ROBOT_STATE)
    rig.run_until(lambda: rig.now >= told)
    rig.gate.fault("robot: user stop")
    rig.tick()
    seconds = rig.now - fault
    latched = rig.gate.state is State.FAULT and rig.gate.counts.stops == {"robot": 1}
    return FaultOutcome(seconds, latched and _comes_back(rng, rig))


def leash_alone(rng) -> FaultOutcome:
    """33 without franka_msgs: the arm does not follow; seconds from where the leash is at its
    end.
    """
    rig = moving(rng)
    rig.obeys = False
    for _ in range(60):
        _plan_ahead(rig)
        gap = np.abs(rig.gate.reference.q - rig.q).max()
        if gap > rig.gate.config.leash:
            break
        rig.run(0.06)
    taut = rig.now
    rig.run_until(lambda: rig.gate.state is State.FAULT)
    latched = {"leash"} == set(rig.gate.counts.stops)
    return FaultOutcome(rig.now - taut, latched and _comes_back(rng, rig))


def _plan_ahead(rig: SimulatedArm) -> None:
    """A plan that goes on in the direction of the motion."""
    reference = rig.gate.reference
    away = np.sign(reference.q - rig.q + 1e-9) * 0.2
    share = np.linspace(1 / 16, 1, 16)[:, None]
    rig.offer(
        ActionChunk(
            rig.stamp(0.001),
            np.clip(reference.q + share * away, FR3.q_low, FR3.q_high),
            np.full(16, 0.08),
        ),
        0.001,
    )


def _comes_back(rng, rig: SimulatedArm) -> bool:
    """Reset and armed: plans from before count for nothing, and the first step is at most 1
    mrad.
    """
    old = rig.chunk(HOME_Q)
    rig.q = rig.q + rng.uniform(-0.02, 0.02, 7)  # somebody moved it meanwhile
    rig.run(0.1)
    rig.gate.reset()
    rig.obeys = True
    armed = rig.gate.arm(rig.now) == ""
    void = rig.offer(old, 0.2).startswith("order")
    before = rig.q.copy()
    first = rig.tick()
    rig.run(0.3)
    new = rig.offer(rig.chunk(HOME_Q + 0.05)) == ""
    rig.run(0.2)
    step = np.abs(first.reference.q - before).max()
    return bool(armed and void and first.reference_reset and step <= 1e-3 and new) and clean(rig)
