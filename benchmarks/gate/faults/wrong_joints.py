"""Joint states that are finite and wrong, or end while the arm is held; scores that end."""

from __future__ import annotations

import numpy as np

from benchmarks.gate.simulated_arm import SimulatedArm
from benchmarks.gate.trials import FaultOutcome, moving_arm, no_violations
from gwm_core.control.gate.config import GateConfig
from gwm_core.gate_status import State
from gwm_core.geometry.kinematics import HOME_Q
from gwm_core.geometry.limits import FR3

FAR = 0.3  # [rad] and more: beyond the leash


def _elsewhere(rng, q: np.ndarray) -> np.ndarray:
    """Joints (7,) [rad] of another arm, in another posture."""
    away = np.where(q > (FR3.q_low + FR3.q_high) / 2, -1.0, 1.0)  # inside its range
    return q + away * rng.uniform(FAR, 0.8, 7)


def _faulted(arm: SimulatedArm, cause: str, sent: np.ndarray) -> bool:
    """Whether the gate is in that fault, with the arm left where it was sent last."""
    last = arm.sent[-1]
    there = last.reference_reset and np.abs(last.reference.q - sent).max() < 1e-9
    return (
        arm.gate.state is State.FAULT
        and arm.gate.cause.startswith(cause)
        and bool(there)
        and no_violations(arm)
    )


def foreign_after_stall(rng) -> FaultOutcome:
    """53: the gate stalls, and then finds another arm's joints."""
    arm = moving_arm(rng)
    sent, other = arm.sent[-1].reference.q, _elsewhere(rng, arm.q)
    arm.stall(rng.uniform(0.15, 0.6), other)
    arm.false_joints = lambda q: other
    begin = arm.now
    arm.run_until(lambda: arm.gate.state is State.FAULT)
    return FaultOutcome(arm.now - begin, _faulted(arm, "joints elsewhere", sent))


def fault_after_stall(rng) -> FaultOutcome:
    """54: the robot reports a reflex while the gate stalls; older joints must not go out."""
    arm = moving_arm(rng)
    sent = arm.sent[-1].reference.q
    arm.follows = False
    arm.stall(rng.uniform(0.15, 0.6))
    arm.gate.fault("robot: reflex")
    begin = arm.now
    arm.tick()
    return FaultOutcome(arm.now - begin, _faulted(arm, "robot", sent))


def one_wrong_state(rng) -> FaultOutcome:
    """55: one joint state is wrong: it moves nothing, and the next chunk is followed."""
    arm = moving_arm(rng)
    if rng.random() < 0.7:
        arm.stall(rng.uniform(0.15, 0.6), _elsewhere(rng, arm.q))
    else:
        arm.measure(_elsewhere(rng, arm.q))
    begin = arm.now
    arm.sends_joints = False  # the gate steps before another comes
    arm.tick()
    arm.sends_joints = True
    arm.run_until(lambda: arm.log[-1] is not None)
    seconds = arm.now - begin
    arm.run(0.2)
    taken = arm.offer(arm.chunk(arm.q + 0.3 * (HOME_Q - arm.q))) == ""
    arm.run(0.3)
    return FaultOutcome(seconds, taken and arm.gate.state is State.RUNNING and no_violations(arm))


def two_arms(rng) -> FaultOutcome:
    """56: joint states of two arms alternate; the arm is left where it was sent."""
    arm = moving_arm(rng)
    other, turn = _elsewhere(rng, arm.q), rng.integers(2)

    def either(q: np.ndarray) -> np.ndarray:
        nonlocal turn
        turn += 1
        return other if turn % 2 else q

    arm.false_joints, begin = either, arm.now
    arm.run_until(lambda: arm.gate.state is State.FAULT)
    return FaultOutcome(arm.now - begin, _faulted(arm, "leash", arm.sent[-2].reference.q))


def arming_between_two(rng) -> FaultOutcome:
    """57: it does not arm while joint states jump; from the last jump to when it does."""
    arm = SimulatedArm(phases=(rng.uniform(0, 0.02), rng.uniform(0, 0.01)))
    other = _elsewhere(rng, arm.q)
    arm.run(0.2)
    refused = True
    for _ in range(20):
        arm.measure(other)
        refused = refused and arm.gate.arm(arm.now) != ""
        arm.run(0.03)
        refused = refused and "joint states jump" in arm.gate.arm(arm.now)
    begin = arm.now
    arm.run_until(lambda: arm.gate.arm(arm.now) == "")
    seconds = arm.now - begin
    arm.tick()
    return FaultOutcome(seconds, refused and arm.sent[0].reference_reset and no_violations(arm))


def blind_while_held(rng) -> FaultOutcome:
    """58: joint states end while the arm is held, as after a reflex that stops their driver."""
    arm = SimulatedArm(phases=(rng.uniform(0, 0.02), rng.uniform(0, 0.01)))
    arm.start()
    arm.follows, begin = False, arm.now
    arm.joints_end = arm.now
    arm.run_until(lambda: arm.gate.state is State.FAULT)
    return FaultOutcome(arm.now - begin, _faulted(arm, "no joint states", HOME_Q))


def led_away(rng) -> FaultOutcome:
    """59: a person leads the held arm away by hand: the last command follows by the leash."""
    arm = SimulatedArm(phases=(rng.uniform(0, 0.02), rng.uniform(0, 0.01)))
    arm.start()
    arm.follows = False
    away = rng.choice([-1, 1], 7) * rng.uniform(0.3, 1.5, 7)  # [rad/s]
    while arm.gate.state is State.HOLD and arm.now < 110.0:
        if np.abs(arm.q - HOME_Q).max() <= arm.gate.config.leash:
            exceeded_at = arm.now
        arm.q = arm.q + away * arm.dt
        arm.tick()
    before, after = (np.abs(command.reference.q - arm.q).max() for command in arm.sent[-2:])
    near = after < before - 0.9 * arm.gate.config.leash
    leash = arm.gate.cause.startswith("leash") and arm.sent[-1].reference_reset
    return FaultOutcome(arm.now - exceeded_at, bool(near) and leash and no_violations(arm))


def scores_end(rng) -> FaultOutcome:
    """60: in mode watch the scores end in motion."""
    arm = SimulatedArm(
        GateConfig(mode="watch"), phases=(rng.uniform(0, 0.02), rng.uniform(0, 0.01))
    )
    arm.start()
    arm.score = rng.uniform(0.1, 0.9)
    for period in range(2000):
        if period % 40 == 0:
            arm.offer(arm.chunk(HOME_Q + rng.uniform(-0.1, 0.1, 7)))
        if period == 500:
            watched, begin = arm.gate.state is State.RUNNING, arm.scored_at
            arm.score = None
        arm.tick()
        if arm.gate.state is not State.RUNNING:
            break
    seconds = arm.now - begin
    arm.run(0.4)
    held = (
        arm.gate.counts.stops == {"no score": 1}
        and not arm.gate.armed
        and arm.gate.state is State.HOLD
    )
    return FaultOutcome(seconds, watched and held and no_violations(arm))
