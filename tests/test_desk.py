"""What an operator's command would be refused for, what it becomes, and where a console is found
again.
"""

import json
import os
import socket
import stat
from types import SimpleNamespace

import pytest
from gwm.console.access import cookie_name
from gwm.console.command_checks import refusals
from test_gate_stops import ready

from gwm_core.control.gate.config import GateConfig
from gwm_core.control.gate.states import Phase
from gwm_core.gate_status import GateStatus, State

HOLD = {"state": "HOLD", "mode": "auto", "armed": "False", "cause": "at home"}
IDLE = {"recording": "False"}


def gate(**fields) -> GateStatus:
    return GateStatus.from_fields(HOLD | fields)


@pytest.mark.parametrize(
    "state, able",
    [
        ({}, {"arm", "home", "mode", "lay"}),
        # the table is laid with the arm at home
        ({"armed": "True", "cause": "armed"}, {"home", "mode"}),
        ({"cause": "held by operator"}, {"arm", "home", "mode"}),
        ({"state": "DISARMED", "cause": "stopped by operator"}, {"arm", "home", "mode", "lay"}),
        ({"state": "RUNNING", "armed": "True"}, set()),
        ({"state": "STOPPING"}, set()),
        ({"state": "FAULT"}, {"reset", "lay"}),
        ({"trouble": "user stop"}, {"arm", "home", "mode", "lay", "reset"}),
        ({"mode": "hold_to_run"}, {"arm", "home", "mode", "lay", "beat"}),
        ({"state": "SHADOW", "mode": "shadow", "armed": "True"}, set()),
        ({"state": "DISARMED", "mode": "shadow"}, {"arm", "mode", "lay"}),
    ],
)
def test_what_the_gate_would_obey(state, able):
    commands = {"arm", "home", "reset", "mode", "approve", "beat", "lay"}
    assert commands - refusals(gate(**state), IDLE, None).keys() == able


def test_an_approval_wants_the_future_of_the_plan_that_waits():
    waits = gate(mode="approve", waiting="1795617706349959571")
    assert "approve" not in refusals(waits, IDLE, "1795617706349959571")
    # the same float64
    assert "not shown yet" in refusals(waits, IDLE, "1795617706349959570")["approve"]
    assert "not shown yet" in refusals(waits, IDLE, "")["approve"]
    assert "approve" not in refusals(waits, IDLE, None)  # nothing imagines
    assert "no plan waits" in refusals(gate(mode="approve"), IDLE, None)["approve"]


def test_the_recorders_buttons_and_silence():
    episode = {"start", "save", "discard", "redo", "keep", "mark"}
    assert episode - refusals(gate(), IDLE, None).keys() == {"start", "keep"}
    assert episode - refusals(gate(), {"recording": "True"}, None).keys() == episode - {"start"}
    assert episode - refusals(gate(), IDLE, None, trial=True).keys() == {
        "start",
        "keep",
        "save",
        "mark",
    }
    assert set(refusals(None, {}, None)) >= episode | {
        "arm",
        "home",
        "reset",
        "mode",
        "approve",
        "beat",
        "lay",
    }
    assert "stop" not in refusals(None, {}, None) and "hold" not in refusals(None, {}, None)


@pytest.mark.parametrize(
    "state", [State.DISARMED, State.HOLD, State.RUNNING, State.STOPPING, State.FAULT]
)
def test_the_page_and_the_gate_agree(state):
    """What the page lets through the gate obeys, and the other way round."""
    arm = ready(GateConfig())
    arm.gate._phase, arm.gate.armed = Phase[state.name], False
    told = refusals(gate(state=state.name, cause=""), IDLE, None)
    for command, act in {
        "mode": lambda: arm.gate.set_mode("watch"),
        "home": lambda: arm.gate.home(arm.now),
        "arm": lambda: arm.gate.arm(arm.now),
    }.items():
        refused = bool(act())
        if not (command == "arm" and state is State.RUNNING):  # of no use, but harmless
            assert refused == (command in told), command
        arm.gate._phase, arm.gate.armed, arm.gate.mode = Phase[state.name], False, "auto"


def test_cookies_of_two_consoles_or_two_roles_are_different():
    names = [
        cookie_name(role, f"127.0.0.1:{port}")
        for role in ("operator", "viewer")
        for port in (8600, 8601)
    ]
    assert len(set(names)) == 4


def test_a_console_started_again_by_the_same_starter_has_the_same_address(tmp_path):
    pytest.importorskip("fastapi")
    from gwm.console.address import address, keep, starter_of, to_say

    file = tmp_path / "console.url"
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    mine = starter_of(os.getpid())

    def found(starter, asked=port):
        one = address(file, "127.0.0.1", asked, starter)
        one.sock.close()
        return one.port, one.tokens

    first = found(mine)
    urls = keep(file, f"http://127.0.0.1:{first[0]}", first[1], mine)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600 and file.read_text().split()[:2] == urls
    # this is no terminal
    assert not any(token in to_say(file) for token in first[1]) and str(file) in to_say(file)
    assert found(mine) == first
    assert found(mine, port + 3) == first  # where it was, not where it began to look
    assert not found(f"{mine}0")[1].keys() & first[1].keys()  # another graph is another address
    for spoil in (
        lambda: file.chmod(0o644),  # others may have read it
        lambda: file.write_text("x\n"),
        lambda: (file.rename(tmp_path / "old"), file.symlink_to(tmp_path / "old")),
        lambda: file.unlink(),
    ):
        keep(file, f"http://127.0.0.1:{first[0]}", first[1], mine)
        spoil()
        assert not found(mine)[1].keys() & first[1].keys()
    assert sorted(first[1].values()) == ["operator", "viewer"]


WISHES = [
    ({"do": "approve", "plan": "1795617706349959571", "sha256": "ab"}, "gate/approve"),
    ({"do": "mode", "mode": "auto"}, "gate/mode"),
    (
        {"do": "save", "success": False, "score": 0.5, "cause": "policy", "note": "x" * 500},
        "recorder/mark",
    ),
    ({"do": "mark", "note": "\u0001" * 500}, "recorder/mark"),
    ({"do": "lay", "seed": 7}, "sim/episode"),
]


@pytest.mark.parametrize("command, topic", WISHES)
def test_what_a_command_becomes(command, topic):
    commands, messages = (
        pytest.importorskip("gwm.console.commands"),
        pytest.importorskip("gwm.ros.messages"),
    )
    found, request = commands.request_of(command, "lift", True, 10**18)
    assert found == topic
    message = SimpleNamespace(data=json.dumps(request, ensure_ascii=False))
    if topic == "gate/approve":
        assert messages.approval_of(message).chunk_id == 1795617706349959571
    if topic == "recorder/mark":
        # the recorder takes all that the page does
        assert messages.mark_of(message)["note"] == command["note"]


@pytest.mark.parametrize(
    "command",
    [
        {"do": "approve", "plan": 1795617706349959571, "sha256": "ab"},
        {"do": "approve", "plan": "1.8e18", "sha256": "ab"},
        {"do": "approve", "plan": "1" * 20, "sha256": "ab"},
        {"do": "mode"},
        {"do": "mark", "note": "x" * 501},
        {"do": "mark", "note": "x", "success": True},
        {"do": "save", "success": "yes"},
        {"do": "lay", "seed": -1},
        {"do": "lay", "seed": 1.5},
        {"do": "nothing"},
        {"do": ""},
    ],
)
def test_what_is_no_command(command):
    commands = pytest.importorskip("gwm.console.commands")
    with pytest.raises(ValueError, match="no such command"):
        commands.request_of(command, "lift", True, 0)


def test_what_the_topics_tell_outcome_of_a_request():
    commands = pytest.importorskip("gwm.console.commands")
    before = gate(answered="3", answer="old", cause="armed")
    assert commands.gate_said(before, before) is None and commands.gate_said(before, None) is None
    assert commands.gate_said(before, gate(answered="4", answer="no plan waits")) == (
        False,
        "no plan waits",
    )
    assert commands.gate_said(before, gate(answered="4", answer="", cause="armed")) == (
        True,
        "armed",
    )
    assert commands.recorder_saved({"saved": "a"}, {"saved": "a"}) is None
    assert commands.recorder_saved({"saved": "a"}, {"saved": "b"}) == (True, "saved b")
    assert commands.table_laid({"seed": 7, "began": 1.0}, {"seed": 7, "began": 1.0}, 7) is None
    assert commands.table_laid({"seed": 7, "began": 1.0}, {"seed": 7, "began": 2.0}, 7)[0]
    for text in ("[]", "no", "[" * 5000, "1"):
        with pytest.raises(ValueError):
            commands.object_of(text)
