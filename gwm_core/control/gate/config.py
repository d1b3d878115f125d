"""The parameters of the gate."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from gwm_core.control.gate.supervision import MODES
from gwm_core.errors import InputError, one_of


@dataclass(frozen=True)
class GateConfig:
    """Every number of the gate: times in seconds, angles in radians. Names are ROS parameters."""

    rate_hz: float = 100.0
    state_timeout: float = 0.04  # joint states older than this stop the arm
    # joint states must form one unbroken run for this long before they set the reference
    settle_time: float = 0.1
    # a fault after this long without joint states that can be trusted: the driver is gone
    blind_timeout: float = 1.0
    alive_timeout: float = 0.05  # policy heartbeats come at 50 Hz
    dead_after: float = 1.0  # a policy silent for this long counts as dead: arm again
    plan_timeout: float = 1.2  # stop after this long without a newer chunk
    max_plan_age: float = 0.48  # of a chunk's observation: 30 % of the 1.6 s chunk
    least_plan_gap: float = 0.05  # between accepted chunks
    most_bad_plans: int = 2  # malformed or implausible chunks in a row
    max_gap: float = 0.1  # between two steps; after a longer one the arm has stopped by itself
    hold_moved: float = 0.02  # from HOLD: largest joint motion since the observation
    leash: float = 0.15  # distance from the reference to the measured joints ...
    leash_time: float = 0.1  # ... that is a fault when it lasts this long
    blend: float = 0.25  # from one chunk to the next
    close_below: float = 0.03  # [m] requested width that closes the gripper ...
    open_above: float = 0.05  # [m] ... or opens it; between them nothing changes
    heartbeat_timeout: float = 0.2  # hold_to_run: the deadman's message comes every 0.05 s
    mode: str = "auto"  # at the start; modes: gwm_core.control.gate.supervision
    approval_time: float = 20.0  # a chunk waits this long for approval
    # watch: motion without a divergence score for this long (about 7 chunks) stops
    score_timeout: float = 3.0
    # watch, approve: scores above 1 for this long stop the arm; one comes every 0.4 s
    divergence_time: float = 0.0
    auto_arm: bool = False

    def __post_init__(self):
        one_of("mode", self.mode, MODES)
        for name, value in asdict(self).items():
            if isinstance(value, (bool, str)) or 0 < value < 1000:
                continue
            if not (name == "divergence_time" and value == 0):
                raise InputError(f"gate parameter {name} must be a positive number, got {value}")
