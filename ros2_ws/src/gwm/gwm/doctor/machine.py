"""Checks of cameras, disk, shared memory and network ports."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

from gwm.doctor.check import BROKEN, LIMITED, OK, DoctorCheck
from gwm.graph.environment import ROOT
from gwm_core.errors import InputError
from gwm_core.site import DEFAULT_FILE, Site, load_site, simulation_site

SHARED_MEMORY = Path("/dev/shm")  # noqa: S108  where Fast DDS keeps its segments


def check_cameras() -> Iterator[DoctorCheck]:
    """Check the RealSense cameras of the site file."""
    from gwm.hardware.realsense import describe, devices

    serials = {
        name: camera.serial for name, camera in configured_site().cameras.items() if camera.serial
    }
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


def check_disk() -> Iterator[DoctorCheck]:
    """Check the free space on disk and in shared memory."""
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


def check_ports() -> Iterator[DoctorCheck]:
    """Check the ROS domain and its UDP ports."""
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


def configured_site() -> Site:
    """Return the site of this machine's site file, or the simulation's."""
    return load_site(DEFAULT_FILE) if DEFAULT_FILE.expanduser().exists() else simulation_site()
