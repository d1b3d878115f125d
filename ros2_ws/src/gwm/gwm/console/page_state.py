"""The state that a page shows, ten times a second.

Ids are text: JavaScript rounds large numbers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from gwm.console.graph_state import GraphState
from gwm.console.pictures import LatestImages
from gwm.console.robot_view import RobotView
from gwm_core import topics
from gwm_core.control.gate.supervision import MODES
from gwm_core.site import Site
from gwm_core.types import CHUNK_DT, CHUNK_ROWS


@dataclass(frozen=True)
class Session:
    """What does not change while the graph runs."""

    robot: str
    task: str
    operator: str
    plans: str  # who plans, the argument mode: policy, teleop or shared
    goal: int  # episodes to record; 0: none


def page_state(
    now: int,
    session: Session,
    site: Site,
    graph: GraphState,
    pictures: LatestImages,
    view: RobotView,
) -> dict:
    """Return the state at ``now`` [ns]."""
    gate, trial = graph.reports.get("gate", {}), graph.trial
    unread = list(graph.unreadable.values())
    own = site.tasks.get(trial.get("task", session.task))
    followed = tuple(id for id in (gate.get("waiting"), gate.get("plan")) if id not in (None, "0"))
    try:
        robot = view.values(followed)
    except ValueError as error:  # the page goes on without it
        robot = {"arm": {}, "plan": {}}
        unread.append(str(error))
    return {
        "now": now * 1e-6,
        "session": vars(session) | {"instruction": own.instruction if own else ""},
        "cameras": list(site.cameras),
        "rates": pictures.rates(),
        "modes": MODES,
        "steps": topics.LOOKAHEADS,
        "plan_ms": 1e3 * CHUNK_ROWS * CHUNK_DT,
        "causes": topics.ABORTS,
        "gate": gate,
        "gate_ms": graph.gate_ms,
        **robot,
        "future": _future(graph.future),
        "imagines": bool(graph.report("imagination")),
        "divergence": {k: v for k, v in graph.divergence.items() if k != "plan"},
        "refuses": graph.refusals(),
        "unread": unread,
        "recorder": graph.report("recorder"),
        "result": graph.result,
        "viewer": graph.viewer_port > 0,
        "trial": trial,
        "rubric": own.rubric if own else {},
        "fields": own.fields if own else {},
        "nodes": graph.nodes,
    }


def _future(future: Mapping[str, float]) -> dict:
    """Return the newest predicted future, with its id as text."""
    return {**future, "plan": str(future["plan"])} if "plan" in future else dict(future)
