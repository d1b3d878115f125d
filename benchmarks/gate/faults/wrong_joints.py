"""Joint states that are finite and wrong, or end while the arm is held; divergence whose scores
stop coming.
"""

from __future__ import annotations

import numpy as np

from benchmarks.gate.simulated_arm import SimulatedArm
from benchmarks.gate.trials import FaultOutcome, clean, moving
from gwm_core.control.gate.config import GateConfig
from gwm_core.gate_status import State
from gwm_core.geometry.kinematics import HOME_Q
from gwm_core.geometry.limits import FR3

FAR = 0.3  # [rad] and more: beyond the leash


def _elsewhere(rng, q: np.ndarray) -> np.ndarray:
    """Joints (7,) [rad] of another arm, which hangs elsewhere."""
    away = np.where(q > (FR3.q_low + FR3.q_high) / 2, -1.0, 1.0)  # inside its range
    return q + away * rng.uniform(FAR, 0.8, 7)


def _faulted(rig: SimulatedArm, cause: str, sent: np.ndarray) -> bool:
    """Whether the gate has latched that fault, with the arm left where it was sent last."""
    last = rig.sent[-1]
    there = last.reference_reset and np.abs(last.reference.q - sent).max() < 1e-9
    return (
        rig.gate.state is State.FAULT
        and rig.gate.cause.startswith(cause)
        and bool(there)
        and clean(rig)
    )


def foreign_after_stall(rng) -> FaultOutcome:
    """53: the gate had no time, and finds another arm's joints."""
    rig = moving(rng)
    sent, other = rig.sent[-1].reference.q, _elsewhere(rng, rig.q)
    rig.stall(rng.uniform(0.15, 0.6), other)
    rig.lie = lambda q: other
    begin = rig.now
    rig.run_until(lambda: rig.gate.state is State.FAULT)
    return FaultOutcome(rig.now - begin, _faulted(rig, "joints elsewhere", sent))


def fault_after_stall(rng) -> FaultOutcome:
    """54: the robot says reflex while the gate has no time; joints from before must not go out."""
    rig = moving(rng)
    sent = rig.sent[-1].reference.q
    rig.obeys = False
    rig.stall(rng.uniform(0.15, 0.6))
    rig.gate.fault("robot: reflex")
    begin = rig.now
    rig.tick()
    return FaultOutcome(rig.now - begin, _faulted(rig, "robot", sent))


def one_wrong_state(rng) -> FaultOutcome:
    """55: one joint state is wrong, after a stall or without: it moves nothing, and the next plan
    is followed.
    """
    rig = moving(rng)
    if rng.random() < 0.7:
        rig.stall(rng.uniform(0.15, 0.6), _elsewhere(rng, rig.q))
    else:
        rig.measure(_elsewhere(rng, rig.q))
    begin = rig.now
    rig.measures = False  # the gate steps before another comes
    rig.tick()
    rig.measures = True
    rig.run_until(lambda: rig.log[-1] is not None)
    seconds = rig.now - begin
    rig.run(0.2)
    taken = rig.offer(rig.chunk(rig.q + 0.3 * (HOME_Q - rig.q))) == ""
    rig.run(0.3)
    return FaultOutcome(seconds, taken and rig.gate.state is State.RUNNING and clean(rig))


def two_arms(rng) -> FaultOutcome:
    """56: joint states of two arms in turn; the leash takes its time, and the arm is left where it
    was sent.
    """
    rig = moving(rng)
    other, turn = _elsewhere(rng, rig.q), rng.integers(2)

    def either(q: np.ndarray) -> np.ndarray:
        nonlocal turn
        turn += 1
        return other if turn % 2 else q

    rig.lie, begin = either, rig.now
    rig.run_until(lambda: rig.gate.state is State.FAULT)
    return FaultOutcome(rig.now - begin, _faulted(rig, "leash", rig.sent[-2].reference.q))


def arming_between_two(rng) -> FaultOutcome:
    """57: it does not arm while joint states jump; from the last jump to when it does."""
    rig = SimulatedArm(phases=(rng.uniform(0, 0.02), rng.uniform(0, 0.01)))
    other = _elsewhere(rng, rig.q)
    rig.run(0.2)
    refused = True
    for _ in range(20):
        rig.measure(other)
        refused = refused and rig.gate.arm(rig.now) != ""
        rig.run(0.03)
        refused = refused and "joint states jump" in rig.gate.arm(rig.now)
    begin = rig.now
    rig.run_until(lambda: rig.gate.arm(rig.now) == "")
    seconds = rig.now - begin
    rig.tick()
    return FaultOutcome(seconds, refused and rig.sent[0].reference_reset and clean(rig))


def blind_while_held(rng) -> FaultOutcome:
    """58: joint states end while the arm is held, as after a reflex that took their broadcaster
    along.
    """
    rig = SimulatedArm(phases=(rng.uniform(0, 0.02), rng.uniform(0, 0.01)))
    rig.start()
    rig.obeys, begin = False, rig.now
    rig.blind_from = rig.now
    rig.run_until(lambda: rig.gate.state is State.FAULT)
    return FaultOutcome(rig.now - begin, _faulted(rig, "no joint states", HOME_Q))


def led_away(rng) -> FaultOutcome:
    """59: somebody leads the held arm away by hand: the last command comes after it by the
    leash.
    """
    rig = SimulatedArm(phases=(rng.uniform(0, 0.02), rng.uniform(0, 0.01)))
    rig.start()
    rig.obeys = False
    away = rng.choice([-1, 1], 7) * rng.uniform(0.3, 1.5, 7)  # [rad/s]
    while rig.gate.state is State.HOLD and rig.now < 110.0:
        if np.abs(rig.q - HOME_Q).max() <= rig.gate.config.leash:
            taut = rig.now
        rig.q = rig.q + away * rig.dt
        rig.tick()
    before, after = (np.abs(command.reference.q - rig.q).max() for command in rig.sent[-2:])
    near = after < before - 0.9 * rig.gate.config.leash
    leash = rig.gate.cause.startswith("leash") and rig.sent[-1].reference_reset
    return FaultOutcome(rig.now - taut, bool(near) and leash and clean(rig))


def scores_end(rng) -> FaultOutcome:
    """60: watched, and the imagination falls silent in mid-motion."""
    rig = SimulatedArm(
        GateConfig(mode="watch"), phases=(rng.uniform(0, 0.02), rng.uniform(0, 0.01))
    )
    rig.start()
    rig.score = rng.uniform(0.1, 0.9)
    for period in range(2000):
        if period % 40 == 0:
            rig.offer(rig.chunk(HOME_Q + rng.uniform(-0.1, 0.1, 7)))
        if period == 500:
            watched, begin = rig.gate.state is State.RUNNING, rig.scored_at
            rig.score = None
        rig.tick()
        if rig.gate.state is not State.RUNNING:
            break
    seconds = rig.now - begin
    rig.run(0.4)
    held = (
        rig.gate.counts.stops == {"no score": 1}
        and not rig.gate.armed
        and rig.gate.state is State.HOLD
    )
    return FaultOutcome(seconds, watched and held and clean(rig))
