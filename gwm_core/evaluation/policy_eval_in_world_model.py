"""Evaluate a policy inside the world model: it acts on predicted scenes, and the model predicts
success.

Only the first scene is observed. The arm is assumed to reach every waypoint, without the gate's
limits. The gripper stops at what the predicted scene shows between its fingers.
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
from gwm_core.scene.lift import as_lifted, lift
from gwm_core.sim.planners import make_planner
from gwm_core.sim.rollout import SimEnvironment
from gwm_core.sim.tasks import sample_layout
from gwm_core.types import CHUNK_DT, OPEN_WIDTH, ArmState, Observation
from gwm_core.worker_processes import workers

SECONDS = 15.0  # of a trial; longer predictions are of little value
REPLAN = 4  # waypoints that are executed of every chunk
# steps of 0.1 s for which success must be predicted; a training episode ends soon after success
LASTS = 3
_JAW = 0.008, 0.012  # [m] half extents, across and along the fingers, of the gripped volume
_SKIN = 0.004  # [m] thickness of a finger's own Gaussians
_FEWEST = 6  # Gaussians of an object


@dataclass(frozen=True)
class ImaginedTrial:
    """A trial in the world model. ``done``: predicted probability of success after every step."""

    seed: int
    success: bool
    seconds: float
    done: list[float]


class WorldModelEnvironment:
    """A world model in which policies are evaluated. Use it in one thread."""

    def __init__(self, model: Path, renderer: str = "egl"):
        self._world = WorldRunner(model)
        self._environment = SimEnvironment(renderer=renderer)

    def planner(self, policy: str) -> Planner:
        """The planner of a policy, with scenes as large as the world model takes."""
        return make_planner(policy, gaussians=self._world.lift_config.count)

    def trial(self, planner: Planner, task: str, seed: int, difficulty: str) -> ImaginedTrial:
        """One trial from the start of a seed. Deterministic."""
        world, sim = self._world, self._environment.sim
        layout = sample_layout(task, seed, difficulty)
        sim.data.time = 0.0
        sim.reset(layout)
        sim.teleport(HOME_Q)
        state = self._environment.state(OPEN_WIDTH)
        scene = lift(self._environment.frames(), world.lift_config, state.q)
        history = world.encode(scene, np.repeat(fk(state.q)[None], world.context, axis=0))
        row, done = to_rows(fk(state.q), state.width), []
        while len(done) * CHUNK_DT < SECONDS and not _lasts(done):
            rows = planner.policy.act(scene, Observation(state.stamp, (), state, layout.task))[
                :REPLAN
            ]
            try:
                q = solve(rows, state.q)
            except Unreachable:  # no chunk: the arm holds
                rows, q = (
                    np.repeat(row[None], REPLAN, axis=0),
                    np.repeat(state.q[None], REPLAN, axis=0),
                )
            latents, probabilities = world.predict(history, np.float32(np.vstack([row, rows])))
            history = np.concatenate([history, latents])[-world.context :]
            decoded, row = world.decode(latents[-1]), rows[-1]
            scene = as_lifted(decoded, world.lift_config)
            done += probabilities.tolist()
            width = gripped(decoded, fk(q[-1]), float(row[9]))
            stamp = state.stamp + round(len(rows) * CHUNK_DT * 1e9)
            state = ArmState(stamp, q[-1], np.zeros(7), width, float(row[9]))
        return ImaginedTrial(seed, _lasts(done), len(done) * CHUNK_DT, done)


Job = tuple[str, str, str, str, int, str]  # model, policy, task, difficulty, seed, renderer
_environments: dict[str, WorldModelEnvironment] = {}
_planners: dict[tuple[str, str], Planner] = {}


def _trial(job: Job) -> ImaginedTrial:
    model, policy, task, difficulty, seed, renderer = job
    if model not in _environments:
        _environments[model] = WorldModelEnvironment(Path(model), renderer)
    if (model, policy) not in _planners:
        _planners[model, policy] = _environments[model].planner(policy)
    return _environments[model].trial(_planners[model, policy], task, seed, difficulty)


def run_trials_in_world_model(
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
    """Width [m] at which the gripper at T (4, 4), commanded to ``width`` [m], stops in a scene
    (N, 14).
    """
    # (N, 3) in the frame of the TCP, whose y axis joins the fingers
    points = (scene[:, MEANS] - T[:3, 3]) @ T[:3, :3]
    inside = (np.abs(points[:, 0]) < _JAW[0]) & (np.abs(points[:, 2]) < _JAW[1])
    offset = np.abs(points[inside, 1])
    offset = offset[offset < OPEN_WIDTH / 2 - _SKIN]
    return max(width, 2 * float(np.median(offset))) if len(offset) >= _FEWEST else width


def _lasts(done: list[float]) -> bool:
    """Whether the last ``LASTS`` steps predict success."""
    return len(done) >= LASTS and min(done[-LASTS:]) > 0.5
