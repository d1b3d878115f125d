"""Make several plans of one scene, and choose the one that the network itself expects most of.

Flow matching makes another plan of another noise. The same network imagines where each plan leads,
and its success head says how likely the trial then ends in success. Ranking sampled plans by a
value is the method of V-GPS (Nakamoto et al., arXiv 2410.13816). There the value is a critic of
scene and plan. Here it is the value of the scene that is imagined after the plan.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from gwm_core.errors import InputError, one_of
from gwm_core.geometry.kinematics import Unreachable, solve
from gwm_core.geometry.limits import FR3, ArmLimits
from gwm_core.model.inputs import proprioception
from gwm_core.model.weights_file import predicting_config
from gwm_core.runtime.graphs.backends import LARGEST_BATCH, Call
from gwm_core.runtime.imagined_world import ImaginedState, ImaginedWorld, compiled_world
from gwm_core.runtime.policy_runner import PolicyRunner
from gwm_core.types import Observation

# Rows of the imagined jump, 0.8 s. After 4 rows plans have hardly parted, and the policy replans
# only then. After 16 rows the prediction is least certain, and most of the plan was replaced.
JUMP = 8
# Of the value, a probability: another plan has to be better by more than this. Values of almost
# equal plans differ by the prediction's error alone. Without the margin that error would choose
# anew at every replan, and the arm would alternate between ways around an obstacle.
MARGIN = 0.05
MAX_CANDIDATES = 64
_RECENT = 50  # plans that ``mean_ranked`` is over


def denoised(
    denoise: Call, condition: dict[str, np.ndarray], modulations: np.ndarray, x: np.ndarray
) -> np.ndarray:
    """Pose rows (B, H, 10) from the noise x (B, H, 10), by all steps of the graph ``denoise``.

    Args:
        condition: keys and values of ``encode``, and the proprio (B, 11). modulations: of
            ``encode``, (B, steps, blocks, 6 d).
    """
    for modulation in modulations.swapaxes(0, 1):
        step = denoise(condition | {"x": x, "modulation": np.ascontiguousarray(modulation)})
        x = step["x_next"]
    return step["rows"]


class PlanSampler:
    """Plans of one scene from several noises: the scene is encoded once for all of them."""

    def __init__(self, policy: PolicyRunner):
        self._policy = policy
        self._encode, self._denoise = map(policy.graph, ("encode", "denoise"))
        self._batch = LARGEST_BATCH[policy.backend]

    def plans(
        self, inputs: dict[str, np.ndarray], candidates: int, generator: np.random.Generator
    ) -> Iterator[np.ndarray]:
        """Pose rows (H, 10) float32 from the stored noise, then from ``candidates`` - 1 new ones.

        They are made as they are asked for, as many at once as the runtime takes.

        Args:
            inputs: of the graph ``encode``, a batch of one. generator: of the noise.
        """
        encoded = self._encode(inputs)
        stored = encoded.pop("x")
        noise = generator.standard_normal((candidates - 1, *stored.shape[1:]), np.float32)
        x = np.concatenate([stored, noise])
        count = min(candidates, self._batch)
        cached = {name: np.repeat(value, count, axis=0) for name, value in encoded.items()}
        cached["proprio"] = np.repeat(inputs["proprio"], count, axis=0)
        modulations = cached.pop("modulation")  # (B, steps, blocks, 6 d)
        for start in range(0, candidates, count):
            # The last batch begins anew at its end: a TensorRT graph is captured for one shape.
            noises = x[np.arange(start, start + count) % candidates]
            rows = denoised(self._denoise, cached, modulations, noises)
            yield from rows[: candidates - start]

    def rows(self, scene: np.ndarray, proprio: np.ndarray, task: int) -> np.ndarray:
        """As ``PolicyRunner.rows``: the plan from the stored noise."""
        inputs = self._policy.inputs(scene, proprio, task)
        return next(self.plans(inputs, 1, np.random.default_rng(0)))


class BestOfPlans:
    """A policy behind ``planner.ScenePolicy`` that takes the best of several plans of each scene.

    The first plan is the one of the stored noise. It stays unless the value of another one is
    larger by more than ``MARGIN``. A plan with a number that is not finite, or with a pose that the
    arm does not reach, never replaces it. Deterministic for equal seeds and observations, where no
    deadline ends the ranking. Use it in one thread.

    Args:
        candidates: plans of a scene, 1 to ``MAX_CANDIDATES``. With 1 it is the policy alone.
        seed: of the noise of all plans but the first; the stamp of the observation adds to it.
        deadline: [s] by ``clock`` since ``act`` began, after which no further plan is ranked. The
            first plan is always made.
        clock: returns seconds.

    Attributes:
        limits: of the arm, within which a plan must be reached.
    """

    sees = "scene"

    def __init__(
        self,
        policy: PolicyRunner,
        world: ImaginedWorld,
        candidates: int,
        seed: int = 0,
        deadline: float = math.inf,
        clock: Callable[[], float] = lambda: 0.0,
    ):
        if not 1 <= candidates <= MAX_CANDIDATES:
            raise InputError(f"{candidates} candidates: 1 to {MAX_CANDIDATES} are possible")
        self.bundle, self.tasks = policy.bundle, policy.tasks
        count = max(policy.lift_config.count, world.lift_config.count)
        self.lift_config = replace(policy.lift_config, count=count)
        self.sampler = PlanSampler(policy)
        self.limits: ArmLimits = FR3
        self._policy, self._world = policy, world
        self._candidates, self._seed = candidates, seed
        self._deadline, self._clock = deadline, clock
        self._ranked: deque[int] = deque(maxlen=_RECENT)

    @property
    def mean_ranked(self) -> float:
        """Mean number of plans that were ranked for a scene, of the last 50; NaN before the first.

        Any thread may read it.
        """
        ranked = tuple(self._ranked)
        return sum(ranked) / len(ranked) if ranked else math.nan

    def act(self, scene: np.ndarray, observation: Observation) -> np.ndarray:
        """Pose rows (H, 10) for a scene (N, 14). Raises InputError for an unknown task."""
        if self._candidates == 1:
            return self._policy.act(scene, observation)
        begun = self._clock()
        samples = self._sample(scene, observation)
        plans, values = [next(samples)], []
        proprio = proprioception(observation.state)
        state = self._world.observe(scene[: self._world.lift_config.count], proprio)
        while len(values) < self._candidates and self._clock() - begun < self._deadline:
            if len(values) == len(plans):
                plans.append(next(samples))
            values.append(self._value(state, plans[-1], observation))
        self._ranked.append(len(values))
        return plans[best_plan(values)]

    def _sample(self, scene: np.ndarray, observation: Observation) -> Iterator[np.ndarray]:
        task = self.tasks.index(one_of("task", observation.task, self.tasks))
        generator = np.random.default_rng([self._seed, observation.stamp])
        inputs = self._policy.inputs(scene, proprioception(observation.state), task)
        plans = self.sampler.plans(inputs, self._candidates, generator)
        return (plan.astype(np.float64) for plan in plans)

    def _value(self, state: ImaginedState, plan: np.ndarray, observation: Observation) -> float:
        """Value of the state that a plan leads to; minus infinity for one that cannot be used."""
        try:
            solve(plan, observation.state.q, arm=self.limits)
        except Unreachable:  # where no plan can be used, the planner says why
            return -math.inf
        later = self._world.after(state, plan[:JUMP], encode=False)
        value = self._world.value(later, observation.task)
        return value if math.isfinite(value) else -math.inf


def best_plan(values: Sequence[float]) -> int:
    """Number of the plan to take: that of the largest value if it beats the first by ``MARGIN``.

    Otherwise 0, and so without values.
    """
    if not values:
        return 0
    best = int(np.argmax(values))
    return best if values[best] > values[0] + MARGIN else 0


def open_best_of_plans(
    folder: Path,
    threads: int,
    backend: str,
    precision: str,
    candidates: int,
    seed: int = 0,
    deadline: float = math.inf,
    clock: Callable[[], float] = lambda: 0.0,
) -> BestOfPlans:
    """The best of several plans of a folder's policy, which is also the world that ranks them.

    Other arguments are those of ``PolicyRunner`` and ``BestOfPlans``. The golden inputs of a bundle
    check these graphs too.

    Raises:
        InputError: the policy there predicts nothing, or no jump of ``JUMP`` rows.
    """
    try:
        jumps = predicting_config(folder).jumps
    except InputError as error:
        raise InputError(f"predictions rank candidates: {error}") from None
    if JUMP not in jumps:
        raise InputError(
            f"the policy in {folder} predicts jumps of {', '.join(map(str, jumps))} rows:"
            f" candidates need {JUMP}"
        )
    runner = PolicyRunner(folder, threads, backend, precision)
    world = compiled_world(folder, threads, runner.backend, precision=runner.precision)
    policy = BestOfPlans(runner, world, candidates, seed, deadline, clock)
    if runner.bundle:
        where = f"{folder} by {runner.backend} in {runner.precision}"
        runner.bundle.check(policy.sampler.rows, runner.precision, where)
    return policy
