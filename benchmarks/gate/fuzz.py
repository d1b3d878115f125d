"""Fuzz the gate: whatever comes in, no command that breaks a limit may come out.

An action is one 100 Hz step of the gate, and every command is checked. Chunks are uniform,
adversarial, mutated from recorded ones, and malformed. Between them the policy dies, joint states
go stale or are wrong, the loop pauses, and people press buttons (``fuzz_events``). The checker
knows where the arm really is.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from benchmarks.gate.fuzz_events import inject_event, postures, recover
from benchmarks.gate.simulated_arm import SimulatedArm
from gwm_core.control.command_checker import columns
from gwm_core.control.gate.config import GateConfig
from gwm_core.gate_status import State
from gwm_core.geometry.capsules import MINIMUM_CLEARANCE, clearance
from gwm_core.geometry.kinematics import HOME_Q
from gwm_core.geometry.limits import DESK, FR3, FULL, LAB, PANDA
from gwm_core.types import ActionChunk

BLOCK = 20_000  # actions of one gate; each block is checked at its end
IN_THE_WAY = ("workspace", "table", "self-collision", "singularity")
SETTINGS = (  # profile, arm and mode, in turn
    (DESK, FR3, "auto"),
    (DESK, FR3, "watch"),
    (LAB, FR3, "auto"),
    (DESK, PANDA, "auto"),
    (FULL, FR3, "watch"),
)
SCORE_TIMEOUT = 1.0  # [s] shorter than the gate's default, because fuzzed motions are short
UNWATCHED = 1.02  # [s] the longest motion without a score in "watch"


@dataclass
class FuzzReport:
    """The result. ``partial``: bad chunks of which any part was used."""

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


# ---- chunks ----------------------------------------------------------------


def uniform(rng, arm: SimulatedArm) -> ActionChunk:
    """Waypoints anywhere around the reference, near or far, smooth or not."""
    rows, spread = int(rng.integers(2, 40)), float(rng.choice([0.01, 0.03, 0.1, 0.1, 0.3, 5.0]))
    q = arm.q + rng.normal(size=(rows, 7)) * spread
    if rng.random() < 0.7:  # a smooth way there: much more of this is accepted
        q = arm.q + np.linspace(1 / rows, 1, rows)[:, None] * (q[-1] - arm.q)
    return _chunk(rng, arm, q)


def adversarial(rng, arm: SimulatedArm) -> ActionChunk:
    """Waypoints that are acceptable one by one, and together as bad as possible."""
    limits, rows = arm.gate.limits, int(rng.integers(4, 32))
    kind = rng.integers(5)
    if kind == 0:  # back and forth as far as a plan may jump
        q = arm.q + np.where(np.arange(rows) % 2, 1, -1)[:, None] * rng.uniform(-0.15, 0.15, 7)
    elif kind == 1:  # along the end stops
        q = np.where(rng.random(7) < 0.5, limits.q_low, limits.q_high) + 0 * arm.q
        q = arm.q + np.clip(q - arm.q, -0.3, 0.3) * np.linspace(0, 1, rows)[:, None] ** rng.choice(
            [0.5, 1, 3]
        )
    elif (
        kind == 2
    ):  # towards the table, a wall, the arm itself: one direction until something is in the way
        q = arm.q + np.linspace(0, 1, rows)[:, None] * rng.choice([-1, 0, 1], 7) * rng.uniform(
            0.05, 0.35
        )
    elif kind == 3:  # late and hard: rest, then a jerk at the end
        q = np.tile(arm.q, (rows, 1))
        q[-2:] += rng.uniform(-0.3, 0.3, 7)
    else:  # fold or stretch the elbow, turn the wrist over
        toward = np.array(
            [
                0,
                0.3,
                0,
                -0.467 - arm.q[3],
                0,
                rng.choice([limits.q_low[5], limits.q_high[5]]) - arm.q[5],
                1.0,
            ]
        )
        q = arm.q + np.clip(toward, -0.35, 0.35) * np.linspace(0, 1, rows)[:, None]
    return _chunk(rng, arm, np.clip(q, limits.q_low, limits.q_high))


def mutated(rng, arm: SimulatedArm, chunks: list[ActionChunk]) -> ActionChunk:
    """A recorded chunk, moved to where the arm is and spoilt in one way, or left as it is."""
    chunk = chunks[rng.integers(len(chunks))]
    q = chunk.q + (arm.q - chunk.q[0] if rng.random() < 0.8 else 0.0)
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
        q = arm.q + (q - arm.q) * rng.choice([0.0, 0.5, 2.0, 4.0])
    elif kind == 7:
        q = q[::-1].copy()
    return _chunk(rng, arm, q, chunk.width)


def _chunk(rng, arm: SimulatedArm, q: np.ndarray, width: np.ndarray | None = None) -> ActionChunk:
    dt = float(rng.choice([0.1, 0.1, 0.05, 0.02, 0.3]))
    width = rng.choice([0.0, 0.02, 0.08], len(q)) if width is None else width
    return ActionChunk(arm.stamp(rng.uniform(0.0, 0.4)), q, width, dt)


def malformed(rng, arm: SimulatedArm) -> ActionChunk:
    """No chunk at all: must be refused as a whole, in every state."""
    good = arm.chunk(HOME_Q, age=0.1)
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


# ---- fuzzing ---------------------------------------------------------------


def _offer_chunk(
    rng, arm: SimulatedArm, chunks: list[ActionChunk], report: FuzzReport, seen: list[ActionChunk]
) -> None:
    source = rng.choice(4, p=[0.2, 0.5, 0.24, 0.06])
    bad = source == 3
    if bad and seen and rng.random() < 0.4:  # duplicated or out of order
        chunk = seen[-int(rng.integers(1, min(len(seen), 5) + 1))]
    elif bad:
        chunk = malformed(rng, arm)
    else:
        chunk = (
            (uniform, adversarial)[source](rng, arm) if source < 2 else mutated(rng, arm, chunks)
        )
    age = (arm.stamp() - chunk.stamp) * 1e-9
    if rng.random() < 0.02:
        bad, age = True, float(rng.choice([-1.0, 0.6, 3.0, np.nan, np.inf]))
    before = arm.gate._motion.target
    reason = arm.gate.accept(chunk, age, arm.now)
    for _ in range(6):  # as near to whatever is in the way as it may
        if bad or reason.partition(":")[0] not in IN_THE_WAY:
            break
        chunk = replace(chunk, stamp=chunk.stamp + 1, q=arm.q + 0.6 * (chunk.q - arm.q))
        reason = arm.gate.accept(chunk, age, arm.now)
    taken = reason == ""
    report.plans += 1
    report.partial += (taken and bad) or (not taken and arm.gate._motion.target is not before)
    if taken:
        seen.append(chunk)
        del seen[:-8]


def fuzz(
    actions: int, seed: int, chunks: list[ActionChunk], progress=lambda done: None
) -> FuzzReport:
    """Fuzz gates for ``actions`` steps. Deterministic for a seed.

    Args:
        chunks: recorded ones to mutate.
        progress: called with the number of actions done.
    """
    rng, report, block = np.random.default_rng(seed), FuzzReport(), 0
    while report.actions < actions:
        profile, limits, mode = SETTINGS[block % len(SETTINGS)]
        config = GateConfig(mode=mode, score_timeout=SCORE_TIMEOUT)
        arm, seen, tight = (
            SimulatedArm(config, profile=profile, arm=limits),
            [],
            postures(rng, limits),
        )
        arm.q = tight[0].copy()
        arm.start()
        wanted = min(BLOCK, actions - report.actions)
        while len(arm.log) < wanted:
            _offer_chunk(rng, arm, chunks, report, seen)
            if rng.random() < 0.08:
                inject_event(rng, arm)
            for _ in range(int(rng.integers(3, 40))):
                arm.tick(arm.dt + (rng.uniform(-0.003, 0.003) if rng.random() < 0.3 else 0.0))
                report.unwatched += mode == "watch" and arm.unwatched > UNWATCHED
            if arm.gate.state not in (State.RUNNING, State.STOPPING) and rng.random() < 0.5:
                recover(rng, arm, tight)
        report.actions += len(arm.log)
        _check(report, arm)
        block += 1
        progress(report.actions)
    return report


def _check(report: FuzzReport, arm: SimulatedArm) -> None:
    q, dq, ddq, _ = columns(arm.sent)
    check_result = arm.check_result
    gaps = np.array([clearance(part).min() for part in np.array_split(q, max(1, len(q) // 500))])
    near = int(np.sum(gaps < MINIMUM_CLEARANCE - 1e-9))
    report.violations += check_result.total + near
    report.resets += check_result.resets
    report.nonfinite += int(np.sum(~np.isfinite(np.concatenate([q, dq, ddq], axis=1))))
    report.moving += int(np.sum(np.abs(dq).max(axis=1) > 1e-6))
    report.accepted += arm.gate.counts.accepted
    report.least_clearance = float(min(report.least_clearance, gaps.min()))
    for total, part in (
        (
            report.broken,
            {k: n for k, n in {**check_result.violations, "clearance": near}.items() if n},
        ),
        (report.refused, arm.gate.counts.refused),
        (report.stops, arm.gate.counts.stops),
    ):
        for key, count in part.items():
            total[key] = total.get(key, 0) + count
