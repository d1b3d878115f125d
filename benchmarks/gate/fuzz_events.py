"""The fuzzer's events besides chunks: dead parts, wrong joints, a stalled loop, buttons."""

from __future__ import annotations

import numpy as np

from benchmarks.gate.simulated_arm import SimulatedArm
from gwm_core.control.reference_follower import SINGULAR_STOP
from gwm_core.gate_status import State
from gwm_core.geometry.capsules import MINIMUM_CLEARANCE, clearance
from gwm_core.geometry.kinematics import condition, fk_jacobian
from gwm_core.geometry.limits import ArmLimits, Workspace
from gwm_core.types import ArmState


def postures(rng, limits: ArmLimits) -> np.ndarray:
    """Random postures (P, 7) in which the gate may be armed, those with least clearance first."""
    q = rng.uniform(limits.q_low, limits.q_high, (4000, 7))
    T, jacobian = fk_jacobian(q)
    box, gaps = Workspace(), clearance(q).min(axis=(1, 2))
    good = np.all((T[:, :3, 3] > box.low) & (T[:, :3, 3] < box.high), axis=1)
    good &= (gaps > MINIMUM_CLEARANCE) & (condition(jacobian) < SINGULAR_STOP)
    return q[good][np.argsort(gaps[good])][:100]


def inject_event(rng, arm: SimulatedArm) -> None:
    """Make something go wrong, or press a button."""
    (_falsify_joints if rng.random() < 0.4 else _fail_part)(rng, arm)


def _fail_part(rng, arm: SimulatedArm) -> None:
    gate, kind = arm.gate, rng.integers(11)
    if kind == 0:
        arm.sends_heartbeats = False
    elif kind == 1:
        arm.sends_joints = False
    elif kind == 2:
        gate.measure(
            ArmState(arm.stamp(), np.full(7, rng.choice([np.nan, np.inf])), np.zeros(7), 0.08),
            arm.now,
        )
    elif kind == 3:
        arm.tick(float(rng.uniform(0.02, 0.5)))  # a pause
    elif kind == 4:
        rng.choice([gate.hold, gate.stop])()
    elif kind == 5:
        gate.home(arm.now)
    elif kind == 6:
        gate.fault("second publisher: of the fuzzer")
    elif kind == 7:
        gate.receive_policy_heartbeat(0, arm.now)  # a restarted policy
    elif kind == 8:
        arm.clock_offset += rng.choice([-3600.0, 1.0, 3600.0])
    elif kind == 9:
        arm.score = rng.choice([None, 0.5, 2.0])
    else:
        arm.follows = False  # something holds the arm


def _falsify_joints(rng, arm: SimulatedArm) -> None:
    """Finite joints that are not the arm's: once, from now on, alternating, or after a stall."""
    wrong = arm.q + rng.normal(size=7) * rng.choice([0.02, 0.1, 0.5, 2.0])
    kind = rng.integers(5)
    if kind == 0:
        arm.measure(wrong)
    elif kind == 1:
        offset = wrong - arm.q
        arm.false_joints = lambda q: q + offset
    elif kind == 2:
        arm.false_joints = lambda q: wrong if rng.random() < 0.5 else q  # two arms
    elif kind == 3:
        arm.stall(float(rng.uniform(0.02, 0.6)), wrong)
    else:  # and the robot, or somebody, says so while the gate has no time
        arm.stall(float(rng.uniform(0.02, 0.6)), wrong if rng.random() < 0.5 else None)
        arm.gate.fault("robot: reflex, of the fuzzer", doubtful=bool(rng.random() < 0.3))
    if kind > 2 and rng.random() < 0.3:
        arm.false_joints = lambda q: wrong


def recover(rng, arm: SimulatedArm, tight: np.ndarray) -> None:
    """Do what an operator does until the gate runs again."""
    arm.sends_heartbeats = arm.sends_joints = arm.follows = True
    # the scores may stay away
    arm.false_joints, arm.score = None, 0.5 if rng.random() < 0.8 else None
    gate = arm.gate
    if gate.state is State.FAULT:
        gate.reset()
    if gate.state is State.DISARMED:
        arm.q = tight[rng.integers(len(tight))].copy()  # carried somewhere by hand
        arm.run(0.3)
        gate.arm(arm.now)
    if gate.state is State.HOLD and not gate.armed:
        gate.arm(arm.now)
