"""The real processes over real topics, driven as an operator would."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml

pytest.importorskip("rclpy")

from gwm.graph.config import GraphConfig
from gwm.graph.process_list import command, processes
from gwm.process.supervisor import Supervisor
from gwm.ros import messages
from sensor_msgs.msg import CompressedImage, JointState
from std_msgs.msg import Float64MultiArray, String

from gwm_core import topics
from gwm_core.data.episode import read_episode
from gwm_core.errors import InputError
from gwm_core.gate_status import State
from gwm_core.site import simulation_site

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]


def real_robot_nodes(tmp_path):
    """The graph of a real robot, with the simulation in the drivers' place: nothing may arm
    itself.
    """
    site = tmp_path / "site.yaml"
    cameras = {n: c.to_dict() for n, c in simulation_site().cameras.items()}
    site.write_text(yaml.safe_dump({"cameras": cameras}))
    nodes = processes(GraphConfig(policy="expert", record=str(tmp_path / "record")))
    (own_gate,) = (
        n for n in processes(GraphConfig(robot="fr3", site=str(site))) if n.name == "gate"
    )
    return [own_gate if n.name == "gate" else n for n in nodes]


def speed(operator):
    return np.abs(operator.commands[-1][1]).max() if operator.commands else 0.0


def test_a_dead_policy_means_ramp_hold_respawn_and_no_motion_until_the_operator_arms(
    operator, tmp_path
):
    supervisor = Supervisor(real_robot_nodes(tmp_path), log=open(tmp_path / "log", "w"))
    supervisor.start()
    poll = supervisor.poll
    try:
        assert operator.wait("start", lambda: operator.ready, 90, poll), (
            tmp_path / "log"
        ).read_text()
        operator.reset_simulation("pick_place", 300, "nominal")
        assert operator.wait("layout", lambda: operator.result.get("seed") == 300, 10, poll)
        assert not operator.wait("motion", lambda: speed(operator) > 0.01, 2, poll), (
            "it moved before it was armed"
        )
        operator.request("recorder/start", poll)
        operator.arm(poll)
        assert operator.wait("motion", lambda: speed(operator) > 0.05, 15, poll)

        died = len(operator.commands)
        os.kill(supervisor.processes["policy"].pid, signal.SIGKILL)
        assert operator.wait("hold", lambda: operator.state is State.HOLD, 15, poll)
        assert operator.wait("rest", lambda: speed(operator) < 1e-6, 15, poll)
        ramp = np.array([np.abs(c[1]).max() for c in operator.commands[died:]])
        assert np.argmax(ramp < 1e-6) < 60  # within 0.6 s of the kill, most of it noticing

        assert operator.wait("respawn", lambda: supervisor.respawns.get("policy") == 1, 10, poll)
        operator.reports.pop("policy", None)
        planned = operator.wait(
            "new policy",
            lambda: operator.reports.get("policy", {}).get("plans", "0") != "0",
            60,
            poll,
        )
        assert planned, (tmp_path / "log").read_text()
        resting = len(operator.commands)
        assert not operator.wait("motion", lambda: speed(operator) > 1e-6, 3, poll), (
            "it armed itself"
        )
        assert not operator.status.armed and operator.state is State.HOLD
        assert len(operator.commands) > resting + 200  # it went on holding at its rate

        operator.arm(poll)
        assert operator.wait("motion", lambda: speed(operator) > 0.05, 15, poll)
        assert operator.wait("success", lambda: operator.result.get("success"), 40, poll)
        operator.request("gate/hold", poll)
        assert operator.wait("rest", lambda: operator.state is State.HOLD, 15, poll)
        operator.request("recorder/save", poll)
        found = operator.command_check()
        assert found.total == 0, found.violations

        episode = read_episode(next((tmp_path / "record").glob("episode_*")))
        assert episode.info["success"] and len(episode.images["front", "color"]) > 30

        os.kill(supervisor.processes["gate"].pid, signal.SIGKILL)
        deadline = time.monotonic() + 5
        while not (over := poll()) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert over.startswith("gate ended")
    finally:
        supervisor.stop()
    assert all(p.poll() is not None for p in supervisor.processes.values())


def start_up(tmp_path):
    child = subprocess.Popen(
        [sys.executable, "-m", "gwm", "up", "policy:=expert", f"record:={tmp_path}"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    return child


def children_of(pid):
    found = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
            words = (stat.parent / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if int(fields[1]) == pid:
            found[int(stat.parent.name)] = b" ".join(words).decode()
    return found


@pytest.mark.parametrize("end", [pytest.param("interrupt", marks=pytest.mark.long), "gate dies"])
def test_gwm_up_ends_cleanly_and_tells_how_it_ended(operator, tmp_path, end):
    child = start_up(tmp_path)
    try:
        assert operator.wait("start", lambda: operator.ready, 90, lambda: "")
        nodes = children_of(child.pid)
        assert len(nodes) == len(processes(GraphConfig(policy="expert")))
        if end == "interrupt":
            child.send_signal(signal.SIGINT)
        else:
            os.kill(
                next(pid for pid, words in nodes.items() if "gate_node" in words), signal.SIGKILL
            )
        output, _ = child.communicate(timeout=30)
    finally:
        child.kill()  # its nodes end with it
    assert child.returncode == (0 if end == "interrupt" else 1), output
    assert "Traceback" not in output, output
    if end == "interrupt":
        assert "gate: at rest" in output
    assert not any(Path(f"/proc/{pid}").exists() for pid in nodes)


def test_malformed_messages_and_a_second_graph_do_no_harm(operator, tmp_path):
    nodes = [
        replace(n)
        for n in processes(GraphConfig(policy="expert", record=str(tmp_path)))
        if n.name in ("sim", "gate")
    ]
    supervisor = Supervisor(nodes, log=open(tmp_path / "log", "w"))
    supervisor.start()
    try:
        assert operator.wait(
            "start", lambda: operator.status and "sim" in operator.reports, 60, supervisor.poll
        )
        for text in ("nonsense", '{"task": "juggle", "seed": 1}', '{"seed": 1}', "[]"):
            operator._episode.publish(String(data=text))
        gripper = operator.create_publisher(Float64MultiArray, topics.GRIPPER_COMMAND, 10)
        for data in ([], [float("nan")], [0.0, 0.0]):
            gripper.publish(Float64MultiArray(data=data))
        operator.reset_simulation("stack", 7, "hard")
        assert operator.wait(
            "layout", lambda: operator.result.get("seed") == 7, 10, supervisor.poll
        )

        second = subprocess.run(
            command(nodes[-1]), capture_output=True, text=True, timeout=60, check=False
        )
        assert second.returncode == 2 and "target_joint has a publisher" in second.stderr, second
        with pytest.raises(InputError, match="ROS_DOMAIN_ID"):
            Supervisor(nodes).start()

        operator.arm(supervisor.poll)
        rival = operator.create_publisher(JointState, topics.TARGET_JOINT, 10)
        assert operator.wait("fault", lambda: operator.state is State.FAULT, 15, supervisor.poll)
        assert operator.status.cause.startswith("second publisher")
        operator.destroy_publisher(rival)
        assert supervisor.poll() == ""
    finally:
        supervisor.stop()


def test_futures_and_divergence_come_beside_a_running_policy(operator, tmp_path):
    """The shipped policy moves the arm; what it plans is imagined, and held against what came."""
    got = {"pictures": set(), "gaps": []}
    views = (*simulation_site().cameras, topics.AFAR)
    names = [(view, step) for view in views for step in topics.LOOKAHEADS]
    for view, step in names:
        take = lambda m, key=(view, step): got["pictures"].add((key, bytes(m.data[:3])))  # noqa: E731
        operator.create_subscription(CompressedImage, topics.imagined(view, step), take, 10)
    operator.create_subscription(
        Float64MultiArray,
        topics.DIVERGENCE,
        lambda m: got["gaps"].append(messages.read_numbers(m)),
        10,
    )
    supervisor = Supervisor(
        processes(GraphConfig(record=str(tmp_path / "record"))), log=open(tmp_path / "log", "w")
    )
    supervisor.start()
    poll = supervisor.poll
    try:

        def ready():
            return operator.ready and operator.reports.get("imagination", {}).get("ready") == "True"

        assert operator.wait("start", ready, 200, poll), (tmp_path / "log").read_text()
        operator.reset_simulation("pick_place", 4000, "nominal")
        assert operator.wait("layout", lambda: operator.result.get("seed") == 4000, 10, poll)
        operator.arm(poll)
        assert operator.wait(
            "futures", lambda: len(operator.futures) > 2 and len(got["gaps"]) > 2, 90, poll
        )
        assert operator.wait("pictures", lambda: len(got["pictures"]) == len(names), 60, poll)
    finally:
        supervisor.stop()
    assert {head for _, head in got["pictures"]} == {b"\xff\xd8\xff"}  # JPEG
    plans = set(operator.stages)
    assert all(
        plan in plans and future["horizon"] == topics.LOOKAHEADS[-1]
        for plan, future in operator.futures.items()
    )
    assert all(np.isfinite(list(gap.values())).all() for gap in got["gaps"])
    # A scene that came late leaves out the horizons that it begins or ends.
    assert any("h4 image" in gap for gap in got["gaps"])
