"""The closed loop without ROS: planner, gate and simulation in one process, faster than real time.

Every 10 ms: measure -> hand a chunk to the gate, if one is due -> step the gate -> command the arm
-> observe and plan, if that is due -> step the simulation.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

import numpy as np

from gwm_core.control.command_checker import check_commands, columns
from gwm_core.control.gate.config import GateConfig
from gwm_core.control.gate.gate import Gate
from gwm_core.control.gate.state_machine import Command
from gwm_core.errors import InputError
from gwm_core.geometry.kinematics import HOME_Q, fk
from gwm_core.runtime.planner import Planner
from gwm_core.sim.cameras import SimCameras
from gwm_core.sim.scene import Layout
from gwm_core.sim.simulator import Simulator
from gwm_core.sim.tasks import TIME_LIMIT, Success, reached
from gwm_core.types import CHUNK_DT, ActionChunk, ArmState, Decision, Frame, Observation

# [s] quantiles 0, 10, ..., 100 % of the latency of `gwm demo` on 2 CPU cores (docs/benchmarks.md)
MEASURED_LATENCY = (0.086, 0.106, 0.116, 0.116, 0.126, 0.126, 0.126, 0.136, 0.136, 0.146, 0.206)
TICK = 0.01  # [s] period of the gate


@dataclass(frozen=True)
class RolloutConfig:
    """How the loop is closed. Times in seconds."""

    latency: tuple[float, ...] = MEASURED_LATENCY  # quantiles; one number = constant
    replan_every: int = 4  # waypoints between observations
    camera_period: float = 1 / 15
    time_limit: float = TIME_LIMIT
    after_success: float = 0.0  # an episode goes on for so long


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


def measure_at_rest(gate: Gate, state: ArmState) -> None:
    """Give a gate measurements of an arm at rest at ``state`` until time 0, as many as it needs to
    arm.
    """
    for tick in range(-round(gate.config.settle_time / TICK), 0):
        gate.measure(replace(state, stamp=state.stamp + round(tick * TICK * 1e9)), tick * TICK)


class _DelayedPlanner:
    """Plans from what the cameras see, and hands each chunk to the gate after a latency."""

    def __init__(
        self,
        world: SimEnvironment,
        planner: Planner,
        layout: Layout,
        config: RolloutConfig,
        observer: Observer,
    ):
        self._world = world
        self._planner = planner
        self._task = layout.task
        self._observer = observer
        self._rng = np.random.default_rng([layout.seed, 0x1A7])
        self._grid = np.linspace(0.0, 1.0, max(2, len(config.latency)))
        self._quantiles = config.latency if len(config.latency) > 1 else config.latency * 2
        frames = np.ceil(config.replan_every * CHUNK_DT / config.camera_period - 1e-6)
        self._period = frames * config.camera_period  # [s] between two observations
        self._due = 0.0  # [s] time of the next observation
        self._pending: tuple[float, ActionChunk | None, float] | None = None
        self.failures: Counter[str] = Counter()  # why no chunk was made

    def deliver(self, gate: Gate, now: float) -> None:
        """Hand the chunk to the gate if its latency has passed."""
        if self._pending is None or now < self._pending[0]:
            return
        _, chunk, observed = self._pending
        self._pending = None
        if chunk is not None:
            gate.accept(chunk, now - observed, now)

    def plan(self, state: ArmState, now: float) -> None:
        """Observe and plan if that is due and no chunk is pending."""
        if self._pending is not None or now < self._due - 1e-9:
            return
        sees, world = self._planner.policy.sees, self._world
        observation = Observation(
            state.stamp,
            world.frames() if world.cameras and sees == "scene" else (),
            state,
            self._task,
            world.sim.objects() if sees == "objects" else None,
        )
        self._observer.observation(observation)
        decision = self._planner.decide(observation)
        self._observer.decision(observation, decision)
        if decision.chunk is None:
            self.failures[decision.reason.partition(":")[0]] += 1
        latency = float(np.interp(self._rng.random(), self._grid, self._quantiles))
        self._pending = now + latency, decision.chunk, now
        self._due = now + self._period


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
    sim, gate, success = world.sim, Gate(GateConfig(auto_arm=True)), Success(layout.task)
    sim.data.time = 0.0
    sim.reset(layout)
    start(sim)
    plans = _DelayedPlanner(world, planner, layout, config, observer)
    measure_at_rest(gate, world.state(sim.width))
    commands: list[Command] = []
    width, sent_width, succeeded, lifted = sim.width, None, np.inf, False
    for tick in range(round(config.time_limit / TICK)):
        now = tick * TICK
        state = world.state(width)
        gate.measure(state, now)
        gate.receive_policy_heartbeat(1, now)
        if tick == 0 and (reason := gate.arm(now)):
            raise InputError(f"episode {layout.seed} cannot begin where the arm stands: {reason}")
        plans.deliver(gate, now)
        command = gate.step(now)
        if command is None:  # a fault: nobody is there to reset it
            break
        sim.command(command.reference.q, command.reference.dq)
        if command.width != sent_width:
            sim.grip(command.width)
            sent_width = width = command.width
        observer.tick(state, command)
        commands.append(command)
        plans.plan(state, now)
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
