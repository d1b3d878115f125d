"""Whatever is thrown at the gate, nothing that breaks a limit may leave it.

An action is one 100 Hz step of the gate; everything it sends is judged. Plans are uniform,
adversarial, recorded ones mutated, and malformed; between them the policy dies, joints go stale or
lie, the loop pauses, people press buttons (``fuzz_events``). The judge knows where the arm really
is.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from benchmarks.gate.fuzz_events import happen, mend, postures
from benchmarks.gate.simulated_arm import SimulatedArm
from gwm_core.control.command_checker import columns
from gwm_core.control.gate.gate import GateConfig, State
from gwm_core.geometry.capsules import MINIMUM_CLEARANCE, clearance
from gwm_core.geometry.kinematics import HOME_Q
from gwm_core.geometry.limits import DESK, FR3, FULL, LAB, PANDA
from gwm_core.types import ActionChunk

BLOCK = 20_000  # actions between two new gates; each block is judged at its end
IN_THE_WAY = ("workspace", "table", "self-collision", "singularity")
SETTINGS = (  # profile, arm and mode, in turn
    (DESK, FR3, "auto"),
    (DESK, FR3, "watch"),
    (LAB, FR3, "auto"),
    (DESK, PANDA, "auto"),
    (FULL, FR3, "watch"),
)
SCORE_TIMEOUT = 1.0  # [s] shorter than the gate's own, for a fuzzed motion seldom lasts
UNWATCHED = 1.02  # [s] the longest motion without a score in "watch"


@dataclass
class FuzzReport:
    """What came of it. ``partial``: bad plans of which any part was used."""

    actions: int = 0
    moving: int = 0  # of them in motion
    violations: int = 0
    nonfinite: int = 0
    partial: int = 0
    unwatched: int = 0  # periods in motion, in mode "watch", that no score of divergence covers
    resets: int = 0  # of the reference
    plans: int = 0
    accepted: int = 0
    least_clearance: float = np.inf  # [m] of all that was sent
    broken: dict[str, int] = field(default_factory=dict)
    refused: dict[str, int] = field(default_factory=dict)
    stops: dict[str, int] = field(default_factory=dict)


# ---- plans
# ------------------------------------------------------------------------------


def uniform(rng, rig: SimulatedArm) -> ActionChunk:
    """Rows anywhere around the reference, near or far, smooth or not."""
    rows, spread = int(rng.integers(2, 40)), float(rng.choice([0.01, 0.03, 0.1, 0.1, 0.3, 5.0]))
    q = rig.q + rng.normal(size=(rows, 7)) * spread
    if rng.random() < 0.7:  # a smooth way there: much more of this is accepted
        q = rig.q + np.linspace(1 / rows, 1, rows)[:, None] * (q[-1] - rig.q)
    return _chunk(rng, rig, q)


def adversarial(rng, rig: SimulatedArm) -> ActionChunk:
    """Rows that are each acceptable and together as bad as they can be."""
    arm, rows = rig.gate.limits, int(rng.integers(4, 32))
    kind = rng.integers(5)
    if kind == 0:  # back and forth as far as a plan may jump
        q = rig.q + np.where(np.arange(rows) % 2, 1, -1)[:, None] * rng.uniform(-0.15, 0.15, 7)
    elif kind == 1:  # along the end stops
        q = np.where(rng.random(7) < 0.5, arm.q_low, arm.q_high) + 0 * rig.q
        q = rig.q + np.clip(q - rig.q, -0.3, 0.3) * np.linspace(0, 1, rows)[:, None] ** rng.choice(
            [0.5, 1, 3]
        )
    elif (
        kind == 2
    ):  # towards the table, a wall, the arm itself: one direction until something is in the way
        q = rig.q + np.linspace(0, 1, rows)[:, None] * rng.choice([-1, 0, 1], 7) * rng.uniform(
            0.05, 0.35
        )
    elif kind == 3:  # late and hard: rest, then a jerk at the end
        q = np.tile(rig.q, (rows, 1))
        q[-2:] += rng.uniform(-0.3, 0.3, 7)
    else:  # fold or stretch the elbow, turn the wrist over
        toward = np.array(
            [
                0,
                0.3,
                0,
                -0.467 - rig.q[3],
                0,
                rng.choice([arm.q_low[5], arm.q_high[5]]) - rig.q[5],
                1.0,
            ]
        )
        q = rig.q + np.clip(toward, -0.35, 0.35) * np.linspace(0, 1, rows)[:, None]
    return _chunk(rng, rig, np.clip(q, arm.q_low, arm.q_high))


def mutated(rng, rig: SimulatedArm, plans: list[ActionChunk]) -> ActionChunk:
    """A plan of an expert's run, moved to where the arm is and spoilt in one way; sometimes left as
    it is.
    """
    plan = plans[rng.integers(len(plans))]
    q = plan.q + (rig.q - plan.q[0] if rng.random() < 0.8 else 0.0)
    kind = rng.integers(9)
    if kind == 0:
        q = q + rng.normal(size=q.shape) * rng.choice([0.001, 0.01, 0.1])
    elif kind == 1:
        q = q * rng.choice([-1.0, 100.0, 180 / np.pi, np.pi / 180, 1.1])
    elif kind == 2:
        q = q[:, rng.permutation(7)]
    elif kind == 3:
        q = q[rng.permutation(len(q))]
    elif kind == 4:
        q = q.copy()
        q[rng.integers(len(q)) :] += rng.normal(size=7) * rng.choice([0.05, 0.5])
    elif kind == 5:
        q = q * np.where(np.arange(7) == rng.integers(7), -1.0, 1.0)
    elif kind == 6:
        q = rig.q + (q - rig.q) * rng.choice([0.0, 0.5, 2.0, 4.0])
    elif kind == 7:
        q = q[::-1].copy()
    return _chunk(rng, rig, q, plan.width)


def _chunk(rng, rig: SimulatedArm, q: np.ndarray, width: np.ndarray | None = None) -> ActionChunk:
    dt = float(rng.choice([0.1, 0.1, 0.05, 0.02, 0.3]))
    width = rng.choice([0.0, 0.02, 0.08], len(q)) if width is None else width
    return ActionChunk(rig.stamp(rng.uniform(0.0, 0.4)), q, width, dt)


def malformed(rng, rig: SimulatedArm) -> ActionChunk:
    """No plan at all: must be refused whole, whatever the state."""
    good = rig.chunk(HOME_Q, age=0.1)
    q, width, bad = good.q.copy(), good.width.copy(), rng.choice([np.nan, np.inf, -np.inf])
    kind = rng.integers(8)
    if kind == 0:
        q[rng.integers(16), rng.integers(7)] = bad
    elif kind == 1:
        width[rng.integers(16)] = bad
    elif kind == 2:
        q = q[:, : rng.integers(7)]
    elif kind == 3:
        q = q[: rng.integers(2)]
    elif kind == 4:
        width = width[: rng.integers(16)]
    elif kind == 5:
        return replace(good, dt=float(rng.choice([np.nan, 0.0, -0.1, 1e-9, 1e9])))
    elif kind == 6:
        q = (q * 1e3).astype(rng.choice(["i8", "c16"]))
    else:
        # denormal: a jump to the zero posture
        q = np.full(q.shape, rng.choice([5e-324, 1e308, -1e308, 1e-310]))
    return ActionChunk(good.stamp, q, width)


# ---- the whole
# ------------------------------------------------------------------------------


def _offer(
    rng, rig: SimulatedArm, plans: list[ActionChunk], report: FuzzReport, seen: list[ActionChunk]
) -> None:
    source = rng.choice(4, p=[0.2, 0.5, 0.24, 0.06])
    bad = source == 3
    if bad and seen and rng.random() < 0.4:  # duplicated or out of order
        chunk = seen[-int(rng.integers(1, min(len(seen), 5) + 1))]
    elif bad:
        chunk = malformed(rng, rig)
    else:
        chunk = (uniform, adversarial)[source](rng, rig) if source < 2 else mutated(rng, rig, plans)
    age = (rig.stamp() - chunk.stamp) * 1e-9
    if rng.random() < 0.02:
        bad, age = True, float(rng.choice([-1.0, 0.6, 3.0, np.nan, np.inf]))
    before = rig.gate._target
    reason = rig.gate.accept(chunk, age, rig.now)
    for _ in range(6):  # as near to whatever is in the way as it may
        if bad or reason.partition(":")[0] not in IN_THE_WAY:
            break
        chunk = replace(chunk, stamp=chunk.stamp + 1, q=rig.q + 0.6 * (chunk.q - rig.q))
        reason = rig.gate.accept(chunk, age, rig.now)
    taken = reason == ""
    report.plans += 1
    report.partial += (taken and bad) or (not taken and rig.gate._target is not before)
    if taken:
        seen.append(chunk)
        del seen[:-8]


def fuzz(
    actions: int, seed: int, plans: list[ActionChunk], progress=lambda done: None
) -> FuzzReport:
    """Throw things at gates for ``actions`` steps. ``plans``: recorded ones to mutate.
    Deterministic for a seed.
    """
    rng, report, block = np.random.default_rng(seed), FuzzReport(), 0
    while report.actions < actions:
        profile, arm, mode = SETTINGS[block % len(SETTINGS)]
        config = GateConfig(mode=mode, score_timeout=SCORE_TIMEOUT)
        rig, seen, crowded = SimulatedArm(config, profile=profile, arm=arm), [], postures(rng, arm)
        rig.q = crowded[0].copy()
        rig.start()
        wanted = min(BLOCK, actions - report.actions)
        while len(rig.log) < wanted:
            _offer(rng, rig, plans, report, seen)
            if rng.random() < 0.08:
                happen(rng, rig)
            for _ in range(int(rng.integers(3, 40))):
                rig.tick(rig.dt + (rng.uniform(-0.003, 0.003) if rng.random() < 0.3 else 0.0))
                report.unwatched += mode == "watch" and rig.unwatched > UNWATCHED
            if rig.gate.state not in (State.RUNNING, State.STOPPING) and rng.random() < 0.5:
                mend(rng, rig, crowded)
        report.actions += len(rig.log)
        _judge(report, rig)
        block += 1
        progress(report.actions)
    return report


def _judge(report: FuzzReport, rig: SimulatedArm) -> None:
    q, dq, ddq, _ = columns(rig.sent)
    verdict = rig.verdict
    gaps = np.array([clearance(part).min() for part in np.array_split(q, max(1, len(q) // 500))])
    near = int(np.sum(gaps < MINIMUM_CLEARANCE - 1e-9))
    report.violations += verdict.total + near
    report.resets += verdict.latches
    report.nonfinite += int(np.sum(~np.isfinite(np.concatenate([q, dq, ddq], axis=1))))
    report.moving += int(np.sum(np.abs(dq).max(axis=1) > 1e-6))
    report.accepted += rig.gate.counts.accepted
    report.least_clearance = float(min(report.least_clearance, gaps.min()))
    for total, part in (
        (report.broken, {k: n for k, n in {**verdict.violations, "clearance": near}.items() if n}),
        (report.refused, rig.gate.counts.refused),
        (report.stops, rig.gate.counts.stops),
    ):
        for key, count in part.items():
            total[key] = total.get(key, 0) + count
