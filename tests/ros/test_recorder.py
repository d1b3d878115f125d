"""The recorder's process in the live graph: killed in the middle of an episode, and what it says of
itself.
"""

import json
import os
import signal
import time

import pytest

pytest.importorskip("rclpy")

from episode_problems import problems
from gwm.graph.config import GraphConfig
from gwm.graph.process_list import processes
from gwm.process.supervisor import Supervisor

from gwm_core import topics
from gwm_core.data.episode_info import INFO
from gwm_core.recording.episode_recovery import recover, salvage_messages

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]


def unreadable(path):
    """What is wrong but for frames that a busy machine did not deliver."""
    return [
        line for line in problems(path) if "gaps" not in line and "before the others" not in line
    ]


def test_killed_in_mid_episode_it_comes_back_and_what_it_had_is_recovered(operator, tmp_path):
    record = tmp_path / "record"
    nodes = processes(
        GraphConfig(
            policy="expert", record=str(record), operator="Ada", console=0, imagination=False
        )
    )
    supervisor = Supervisor(nodes, log=open(tmp_path / "log", "w"))
    supervisor.start()
    poll = supervisor.poll
    try:
        assert operator.wait("start", lambda: operator.ready, 90, poll), (
            tmp_path / "log"
        ).read_text()
        operator.reset_simulation("pick_place", 301, "nominal")
        operator.request("recorder/start", poll)
        operator.arm(poll)
        operator.wait("time", lambda: False, 4.0, poll)
        killed = time.time()
        os.kill(supervisor.processes["recorder"].pid, signal.SIGKILL)
        assert operator.wait("respawn", lambda: supervisor.respawns.get("recorder") == 1, 10, poll)
        operator.reports.pop("recorder")

        made, count, seconds = recover(record / "episode_000000.partial")
        assert not unreadable(made) and seconds > 2 and count > 300
        last = (
            max(
                stamp
                for topic, _, _, stamp in salvage_messages(made / "bag")
                if topic == topics.COMMAND
            )
            * 1e-9
        )
        assert killed - last < 1.0
        info = json.loads((made / INFO).read_text())
        assert (
            info["recovered"]
            and info["operator"] == "Ada"
            and info["versions"]["gwm"]
            and info["calibration"]
        )
        assert {check["what"] for check in info["doctor"]} >= {"python", "disk"}

        assert operator.wait("recorder", lambda: "recorder" in operator.reports, 30, poll)
        operator.request("recorder/start", poll)
        operator.wait("time", lambda: False, 2.0, poll)
        operator.request("recorder/save", poll)
        assert not unreadable(record / "episode_000001")
        operator.request("recorder/start", poll)
        operator.request("recorder/discard", poll)
        said = operator.reports["recorder"]
        assert (
            said["recording"] in ("True", "False") and float(said["free"]) > 0 and said["cut"] == ""
        )
        assert not [key for key in said if key.startswith("dropped") and int(said[key])]
    finally:
        supervisor.stop()
    assert len(list((record / "trash").iterdir())) == 2
