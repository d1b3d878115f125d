"""Why a motion ends, and after which causes an operator must arm the gate again.

Causes are words on ``gate/status`` and in recordings: docs/safety.md lists them.
"""

from __future__ import annotations

from gwm_core.control.gate.chunk_intake import ChunkIntake
from gwm_core.control.gate.config import GateConfig
from gwm_core.control.gate.joint_monitor import JointMonitor
from gwm_core.control.gate.life_signs import LifeSigns
from gwm_core.control.gate.reference_motion import ReferenceMotion

# after these only ``arm`` lets the gate take chunks again
NEEDS_ARMING = ("bad plans", "button let go", "singularity", "diverged", "no score")
ALWAYS_NEEDS_ARMING = ("diverged", "no score")  # also with ``auto_arm``


def stays_armed(cause: str, auto_arm: bool) -> bool:
    """Whether an armed gate stays armed after a stop for ``cause``."""
    return cause not in (ALWAYS_NEEDS_ARMING if auto_arm else NEEDS_ARMING)


def input_stop_cause(mode: str, joints: JointMonitor, signs: LifeSigns, now: float) -> str:
    """Why any motion, also a move home, must end now, or ""."""
    if not joints.is_fresh(now):
        return "joint state stale"
    return "button let go" if signs.deadman_released(mode, now) else ""


def chunk_stop_cause(
    config: GateConfig,
    mode: str,
    signs: LifeSigns,
    intake: ChunkIntake,
    motion: ReferenceMotion,
    scored_at: float,
    now: float,
) -> str:
    """Why a motion along chunks must end now, or "".

    Args:
        scored_at: [s] of the last divergence score, or of the begin of the motion.
    """
    if signs.policy_silent(now):
        return "policy silent"
    past_end = now > motion.last_waypoint_at
    if mode == "approve" and past_end:
        return "plan done"
    if past_end or (mode != "approve" and now - intake.accepted_at > config.plan_timeout):
        return "plan stale"
    if mode == "watch" and now - scored_at > config.score_timeout:
        return "no score"
    return "singularity" if motion.follower.into_singularity else ""
