"""The closed loop without ROS: the same planner, gate and simulation in one process, faster than
real time.
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
from gwm_core.types import CHUNK_DT, ArmState, Decision, Frame, Observation

# Quantiles 0, 10, ..., 100 % of the latency of `gwm demo` on 2 CPU cores [s]; docs/benchmarks.md
# has the run.
MEASURED_LATENCY = (0.086, 0.106, 0.116, 0.116, 0.126, 0.126, 0.126, 0.136, 0.136, 0.146, 0.206)
TICK = 0.01  # [s] period of the gate


@dataclass(frozen=True)
class RolloutConfig:
    """How the loop is closed. Times in seconds."""

    latency: tuple[float, ...] = MEASURED_LATENCY  # quantiles; one number = constant
    replan_every: int = 4  # rows between observations
    camera_period: float = 1 / 15
    time_limit: float = TIME_LIMIT


@dataclass
class Trial:
    """What came of one episode."""

    seed: int
    success: bool
    seconds: float  # simulated
    final: dict[str, list[float]]  # object -> x, y, z, yaw, size
    violations: int
    lifted: bool = False  # the red cube, at any moment
    stops: dict[str, int] = field(default_factory=dict)
    # plans by the gate; why none was made; why it stays unarmed
    refused: dict[str, int] = field(default_factory=dict)


def trials_hash(trials: Iterable[Trial]) -> str:
    """SHA-256 over outcomes and final poses (to 10 micrometres): equal for equal runs."""
    digest = hashlib.sha256()
    for t in trials:
        pose = {k: [round(x, 5) for x in v] for k, v in sorted(t.final.items())}
        digest.update(f"{t.seed} {t.success} {t.seconds:.3f} {pose}".encode())
    return digest.hexdigest()


class SimEnvironment:
    """Simulator and cameras, built once and used for many episodes."""

    def __init__(
        self, width: int = 424, height: int = 240, renderer: str = "egl", cameras: bool = True
    ):
        self.sim = Simulator()
        self.rig = SimCameras(width, height, renderer) if cameras else None

    def state(self, width_command: float) -> ArmState:
        """The arm now, stamped with simulated time."""
        return ArmState(
            stamp_of(self.sim.time), self.sim.q, self.sim.dq, self.sim.width, width_command
        )

    def frames(self) -> tuple[Frame, ...]:
        """What all cameras see now."""
        stamp = stamp_of(self.sim.time)
        return tuple(
            Frame(
                i.camera,
                stamp,
                i.color,
                i.depth_mm * np.float32(1e-3),
                self.rig.K,
                self.rig.T_base_camera[i.camera],
            )
            for i in self.rig(self.sim.snapshot())
        )


def stamp_of(seconds: float) -> int:
    """Simulated seconds as a positive stamp [ns]."""
    return 1 + round(seconds * 1e9)


class Observer:
    """Sees everything a rollout does and cannot change it. The default does nothing."""

    def tick(self, state: ArmState, command: Command | None) -> None:
        """Every 10 ms."""

    def observation(self, observation: Observation) -> None:
        """Every time the planner is asked."""

    def decision(self, observation: Observation, decision: Decision) -> None:
        """Every time the planner has answered."""


def measure_at_rest(gate: Gate, state: ArmState) -> None:
    """Tell a gate that the arm has stood at ``state`` until time 0, for as long as it asks for
    before it arms.
    """
    for tick in range(-round(gate.config.settle_time / TICK), 0):
        gate.measure(replace(state, stamp=state.stamp + round(tick * TICK * 1e9)), tick * TICK)


def rollout(
    world: SimEnvironment,
    planner: Planner,
    layout: Layout,
    config: RolloutConfig = RolloutConfig(),
    observer: Observer = Observer(),
    start: Callable[[Simulator], None] = lambda sim: sim.teleport(HOME_Q),
    disturb: Callable[[Simulator, float], None] = lambda sim, now: None,
) -> Trial:
    """Run one episode. Deterministic for the same arguments. Raises InputError where the arm may
    not move.

    Args:
        start: puts the arm where it begins.
        disturb: called every 10 ms with the time [s], may do to the simulation what the policy does
            not expect.
    """
    sim, gate, success = world.sim, Gate(GateConfig(auto_arm=True)), Success(layout.task)
    sim.data.time = 0.0
    sim.reset(layout)
    start(sim)
    rng = np.random.default_rng([layout.seed, 0x1A7])
    grid = np.linspace(0.0, 1.0, max(2, len(config.latency)))
    quantiles = config.latency if len(config.latency) > 1 else config.latency * 2
    log: list[Command] = []
    measure_at_rest(gate, world.state(sim.width))
    pending, due, done, lifted, width = None, 0.0, False, False, sim.width
    sent_width = None
    unplanned: Counter[str] = Counter()
    for tick in range(round(config.time_limit / TICK)):
        now = tick * TICK
        state = world.state(width)
        gate.measure(state, now)
        gate.receive_policy_heartbeat(1, now)
        if tick == 0 and (reason := gate.arm(now)):
            raise InputError(f"episode {layout.seed} cannot begin where the arm stands: {reason}")
        if pending is not None and now >= pending[0]:
            _, chunk, observed = pending
            pending = None
            if chunk is not None:
                gate.accept(chunk, now - observed, now)
        command = gate.step(now)
        if command is None:  # a fault: nobody is there to reset it
            break
        sim.command(command.reference.q, command.reference.dq)
        if command.width != sent_width:
            sim.grip(command.width)
            sent_width = width = command.width
        observer.tick(state, command)
        log.append(command)
        if pending is None and now >= due - 1e-9:
            observation = Observation(
                state.stamp,
                world.frames() if world.rig and planner.policy.sees == "scene" else (),
                state,
                layout.task,
                sim.objects() if planner.policy.sees == "objects" else None,
            )
            observer.observation(observation)
            decision = planner.decide(observation)
            observer.decision(observation, decision)
            if decision.chunk is None:
                unplanned[decision.reason.partition(":")[0]] += 1
            latency = float(np.interp(rng.random(), grid, quantiles))
            pending = now + latency, decision.chunk, now
            frames_apart = np.ceil(config.replan_every * CHUNK_DT / config.camera_period - 1e-6)
            due = now + frames_apart * config.camera_period
        disturb(sim, now)
        sim.step(TICK)
        there = sim.objects(), fk(sim.q)[:3, 3], sim.width
        lifted |= reached("lift", *there)
        if success.update(now, *there):
            done = True
            break
    final = {name: [float(x) for x in pose] for name, pose in sim.objects().items()}
    violations, counts = check_commands(*columns(log)).total, gate.counts
    refused = dict(counts.refused) | unplanned
    return Trial(layout.seed, done, now, final, violations, lifted, dict(counts.stops), refused)
