"""Why a command of the operator would be refused, by the newest reports of gate and recorder.

The page shows the reasons beside its buttons. Gate and recorder decide for themselves. Commands
that go to a topic, which cannot answer, are refused here.
"""

from __future__ import annotations

from collections.abc import Mapping

from gwm_core.gate_status import GateStatus, State

REST = (State.DISARMED, State.HOLD)


def refusals(
    gate: GateStatus | None, recorder: Mapping[str, str], future: str | None, trial: bool = False
) -> dict[str, str]:
    """Return why commands would be refused now; accepted ones are left out.

    Args:
        gate: its status; None: the gate is silent.
        recorder: values of the recorder's report; empty: it is silent.
        future: id of the newest chunk with a predicted future, "" for none yet; None: nothing
            predicts.
        trial: whether a protocol waits for a rating, recorded or not.
    """
    found = _of_the_gate(gate, future) | _of_the_recorder(recorder, trial)
    return {command: reason for command, reason in found.items() if reason}


def _of_the_gate(gate: GateStatus | None, future: str | None) -> dict[str, str]:
    commands = ("arm", "home", "reset", "mode", "approve", "decline", "beat", "lay")
    if gate is None:
        return dict.fromkeys(commands, "the gate is silent")
    mode = gate.mode
    waiting = gate.waiting.chunk_id if gate.waiting else ""
    fault = "in FAULT: reset first" if gate.state is State.FAULT else ""
    moves = "" if fault or gate.state in REST else f"not in {gate.state.name}: hold first"
    stopping = "still coming to rest" if gate.state is State.STOPPING else ""
    armed = "armed already" if gate.armed else ""
    return {
        "arm": fault or stopping or armed,
        "home": fault or moves or ("not in shadow" if mode == "shadow" else ""),
        "reset": "" if fault or gate.trouble else "nothing is to be reset",
        "mode": fault or moves,
        "approve": _no_approval(mode, waiting, future),
        "decline": _no_approval(mode, waiting, None),
        "beat": "" if mode == "hold_to_run" else f"the mode is {mode}, not hold_to_run",
        "lay": moves or _held_away(gate),
    }


def _no_approval(mode: str, waiting: str, future: str | None) -> str:
    if mode != "approve":
        return f"the mode is {mode}, not approve"
    if not waiting:
        return "no plan waits"
    return "" if future in (None, waiting) else "the future of the plan that waits is not shown yet"


def _held_away(gate: GateStatus) -> str:
    """Return why the simulation must not be reset, or "".

    A reset puts the arm at home. An arm that the gate holds elsewhere would be in FAULT.
    """
    held = gate.state is State.HOLD and gate.cause != "at home"
    return "the arm is held: home or stop first" if held else ""


def _of_the_recorder(recorder: Mapping[str, str], trial: bool) -> dict[str, str]:
    if not recorder:
        return dict.fromkeys(
            ("start", "save", "discard", "redo", "keep", "mark", "correct"),
            "the recorder is silent",
        )
    recording = recorder.get("recording") == "True"
    off = "" if recording else "not recording"
    mark = "" if recording or trial else "not recording"
    start = "recording already" if recording else ""
    return {
        "start": start,
        "discard": off,
        "redo": off,
        "save": mark,
        "mark": mark,
        "correct": _no_correction(recorder, trial),
    }


def _no_correction(recorder: Mapping[str, str], trial: bool) -> str:
    """Return why the verdict on the last saved episode cannot be changed, or ""."""
    if trial:
        return "a protocol has counted it: say in a note what is wrong"
    return "" if recorder.get("saved") else "nothing was saved yet"
