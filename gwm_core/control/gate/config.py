"""The gate's numbers, states, and what its words mean."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import Enum

from gwm_core.control.gate.supervision import MODES
from gwm_core.errors import InputError, one_of

State = Enum("State", "DISARMED HOLD RUNNING SHADOW STOPPING FAULT")
MOVING = (State.RUNNING, State.SHADOW)
# refusals that no sane policy earns
INSANE = ("shape", "not finite", "row spacing", "names", "joint limit", "jump")
# the operator arms again
NOT_BY_ITSELF = ("bad plans", "button let go", "singularity", "diverged", "no score")
NEVER_BY_ITSELF = ("diverged", "no score")  # not in simulation either


@dataclass(frozen=True)
class GateConfig:
    """Every number of the gate. Times in seconds, angles in radians."""

    rate_hz: float = 100.0
    state_timeout: float = 0.04  # measured joints older than this stop the arm
    # joint states must have been one unbroken run for this long to set the reference
    settle_time: float = 0.1
    # no joint state to be believed for this long is a fault: the arm's driver has gone
    blind_timeout: float = 1.0
    alive_timeout: float = 0.05  # policy beats at 50 Hz
    dead_after: float = 1.0  # a policy silent this long counts as dead: arm again
    plan_timeout: float = 1.2  # no newer plan accepted for this long while running
    max_plan_age: float = 0.48  # 30 % of the 1.6 s chunk
    least_plan_gap: float = 0.05  # between accepted plans
    most_bad_plans: int = 2  # malformed or implausible ones in a row
    max_gap: float = 0.1  # between two steps; after a longer one the arm has stopped by itself
    hold_moved: float = 0.02  # from HOLD: joints moved more than this since the observation
    leash: float = 0.15  # commanded against measured ...
    leash_time: float = 0.1  # ... for this long is a fault
    blend: float = 0.25
    close_below: float = 0.03  # [m] gripper edges, with hysteresis
    open_above: float = 0.05  # [m]
    heartbeat_timeout: float = 0.2  # hold_to_run: the operator's device beats every 0.05 s
    mode: str = "auto"  # to begin with: see gwm_core.control.gate.supervision
    approval_time: float = 20.0  # a plan waits this long for a person
    # watch: motion without a score of divergence for this long (7 plans or so) stops
    score_timeout: float = 3.0
    # watch, approve: scores above 1 for this long stop the arm; they come every 0.4 s
    divergence_time: float = 0.0
    auto_arm: bool = False

    def __post_init__(self):
        one_of("mode", self.mode, MODES)
        for name, value in asdict(self).items():
            least_is_zero = name == "divergence_time"
            if not isinstance(value, (bool, str)) and not (
                0 < value < 1000 or (least_is_zero and value == 0)
            ):
                raise InputError(f"gate parameter {name} must be a positive number, got {value}")
