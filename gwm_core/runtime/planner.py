"""From an observation to a chunk: lift -> act (encode, denoise) -> solve."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import numpy as np

from gwm_core.geometry.kinematics import Unreachable, solve
from gwm_core.scene.lift import BlindError, LiftConfig, lift_with_report
from gwm_core.types import ActionChunk, Decision, Observation


class ScenePolicy(Protocol):
    """A policy: scene and observation -> pose rows. ``sees`` is "scene" or "objects"."""

    sees: str

    def act(self, scene: np.ndarray | None, observation: Observation) -> np.ndarray:
        """Pose rows (H, 10); row k is due k * dt after the observation."""


class Planner:
    """Turns observations into decisions.

    Args:
        clock: returns seconds, to report how long each stage took; the default reports 0.
    """

    def __init__(
        self,
        policy: ScenePolicy,
        lift_config: LiftConfig = LiftConfig(),
        clock: Callable[[], float] = lambda: 0.0,
    ):
        self.policy = policy
        self.clock = clock
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
        t1 = self.clock()
        poses = self.policy.act(scene, observation)  # (H, 10)
        t2 = self.clock()
        try:
            q = solve(poses, observation.state.q)  # (H, 7)
            chunk, reason = ActionChunk(observation.stamp, q, poses[:, 9]), ""
        except Unreachable as error:
            chunk, reason = None, f"unreachable: {error}"
        t3 = self.clock()
        stages = {"lift": 1e3 * (t1 - t0), "act": 1e3 * (t2 - t1), "solve": 1e3 * (t3 - t2)}
        return Decision(observation.stamp, chunk, poses, reason, stages, scene, blind)


def trained_planner(
    folder: str,
    threads: int = 1,
    backend: str = "auto",
    precision: str = "auto",
    gaussians: int = 0,
) -> Planner:
    """The planner of a folder with a trained policy. Raises InputError for any other folder.

    Args:
        gaussians: to lift; the policy's own count if that is larger.
    """
    from gwm_core.runtime.policy_runner import PolicyRunner

    runner = PolicyRunner(Path(folder), threads, backend, precision)
    return Planner(
        runner, replace(runner.lift_config, count=max(gaussians, runner.lift_config.count))
    )
