"""The closed loop without ROS: planner, gate and simulation in one process, faster than real time.

Every 10 ms: measure -> hand a chunk to the gate, if one is due -> step the gate -> command the arm
-> observe and plan, if that is due -> step the simulation.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from gwm_core.control.command_checker import check_commands, columns
from gwm_core.control.gate.config import GateConfig
from gwm_core.control.gate.gate import Gate
from gwm_core.control.gate.state_machine import Command
from gwm_core.errors import InputError
from gwm_core.geometry.kinematics import HOME_Q, fk
from gwm_core.runtime.planner import MEASURED_LATENCY, DelayedPlanner, Planner
from gwm_core.sim.cameras import SimCameras
from gwm_core.sim.scene import Layout
from gwm_core.sim.simulator import Simulator
from gwm_core.sim.tasks import TIME_LIMIT, Success, reached
from gwm_core.types import CHUNK_DT, ArmState, Decision, Frame, Observation

TICK = 0.01  # [s] period of the gate


@dataclass(frozen=True)
class RolloutConfig:
    """How the loop is closed. Times in seconds."""

    latency: tuple[float, ...] = MEASURED_LATENCY  # quantiles; one number = constant
    replan_every: int = 4  # waypoints between observations
    camera_period: float = 1 / 15
    time_limit: float = TIME_LIMIT
    after_success: float = 0.0  # an episode goes on for so long

    @property
    def period(self) -> float:
        """Between two observations [s]: whole frames."""
        frames = np.ceil(self.replan_every * CHUNK_DT / self.camera_period - 1e-6)
        return frames * self.camera_period


@dataclass
class Trial:
    """The outcome of one episode."""

    seed: int
    success: bool
    seconds: float  # simulated
    final: dict[str, list[float]]  # object -> x, y, z, yaw, size
    violations: int
    lifted: bool = False  # the red cube, at any moment
    stops: dict[str, int] = field(default_factory=dict)
    # cause -> count: chunks that the gate refused, and chunks that the planner could not make
    refused: dict[str, int] = field(default_factory=dict)


def trials_hash(trials: Iterable[Trial]) -> str:
    """SHA-256 over outcomes and final poses (to 10 micrometres); equal runs have equal hashes."""
    digest = hashlib.sha256()
    for t in trials:
        pose = {k: [round(x, 5) for x in v] for k, v in sorted(t.final.items())}
        digest.update(f"{t.seed} {t.success} {t.seconds:.3f} {pose}".encode())
    return digest.hexdigest()


class SimEnvironment:
    """Simulator and cameras, built once for many episodes."""

    def __init__(
        self, width: int = 424, height: int = 240, renderer: str = "egl", cameras: bool = True
    ):
        self.sim = Simulator()
        self.cameras = SimCameras(width, height, renderer) if cameras else None

    def state(self, width_command: float) -> ArmState:
        """The arm now, stamped with simulated time."""
        return ArmState(
            stamp_of(self.sim.time), self.sim.q, self.sim.dq, self.sim.width, width_command
        )

    def frames(self) -> tuple[Frame, ...]:
        """The frames of all cameras now."""
        stamp = stamp_of(self.sim.time)
        return tuple(
            Frame(
                i.camera,
                stamp,
                i.color,
                i.depth_mm * np.float32(1e-3),
                self.cameras.K,
                self.cameras.T_base_camera[i.camera],
            )
            for i in self.cameras(self.sim.snapshot())
        )


def stamp_of(seconds: float) -> int:
    """Simulated seconds as a positive stamp [ns]."""
    return 1 + round(seconds * 1e9)


class Observer:
    """Receives every step of a rollout and cannot change it. The default does nothing."""

    def tick(self, state: ArmState, command: Command | None) -> None:
        """Every 10 ms."""

    def observation(self, observation: Observation) -> None:
        """Before the planner decides."""

    def decision(self, observation: Observation, decision: Decision) -> None:
        """After the planner has decided."""


def trial_gate() -> Gate:
    """A new gate of a trial: nobody has to arm it again after a stop."""
    return Gate(GateConfig(auto_arm=True))


def _decide(
    world: SimEnvironment, planner: Planner, task: str, observer: Observer, state: ArmState
) -> Decision:
    """Observe what the policy sees, and plan."""
    sees = planner.policy.sees
    observation = Observation(
        state.stamp,
        world.frames() if world.cameras and sees != "objects" else (),
        state,
        task,
        world.sim.objects() if sees == "objects" else None,
    )
    observer.observation(observation)
    decision = planner.decide(observation)
    observer.decision(observation, decision)
    return decision


def rollout(
    world: SimEnvironment,
    planner: Planner,
    layout: Layout,
    config: RolloutConfig = RolloutConfig(),
    observer: Observer = Observer(),
    start: Callable[[Simulator], None] = lambda sim: sim.teleport(HOME_Q),
    disturb: Callable[[Simulator, float], None] = lambda sim, now: None,
) -> Trial:
    """Run one episode, deterministic for the same arguments.

    Raises InputError where the arm may not move from its start.

    Args:
        start: puts the arm where it begins. disturb: called every 10 ms with the time [s].
    """
    sim, gate, success = world.sim, trial_gate(), Success(layout.task)
    sim.data.time = 0.0
    sim.reset(layout)
    start(sim)
    plans = DelayedPlanner(config.period, layout.seed, config.latency)
    gate.measure_at_rest(world.state(sim.width))
    commands: list[Command] = []
    width, sent_width, succeeded, lifted = sim.width, None, np.inf, False
    for tick in range(round(config.time_limit / TICK)):
        now = tick * TICK
        state = world.state(width)
        gate.measure(state, now)
        gate.receive_policy_heartbeat(1, now)
        if tick == 0 and (reason := gate.arm(now)):
            raise InputError(f"episode {layout.seed} cannot begin where the arm stands: {reason}")
        plans.deliver(gate.accept, now)
        command = gate.step(now)
        if command is None:  # a fault: nobody is there to reset it
            break
        sim.command(command.reference.q, command.reference.dq)
        if command.width != sent_width:
            sim.grip(command.width)
            sent_width = width = command.width
        observer.tick(state, command)
        commands.append(command)
        plans.plan(partial(_decide, world, planner, layout.task, observer, state), now)
        disturb(sim, now)
        sim.step(TICK)
        outcome = sim.objects(), fk(sim.q)[:3, 3], sim.width
        lifted |= reached("lift", *outcome)
        if success.update(now, *outcome):
            succeeded = min(now, succeeded)
        if now >= succeeded + config.after_success:
            break
    return Trial(
        seed=layout.seed,
        success=bool(np.isfinite(succeeded)),
        seconds=min(now, succeeded),
        final={name: [float(x) for x in pose] for name, pose in sim.objects().items()},
        violations=check_commands(*columns(commands)).total,
        lifted=lifted,
        stops=dict(gate.counts.stops),
        refused=dict(gate.counts.refused) | plans.failures,
    )
