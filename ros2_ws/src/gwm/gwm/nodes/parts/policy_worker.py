"""The planner in the policy's worker thread: how it is made and warmed up, and its timing."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

import numpy as np

from gwm_core.errors import one_of
from gwm_core.geometry.camera import intrinsics, look_at
from gwm_core.geometry.kinematics import HOME_Q
from gwm_core.runtime.planner import Planner, open_planner
from gwm_core.types import OPEN_WIDTH, ArmState, Decision, Frame, Observation

EXPERT = "expert"  # the scripted policy, in simulation
# Of the time between two observations: after it no further candidate is ranked. The rest is for the
# candidate in progress, the lift, the way to the gate, and the other processes of the machine.
RANKING = 0.5


@dataclass(frozen=True)
class PlanRequest:
    """An observation for the planner, with ROS times [ns]."""

    observation: Observation
    sent: int  # when its last image was published
    put: int  # when the request was made


def make_planner(
    policy: str,
    threads: int,
    backend: str,
    precision: str,
    gaussians: int,
    candidates: int = 1,
    period: float = math.inf,
) -> Planner:
    """Return the planner of a policy, or the scripted expert.

    Args:
        policy: folder, policy server as of ``open_planner``, or expert.
        threads: of the runtime.
        backend: of the runtime.
        precision: of the runtime.
        gaussians: size of the scenes it hands out; 0: the policy's own.
        candidates: plans of one scene, of which the best is taken.
        period: between two observations [s].
    """
    if policy != EXPERT:
        return open_planner(
            policy,
            candidates,
            threads=threads,
            backend=backend,
            precision=precision,
            gaussians=gaussians,
            deadline=RANKING * period,
            clock=time.monotonic,
        )
    # This needs MuJoCo, which a robot's machine may lack.
    from gwm_core.sim import planners

    return planners.make_planner(planners.EXPERT, candidates=candidates)


def prepare(planner: Planner, cameras: tuple[str, ...], task: str) -> None:
    """Check a planner against task and site, and warm it up before the gate may be armed."""
    planner.clock = time.monotonic
    one_of("task", task, getattr(planner.policy, "tasks", (task,)))
    if bundle := getattr(planner.policy, "bundle", None):
        bundle.check_site(len(cameras))
    if planner.policy.sees == "scene":
        for _ in range(3):
            planner.decide(_warm_up_observation(cameras, task))
    if planner.policy.sees == "images":
        planner.prepare(_warm_up_observation(cameras, task))


def stages(request: PlanRequest, decision: Decision, now: int) -> dict[str, float]:
    """Return the parts of the time from capture to chunk [ms]."""
    received = {
        "capture": (request.sent - request.observation.stamp) * 1e-6,
        "receive": (request.put - request.sent) * 1e-6,
    }
    # To the planner's thread and back.
    handover = (now - request.put) * 1e-6 - sum(decision.stages_ms.values())
    return received | decision.stages_ms | {"handover": handover}


def _warm_up_observation(cameras: tuple[str, ...], task: str) -> Observation:
    """Return an observation of a plane that every camera sees."""
    K, T = intrinsics(424, 240, 42.5), look_at((1.15, 0.0, 0.62), (0.5, 0.0, 0.0))
    state = ArmState(1, HOME_Q, np.zeros(7), OPEN_WIDTH)
    color, depth = np.zeros((240, 424, 3), np.uint8), np.full((240, 424), 0.9, np.float32)
    return Observation(
        1, tuple(Frame(name, 1, color, depth, K, T) for name in cameras), state, task
    )
