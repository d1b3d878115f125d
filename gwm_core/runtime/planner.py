"""From an observation to a chunk: lift -> act (encode, denoise) -> solve; and how late it comes."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from gwm_core.address import is_remote
from gwm_core.errors import InputError
from gwm_core.geometry.kinematics import Unreachable, solve
from gwm_core.geometry.limits import FR3, ArmLimits
from gwm_core.scene.lift import BlindError, LiftConfig, lift_with_report
from gwm_core.types import ActionChunk, Decision, Observation

if TYPE_CHECKING:
    from gwm_core.runtime.remote.remote_planner import RemotePlanner

# [s] quantiles 0, 10, ..., 100 % of the latency of `gwm demo` on 2 CPU cores (docs/benchmarks.md)
MEASURED_LATENCY = (0.086, 0.106, 0.116, 0.116, 0.126, 0.126, 0.126, 0.136, 0.136, 0.146, 0.206)


class ScenePolicy(Protocol):
    """A policy: scene and observation -> pose rows.

    ``sees`` is "scene" or "objects"; that of a ``RemotePlanner`` is "images".
    """

    sees: str

    def act(self, scene: np.ndarray | None, observation: Observation) -> np.ndarray:
        """Pose rows (H, 10); row k is due k * dt after the observation."""


class Planner:
    """Turns observations into decisions.

    Args:
        clock: returns seconds, to report how long each stage took; the default reports 0.

    Attributes:
        limits: of the arm, within which joints are solved.
    """

    def __init__(
        self,
        policy: ScenePolicy,
        lift_config: LiftConfig = LiftConfig(),
        clock: Callable[[], float] = lambda: 0.0,
    ):
        self.policy = policy
        self.clock = clock
        self.limits: ArmLimits = FR3
        self._lift_config = lift_config

    def decide(self, observation: Observation) -> Decision:
        """Lift the images to a scene, ask the policy for poses, and solve them for joints.

        Without a usable scene, or with an unreachable row, the decision has no chunk and says why
        in ``reason``.
        """
        t0 = self.clock()
        scene, blind = None, {}
        if self.policy.sees == "scene":
            try:
                scene, blind = lift_with_report(
                    observation.frames, self._lift_config, observation.state.q
                )
            except BlindError as error:
                stages = {"lift": 1e3 * (self.clock() - t0)}
                return Decision(observation.stamp, None, None, str(error), stages)
        stages = {"lift": 1e3 * (self.clock() - t0)}
        decision = self.plan(scene, observation)
        return replace(decision, stages_ms=stages | decision.stages_ms, blind_cameras=blind)

    def plan(self, scene: np.ndarray | None, observation: Observation) -> Decision:
        """Ask the policy for poses in a scene (N, 14) of any origin, and solve them for joints.

        With an unreachable row, the decision has no chunk and says why in ``reason``.
        """
        t0 = self.clock()
        poses = self.policy.act(scene, observation)  # (H, 10)
        t1 = self.clock()
        try:
            q = solve(poses, observation.state.q, arm=self.limits)  # (H, 7)
            chunk, reason = ActionChunk(observation.stamp, q, poses[:, 9]), ""
        except Unreachable as error:
            chunk, reason = None, f"unreachable: {error}"
        stages = {"act": 1e3 * (t1 - t0), "solve": 1e3 * (self.clock() - t1)}
        return Decision(observation.stamp, chunk, poses, reason, stages, scene)


def sampled_latency(seed: int, quantiles: tuple[float, ...] = MEASURED_LATENCY) -> Iterator[float]:
    """Latencies [s] of one chunk after another, equal for equal seeds.

    Args:
        quantiles: [s] evenly from 0 to 100 %; one number is a constant latency.
    """
    rng = np.random.default_rng([seed, 0x1A7])
    fractions = np.linspace(0.0, 1.0, max(2, len(quantiles)))
    values = quantiles if len(quantiles) > 1 else quantiles * 2
    while True:
        yield float(np.interp(rng.random(), fractions, values))


class DelayedPlanner:
    """Makes a decision every ``period`` seconds, and hands its chunk on after a latency.

    Times ``now`` are seconds on the clock of the gate.

    Args:
        period: [s] between two observations. seed, quantiles: as of ``sampled_latency``.

    Attributes:
        failures: cause -> how many decisions had no chunk.
    """

    def __init__(self, period: float, seed: int, quantiles: tuple[float, ...] = MEASURED_LATENCY):
        self._period = period
        self._latency = sampled_latency(seed, quantiles)
        self._due = 0.0  # [s] time of the next observation
        self._pending: tuple[float, ActionChunk | None, float] | None = None
        self.failures: Counter[str] = Counter()

    def deliver(self, accept: Callable[[ActionChunk, float, float], str], now: float) -> None:
        """Hand the chunk on if its latency has passed.

        Args:
            accept: takes the chunk, the age [s] of its observation, and ``now``.
        """
        if self._pending is None or now < self._pending[0]:
            return
        _, chunk, observed = self._pending
        self._pending = None
        if chunk is not None:
            accept(chunk, now - observed, now)

    def plan(self, decide: Callable[[], Decision], now: float) -> None:
        """Observe and decide if that is due and no chunk is pending."""
        if self._pending is not None or now < self._due - 1e-9:
            return
        decision = decide()
        if decision.chunk is None:
            self.failures[decision.reason.partition(":")[0]] += 1
        self._pending = now + next(self._latency), decision.chunk, now
        self._due = now + self._period


def open_planner(policy: str, candidates: int = 1, **options) -> Planner | RemotePlanner:
    """The planner of a policy's folder, of a server's address or of the file of a contract with it.

    Other arguments are those of ``trained_planner``, which servers do not take.

    Raises InputError as ``trained_planner`` and ``open_remote_planner``, and for several candidates
    of a server.
    """
    if not is_remote(policy):
        return trained_planner(policy, candidates=candidates, **options)
    from gwm_core.runtime.remote.remote_planner import open_remote_planner

    if candidates != 1:
        raise InputError(
            f"{policy} is a policy server, which predicts nothing: candidates need the folder of a"
            " policy that does"
        )
    return open_remote_planner(policy)


def trained_planner(
    folder: str,
    threads: int = 1,
    backend: str = "auto",
    precision: str = "auto",
    gaussians: int = 0,
    candidates: int = 1,
    deadline: float = math.inf,
    clock: Callable[[], float] = lambda: 0.0,
) -> Planner:
    """The planner of a folder with a trained policy. Raises InputError for any other folder.

    Args:
        gaussians: to lift; the policy's own count if that is larger.
        candidates: plans of one scene, of which the best is taken; 1: the policy alone.
        deadline: [s] by ``clock``, as of ``BestOfPlans``.
    """
    options = Path(folder), threads, backend, precision
    if candidates == 1:
        from gwm_core.runtime.policy_runner import PolicyRunner

        policy = PolicyRunner(*options)
    else:
        from gwm_core.runtime.best_of_plans import open_best_of_plans

        policy = open_best_of_plans(*options, candidates, deadline=deadline, clock=clock)
    count = max(gaussians, policy.lift_config.count)
    return Planner(policy, replace(policy.lift_config, count=count))
