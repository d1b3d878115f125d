"""Requests of a page: the message that each becomes, and how topics tell its outcome."""

from __future__ import annotations

import json
from collections.abc import Mapping

from sensor_msgs.msg import Joy

from gwm.ros import messages
from gwm_core import topics
from gwm_core.control.gate.supervision import VALID
from gwm_core.gate_status import GateStatus
from gwm_core.recording.marks import OF_SAVE, is_entry

Outcome = tuple[bool, str]  # whether it was done, and the text for the operator
VERDICTS = {"True": "success", "False": "failure"}  # as the recorder reports them
SERVICES = {
    **{name: f"gate/{name}" for name in ("stop", "hold", "arm", "home", "reset")},
    **{name: f"recorder/{name}" for name in ("start", "discard", "keep")},
}


def request_of(command: dict, task: str, simulated: bool, now: int) -> tuple[str, dict]:
    """Return the topic and the JSON of a command that is no service, at ``now`` [ns].

    Raises:
        ValueError: it is no such command.
    """
    what = command["do"]
    given = {key: value for key, value in command.items() if key != "do"}
    kinds = {key: type(value) for key, value in given.items()}
    marked = all(is_entry(*entry) for entry in given.items())
    if what == "mode" and kinds == {"mode": str}:
        return topics.MODE, given
    if (
        what == "approve"
        and kinds == {"plan": str, "sha256": str}
        and messages.is_plan(given["plan"])
    ):
        return topics.APPROVE, given | {"expires": now + round(VALID * 1e9)}
    if what == "decline" and kinds == {"plan": str} and messages.is_plan(given["plan"]):
        return topics.APPROVE, given | {"decline": True}
    if what == "mark" and given.keys() in ({"success"}, {"note"}) and marked:
        return topics.MARK, given
    if what == "save" and given.keys() <= OF_SAVE and marked:
        return topics.MARK, given | {"save": True}
    if what == "correct" and kinds == {"correct": str, "success": bool} and marked:
        return topics.MARK, given
    if what == "lay" and kinds == {"seed": int} and simulated and 0 <= given["seed"] < 2**31:
        return topics.SIM_EPISODE, given | {"task": task, "difficulty": "nominal"}
    raise ValueError(f"no such command: {str(command)[:200]}")


def gate_said(before: GateStatus | None, now: GateStatus | None) -> Outcome | None:
    """Return the gate's answer to a decision or a mode; None: no answer since ``before``."""
    if now is None or now.answered <= (before.answered if before else 0):
        return None
    return not now.answer, now.answer or now.cause


def recorder_saved(before: Mapping[str, str], now: Mapping[str, str]) -> Outcome | None:
    """Return which episode was saved; None: none since ``before``."""
    saved = now.get("saved", "")
    return (True, f"saved {saved}") if saved and saved != before.get("saved", "") else None


def verdict_corrected(before: Mapping[str, str], now: Mapping[str, str]) -> Outcome | None:
    """Return which episode's verdict was changed, or why not; None: no answer since ``before``."""
    if now.get("corrections", "0") == before.get("corrections", "0"):
        return None
    if reason := now.get("correction"):
        return False, reason
    return True, f"{now.get('saved', '')} is now a {VERDICTS.get(now.get('verdict'), 'play')}"


def table_laid(before: dict, now: dict, seed: int) -> Outcome | None:
    """Return whether the simulation began with a seed; None: not since ``before``."""
    new = now.get("seed") == seed and now.get("began") != before.get("began")
    return (True, f"table of seed {seed}") if new else None


def joy_of(command: dict) -> Joy:
    """Return a page's joystick message without a stamp. Raises ValueError for a malformed one."""
    axes, buttons = command.get("axes"), command.get("buttons")
    lists = isinstance(axes, list) and isinstance(buttons, list)
    if not (
        lists
        and len(axes) <= 16
        and len(buttons) <= 32
        and all(isinstance(x, int | float) and abs(x) <= 1 for x in (*axes, *buttons))
    ):
        raise ValueError("joy: axes and buttons are lists of numbers from -1 to 1")
    return Joy(axes=[float(a) for a in axes], buttons=[int(b) for b in buttons])


def object_of(text: str) -> dict:
    """Read a JSON object. Raises ValueError for anything else."""
    try:
        value = json.loads(text)
    except RecursionError:
        value = None
    if not isinstance(value, dict):
        raise ValueError("no JSON object")
    return value
