"""What a page may wish for beside services: the message it becomes, and how the topics tell what
came of it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from gwm.ros import messages
from gwm_core import topics
from gwm_core.control.gate.supervision import VALID

Outcome = tuple[bool, str]  # whether it was done, and what there is to say
SERVICES = {
    **{wish: f"gate/{wish}" for wish in ("stop", "hold", "arm", "home", "reset")},
    **{wish: f"recorder/{wish}" for wish in ("start", "discard", "keep")},
}


def wish_of(command: dict, task: str, simulated: bool, now: int) -> tuple[str, dict]:
    """The topic and the JSON of a command that is no service, at ``now`` [ns]. Raises ValueError
    for what is none.
    """
    what, given = command["do"], {key: value for key, value in command.items() if key != "do"}
    kinds = {key: type(value) for key, value in given.items()}
    marks = all(messages.is_mark(*item) for item in given.items())
    if what == "mode" and kinds == {"mode": str}:
        return topics.MODE, given
    if (
        what == "approve"
        and kinds == {"plan": str, "sha256": str}
        and messages.is_plan(given["plan"])
    ):
        return topics.APPROVE, given | {"expires": now + round(VALID * 1e9)}
    if what == "mark" and given.keys() in ({"success"}, {"note"}) and marks:
        return topics.MARK, given
    if what == "save" and given.keys() <= {"success", "score", "cause", "note"} and marks:
        return topics.MARK, given | {"save": True}
    if what == "lay" and kinds == {"seed": int} and simulated and 0 <= given["seed"] < 2**31:
        return topics.SIM_EPISODE, given | {"task": task, "difficulty": "nominal"}
    raise ValueError(f"no such command: {str(command)[:200]}")


def gate_said(before: Mapping[str, str], now: Mapping[str, str]) -> Outcome | None:
    """What the gate says to an approval or a change of mode; None: nothing since ``before``."""
    if int(now.get("answered", 0)) <= int(before.get("answered", 0)):
        return None
    refused = now.get("answer", "")
    return not refused, refused or now.get("cause", "")


def recorder_saved(before: Mapping[str, str], now: Mapping[str, str]) -> Outcome | None:
    """The episode that was saved; None: none since ``before``."""
    saved = now.get("saved", "")
    return (True, f"saved {saved}") if saved and saved != before.get("saved", "") else None


def table_laid(before: dict, now: dict, seed: int) -> Outcome | None:
    """Whether the simulation began with a seed; None: not since ``before``."""
    new = now.get("seed") == seed and now.get("began") != before.get("began")
    return (True, f"table of seed {seed}") if new else None


def object_of(text: str) -> dict:
    """A JSON object. Raises ValueError for anything else."""
    try:
        value = json.loads(text)
    except RecursionError:
        value = None
    if not isinstance(value, dict):
        raise ValueError("no JSON object")
    return value
