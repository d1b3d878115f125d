"""Chunks as they come in practice, to replay and to mutate."""

from __future__ import annotations

from gwm_core.runtime.planner import Planner
from gwm_core.sim.expert import Expert
from gwm_core.sim.rollout import SimEnvironment, rollout
from gwm_core.sim.tasks import TASKS, sample_layout
from gwm_core.types import ActionChunk


class _RecordingPlanner(Planner):
    """A planner that keeps every chunk it makes."""

    def __init__(self):
        super().__init__(Expert())
        self.chunks: list[ActionChunk] = []

    def decide(self, observation):
        decision = super().decide(observation)
        if decision.chunk is not None:
            self.chunks.append(decision.chunk)
        return decision


def recorded_chunks() -> list[ActionChunk]:
    """Chunks of the scripted expert, one episode of each task."""
    environment, planner = SimEnvironment(cameras=False), _RecordingPlanner()
    for task in TASKS:
        rollout(environment, planner, sample_layout(task, 0))
    return planner.chunks
