"""Is a disturbance noticed? Episodes in which something happens that no plan expected, beside
episodes as ever.

In one process, faster than real time, with the plans' delays of the live graph.

cube     a cube is moved by 5 to 8 cm        camera   one is shifted by 3 cm or turned by 3 degrees
slip     the cube in the gripper loses its friction
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from gwm_core.control.gate.gate import Command
from gwm_core.geometry.kinematics import fk
from gwm_core.runtime.divergence import DivergenceLimits
from gwm_core.runtime.world_runner import (
    ExpectedScenes,
    PredictionRequest,
    WorldRunner,
    compare_with_predictions,
)
from gwm_core.sim.planners import make_planner
from gwm_core.sim.rollout import Observer, RolloutConfig, SimEnvironment, rollout
from gwm_core.sim.scene import CAMERAS
from gwm_core.sim.simulator import Simulator
from gwm_core.sim.tasks import sample_layout
from gwm_core.site import Site, simulation_site
from gwm_core.types import ArmState, Decision, Observation
from gwm_core.worker_processes import workers

KINDS = ("none", "cube", "camera", "slip")
SHIFT, TURN = 0.03, np.radians(3.0)  # [m], [rad] of a camera
MOVED = (0.05, 0.08)  # [m] of a cube
_APART = 0.06  # [m] from other things on the table
_REACH = (0.36, 0.64), (-0.28, 0.28)  # [m] where cubes are put
DELAY = 0.25  # [s] from an observation to its score; assumed, not measured
_KEPT = 300  # states and commands at hand: 3 s


@dataclass
class Disturbance:
    """Happens once, at ``due`` [s] or, for a slip, when a cube has been carried for a while after
    that.
    """

    kind: str
    seed: int
    due: float = 0.0
    happened: float = np.inf  # [s]

    def __post_init__(self):
        self._rng = np.random.default_rng([self.seed, 0xD157])
        self.due = float(self._rng.uniform(1.0, 4.0))

    def __call__(self, sim: Simulator, now: float) -> None:
        """Called every 10 ms."""
        if self.kind == "none" or now < self.due or np.isfinite(self.happened):
            return
        if getattr(self, f"_{self.kind}")(sim):
            self.happened = now

    def _cube(self, sim: Simulator) -> bool:
        hand, things = fk(sim.q)[:3, 3], sim.objects()
        loose = [
            n for n in things if n != "plate" and np.linalg.norm(things[n][:3] - hand) > _APART
        ]
        name, (low, high) = self._rng.choice(loose), np.array(_REACH).T
        for _ in range(1000):
            angle, far = self._rng.uniform(0, 2 * np.pi), self._rng.uniform(*MOVED)
            place = things[name][:2] + far * np.array([np.cos(angle), np.sin(angle)])
            others = [thing[:2] for other, thing in things.items() if other != name] + [hand[:2]]
            if (
                (place > low).all()
                and (place < high).all()
                and min(np.linalg.norm(np.array(others) - place, axis=1)) > _APART
            ):
                sim.put(name, *place)
                return True
        return False  # no room: again in 10 ms

    def _camera(self, sim: Simulator) -> bool:
        way = self._rng.normal(size=3)
        way /= np.linalg.norm(way)
        still = np.zeros(3)
        turn = self._rng.random() < 0.5
        sim.shift_camera(
            str(self._rng.choice(list(CAMERAS))),
            np.r_[TURN * way, still] if turn else np.r_[still, SHIFT * way],
        )
        return True

    def _slip(self, sim: Simulator) -> bool:
        hand, things = fk(sim.q)[:3, 3], sim.objects()
        for name, thing in things.items():
            if name != "plate" and thing[2] > 0.06 and np.linalg.norm(thing[:3] - hand) < 0.04:
                sim.remove_friction(name)
                return True
        return False


@dataclass
class DivergenceObserver(Observer):
    """Notes for every plan how far what was seen was from what had been imagined, as the
    imagination node does.
    """

    imagination: WorldRunner
    watch: ExpectedScenes
    site: Site
    # time [s] of the observation, terms by horizon
    rows: list[tuple[float, dict]] = field(default_factory=list)

    def __post_init__(self):
        self._states: deque[ArmState] = deque(maxlen=_KEPT)
        self._sent: deque[ArmState] = deque(maxlen=_KEPT)

    def tick(self, state: ArmState, command: Command | None) -> None:
        """Keep what was measured and sent."""
        self._states.append(state)
        if command is not None:
            self._sent.append(
                ArmState(state.stamp, command.reference.q, np.zeros(7), command.width)
            )

    def decision(self, observation: Observation, decision: Decision) -> None:
        """Hold what is seen against what was imagined."""
        if decision.chunk is None:
            return
        Ks = {frame.camera: (frame.K, *frame.depth.shape[::-1]) for frame in observation.frames}
        task = PredictionRequest(
            decision.chunk,
            decision.scene,
            tuple(self._states),
            tuple(self._sent),
            Ks,
            with_images=False,
        )
        _, gaps = compare_with_predictions(self.imagination, self.watch, task, self.site)
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
    """What came of it."""

    case: DisturbedEpisode
    happened: float  # [s], infinite where nothing happened
    success: bool
    # time [s] of an observation, terms by horizon
    rows: list[tuple[float, dict[int, dict[str, float]]]]

    def noticed(self, limits: DivergenceLimits) -> float:
        """When [s] the score first was above 1 after it happened; where nothing happened, when it
        ever was.
        """
        begun = self.happened if np.isfinite(self.happened) else -np.inf
        return min(
            (t + DELAY for t, gaps in self.rows if t > begun and limits.score(gaps) > 1),
            default=np.inf,
        )

    def largest(self, limits: DivergenceLimits, until: float = np.inf) -> float:
        """The largest score after it happened, known within ``until`` [s] of it."""
        begun, end = (
            (self.happened, self.happened + until - DELAY)
            if np.isfinite(self.happened)
            else (-1.0, np.inf)
        )
        return max(
            (limits.score(gaps) for t, gaps in self.rows if gaps and begun < t <= end), default=0.0
        )


_kit: tuple | None = None


def _run(case: DisturbedEpisode) -> DisturbedOutcome:
    global _kit
    if _kit is None:
        imagination = WorldRunner(Path(case.policy))
        planner = make_planner(case.policy, gaussians=imagination.lift_config.count)
        _kit = imagination, planner, SimEnvironment(renderer=case.renderer), simulation_site()
    imagination, planner, world, site = _kit
    disturbance, watcher = (
        Disturbance(case.kind, case.seed),
        DivergenceObserver(imagination, ExpectedScenes(imagination), site),
    )
    layout = sample_layout(case.task, case.seed, "nominal")
    trial = rollout(world, planner, layout, RolloutConfig(), watcher, disturb=disturbance)
    return DisturbedOutcome(case, disturbance.happened, trial.success, watcher.rows)


def run_all(
    cases: list[DisturbedEpisode],
    processes: int,
    progress: Callable[[DisturbedOutcome], None] = lambda o: None,
) -> list[DisturbedOutcome]:
    """Run them, in order."""
    done = []
    with workers(processes, len(cases)) as pool:
        for outcome in pool.imap(_run, cases):
            done.append(outcome)
            progress(outcome)
    return done
