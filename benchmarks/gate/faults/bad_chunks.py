"""Plans that must not be followed, or only as far as the limits allow."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from benchmarks.gate import fuzz
from benchmarks.gate.fuzz_events import postures
from benchmarks.gate.simulated_arm import SimulatedArm
from benchmarks.gate.trials import FaultOutcome, clean, give_plan, moving, stopped
from gwm_core.control.command_checker import columns
from gwm_core.control.gate.gate import State
from gwm_core.control.reference_follower import SINGULAR_STOP
from gwm_core.geometry.capsules import MINIMUM_CLEARANCE, clearance
from gwm_core.geometry.kinematics import HOME_Q, condition, fk_jacobian
from gwm_core.geometry.limits import FR3
from gwm_core.types import ActionChunk


def policy_slow(rng) -> FaultOutcome:
    """14: it beats and plans no more; seconds since the plan was taken, before the last row's
    time.
    """
    rig = moving(rng)
    rig.run(0.1)
    taken, late = rig.now, []
    give_plan(rng, rig)
    while rig.gate.state is State.RUNNING:
        rig.tick()
        # what it made of an old observation
        late.append(rig.offer(rig.chunk(HOME_Q, age=0.6), 0.6))
    seconds = rig.now - taken
    held = {reason.partition(":")[0] for reason in late} <= {"age", "state"}
    return FaultOutcome(seconds, held and stopped(rig, "plan stale"))


def first_plan_late(rng) -> FaultOutcome:
    """15: the plan after the first inference is refused; a timely one begins with its first row."""
    rig = SimulatedArm(phases=(rng.uniform(0, 0.02), rng.uniform(0, 0.01)))
    rig.start()
    goal = HOME_Q + rng.uniform(-0.1, 0.1, 7)
    refused = rig.offer(rig.chunk(goal, age=0.7), 0.7).startswith("age")
    rig.run(0.1)
    still = bool(np.array_equal(rig.q, HOME_Q))
    age = rng.uniform(0.05, 0.45)
    chunk = rig.chunk(goal, age)
    taken, at = rig.offer(chunk, age) == "", rig.now
    rig.run_until(lambda: rig.log[-1].plan == chunk.stamp)
    seconds = rig.now - at
    rig.run(0.3)
    q = columns(rig.sent)[0]
    # three rows on, none skipped
    behind = np.abs(q[-1] - HOME_Q).max() <= np.abs(goal - HOME_Q).max() * 5 / 16
    smooth = np.abs(np.diff(q, 2, axis=0)).max() <= 1e-3  # 10 rad/s2
    return FaultOutcome(
        seconds, bool(refused and still and taken and behind and smooth) and clean(rig)
    )


def bad_chunk(rng) -> FaultOutcome:
    """16: refused whole, the plan before goes on; a second one stops the arm."""
    return _twice(rng, lambda rig: fuzz.malformed(rng, rig))


def far_chunk(rng) -> FaultOutcome:
    """17: rows of 1000 rad, or metres where radians belong."""
    return _twice(
        rng,
        lambda rig: replace(
            rig.chunk(HOME_Q), q=rng.choice([1e3, 10.0]) * rng.normal(size=(16, 7))
        ),
    )


def _twice(rng, make: Callable[[SimulatedArm], ActionChunk]) -> FaultOutcome:
    rig = moving(rng)
    target = rig.gate._target
    first = rig.offer(make(rig))
    rig.tick()
    on = first != "" and rig.gate.state is State.RUNNING and rig.gate._target is target
    rig.offer(make(rig))
    fault = rig.now
    rig.tick()
    return FaultOutcome(rig.now - fault, on and stopped(rig, "bad plans"))


def jumping_chunk(rng) -> FaultOutcome:
    """18: a jump between any two rows; above the threshold refused, below it followed within every
    limit.
    """
    rig = moving(rng)
    small, large = (
        rng.choice([-1, 1], (16, 7)) * rng.uniform(0.3, 1.0, (16, 7)) * size for size in (0.05, 1.0)
    )
    refused = rig.offer(replace(rig.chunk(rig.q), q=rig.q + large)).partition(":")[0] in (
        "jump",
        "joint limit",
    )
    rig.offer(replace(rig.chunk(rig.q), q=rig.q + small))
    rig.run(1.0)
    return FaultOutcome(0.0, refused and clean(rig))


def spoilt(plans: list[ActionChunk]) -> Callable[[np.random.Generator], FaultOutcome]:
    """19: recorded plans with the mistakes that people make in converting joints."""

    def stage(rng) -> FaultOutcome:
        plan = plans[rng.integers(len(plans))]
        rig = SimulatedArm()
        rig.q = plan.q[0].copy()
        rig.start()
        flips = np.flatnonzero(np.abs(plan.q[0]) > 0.2)  # of a joint near zero it changes nothing
        one = np.where(np.arange(7) == rng.choice(flips), -1.0, 1.0)
        factor = [-1.0, one, 100.0, 180 / np.pi, np.pi / 180][rng.integers(5)]
        reason = rig.offer(ActionChunk(rig.stamp(0.1), plan.q * factor, plan.width))
        return FaultOutcome(0.0, reason.partition(":")[0] in ("joint limit", "jump"))

    return stage


def into_the_way(rng) -> FaultOutcome:
    """20: again and again towards a wall, the table or the arm itself, as near as the gate
    allows.
    """
    rig = SimulatedArm()
    rig.q = postures(rng, FR3)[rng.integers(40)].copy()
    rig.start()
    push = rng.uniform(-0.3, 0.3, 7)
    for _ in range(12):
        for share in 0.6 ** np.arange(8):
            if rig.offer(rig.chunk(rig.q + share * push)) == "":
                break
        rig.run(0.3)
    gaps = np.array([clearance(command.reference.q).min() for command in rig.sent])
    return FaultOutcome(0.0, bool(gaps.min() >= MINIMUM_CLEARANCE - 1e-9) and clean(rig))


def elbow_flip(rng) -> FaultOutcome:
    """21: towards the stretched elbow (q4 = -0.467, where it flips) and beyond a straight wrist."""
    rig = SimulatedArm()
    rig.q = HOME_Q + rng.uniform(-0.2, 0.2, 7)
    rig.start()
    for _ in range(12):
        goal = rig.q + np.clip(
            [0, 0.1, 0, -0.467 - rig.q[3], 0, rng.uniform(-0.1, 0.1), 0], -0.3, 0.3
        )
        for share in 0.6 ** np.arange(8):
            if rig.offer(rig.chunk(rig.q + share * (goal - rig.q))) == "":
                break
        rig.run(0.3)
    worst = condition(fk_jacobian(columns(rig.sent)[0])[1]).max()
    return FaultOutcome(0.0, bool(worst < 1.15 * SINGULAR_STOP) and clean(rig))


def wrong_order(rng) -> FaultOutcome:
    """22: the same plan again, one made before it, and both later."""
    rig = moving(rng)
    older = rig.chunk(HOME_Q, age=0.15)
    first = rig.chunk(rig.q, age=0.1)
    rig.run(0.06)
    taken = rig.offer(first, 0.16) == ""
    rig.run(0.06)
    again = [rig.offer(chunk, age) for chunk, age in ((first, 0.22), (older, 0.27))]
    rig.run(0.2)
    again += [rig.offer(chunk, age) for chunk, age in ((first, 0.42), (older, 0.47))]
    executed = {command.plan for command in rig.sent}
    return FaultOutcome(
        0.0, taken and all(r.startswith("order") for r in again) and older.stamp not in executed
    )
