"""``gwm doctor``: what works on this machine, and how to mend what does not. Exit 0 fine, 1
limited, 2 broken.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import shutil
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from gwm.graph.environment import ROOT, process_environment, refuse_mixed_ros, resource
from gwm_core import topics
from gwm_core.errors import InputError
from gwm_core.files.json_files import write_json
from gwm_core.site import DEFAULT_FILE, Site, load_site, simulation_site

OK, LIMITED, BROKEN = 0, 1, 2
SHARED_MEMORY = Path("/dev/shm")  # noqa: S108  where Fast DDS keeps its segments


class DoctorCheck(NamedTuple):
    """One line: level, what was looked at, what was found, what to do about it."""

    level: int
    what: str
    found: str
    remedy: str = ""


def _python() -> Iterator[DoctorCheck]:
    version = ".".join(map(str, sys.version_info[:3]))
    fits = (3, 11) <= sys.version_info[:2] <= (3, 12)
    yield DoctorCheck(
        OK if fits else BROKEN, "python", version, "" if fits else "install Python 3.11 or 3.12"
    )


def _packages() -> Iterator[DoctorCheck]:
    for module in (
        "numpy",
        "scipy",
        "torch",
        "safetensors",
        "numba",
        "cv2",
        "mujoco",
        "ruckig",
        "rosbags",
        "ruamel.yaml",
        "fast_simplification",
    ):
        try:
            found = importlib.import_module(module)
            yield DoctorCheck(OK, module, getattr(found, "__version__", "present"))
        except ImportError as error:
            yield DoctorCheck(BROKEN, module, str(error), "remove .venv and run ./gwm again")
    try:
        yield DoctorCheck(OK, "panda meshes", importlib.metadata.version("dm-robotics-panda"))
    except importlib.metadata.PackageNotFoundError:
        yield DoctorCheck(
            LIMITED, "panda meshes", "absent", "pip install --no-deps dm-robotics-panda==0.4.8"
        )


def _ros() -> Iterator[DoctorCheck]:
    try:
        refuse_mixed_ros()
        import rclpy  # noqa: F401

        sourced = os.environ.get("ROS_DISTRO")
        yield DoctorCheck(
            OK, "ros", f"system ROS 2 {sourced}" if sourced else "rclpy from PyPI wheels"
        )
    except InputError as error:
        yield DoctorCheck(BROKEN, "ros", "mixed", str(error))
    except ImportError as error:
        yield DoctorCheck(
            BROKEN,
            "ros",
            str(error),
            "source /opt/ros/jazzy/setup.bash, or remove .venv and run ./gwm again",
        )


def _renderer() -> Iterator[DoctorCheck]:
    from gwm_core.sim.cameras import choose_renderer

    name = choose_renderer()
    slow = "sudo apt install libegl1 libgl1 (ray casting draws about 8 frames a second)"
    yield DoctorCheck(
        OK if name != "raycast" else LIMITED, "renderer", name, slow if name == "raycast" else ""
    )


def _runtime() -> Iterator[DoctorCheck]:
    from gwm_core.runtime.backends import PRECISIONS, choose, version, why_not
    from gwm_core.runtime.gpu_info import gpu

    default = choose("auto", "auto")[0]
    for name in PRECISIONS:
        reason = why_not(name)
        found = (
            f"{version(name)}{', default' * (name == default)}"
            if not reason
            else f"does not run here: {reason}"
        )
        yield DoctorCheck(OK, f"runtime {name}", found)
    yield DoctorCheck(OK, "gpu", gpu() or "none: everything runs on the CPU")
    cores = len(os.sched_getaffinity(0))
    yield DoctorCheck(
        OK if cores >= 2 else LIMITED,
        "cores",
        str(cores),
        "" if cores >= 2 else "two or more are wanted",
    )


def _cameras() -> Iterator[DoctorCheck]:
    from gwm.hardware.realsense import describe, devices

    serials = {name: camera.serial for name, camera in _site().cameras.items() if camera.serial}
    try:
        there = [describe(device) for device in devices()]
    except InputError as error:
        yield DoctorCheck(
            LIMITED if serials else OK,
            "realsense",
            "not usable, needed for our camera node alone",
            str(error),
        )
        return
    version = importlib.metadata.version("pyrealsense2")
    yield DoctorCheck(
        OK, "realsense", f"pyrealsense2 {version}, connected: {', '.join(there) or 'none'}"
    )
    for name, serial in serials.items():
        found = next((text for text in there if text.startswith(serial)), "")
        if not found:
            remedy = (
                "try another cable; if `lsusb -d 8086:` lists it, install librealsense's udev rules"
            )
            yield DoctorCheck(LIMITED, f"camera {name}", f"{serial} is not connected", remedy)
        else:
            slow = "USB 2" in found
            yield DoctorCheck(
                LIMITED if slow else OK,
                f"camera {name}",
                found,
                "use a USB 3 port and cable" if slow else "",
            )


def _weights() -> Iterator[DoctorCheck]:
    from gwm_core.runtime.bundle import open_bundle

    try:
        folder = resource("models/demo")
        yield DoctorCheck(
            OK,
            "demo weights",
            f"{folder}, verified, tasks {', '.join(open_bundle(folder).contract['tasks'])}",
        )
    except InputError as error:
        yield DoctorCheck(BROKEN, "demo weights", str(error), "git checkout models/demo")


def _disk() -> Iterator[DoctorCheck]:
    for what, path, least in (("disk", ROOT, 2.0), ("shared memory", SHARED_MEMORY, 0.1)):
        try:
            free = shutil.disk_usage(path).free / 1e9
        except OSError as error:
            yield DoctorCheck(
                LIMITED, what, str(error), "shared memory carries the images: mount /dev/shm"
            )
            continue
        remedy = {
            "disk": "free some space: an episode takes 10 MB",
            "shared memory": "fastdds shm clean; docker: --shm-size=512m",
        }
        yield DoctorCheck(
            OK if free > least else LIMITED,
            what,
            f"{free:.1f} GB free",
            "" if free > least else remedy[what],
        )


def _ports() -> Iterator[DoctorCheck]:
    text = os.environ.get("ROS_DOMAIN_ID", "0")
    if not (text.isdecimal() and int(text) <= 232):
        yield DoctorCheck(
            BROKEN, "dds ports", f"ROS_DOMAIN_ID={text}", "set ROS_DOMAIN_ID to 0-101 (232 at most)"
        )
        return
    domain = int(text)
    first = 7400 + 250 * domain + 10  # DDS: unicast discovery port of participant 0
    busy = 0
    for participant in range(20):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            try:
                probe.bind(("127.0.0.1", first + 2 * participant))
            except OSError:
                busy += 1
    level = OK if busy < 10 else LIMITED
    remedy = "another graph runs in this domain: stop it or set ROS_DOMAIN_ID" if level else ""
    yield DoctorCheck(
        level, "dds ports", f"domain {domain}, {busy} of 20 participants' ports in use", remedy
    )


def _site() -> Site:
    return load_site(DEFAULT_FILE) if DEFAULT_FILE.expanduser().exists() else simulation_site()


def _graph() -> Iterator[DoctorCheck]:
    import rclpy

    os.environ.update(process_environment())
    rclpy.init(args=[])
    node = rclpy.create_node("gwm_doctor")
    time.sleep(2.0)
    published = {
        name for name, _ in node.get_topic_names_and_types() if node.count_publishers(name)
    }
    published = {name.lstrip("/") for name in published}
    listeners = {name for name in published if node.count_subscribers(name)}
    node.destroy_node()
    rclpy.shutdown()
    yield from _topics(published, listeners, _site())


def _topics(published: set[str], heard: set[str], site: Site) -> Iterator[DoctorCheck]:
    """What the drivers and the graph do not bring, of the topics that must be there."""
    running = topics.STATUS in published
    prefixes = [camera.prefix for camera in site.cameras.values()]
    wanted = {
        "franka_ros2 (or robot:=sim)": [topics.JOINT_STATES],
        "franka_gripper": [topics.GRIPPER_STATES],
        "realsense2_camera with align_depth.enable:=true": [
            make(prefix)
            for prefix in prefixes
            for make in (topics.color, topics.depth, topics.info)
        ],
        "gwm up": [topics.CHUNK, topics.COMMAND],
    }
    count, found = (
        sum(map(len, wanted.values())),
        published & {name for names in wanted.values() for name in names},
    )
    if not running and not found:
        yield DoctorCheck(OK, "graph", "not running (gwm up starts it)")
        return
    remedies = []
    for source, names in wanted.items():
        if missing := [name for name in names if name not in published]:
            remedies.append(f"no publisher of {', '.join(missing)}: start {source}")
    for name in (topics.TARGET_JOINT, topics.TARGET_POSE, topics.TRAJECTORY, topics.FORWARD):
        if name in published and name not in heard:
            remedies.append(f"nobody listens to {name}: is that controller active?")
    state = "running" if running else "not running, but drivers are"
    yield DoctorCheck(
        LIMITED if remedies else OK,
        "graph",
        f"{state}, {len(found)}/{count} topics",
        "; ".join(remedies),
    )


EVERYTHING = (
    _python,
    _packages,
    _ros,
    _renderer,
    _runtime,
    _cameras,
    _weights,
    _disk,
    _ports,
    _graph,
)
QUICK = (_python, _ros, _weights, _disk)  # and load nothing


def examine(groups=EVERYTHING) -> list[DoctorCheck]:
    """Some groups of checks."""
    checks: list[DoctorCheck] = []
    for group in groups:
        if group is _graph and any(
            c.level == BROKEN for c in checks if c.what in ("ros", "dds ports")
        ):
            continue
        try:
            checks.extend(group())
        except (
            Exception
        ) as error:  # the doctor speaks even where nothing works: what broke is a finding
            name = group.__name__.lstrip("_")
            checks.append(
                DoctorCheck(
                    BROKEN, name, f"{type(error).__name__}: {error}", "mend the lines above first"
                )
            )
    return checks


def report(json: str | None) -> int:
    """Print every check, or write them to the file ``json``; returns the worst level."""
    checks = examine()
    if json:
        write_json(json, [c._asdict() for c in checks])
    else:
        for c in checks:
            print(
                f"{('ok', 'limited', 'BROKEN')[c.level]:8}{c.what:20}{c.found}"
                + (f"\n{'':28}-> {c.remedy}" if c.remedy else "")
            )
    return max(c.level for c in checks)
