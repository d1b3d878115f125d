"""Plans as they come in practice, for replaying and for spoiling."""

from __future__ import annotations

from gwm_core.runtime.planner import Planner
from gwm_core.sim.expert import Expert
from gwm_core.sim.rollout import SimEnvironment, rollout
from gwm_core.sim.tasks import TASKS, sample_layout
from gwm_core.types import ActionChunk


class _RecordingPlanner(Planner):
    """A planner that keeps every plan it makes."""

    def __init__(self):
        super().__init__(Expert())
        self.plans: list[ActionChunk] = []

    def decide(self, observation):
        decision = super().decide(observation)
        if decision.chunk is not None:
            self.plans.append(decision.chunk)
        return decision


def recorded_plans() -> list[ActionChunk]:
    """Plans of the scripted expert, one episode of each task."""
    world, notebook = SimEnvironment(cameras=False), _RecordingPlanner()
    for task in TASKS:
        rollout(world, notebook, sample_layout(task, 0))
    return notebook.plans
