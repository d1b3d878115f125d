"""Episodes with and without a disturbance, and the divergence that the policy reports.

Each runs in one process, faster than real time, with the latency of the live graph.

none     the episode as it is, until the policy itself knocks an object away
cube     a cube is moved by 5 to 8 cm
camera   a camera is shifted by 3 cm or rotated by 3 degrees
slip     the cube in the gripper loses its friction
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from gwm_core.control.gate.state_machine import Command
from gwm_core.geometry.kinematics import fk
from gwm_core.runtime.divergence import DivergenceLimits
from gwm_core.runtime.imagination import Imagination, PredictionRequest, open_imagination
from gwm_core.sim.planners import make_planner
from gwm_core.sim.rollout import Observer, RolloutConfig, SimEnvironment, rollout
from gwm_core.sim.scene import CAMERAS
from gwm_core.sim.simulator import Simulator
from gwm_core.sim.tasks import sample_layout
from gwm_core.site import simulation_site
from gwm_core.types import ArmState, Decision, Observation
from gwm_core.workers.pool import workers

KINDS = ("none", "cube", "camera", "slip")
SHIFT, ROTATION = 0.03, np.radians(3.0)  # [m], [rad] of a camera
MOVED = (0.05, 0.08)  # [m] of a cube
KNOCKED = 0.03  # [m] that an object moves by itself, away from the gripper
_CLEARANCE = 0.06  # [m] from other objects and the gripper
_HELD = 0.06  # [m] from the gripper: it may move objects that are nearer
_STILL = 0.005  # [m] that an object at rest moves at most
_REACH = (0.36, 0.64), (-0.28, 0.28)  # [m] where cubes are moved to
DELAY = 0.25  # [s] from an observation to its score; assumed, not measured
_KEPT = 300  # states and commands: 3 s


@dataclass
class Disturbance:
    """Happens once: at ``due`` [s], or for a slip when a cube is carried after that."""

    kind: str
    seed: int
    due: float = 0.0
    time: float = np.inf  # [s] at which it happened

    def __post_init__(self):
        self._rng = np.random.default_rng([self.seed, 0xD157])
        self.due = float(self._rng.uniform(1.0, 4.0))

    def __call__(self, sim: Simulator, now: float) -> None:
        """Called every 10 ms."""
        if now < self.due or np.isfinite(self.time):
            return
        if getattr(self, f"_{self.kind}")(sim):
            self.time = now

    def _cube(self, sim: Simulator) -> bool:
        gripper, objects = fk(sim.q)[:3, 3], sim.objects()
        free = [
            n
            for n in objects
            if n != "plate" and np.linalg.norm(objects[n][:3] - gripper) > _CLEARANCE
        ]
        name, (low, high) = self._rng.choice(free), np.array(_REACH).T
        for _ in range(1000):
            angle, distance = self._rng.uniform(0, 2 * np.pi), self._rng.uniform(*MOVED)
            position = objects[name][:2] + distance * np.array([np.cos(angle), np.sin(angle)])
            others = [p[:2] for other, p in objects.items() if other != name] + [gripper[:2]]
            if (
                (position > low).all()
                and (position < high).all()
                and min(np.linalg.norm(np.array(others) - position, axis=1)) > _CLEARANCE
            ):
                sim.put(name, *position)
                return True
        return False  # no room: try again in 10 ms

    def _camera(self, sim: Simulator) -> bool:
        axis = self._rng.normal(size=3)
        axis /= np.linalg.norm(axis)
        zero = np.zeros(3)
        rotate = self._rng.random() < 0.5
        sim.shift_camera(
            str(self._rng.choice(list(CAMERAS))),
            np.r_[ROTATION * axis, zero] if rotate else np.r_[zero, SHIFT * axis],
        )
        return True

    def _slip(self, sim: Simulator) -> bool:
        gripper, objects = fk(sim.q)[:3, 3], sim.objects()
        for name, pose in objects.items():
            if name != "plate" and pose[2] > 0.06 and np.linalg.norm(pose[:3] - gripper) < 0.04:
                sim.remove_friction(name)
                return True
        return False


@dataclass
class Knock:
    """Notices the policy's own disturbance: an object that moves by ``KNOCKED`` by itself."""

    time: float = np.inf  # [s] at which it began
    # where the gripper left each object, and the last time [s] at which it was there
    _rest: dict[str, tuple[np.ndarray, float]] = field(default_factory=dict)

    def __call__(self, sim: Simulator, now: float) -> None:
        """Called every 10 ms."""
        gripper = fk(sim.q)[:3, 3]
        for name, pose in sim.objects().items():
            held = np.linalg.norm(pose[:3] - gripper) < _HELD
            place, since = self._rest.get(name, (pose[:3], now))
            moved = np.linalg.norm(pose[:3] - place)
            if held or moved < _STILL:
                self._rest[name] = (pose[:3] if held else place), now
            elif moved > KNOCKED:
                self.time = min(self.time, since)


@dataclass
class DivergenceObserver(Observer):
    """Computes the divergence of every chunk's scene, as the imagination node does."""

    imagination: Imagination
    task: str
    # time [s] of the observation, terms by horizon
    rows: list[tuple[float, dict]] = field(default_factory=list)

    def __post_init__(self):
        self._states: deque[ArmState] = deque(maxlen=_KEPT)
        self._commands: deque[ArmState] = deque(maxlen=_KEPT)

    def tick(self, state: ArmState, command: Command | None) -> None:
        """Keep the state and the command."""
        self._states.append(state)
        if command is not None:
            self._commands.append(
                ArmState(state.stamp, command.reference.q, np.zeros(7), command.width)
            )

    def decision(self, observation: Observation, decision: Decision) -> None:
        """Compare the scene with earlier predictions."""
        if decision.chunk is None:
            return
        Ks = {frame.camera: (frame.K, *frame.depth.shape[::-1]) for frame in observation.frames}
        request = PredictionRequest(
            self.task,
            decision.chunk,
            decision.scene,
            tuple(self._states),
            tuple(self._commands),
            Ks,
        )
        state = self.imagination.observe(request)
        gaps = self.imagination.compare(request, state)
        self.rows.append((observation.stamp * 1e-9, gaps))


@dataclass(frozen=True)
class DisturbedEpisode:
    """One episode to run."""

    policy: str
    kind: str
    seed: int
    task: str = "pick_place"
    renderer: str = "egl"


@dataclass(frozen=True)
class DisturbedOutcome:
    """Its outcome."""

    case: DisturbedEpisode
    disturbed: float  # [s] time of the disturbance or the policy's own, infinite without one
    success: bool
    # time [s] of an observation, terms by horizon
    rows: list[tuple[float, dict[int, dict[str, float]]]]

    def detected(self, limits: DivergenceLimits) -> float:
        """Time [s] of the first score above 1 after the disturbance."""
        scores = self._scores(limits, self.disturbed)
        return min((t + DELAY for t, score in scores if score > 1), default=np.inf)

    def largest(self, limits: DivergenceLimits, until: float) -> float:
        """The largest score that is known within ``until`` [s] after the disturbance."""
        scores = self._scores(limits, self.disturbed, self.disturbed + until - DELAY)
        return max((score for _, score in scores), default=0.0)

    def largest_before(self, limits: DivergenceLimits) -> float:
        """The largest score up to the disturbance."""
        return max((score for _, score in self._scores(limits, end=self.disturbed)), default=0.0)

    def normal(self) -> list[dict[int, dict[str, float]]]:
        """Terms by horizon of what was observed up to the disturbance."""
        return [gaps for t, gaps in self.rows if t <= self.disturbed]

    def _scores(
        self, limits: DivergenceLimits, start: float = -np.inf, end: float = np.inf
    ) -> list[tuple[float, float]]:
        """Times [s] and scores after ``start`` and up to ``end``."""
        return [(t, limits.score(gaps)) for t, gaps in self.rows if gaps and start < t <= end]


_tools: tuple | None = None  # of this process


def _run(case: DisturbedEpisode) -> DisturbedOutcome:
    global _tools
    if _tools is None:
        imagination = open_imagination(Path(case.policy), simulation_site())
        planner = make_planner(case.policy, gaussians=imagination.lift_config.count)
        _tools = imagination, planner, SimEnvironment(renderer=case.renderer)
    imagination, planner, environment = _tools
    imagination.expected.forget()
    disturbance = Knock() if case.kind == "none" else Disturbance(case.kind, case.seed)
    observer = DivergenceObserver(imagination, case.task)
    layout = sample_layout(case.task, case.seed, "nominal")
    trial = rollout(environment, planner, layout, RolloutConfig(), observer, disturb=disturbance)
    return DisturbedOutcome(case, disturbance.time, trial.success, observer.rows)


def run_all(
    cases: list[DisturbedEpisode],
    processes: int,
    progress: Callable[[DisturbedOutcome], None] = lambda o: None,
) -> list[DisturbedOutcome]:
    """Run the episodes, in order."""
    done = []
    with workers(processes, len(cases)) as pool:
        for outcome in pool.imap(_run, cases):
            done.append(outcome)
            progress(outcome)
    return done
