"""Chunks that must not be followed, or only as far as the limits allow."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from benchmarks.gate import fuzz
from benchmarks.gate.fuzz_events import postures
from benchmarks.gate.simulated_arm import SimulatedArm
from benchmarks.gate.trials import FaultOutcome, give_chunk, moving_arm, no_violations, stopped
from gwm_core.control.command_checker import columns
from gwm_core.control.reference_follower import SINGULAR_STOP
from gwm_core.gate_status import State
from gwm_core.geometry.capsules import MINIMUM_CLEARANCE, clearance
from gwm_core.geometry.kinematics import HOME_Q, condition, fk_jacobian
from gwm_core.geometry.limits import FR3
from gwm_core.types import ActionChunk


def policy_slow(rng) -> FaultOutcome:
    """14: heartbeats come and no chunks; seconds since the last chunk was accepted."""
    arm = moving_arm(rng)
    arm.run(0.1)
    taken, late = arm.now, []
    give_chunk(rng, arm)
    while arm.gate.state is State.RUNNING:
        arm.tick()
        # a chunk of an old observation
        late.append(arm.offer(arm.chunk(HOME_Q, age=0.6), 0.6))
    seconds = arm.now - taken
    held = {reason.partition(":")[0] for reason in late} <= {"age", "state"}
    return FaultOutcome(seconds, held and stopped(arm, "plan stale"))


def first_plan_late(rng) -> FaultOutcome:
    """15: the chunk of a slow first inference is refused; a timely one starts at its begin."""
    arm = SimulatedArm(phases=(rng.uniform(0, 0.02), rng.uniform(0, 0.01)))
    arm.start()
    goal = HOME_Q + rng.uniform(-0.1, 0.1, 7)
    refused = arm.offer(arm.chunk(goal, age=0.7), 0.7).startswith("age")
    arm.run(0.1)
    still = bool(np.array_equal(arm.q, HOME_Q))
    age = rng.uniform(0.05, 0.45)
    chunk = arm.chunk(goal, age)
    taken, at = arm.offer(chunk, age) == "", arm.now
    arm.run_until(lambda: arm.log[-1].chunk_id == chunk.stamp)
    seconds = arm.now - at
    arm.run(0.3)
    q = columns(arm.sent)[0]
    # three waypoints on, none skipped
    behind = np.abs(q[-1] - HOME_Q).max() <= np.abs(goal - HOME_Q).max() * 5 / 16
    smooth = np.abs(np.diff(q, 2, axis=0)).max() <= 1e-3  # 10 rad/s2
    return FaultOutcome(
        seconds, bool(refused and still and taken and behind and smooth) and no_violations(arm)
    )


def bad_chunk(rng) -> FaultOutcome:
    """16: refused as a whole, the chunk before goes on; a second one stops the arm."""
    return _twice(rng, lambda arm: fuzz.malformed(rng, arm))


def far_chunk(rng) -> FaultOutcome:
    """17: waypoints of 1000 rad, or metres in place of radians."""
    return _twice(
        rng,
        lambda arm: replace(
            arm.chunk(HOME_Q), q=rng.choice([1e3, 10.0]) * rng.normal(size=(16, 7))
        ),
    )


def _twice(rng, make: Callable[[SimulatedArm], ActionChunk]) -> FaultOutcome:
    arm = moving_arm(rng)
    target = arm.gate._motion.target
    first = arm.offer(make(arm))
    arm.tick()
    on = first != "" and arm.gate.state is State.RUNNING and arm.gate._motion.target is target
    arm.offer(make(arm))
    fault = arm.now
    arm.tick()
    return FaultOutcome(arm.now - fault, on and stopped(arm, "bad plans"))


def jumping_chunk(rng) -> FaultOutcome:
    """18: jumps between waypoints; refused above the threshold, else followed within limits."""
    arm = moving_arm(rng)
    small, large = (
        rng.choice([-1, 1], (16, 7)) * rng.uniform(0.3, 1.0, (16, 7)) * size for size in (0.05, 1.0)
    )
    refused = arm.offer(replace(arm.chunk(arm.q), q=arm.q + large)).partition(":")[0] in (
        "jump",
        "joint limit",
    )
    arm.offer(replace(arm.chunk(arm.q), q=arm.q + small))
    arm.run(1.0)
    return FaultOutcome(0.0, refused and no_violations(arm))


def spoilt(chunks: list[ActionChunk]) -> Callable[[np.random.Generator], FaultOutcome]:
    """19: recorded chunks with the mistakes that people make when they convert joints."""

    def inject(rng) -> FaultOutcome:
        chunk = chunks[rng.integers(len(chunks))]
        arm = SimulatedArm()
        arm.q = chunk.q[0].copy()
        arm.start()
        flips = np.flatnonzero(np.abs(chunk.q[0]) > 0.2)  # of a joint near zero it changes nothing
        one = np.where(np.arange(7) == rng.choice(flips), -1.0, 1.0)
        factor = [-1.0, one, 100.0, 180 / np.pi, np.pi / 180][rng.integers(5)]
        reason = arm.offer(ActionChunk(arm.stamp(0.1), chunk.q * factor, chunk.width))
        return FaultOutcome(0.0, reason.partition(":")[0] in ("joint limit", "jump"))

    return inject


def into_the_way(rng) -> FaultOutcome:
    """20: towards a wall, the table or the arm itself, as near as the gate allows."""
    arm = SimulatedArm()
    arm.q = postures(rng, FR3)[rng.integers(40)].copy()
    arm.start()
    push = rng.uniform(-0.3, 0.3, 7)
    for _ in range(12):
        for fraction in 0.6 ** np.arange(8):
            if arm.offer(arm.chunk(arm.q + fraction * push)) == "":
                break
        arm.run(0.3)
    gaps = np.array([clearance(command.reference.q).min() for command in arm.sent])
    return FaultOutcome(0.0, bool(gaps.min() >= MINIMUM_CLEARANCE - 1e-9) and no_violations(arm))


def elbow_flip(rng) -> FaultOutcome:
    """21: towards the stretched elbow (q4 = -0.467, where it flips) and beyond a straight wrist."""
    arm = SimulatedArm()
    arm.q = HOME_Q + rng.uniform(-0.2, 0.2, 7)
    arm.start()
    for _ in range(12):
        goal = arm.q + np.clip(
            [0, 0.1, 0, -0.467 - arm.q[3], 0, rng.uniform(-0.1, 0.1), 0], -0.3, 0.3
        )
        for fraction in 0.6 ** np.arange(8):
            if arm.offer(arm.chunk(arm.q + fraction * (goal - arm.q))) == "":
                break
        arm.run(0.3)
    worst = condition(fk_jacobian(columns(arm.sent)[0])[1]).max()
    return FaultOutcome(0.0, bool(worst < 1.15 * SINGULAR_STOP) and no_violations(arm))


def wrong_order(rng) -> FaultOutcome:
    """22: the same chunk again, one made before it, and both later."""
    arm = moving_arm(rng)
    older = arm.chunk(HOME_Q, age=0.15)
    first = arm.chunk(arm.q, age=0.1)
    arm.run(0.06)
    taken = arm.offer(first, 0.16) == ""
    arm.run(0.06)
    again = [arm.offer(chunk, age) for chunk, age in ((first, 0.22), (older, 0.27))]
    arm.run(0.2)
    again += [arm.offer(chunk, age) for chunk, age in ((first, 0.42), (older, 0.47))]
    executed = {command.chunk_id for command in arm.sent}
    return FaultOutcome(
        0.0, taken and all(r.startswith("order") for r in again) and older.stamp not in executed
    )
