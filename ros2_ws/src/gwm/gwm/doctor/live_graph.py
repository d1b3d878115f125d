"""Check of a running graph and its drivers, by the topics that are published."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

from gwm.doctor.check import LIMITED, OK, DoctorCheck
from gwm.doctor.machine import configured_site
from gwm.graph.environment import process_environment
from gwm_core import topics
from gwm_core.site import Site


def check_graph() -> Iterator[DoctorCheck]:
    """Listen for two seconds to what is published."""
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
    yield from check_topics(published, listeners, configured_site())


def check_topics(published: set[str], heard: set[str], site: Site) -> Iterator[DoctorCheck]:
    """Check that drivers and graph publish every topic that must be there."""
    running = topics.STATUS in published
    prefixes = [camera.prefix for camera in site.cameras.values()]
    wanted = {
        "franka_ros2 (or controller:=fci, or robot:=sim)": [topics.JOINT_STATES],
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
    commands = (
        topics.TARGET_JOINT,
        topics.TARGET_POSE,
        topics.TRAJECTORY,
        topics.FORWARD,
        topics.FCI_REFERENCE,
    )
    for name in commands:
        if name in published and name not in heard:
            remedies.append(f"nobody listens to {name}: is that controller active?")
    state = "running" if running else "not running, but drivers are"
    yield DoctorCheck(
        LIMITED if remedies else OK,
        "graph",
        f"{state}, {len(found)}/{count} topics",
        "; ".join(remedies),
    )
