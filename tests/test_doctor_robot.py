"""What the doctor says of a host that is to drive an arm through libfranka."""

import resource
import subprocess
from types import SimpleNamespace

import pytest
from gwm.doctor import robot
from gwm.doctor.check import LIMITED, OK

SAID = """100 packets transmitted, {} received, 0% packet loss, time 1010ms
rtt min/avg/max/mdev = 0.08/0.11/{}/0.02 ms
"""


@pytest.fixture
def host(tmp_path, monkeypatch):
    """A host that is fit; a test spoils one thing."""
    (tmp_path / "realtime").write_text("1\n")
    folder = tmp_path / "cpu0" / "cpufreq"
    folder.mkdir(parents=True)
    (folder / "scaling_governor").write_text("performance\n")
    limits = {resource.RLIMIT_RTPRIO: (0, 99), resource.RLIMIT_MEMLOCK: (0, resource.RLIM_INFINITY)}
    monkeypatch.setattr(robot, "REALTIME_KERNEL", tmp_path / "realtime")
    monkeypatch.setattr(robot, "GOVERNORS", tmp_path)
    monkeypatch.setattr(robot.resource, "getrlimit", limits.get)
    return SimpleNamespace(limits=limits, governor=folder / "scaling_governor", folder=tmp_path)


def levels():
    return {check.what: check.level for check in robot.check_real_time()}


def test_a_host_that_is_fit_has_nothing_to_mend(host):
    assert set(levels().values()) == {OK}
    assert not any(check.remedy for check in robot.check_real_time())


@pytest.mark.parametrize("what", ["kernel", "rtprio", "memlock", "governor"])
def test_what_is_missing_is_named_with_its_remedy(host, what):
    if what == "kernel":
        (host.folder / "realtime").unlink()
    elif what == "rtprio":
        host.limits[resource.RLIMIT_RTPRIO] = (0, 50)
    elif what == "memlock":
        host.limits[resource.RLIMIT_MEMLOCK] = (0, 8_388_608)
    else:
        host.governor.write_text("powersave\n")
    assert {name for name, level in levels().items() if level == LIMITED} == {what}
    (check,) = (check for check in robot.check_real_time() if check.what == what)
    assert check.remedy


@pytest.mark.parametrize(
    ("received", "most", "level"), [(100, 0.2, OK), (100, 0.9, LIMITED), (99, 0.2, LIMITED)]
)
def test_a_slow_or_lossy_way_to_the_robot_is_said(monkeypatch, received, most, level):
    answer = SimpleNamespace(stdout=SAID.format(received, most))
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: answer)
    check = robot.ping("172.16.0.2")
    assert check.level == level and bool(check.remedy) == (level != OK)


def test_a_robot_that_does_not_answer_is_said(monkeypatch):
    answer = SimpleNamespace(stdout="100 packets transmitted, 0 received, 100% packet loss\n")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: answer)
    assert "does not answer" in robot.ping("172.16.0.2").found
