"""What happens to a fuzzed gate besides plans: parts die, joints lie, the loop stalls, people press
buttons.
"""

from __future__ import annotations

import numpy as np

from benchmarks.gate.simulated_arm import SimulatedArm
from gwm_core.control.gate.gate import State
from gwm_core.control.reference_follower import SINGULAR_STOP
from gwm_core.geometry.capsules import MINIMUM_CLEARANCE, clearance
from gwm_core.geometry.kinematics import condition, fk_jacobian
from gwm_core.geometry.limits import Workspace
from gwm_core.types import ArmState


def postures(rng, arm) -> np.ndarray:
    """Random postures (P, 7) in which the gate may be armed, the crowded ones first."""
    q = rng.uniform(arm.q_low, arm.q_high, (4000, 7))
    T, jacobian = fk_jacobian(q)
    box, gaps = Workspace(), clearance(q).min(axis=(1, 2))
    good = np.all((T[:, :3, 3] > box.low) & (T[:, :3, 3] < box.high), axis=1)
    good &= (gaps > MINIMUM_CLEARANCE) & (condition(jacobian) < SINGULAR_STOP)
    return q[good][np.argsort(gaps[good])][:100]


def happen(rng, rig: SimulatedArm) -> None:
    """Something goes wrong, or somebody presses a button."""
    (_lies if rng.random() < 0.4 else _fails)(rng, rig)


def _fails(rng, rig: SimulatedArm) -> None:
    gate, kind = rig.gate, rng.integers(11)
    if kind == 0:
        rig.beats = False
    elif kind == 1:
        rig.measures = False
    elif kind == 2:
        gate.measure(
            ArmState(rig.stamp(), np.full(7, rng.choice([np.nan, np.inf])), np.zeros(7), 0.08),
            rig.now,
        )
    elif kind == 3:
        rig.tick(float(rng.uniform(0.02, 0.5)))  # a pause
    elif kind == 4:
        rng.choice([gate.hold, gate.stop])()
    elif kind == 5:
        gate.home(rig.now)
    elif kind == 6:
        gate.fault("second publisher: of the fuzzer")
    elif kind == 7:
        gate.beat(0, rig.now)  # a restarted policy
    elif kind == 8:
        rig.clock_offset += rng.choice([-3600.0, 1.0, 3600.0])
    elif kind == 9:
        rig.score = rng.choice([None, 0.5, 2.0])
    else:
        rig.obeys = False  # something holds the arm


def _lies(rng, rig: SimulatedArm) -> None:
    """Finite joints that are not the arm's: for one state, from now on, in turn, or behind a
    stall.
    """
    wrong = rig.q + rng.normal(size=7) * rng.choice([0.02, 0.1, 0.5, 2.0])
    kind = rng.integers(5)
    if kind == 0:
        rig.measure(wrong)
    elif kind == 1:
        offset = wrong - rig.q
        rig.lie = lambda q: q + offset
    elif kind == 2:
        rig.lie = lambda q: wrong if rng.random() < 0.5 else q  # two arms
    elif kind == 3:
        rig.stall(float(rng.uniform(0.02, 0.6)), wrong)
    else:  # and the robot, or somebody, says so while the gate has no time
        rig.stall(float(rng.uniform(0.02, 0.6)), wrong if rng.random() < 0.5 else None)
        rig.gate.fault("robot: reflex, of the fuzzer", doubtful=bool(rng.random() < 0.3))
    if kind > 2 and rng.random() < 0.3:
        rig.lie = lambda q: wrong


def mend(rng, rig: SimulatedArm, crowded: np.ndarray) -> None:
    """What an operator does until it runs again."""
    rig.beats = rig.measures = rig.obeys = True
    # nobody need notice that scores have ended
    rig.lie, rig.score = None, 0.5 if rng.random() < 0.8 else None
    gate = rig.gate
    if gate.state is State.FAULT:
        gate.reset()
    if gate.state is State.DISARMED:
        rig.q = crowded[rng.integers(len(crowded))].copy()  # carried somewhere by hand
        rig.run(0.3)
        gate.arm(rig.now)
    if gate.state is State.HOLD and not gate.armed:
        gate.arm(rig.now)
