"""The gate's process dies in motion: what the arm does then, with each kind of controller.

A trajectory controller carries out the stop tail that goes with every command. An impedance
controller such as CRISP's holds the last target for ever; the physics simulation, driven by
positions alone, shows how the arm comes to rest.
"""

from __future__ import annotations

from functools import partial

import numpy as np

from benchmarks.gate.faults.table import run
from benchmarks.gate.simulated_arm import SimulatedArm
from benchmarks.gate.trials import FAST, FaultOutcome, Scenario, moving_arm
from gwm_core.control.command_checker import check_commands, check_states, columns
from gwm_core.control.gate.state_machine import Command
from gwm_core.control.loop_timing import TRAJECTORY_DELAY
from gwm_core.control.stop_trajectory import StopPlanner
from gwm_core.geometry.kinematics import fk
from gwm_core.sim.scene import TIMESTEP
from gwm_core.sim.simulator import Simulator
from gwm_core.sim.tasks import sample_layout

REST = 0.01  # [rad/s]
OBSERVED = 0.6  # [s] after the kill
LIMIT = 0.100  # [s] until it slows down


class GateKilled:
    """Kills the gate, and keeps the TCP's travel [m] and the time to rest [s] after each kill."""

    def __init__(self):
        self.travel: list[float] = []
        self.resting: list[float] = []
        self._sim = Simulator()
        self._sim.reset(sample_layout("lift", 0))

    def trajectory_controller(self, rng) -> FaultOutcome:
        """The stop went out with the last command, which is due after a delay and a period.

        ``gwm.hardware.arm_adapters`` sends it like that.
        """
        arm = moving_arm(rng)
        last = arm.sent[-1]
        tail = [
            Command(state, last.width, last.chunk_id)
            for state in StopPlanner(arm.dt).tail(last.reference)
        ]
        q, dq, ddq, resets = columns([*arm.sent, *tail])
        # the first that the arm has not reached
        now = len(arm.sent) - 1 - round(TRAJECTORY_DELAY / arm.dt)
        after = np.abs(dq[now:]).max(axis=1)
        self._note(q[now - 1 :], arm.dt * np.arange(1, 1 + len(after)), after)
        return FaultOutcome(_slows(after, arm.dt), check_commands(q, dq, ddq, resets).total == 0)

    def holding_controller(self, rng) -> FaultOutcome:
        """CRISP's law on positions: stiffness times error, less damping times speed."""
        arm, sim, states = (
            SimulatedArm(phases=(rng.uniform(0, 0.02), rng.uniform(0, 0.01))),
            self._sim,
            [],
        )
        arm.follows = False  # the physics does it
        sim.teleport(arm.q)

        def go_on(seconds: float) -> None:
            for _ in range(round(seconds / TIMESTEP)):
                sim.step(TIMESTEP)
                states.append((sim.time, sim.q, sim.dq))

        def follow(seconds: float) -> None:
            for _ in range(round(seconds / arm.dt)):
                command = arm.tick()
                if command is not None:
                    sim.command(command.reference.q, np.zeros(7))
                go_on(arm.dt)
                arm.q = sim.q

        follow(0.2)
        arm.arm()
        follow(0.5)
        while arm.offer(arm.chunk(arm.q + rng.uniform(-FAST, FAST, 7))):
            pass
        follow(rng.uniform(0.3, 0.9))
        killed = len(states)
        go_on(OBSERVED)
        times, q, dq = (np.array(part) for part in zip(*states))
        after = np.abs(dq[killed:]).max(axis=1)
        self._note(q[killed - 1 :], times[killed:] - times[killed - 1], after)
        return FaultOutcome(
            _slows(after, TIMESTEP),
            bool(after[-1] < REST) and check_states(times, q, dq).total == 0,
        )

    def _note(self, q: np.ndarray, times: np.ndarray, speed: np.ndarray) -> None:
        tcp = fk(q)[:, :3, 3]
        self.travel.append(float(np.linalg.norm(tcp - tcp[0], axis=1).max()))
        self.resting.append(float(times[speed > REST].max(initial=0.0)))


def _slows(speed: np.ndarray, dt: float) -> float:
    """Seconds until the largest joint speed only falls."""
    rising = np.flatnonzero(np.diff(speed) > 1e-3)
    return dt * float(rising[-1] + 2 if len(rising) else 1)


def rows(seed: int, injections: int) -> list[dict]:
    """Rows of the fault table, with the largest travel and the longest time to rest."""
    result = []
    for name, inject in (
        ("stop tail of a trajectory controller", GateKilled.trajectory_controller),
        ("last target held by an impedance controller", GateKilled.holding_controller),
    ):
        killed = GateKilled()
        row = run(
            Scenario(
                24,
                f"gate killed, {name}: until it slows",
                LIMIT,
                partial(inject, killed),
                injections,
            ),
            seed,
            least=1,
        )
        figures = {
            "travel_mm": round(1e3 * max(killed.travel), 2),
            "rest_ms": round(1e3 * max(killed.resting)),
        }
        result.append(row | figures)
    return result
