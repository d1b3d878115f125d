"""Where the project's files are, which Python runs its processes, and in which environment.

Standard library only: ``ros2 launch`` may run under a Python that has none of our packages.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from pathlib import Path

from gwm_core.errors import InputError

ROOT = Path(__file__).resolve().parents[5]  # of the repository, when run from it
VENV = ROOT / ".venv"
# Environment variable with the starter's process id, for processes that end with it.
END_WITH_PARENT = "GWM_END_WITH_PARENT"


def resource(name: str) -> Path:
    """Return a path of launch/, urdf/ or models/: in the repository, else as installed."""
    for base in (ROOT, *Path(__file__).resolve().parents):
        for path in (base / name, base / "share" / "gwm" / name):
            if path.exists():
                return path
    raise InputError(f"{name} is neither in {ROOT} nor in the installed package's share folder")


def interpreter() -> str:
    """Return the Python that has our packages: that of .venv, else this one."""
    return str(VENV / "bin" / "python") if (VENV / "gwm-complete").exists() else sys.executable


def dds_profile(name: str) -> dict[str, str]:
    """Return the environment variable that selects a DDS profile of launch/."""
    return {"FASTRTPS_DEFAULT_PROFILES_FILE": str(resource(f"launch/{name}"))}


def process_environment(local_only: bool = True) -> dict[str, str]:
    """Return the environment variables of every process.

    Processes are discovered on this machine alone, exchange images by shared memory, and use one
    thread each.
    """
    values = {
        **dds_profile("fastdds.xml"),
        "RMW_IMPLEMENTATION": "rmw_fastrtps_cpp",
        "PYTHONUNBUFFERED": "1",
        END_WITH_PARENT: str(os.getpid()),
    }
    if local_only:
        values["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"):
        values[name] = "1"  # two cores for five processes: more threads only wait for one another
    return values


def end_with_parent() -> None:
    """Have the kernel send SIGINT to this process when its starter dies.

    A starter that is killed leaves nothing running. Ends this process at once when the starter is
    gone already.
    """
    starter = os.environ.get(END_WITH_PARENT)
    if not starter:
        return
    ctypes.CDLL(None).prctl(1, signal.SIGINT)  # PR_SET_PDEATHSIG, linux/prctl.h
    # A prefix like gdb may stand in between.
    if int(starter) != os.getppid() and not _alive(starter):
        sys.exit("gwm: what started this process is gone already")


def _alive(process: str) -> bool:
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in ("Z", "X")  # dead, and not yet waited for


def simulated_robot() -> str:
    """Return the loopback address at which this ROS domain's simulated robot serves the FCI."""
    return f"127.1.{int(os.environ.get('ROS_DOMAIN_ID') or 0) % 256}.1"


def prioritize(level: int) -> str:
    """Request real-time priority for this thread and those that it starts later.

    Returns:
        the priority that it got, in words.
    """
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(level))
    except PermissionError:
        return "normal priority (no right to SCHED_FIFO: set rtprio in /etc/security/limits.conf)"
    return f"SCHED_FIFO {level}"


def deprioritize() -> None:
    """Give up the real-time priority that this thread has from the one that started it."""
    os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


def refuse_mixed_ros() -> None:
    """Raise InputError where a system ROS is sourced beside the wheels from PyPI."""
    sourced = "ROS_DISTRO" in os.environ or "/opt/ros" in os.environ.get("AMENT_PREFIX_PATH", "")
    wheels = list(
        Path(interpreter()).parents[1].glob("lib/python3*/site-packages/ros_rclpy-*.dist-info")
    )
    if sourced and wheels:
        raise InputError(
            "a system ROS is sourced, but this environment has ROS wheels from PyPI; the two load"
            " each other's libraries. Use a shell without `source /opt/ros/...`, or remove .venv"
            " and run ./gwm again to use the system's ROS"
        )
