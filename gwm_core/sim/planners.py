"""Planners by name: the scripted expert of the simulation, or a trained policy."""

from __future__ import annotations

from gwm_core.address import is_remote
from gwm_core.errors import InputError
from gwm_core.runtime.planner import Planner, open_planner
from gwm_core.sim.expert import Expert

EXPERT = "expert"


def make_planner(policy: str, candidates: int = 1, **options) -> Planner:
    """The planner for "expert", for a policy's folder or for a policy server.

    Other arguments are those of ``open_planner``. Raises InputError as that, and for several
    candidates of the expert.
    """
    if policy == EXPERT:
        if candidates != 1:
            raise InputError(
                "the scripted expert makes one plan of a scene: candidates need the folder of a"
                " policy that predicts"
            )
        return Planner(Expert())
    planner = open_planner(policy, candidates, **options)
    if is_remote(policy):
        planner.patient = True  # simulated time stands still while a server answers
    return planner
