"""A policy tried inside the world model: it acts on imagined scenes, and the model's head says
whether it is done.

Only the first scene is real, or simulated. The arm is taken to go where the plan says, without the
gate's limits; the gripper stops at what the scene shows between its fingers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gwm_core.geometry.kinematics import HOME_Q, Unreachable, fk, solve, to_rows
from gwm_core.runtime.planner import Planner
from gwm_core.runtime.world_runner import WorldRunner
from gwm_core.scene.gaussians import MEANS
from gwm_core.scene.lift import lift
from gwm_core.sim.planners import make_planner
from gwm_core.sim.rollout import SimEnvironment
from gwm_core.sim.tasks import sample_layout
from gwm_core.types import CHUNK_DT, OPEN_WIDTH, ArmState, Observation
from gwm_core.worker_processes import workers

SECONDS = 15.0  # of a trial; longer futures are of little worth
REPLAN = 4  # rows that are carried out of every plan
# steps of 0.1 s for which the head has to say that it is done: in training an episode soon ends
# then
LASTS = 3
_JAW = 0.008, 0.012  # [m] half extents across and along the fingers: what lies within is gripped
_SKIN, _FEW = 0.004, 6  # [m] of the fingers themselves, and Gaussians that are not yet a thing


@dataclass(frozen=True)
class ImaginedTrial:
    """What came of an imagined trial. ``done``: the head's value, 0 to 1, after every step of 0.1
    s.
    """

    seed: int
    success: bool
    seconds: float
    done: list[float]


class WorldModelEnvironment:
    """A world model in which policies are tried. Use it in one thread."""

    def __init__(self, model: Path, renderer: str = "egl"):
        self._imagination = WorldRunner(model)
        self._world = SimEnvironment(renderer=renderer)

    def planner(self, policy: str) -> Planner:
        """The policy, with scenes as large as the world model wants them."""
        return make_planner(policy, gaussians=self._imagination.lift_config.count)

    def trial(self, planner: Planner, task: str, seed: int, difficulty: str) -> ImaginedTrial:
        """One trial from the start of a seed. Deterministic."""
        imagine, sim = self._imagination, self._world.sim
        layout = sample_layout(task, seed, difficulty)
        sim.data.time = 0.0
        sim.reset(layout)
        sim.teleport(HOME_Q)
        state = self._world.state(OPEN_WIDTH)
        scene = lift(self._world.frames(), imagine.lift_config, state.q)
        history = imagine.encode(scene, np.repeat(fk(state.q)[None], imagine.context, axis=0))
        row, done = to_rows(fk(state.q), state.width), []
        while len(done) * CHUNK_DT < SECONDS and not _lasts(done):
            rows = planner.policy.act(scene, Observation(state.stamp, (), state, layout.task))[
                :REPLAN
            ]
            try:
                q = solve(rows, state.q)
            except Unreachable:  # no plan: the arm holds
                rows, q = (
                    np.repeat(row[None], REPLAN, axis=0),
                    np.repeat(state.q[None], REPLAN, axis=0),
                )
            latents, probabilities = imagine.predict(history, np.float32(np.vstack([row, rows])))
            history = np.concatenate([history, latents])[-imagine.context :]
            scene, row = imagine.decode(latents[-1]), rows[-1]
            done += probabilities.tolist()
            width = gripped(scene, fk(q[-1]), float(row[9]))
            stamp = state.stamp + round(len(rows) * CHUNK_DT * 1e9)
            state = ArmState(stamp, q[-1], np.zeros(7), width, float(row[9]))
        return ImaginedTrial(seed, _lasts(done), len(done) * CHUNK_DT, done)


Job = tuple[str, str, str, str, int, str]  # model, policy, task, difficulty, seed, renderer
_dreams: dict[str, WorldModelEnvironment] = {}
_planners: dict[tuple[str, str], Planner] = {}


def _trial(job: Job) -> ImaginedTrial:
    model, policy, task, difficulty, seed, renderer = job
    if model not in _dreams:
        _dreams[model] = WorldModelEnvironment(Path(model), renderer)
    if (model, policy) not in _planners:
        _planners[model, policy] = _dreams[model].planner(policy)
    return _dreams[model].trial(_planners[model, policy], task, seed, difficulty)


def imagine_trials(
    jobs: list[Job], processes: int, progress: Callable[[], None] = lambda: None
) -> list[ImaginedTrial]:
    """Run them, in order."""
    done = []
    with workers(processes, len(jobs)) as pool:
        for trial in pool.imap(_trial, jobs):
            done.append(trial)
            progress()
    return done


def gripped(scene: np.ndarray, T: np.ndarray, width: float) -> float:
    """Where the gripper at T (4, 4) stops that was told to go to ``width`` [m], by a scene (N,
    14).
    """
    # (N, 3) in the TCP's frame, whose y goes from finger to finger
    places = (scene[:, MEANS] - T[:3, 3]) @ T[:3, :3]
    inside = (np.abs(places[:, 0]) < _JAW[0]) & (np.abs(places[:, 2]) < _JAW[1])
    apart = np.abs(places[inside, 1])
    apart = apart[apart < OPEN_WIDTH / 2 - _SKIN]
    return max(width, 2 * float(np.median(apart))) if len(apart) >= _FEW else width


def _lasts(done: list[float]) -> bool:
    return len(done) >= LASTS and min(done[-LASTS:]) > 0.5
