"""Parts of the system that fall silent, report what is wrong, or interfere with the gate."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from benchmarks.gate.simulated_arm import SimulatedArm
from benchmarks.gate.trials import FaultOutcome, moving_arm, no_violations, ramp, stopped
from gwm_core.gate_status import State
from gwm_core.geometry.kinematics import HOME_Q, fk, to_rows
from gwm_core.geometry.limits import FR3
from gwm_core.runtime.planner import Planner
from gwm_core.types import OPEN_WIDTH, ActionChunk, ArmState, Frame, Observation

ROBOT_STATE = 1 / 30  # [s] period of the robot's state
PUBLISHER_CHECK = 0.1  # [s] period in which the gate's process counts publishers
DROPS = 20  # lost cycles in a row after which the robot stops by itself (libfranka)
DROPS_CAUSE = "robot: communication_constraints_violation"


def policy_killed(rng) -> FaultOutcome:
    """12, 13: no heartbeat from some time on."""
    arm = moving_arm(rng)
    arm.heartbeats_end = arm.now + rng.uniform(0, 0.02)
    return ramp(arm, arm.heartbeats_end, "policy silent")


def joints_lost(kind: str) -> Callable[[np.random.Generator], FaultOutcome]:
    """23: no joint state, one that never changes its stamp, or NaN."""

    def inject(rng) -> FaultOutcome:
        arm = moving_arm(rng)
        fault = arm.joints_end = arm.now + rng.uniform(0, 0.01)
        frozen = ArmState(arm.gate._joints.measured.stamp, arm.q, np.zeros(7), 0.08)
        while arm.gate.state is State.RUNNING and arm.now - fault < 1.0:
            if kind == "frozen" and arm.now > fault:
                arm.gate.measure(frozen, arm.now)
            elif kind == "not a number" and arm.now > fault:
                arm.gate.measure(replace(frozen, stamp=arm.stamp(), q=np.full(7, np.nan)), arm.now)
            arm.tick()
        return FaultOutcome(arm.now - fault, stopped(arm, "joint state stale"))

    return inject


class _Straight:
    """A policy that moves straight down from wherever it is."""

    sees = "scene"

    def act(self, scene, observation) -> np.ndarray:
        """Poses (16, 10)."""
        T = np.tile(fk(observation.state.q), (16, 1, 1))
        T[:, 2, 3] -= np.linspace(0.005, 0.08, 16)
        return to_rows(T, OPEN_WIDTH)


def blind_cameras(rng) -> FaultOutcome:
    """61: depth without readings: no chunk is made, and the arm stops when the last one ends."""
    arm = moving_arm(rng)
    arm.offer(arm.chunk(arm.q + 0.3 * (HOME_Q - arm.q)))
    planner, taken, chunks = Planner(_Straight()), arm.now, 0
    frame = Frame(
        "front",
        1,
        np.zeros((24, 32, 3), np.uint8),
        np.zeros((24, 32), np.float32),
        np.eye(3),
        np.eye(4),
    )
    while arm.gate.state is State.RUNNING:
        arm.run(0.1)
        state = ArmState(arm.stamp(), arm.q, np.zeros(7), OPEN_WIDTH)
        decision = planner.decide(Observation(state.stamp, (frame,), state, "lift"))
        chunks += decision.chunk is not None or not decision.reason.startswith("blind")
    return FaultOutcome(arm.now - taken, chunks == 0 and stopped(arm, "plan stale"))


def lost_cycles(rng) -> FaultOutcome:
    """25: the robot's 1 kHz loop misses cycles: 19 change nothing, 20 stop it, and it says so."""
    arm = moving_arm(rng)
    few, many = int(rng.integers(1, DROPS)), int(rng.integers(DROPS, 200))
    _miss(arm, few)
    tolerated = arm.gate.state is State.RUNNING and arm.follows
    arm.run(0.2)
    fault = arm.now
    _miss(arm, many)
    reported_at = fault + DROPS * 1e-3 + rng.uniform(0, ROBOT_STATE)
    arm.run_until(lambda: arm.now >= reported_at)
    arm.gate.fault(DROPS_CAUSE)
    arm.tick()
    faulted = (
        arm.gate.state is State.FAULT
        and arm.log[-1].reference_reset
        and arm.gate.counts.stops == {"robot": 1}
    )
    return FaultOutcome(
        arm.now - fault, tolerated and not arm.follows and faulted and no_violations(arm)
    )


def _miss(arm: SimulatedArm, cycles: int) -> None:
    """The robot holds its target for ``cycles`` [ms]; from the twentieth on it has stopped."""
    held = arm.q.copy()
    arm.run(1e-3 * min(cycles, DROPS))
    arm.q = held if cycles >= DROPS else arm.sent[-1].reference.q
    arm.follows = cycles < DROPS


def second_publisher(rng) -> FaultOutcome:
    """26: another publisher on the arm's topic, found at a random phase of the gate's check."""
    arm = moving_arm(rng)
    wait = rng.uniform(0, PUBLISHER_CHECK)
    fault = arm.now
    arm.run_until(lambda: arm.now - fault >= wait)
    arm.gate.fault("second publisher: another process writes to target_joint")
    faulted = arm.gate.state is State.FAULT and arm.gate.counts.stops == {"second publisher": 1}
    arm.tick()
    refused = arm.offer(arm.chunk(HOME_Q)).startswith("state") and "reset first" in arm.gate.arm(
        arm.now
    )
    return FaultOutcome(wait, faulted and refused and arm.tick() is None and no_violations(arm))


def user_stop(rng) -> FaultOutcome:
    """33: the robot stops and says so; after reset and arming the first step is where it is."""
    arm = moving_arm(rng)
    fault = arm.now + rng.uniform(0, 0.01)
    arm.follows = False
    reported_at = fault + rng.uniform(0, ROBOT_STATE)
    arm.run_until(lambda: arm.now >= reported_at)
    arm.gate.fault("robot: user stop")
    arm.tick()
    seconds = arm.now - fault
    faulted = arm.gate.state is State.FAULT and arm.gate.counts.stops == {"robot": 1}
    return FaultOutcome(seconds, faulted and _comes_back(rng, arm))


def leash_alone(rng) -> FaultOutcome:
    """33 without franka_msgs: the arm does not follow; seconds since the leash was exceeded."""
    arm = moving_arm(rng)
    arm.follows = False
    for _ in range(60):
        _offer_ahead(arm)
        gap = np.abs(arm.gate.reference.q - arm.q).max()
        if gap > arm.gate.config.leash:
            break
        arm.run(0.06)
    exceeded_at = arm.now
    arm.run_until(lambda: arm.gate.state is State.FAULT)
    faulted = {"leash"} == set(arm.gate.counts.stops)
    return FaultOutcome(arm.now - exceeded_at, faulted and _comes_back(rng, arm))


def _offer_ahead(arm: SimulatedArm) -> None:
    """Offer a chunk that goes on in the direction of the motion."""
    reference = arm.gate.reference
    away = np.sign(reference.q - arm.q + 1e-9) * 0.2
    fraction = np.linspace(1 / 16, 1, 16)[:, None]
    arm.offer(
        ActionChunk(
            arm.stamp(0.001),
            np.clip(reference.q + fraction * away, FR3.q_low, FR3.q_high),
            np.full(16, 0.08),
        ),
        0.001,
    )


def _comes_back(rng, arm: SimulatedArm) -> bool:
    """Whether it resumes after reset and arming: earlier chunks are void, the first step small."""
    old = arm.chunk(HOME_Q)
    arm.q = arm.q + rng.uniform(-0.02, 0.02, 7)  # somebody moved it meanwhile
    arm.run(0.1)
    arm.gate.reset()
    arm.follows = True
    armed = arm.gate.arm(arm.now) == ""
    void = arm.offer(old, 0.2).startswith("order")
    before = arm.q.copy()
    first = arm.tick()
    arm.run(0.3)
    new = arm.offer(arm.chunk(HOME_Q + 0.05)) == ""
    arm.run(0.2)
    step = np.abs(first.reference.q - before).max()
    return bool(
        armed and void and first.reference_reset and step <= 1e-3 and new
    ) and no_violations(arm)
