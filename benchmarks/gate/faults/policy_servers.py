"""Servers of foreign policies that fail: no chunk is followed that they made then or late."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from benchmarks.gate.policy_server import FAULTS, PolicyServer
from benchmarks.gate.simulated_arm import SimulatedArm
from benchmarks.gate.trials import FAST, FaultOutcome, Scenario, moving_arm, no_violations, stopped
from gwm_core.gate_status import State
from gwm_core.runtime.remote.connection import PolicyConnection, ServerAddress
from gwm_core.runtime.remote.contract import parse_contract
from gwm_core.runtime.remote.remote_planner import RemotePlanner
from gwm_core.types import OPEN_WIDTH, ArmState, Frame, Observation

TIMEOUT = 0.05  # [s] for an answer, of real time
CONTRACT = {
    "images": {"observation/image": {"camera": "front", "size": [32, 32]}},
    "state": {"observation/state": ["joints", "gripper_opening"]},
    "actions": {"space": "joint_positions", "gripper": "opening", "rate": 10, "rows": 16},
    "timeout": TIMEOUT,
}
_FRAME = Frame(
    "front", 1, np.zeros((24, 32, 3), np.uint8), np.ones((24, 32), np.float32), np.eye(3), np.eye(4)
)


def rows() -> list[Scenario]:
    """A row for each fault: the arm comes to rest, and goes on when the server is well again."""
    return [
        Scenario(62, f"policy server {fault}: from the last plan to the ramp", 1.5, failing(fault))
        for fault in FAULTS
    ]


def failing(fault: str) -> Callable[[np.random.Generator], FaultOutcome]:
    """62: chunks come from a server until it fails, and again afterwards."""

    def inject(rng: np.random.Generator) -> FaultOutcome:
        goal = rng.uniform(-FAST, FAST, 7) / 4

        def act(observation: dict) -> np.ndarray:
            q, opening = np.split(observation["observation/state"].astype(float), [7])
            fraction = np.linspace(1 / 16, 1, 16)[:, None]
            return np.hstack([q + fraction * goal, np.tile(opening, (16, 1))])

        with PolicyServer(act) as server:
            server.slowness = 3 * TIMEOUT
            contract = parse_contract("bench", CONTRACT)
            planner = RemotePlanner(contract, PolicyConnection(ServerAddress(server.url)))
            outcome = _fail(rng, moving_arm(rng), planner, server, fault)
            planner.close()
        return outcome

    return inject


def _fail(
    rng, arm: SimulatedArm, planner: RemotePlanner, server: PolicyServer, fault: str
) -> FaultOutcome:
    followed = _plan(arm, planner) == ""
    taken = arm.now
    arm.run(rng.uniform(0.1, 0.4))
    server.fault = fault
    if fault == "killed":
        server.stop()
    if fault == "another contract":  # a server that was exchanged meanwhile
        server.stop()
        server.start()
    while arm.gate.state is State.RUNNING:
        _plan(arm, planner)
        arm.run(0.2)
    seconds = arm.now - taken
    cause = "bad plans" if fault == "degrees" else "plan stale"
    held = followed and stopped(arm, cause)
    server.fault = ""
    if fault == "killed":
        server.start()
    if fault == "another contract":
        server.stop()
        server.start()
    _plan(arm, planner)  # on a connection that may be the broken one
    arm.arm()
    arm.run(0.1)
    again = _plan(arm, planner) == ""
    arm.run(0.3)
    well = again and arm.gate.state is State.RUNNING and no_violations(arm)
    return FaultOutcome(seconds, held and well)


def _plan(arm: SimulatedArm, planner: RemotePlanner) -> str:
    """Observe, plan and offer. Returns why no chunk is followed, or ""."""
    state = ArmState(arm.stamp(), arm.q, np.zeros(7), OPEN_WIDTH)
    decision = planner.decide(Observation(state.stamp, (_FRAME,), state, "lift"))
    return decision.reason if decision.chunk is None else arm.offer(decision.chunk, 0.0)
