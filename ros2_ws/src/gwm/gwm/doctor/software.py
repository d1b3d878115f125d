"""Checks of Python, packages, ROS, renderer, runtimes and weights."""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import sys
from collections.abc import Iterator

from gwm.doctor.check import BROKEN, LIMITED, OK, DoctorCheck
from gwm.graph.environment import refuse_mixed_ros, resource
from gwm_core.errors import InputError


def check_python() -> Iterator[DoctorCheck]:
    """Check the version of Python."""
    version = ".".join(map(str, sys.version_info[:3]))
    fits = (3, 11) <= sys.version_info[:2] <= (3, 12)
    yield DoctorCheck(
        OK if fits else BROKEN, "python", version, "" if fits else "install Python 3.11 or 3.12"
    )


def check_packages() -> Iterator[DoctorCheck]:
    """Check the packages that are imported, and the arm's meshes."""
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


def check_ros() -> Iterator[DoctorCheck]:
    """Check rclpy, and that only one ROS is on the path."""
    try:
        refuse_mixed_ros()
        from rclpy.experimental import EventsExecutor  # noqa: F401  (Jazzy has it since 7.1.4)

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
            "source /opt/ros/jazzy/setup.bash, with rclpy 7.1.4 or newer, or remove .venv and run"
            " ./gwm again",
        )


def check_renderer() -> Iterator[DoctorCheck]:
    """Check how the simulation can render."""
    from gwm_core.sim.cameras import choose_renderer

    name = choose_renderer()
    slow = "sudo apt install libegl1 libgl1 (ray casting draws about 8 frames a second)"
    yield DoctorCheck(
        OK if name != "raycast" else LIMITED, "renderer", name, slow if name == "raycast" else ""
    )


def check_runtime() -> Iterator[DoctorCheck]:
    """Check each runtime of the policy, the GPU and the cores."""
    from gwm_core.runtime.graphs.backends import PRECISIONS, choose, version, why_not
    from gwm_core.runtime.graphs.engine_cache import gpu

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


def check_weights() -> Iterator[DoctorCheck]:
    """Check the shipped demo bundle."""
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
