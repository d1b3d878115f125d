"""The table of faults, injected at random phases of motion, heartbeats and joint states.

An injection passes when the required reaction comes within the limit, under the one cause that
names it, and the checker finds nothing in all that was sent. Milliseconds count from the fault to
the first command of the ramp, unless the name says otherwise. Numbers are those of the fault table
in docs/benchmarks.md.
"""

from __future__ import annotations

import numpy as np

from benchmarks.gate.faults import (
    bad_chunks,
    lost_parts,
    operators,
    policy_servers,
    robot_faults,
    wrong_joints,
)
from benchmarks.gate.trials import Scenario
from gwm_core.types import ActionChunk


def run(scenario: Scenario, seed: int, least: int = 20) -> dict:
    """Inject a fault many times. Returns its row of the table."""
    rng = np.random.default_rng([seed, scenario.id])
    outcomes = [scenario.inject(rng) for _ in range(max(least, scenario.injections))]
    passed = sum(outcome.held and outcome.seconds <= scenario.limit + 1e-9 for outcome in outcomes)
    return {
        "id": scenario.id,
        "name": scenario.name,
        "injected": len(outcomes),
        "passed": passed,
        "worst_ms": round(1e3 * max(outcome.seconds for outcome in outcomes), 3),
        "limit_ms": round(1e3 * scenario.limit, 3),
        "ok": passed >= scenario.fraction * len(outcomes),
    }


def scenarios(chunks: list[ActionChunk]) -> list[Scenario]:
    """Faults that need nothing but the gate; ``chunks``: recorded ones, to be spoilt."""
    return [
        Scenario(12, "policy killed", 0.060, lost_parts.policy_killed, 200),
        Scenario(13, "policy hung", 0.100, lost_parts.policy_killed),
        Scenario(
            14,
            "policy ten times slower: from plan to ramp, before its last row",
            1.5,
            bad_chunks.policy_slow,
        ),
        Scenario(
            15,
            "first plan 0.7 s late: from a timely one to its command",
            0.200,
            bad_chunks.first_plan_late,
        ),
        Scenario(
            16,
            "no plan at all (NaN, shape, type): from the second to the ramp",
            0.200,
            bad_chunks.bad_chunk,
            100,
        ),
        Scenario(17, "plan far outside: from the second to the ramp", 0.200, bad_chunks.far_chunk),
        Scenario(
            18,
            "plan that jumps: refused at once, or followed within the limits",
            0.200,
            bad_chunks.jumping_chunk,
        ),
        Scenario(
            19,
            "recorded plan, signs or units wrong: refused at once",
            0.200,
            bad_chunks.spoilt(chunks),
            500,
            0.99,
        ),
        Scenario(20, "towards wall, table and itself: 10 mm kept", 0.200, bad_chunks.into_the_way),
        Scenario(
            21, "towards the elbow's flip: slowed, no limit broken", 0.200, bad_chunks.elbow_flip
        ),
        Scenario(
            22, "plans repeated and out of order: refused at once", 0.200, bad_chunks.wrong_order
        ),
        *(
            Scenario(23, f"joint states {kind}", 0.050, lost_parts.joints_lost(kind))
            for kind in ("stale", "frozen", "not a number")
        ),
        Scenario(
            25,
            "1 kHz loop loses 1-19 cycles, then 20 and more: to the fault",
            0.200,
            lost_parts.lost_cycles,
        ),
        Scenario(
            26,
            "second publisher: from its discovery to the fault",
            0.100,
            lost_parts.second_publisher,
        ),
        Scenario(
            28,
            "device of teleoperation killed: until the tool slows down",
            0.250,
            operators.device_killed,
        ),
        Scenario(
            28,
            "pad out of range, its driver repeats: until the tool slows down",
            operators.REPEATED,
            operators.pad_out_of_range,
        ),
        Scenario(28, "axes that rest elsewhere: nothing moves", 0.0, operators.axes_elsewhere),
        Scenario(
            28, "leader arm far off, or in other units: nothing moves", 0.0, operators.leader_far
        ),
        Scenario(
            29, "two devices at once: until the tool slows down", 0.250, operators.two_devices
        ),
        Scenario(
            33,
            "user stop or reflex, told by the robot: to the fault",
            0.200,
            lost_parts.user_stop,
            100,
        ),
        Scenario(
            33,
            "arm held, the leash alone: from its end to the fault",
            0.125,
            lost_parts.leash_alone,
        ),
        Scenario(
            53,
            "another's joints after a stall: to the fault",
            0.150,
            wrong_joints.foreign_after_stall,
            100,
        ),
        Scenario(
            54,
            "a fault told after a stall: to the last command",
            0.010,
            wrong_joints.fault_after_stall,
            100,
        ),
        Scenario(
            55,
            "one wrong joint state: until commands go on",
            0.150,
            wrong_joints.one_wrong_state,
            100,
        ),
        Scenario(
            56, "joint states of two arms in turn: to the fault", 0.150, wrong_joints.two_arms
        ),
        Scenario(
            57,
            "armed between two arms' states: from the last jump",
            0.150,
            wrong_joints.arming_between_two,
        ),
        Scenario(
            58, "joint states end while held: to the fault", 1.040, wrong_joints.blind_while_held
        ),
        Scenario(
            59,
            "held arm led away by hand: from the leash's end to the fault",
            0.125,
            wrong_joints.led_away,
        ),
        Scenario(
            60, "watched, and scores end: from the last to the ramp", 3.020, wrong_joints.scores_end
        ),
        Scenario(
            61, "blind cameras: from the last plan to the ramp", 1.5, lost_parts.blind_cameras
        ),
        *robot_faults.ROWS,
        *policy_servers.rows(),
    ]


HARDWARE = (31,)  # a second host
INJECTED = {*range(12, 27), 28, 29, 33, 34, *range(53, 63)}  # 24 in gate_killed
# other parts, with benchmarks of their own
ELSEWHERE = tuple(i for i in range(1, 53) if i not in {*INJECTED, *HARDWARE})
