"""Checks for a robot behind ``controller:=fci``: the host's real-time abilities, and the robot."""

from __future__ import annotations

import importlib.util
import re
import resource
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from gwm.doctor.check import LIMITED, OK, DoctorCheck
from gwm.doctor.machine import configured_site
from gwm_core.control.recovery import MODES
from gwm_core.site import Site

REALTIME_KERNEL = Path("/sys/kernel/realtime")
GOVERNORS = Path("/sys/devices/system/cpu")
LIMITS = "add `@realtime - rtprio 99` and `@realtime - memlock unlimited` to"
LIMITS += " /etc/security/limits.conf, join that group, and log in again"
PRIORITY = 70  # of SCHED_FIFO, of the thread that answers the robot
PINGS = 100
SLOW_PING = 0.5  # [ms] at most; the robot gives a command 1 ms for both ways and the computing
ANSWER = 12.0  # [s]


def check_robot() -> Iterator[DoctorCheck]:
    """Check the host and the robot, where the site file has its address and franky is there."""
    site = configured_site()
    if not site.robot_ip:
        return
    if importlib.util.find_spec("franky") is None:
        yield DoctorCheck(
            OK, "fci", "franky-control is not installed, needed for controller:=fci alone"
        )
        return
    yield from check_real_time()
    yield ping(site.robot_ip)
    yield connection(site)


def check_real_time() -> Iterator[DoctorCheck]:
    """Check kernel, priorities, locked memory, and the clock of the processor."""
    preempt = REALTIME_KERNEL.exists() and REALTIME_KERNEL.read_text().strip() == "1"
    remedy = "boot a PREEMPT_RT kernel (Ubuntu Pro: `pro enable realtime-kernel`)"
    text = "PREEMPT_RT" if preempt else "not PREEMPT_RT"
    yield DoctorCheck(OK if preempt else LIMITED, "kernel", text, "" if preempt else remedy)
    for name, kind, least in (
        ("rtprio", resource.RLIMIT_RTPRIO, PRIORITY),
        ("memlock", resource.RLIMIT_MEMLOCK, resource.RLIM_INFINITY),
    ):
        limit = resource.getrlimit(kind)[1]
        fine = limit == resource.RLIM_INFINITY or (least > 0 and limit >= least)
        shown = "unlimited" if limit == resource.RLIM_INFINITY else str(limit)
        yield DoctorCheck(OK if fine else LIMITED, name, shown, "" if fine else LIMITS)
    governors = {
        path.read_text().strip() for path in GOVERNORS.glob("cpu*/cpufreq/scaling_governor")
    }
    slow = governors - {"performance"}
    yield DoctorCheck(
        LIMITED if slow else OK,
        "governor",
        ", ".join(sorted(governors)) or "the system does not say",
        "sudo cpupower frequency-set -g performance" if slow else "",
    )


def ping(address: str) -> DoctorCheck:
    """Check the round trip to the robot."""
    command = ["ping", "-q", "-c", str(PINGS), "-i", "0.01", "-W", "1", address]
    try:
        said = subprocess.run(
            command, capture_output=True, text=True, timeout=30, check=False
        ).stdout
    except (OSError, subprocess.TimeoutExpired) as error:
        return DoctorCheck(LIMITED, "ping", str(error), "sudo apt install iputils-ping")
    received = re.search(r"(\d+) received", said)
    times = re.search(r"= [\d.]+/([\d.]+)/([\d.]+)/", said)
    if received is None or times is None:
        remedy = "is the address the robot's, and the cable in the LAN port of its Control?"
        return DoctorCheck(LIMITED, "ping", f"{address} does not answer", remedy)
    lost, mean, most = PINGS - int(received[1]), float(times[1]), float(times[2])
    slow = lost > 0 or most > SLOW_PING
    remedy = "connect the robot to a network card of its own, without a switch" if slow else ""
    text = f"{address}: {mean:.2f} ms, {most:.2f} at most, {lost} of {PINGS} lost"
    return DoctorCheck(LIMITED if slow else OK, "ping", text, remedy)


def connection(site: Site) -> DoctorCheck:
    """Connect to the robot as ``controller:=fci`` does, without a motion."""
    from gwm.hardware.fci.control_process import ControlProcess
    from gwm.hardware.fci.link import RobotState

    states: list[RobotState] = []
    control = ControlProcess(site.robot_ip, site.fci, states.append)
    end = time.monotonic() + ANSWER
    while not states and not control.trouble and time.monotonic() < end:
        control.poll(time.monotonic())
        time.sleep(0.01)
    control.close()
    if states:
        return DoctorCheck(OK, "fci", f"connected, the robot is {MODES[states[-1].mode]}")
    reason = control.trouble or f"no answer for {ANSWER:.0f} s"
    return DoctorCheck(LIMITED, "fci", reason, "docs/controllers.md")
