"""The gate's status on the wire: its keys are those of old recordings, and ids stay text."""

import pytest

from gwm_core.control.gate.states import Phase
from gwm_core.gate_status import GateStatus, State, WaitingChunk

ID = "1795617706349959571"  # as a float64 it would lose its last digits
STATUS = GateStatus(
    State.HOLD,
    "armed",
    armed=True,
    chunk_id=ID,
    mode="approve",
    divergence=1.25,
    answered=3,
    waiting=WaitingChunk(ID, "ab" * 32, 12.5),
    rate_hz=99.995,
    refused={"age": 2, "franka/joint_states": 1},
    reasons={"franka/joint_states": "names: none"},
    stops={"plan stale": 4},
)


def test_a_status_survives_the_wire():
    fields = STATUS.to_fields()
    assert all(isinstance(text, str) for text in fields.values())
    assert GateStatus.from_fields(fields | {"message": "HOLD: armed", "of later": "1"}) == STATUS
    assert GateStatus.from_fields(GateStatus(State.FAULT, "leash").to_fields()).waiting is None


def test_its_keys_are_those_that_recordings_and_pages_read():
    fields = STATUS.to_fields()
    assert {"state", "cause", "armed", "plan", "mode", "surprise", "waiting", "waiting_sha256"} <= (
        fields.keys()
    )
    assert {"waiting_s", "beats_late", "step_ms_p99", "refused age", "stops plan stale"} <= (
        fields.keys()
    )
    assert fields["armed"] == "True" and fields["plan"] == fields["waiting"] == ID


def test_an_old_recording_has_only_some_of_them():
    status = GateStatus.from_fields({"state": "RUNNING", "cause": "following plans", "plan": "7"})
    assert status.follows_chunk and status.chunk_id == "7" and not status.armed
    home = GateStatus.from_fields({"state": "RUNNING", "cause": "going home", "plan": "0"})
    assert not home.follows_chunk


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"state": "HOLD"},
        {"state": "ASLEEP", "cause": "x"},
        {"state": "HOLD", "cause": "x", "sent": "many"},
    ],
)
def test_what_is_no_status_is_refused(fields):
    with pytest.raises(ValueError):
        GateStatus.from_fields(fields)


def test_every_phase_is_published_as_one_of_six_states():
    published = {phase: phase.state for phase in Phase}
    assert {state.name for state in published.values()} == {
        "DISARMED",
        "HOLD",
        "RUNNING",
        "SHADOW",
        "STOPPING",
        "FAULT",
    }
    assert Phase.HOMING.state is State.RUNNING and Phase.DISARMING.state is State.STOPPING
    for phase in Phase:
        if phase.after_gap:
            assert phase.after_reset.state is phase.state and not phase.after_reset.after_gap
