"""The true libfranka client between the gate and a robot that says no, in real time.

Times are those of a benchmark (``gwm bench fci``); here each fault has its name and its way back.
"""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("franky_sim")
pytest.importorskip("franky")

from gwm.doctor import robot
from gwm.doctor.check import LIMITED, OK
from gwm.hardware.fci import control_process
from gwm.hardware.fci.control_process import ControlProcess, check_installed

from benchmarks.fci.faults import FAULTS, moving
from benchmarks.fci.station import Station, tracking
from gwm_core.errors import InputError
from gwm_core.gate_status import State
from gwm_core.sim.fci.arm import TorqueArm
from gwm_core.sim.fci.command_rules import ERRORS
from gwm_core.sim.fci.messages import Mode
from gwm_core.sim.fci.robot_server import RobotServer
from gwm_core.sim.simulator import Simulator
from gwm_core.site import simulation_site
from gwm_core.site.fci_settings import FciSettings

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def station():
    with Station(1) as station:
        yield station


def test_the_arm_follows_plans_within_the_robots_limits(station):
    station.arm()
    sent, measured = len(station.sent), len(station.measured)
    station.move(5.0)
    _, rms, _ = tracking(station.sent[sent:], station.measured[measured:])
    assert rms < 0.03  # 0.0008 on a quiet machine, which the benchmark measures
    assert station.robot.reflexes == []
    assert 0.1 < station.robot.limits_used["controller_torque_discontinuity"] <= 0.901


@pytest.mark.parametrize(
    "count", [pytest.param(1, marks=pytest.mark.long), pytest.param(5, marks=pytest.mark.long), 19]
)
def test_lost_commands_are_no_reflex(station, count):
    moving(station, np.random.default_rng(count))
    for _ in range(5):
        station.robot.drop = count
        station.run(0.1)
        assert station.robot.drop == 0
    assert station.robot.reflexes == []


def test_more_lost_commands_than_a_robot_tolerates_are_a_reflex(station):
    moving(station, np.random.default_rng(0))
    station.robot.drop = 25
    station.run_until(lambda: station.gate.state is State.FAULT, 2.0)
    assert station.robot.reflexes == ["communication_constraints_violation"]
    assert "communication_constraints_violation" in station.gate.cause
    station.robot.drop = 0
    moving(station, np.random.default_rng(0))  # after one recovery
    station.robot.reflexes.clear()


LONG = ("gate stopped", "control process stopped 15", "robot silent", "guided", "robot's server")


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(fault, marks=pytest.mark.long if fault.name.startswith(LONG) else ())
        for fault in FAULTS
    ],
    ids=lambda fault: fault.name,
)
def test_a_fault_has_a_name_and_one_recovery_goes_on(station, fault):
    outcome = fault.inject(station, np.random.default_rng(0))
    assert any(cause in outcome.cause for cause in fault.causes), outcome
    moving(station, np.random.default_rng(1))
    assert station.gate.state is State.RUNNING, station.situation


def test_a_robot_in_control_is_not_recovered(station):
    moving(station, np.random.default_rng(5))
    answers, reflexes = [], len(station.robot.reflexes)
    station.control.recover(answers.append)
    station.run_until(lambda: answers, 2.0)
    assert "nothing to recover" in answers[0]
    assert station.control.in_control and len(station.robot.reflexes) == reflexes


def test_control_is_not_taken_far_from_the_arm(station):
    """References that begin elsewhere move nothing."""
    station.gate_runs = False
    station.run_until(lambda: not station.control.in_control, 2.0)
    elsewhere = station.sent[-1][1]._replace(q=station.q + 0.1, dq=np.zeros(7), ddq=np.zeros(7))
    before = station.q
    for _ in range(20):
        station.control.send(elsewhere)
        station.run(0.01)
    assert not station.control.in_control
    assert np.abs(station.q - before).max() < 0.01
    station.gate_runs = True


def test_closed_brakes_are_named_and_the_arm_goes_on_once_they_are_open(station):
    moving(station, np.random.default_rng(6))
    station.at_robot(lambda: station.robot.hold(Mode.kOther, True))
    station.run_until(lambda: station.gate.state is State.FAULT, 2.0)
    assert "brakes are closed" in station.gate.cause
    assert "brakes are closed" in station.monitor.trouble(time.monotonic())
    station.at_robot(lambda: station.robot.hold(Mode.kOther, False))
    moving(station, np.random.default_rng(7))
    assert station.gate.state is State.RUNNING, station.situation


def test_a_robot_of_another_version_is_refused_with_the_remedy():
    other = RobotServer(TorqueArm(Simulator()), ["127.3.3.3"], version=9)
    other.init()
    found = []
    site = replace(simulation_site(), robot_ip="127.3.3.3", fci=FciSettings(real_time=False))
    asking = threading.Thread(target=lambda: found.append(robot.connection(site)))
    asking.start()
    while asking.is_alive():
        other.tick()
        time.sleep(1e-3)
    other.cleanup()
    assert found[0].level == LIMITED and "another franky-control" in found[0].found


def test_a_second_client_is_told_that_the_robot_is_taken(station):
    station.run_until(lambda: station.robot_answers, 5.0)
    found = []
    site = replace(
        simulation_site(), robot_ip=station.robot.hostname, fci=FciSettings(real_time=False)
    )
    asking = threading.Thread(target=lambda: found.append(robot.connection(site)))
    asking.start()
    station.run_until(lambda: not asking.is_alive(), 30.0)
    assert found[0].level == LIMITED and "another client may have the robot" in found[0].found


def test_an_ordinary_kernel_is_refused_where_the_site_wants_a_real_time_one(station):
    if robot.REALTIME_KERNEL.exists():
        pytest.skip("this kernel is one")
    check = robot.connection(replace(simulation_site(), robot_ip=station.robot.hostname))
    assert check.level == LIMITED and "real_time: false" in check.found


def test_the_doctor_connects_to_a_free_robot():
    with Station(2) as free:
        free.control.close()
        site = replace(
            simulation_site(), robot_ip=free.robot.hostname, fci=FciSettings(real_time=False)
        )
        check = robot.connection(site)
    assert (check.level, check.found) == (OK, "connected, the robot is idle")


def test_every_error_has_the_name_that_libfranka_gives_it():
    """Each flag of the state message, read by the true client."""
    import franky

    with Station(3) as free:
        free.control.close()
        before = os.sched_getscheduler(0), os.sched_getparam(0)
        client = franky.Robot(free.robot.hostname, realtime_config=franky.RealtimeConfig.Ignore)
        os.sched_setscheduler(0, *before)  # the library takes the highest priority
        for name in ERRORS:
            free.at_robot(lambda name=name: setattr(free.robot, "_errors", (name,)))
            time.sleep(0.02)
            errors = client.state.current_errors
            told = {other for other in dir(errors) if getattr(errors, other) is True}
            assert told == {name}
        del client


def test_a_robot_alone_serves_a_client_and_tells_its_end():
    command = [sys.executable, "-m", "gwm", "sim-robot", "--address", "127.4.4.4"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert "a robot at 127.4.4.4" in server.stdout.readline()
        site = replace(simulation_site(), robot_ip="127.4.4.4", fci=FciSettings(real_time=False))
        assert robot.connection(site).level == OK
        second = subprocess.run(command, capture_output=True, text=True)
        assert second.returncode == 2 and "cannot serve at 127.4.4.4" in second.stderr
        server.send_signal(signal.SIGINT)
        assert "reflexes: none" in server.communicate(timeout=20)[0]
        assert server.returncode == 0
    finally:
        server.kill()


def test_without_a_robot_one_line_says_what_to_look_at():
    control = ControlProcess("127.3.3.3", FciSettings(real_time=False), lambda _: None)
    end = time.monotonic() + 30.0
    while not control.trouble and time.monotonic() < end:
        control.poll(time.monotonic())
        time.sleep(0.01)
    control.close()
    assert "refused" in control.trouble and "activate FCI in Desk" in control.trouble
    assert "\n" not in control.trouble


def test_without_the_library_one_line_says_how_to_get_it(monkeypatch):
    monkeypatch.setattr(control_process.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(InputError, match="pip install"):
        check_installed()


@pytest.mark.long
@pytest.mark.timeout(300)
def test_the_whole_graph_runs_through_libfranka(tmp_path):
    command = [sys.executable, "-m", "gwm", "demo", "--controller", "fci", "--policy", "expert"]
    more = ["--episodes", "1", "--no-imagination", "--headless", "--out", str(tmp_path)]
    done = subprocess.run(
        [*command, *more, "--json", str(tmp_path / "demo.json")],
        capture_output=True,
        text=True,
        timeout=280,
    )
    figures = json.loads((tmp_path / "demo.json").read_text())
    assert figures["episodes"] == 1, done.stdout
    assert figures["gate"]["violations"] == 0
    assert figures["robot"]["reflexes"] == 0
    assert 0 < max(figures["robot"]["limit_use"].values()) <= 1
    counts = figures["topics"]["fci/reference"]
    assert counts["received"] == counts["sent"] > 300
