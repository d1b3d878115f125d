"""``gwm setup`` beside running cameras: the simulated ones, as if they were a driver's."""

import subprocess
import sys

import pytest

pytest.importorskip("rclpy")

from gwm.graph.config import GraphConfig
from gwm.graph.environment import ROOT
from gwm.graph.process_list import processes
from gwm.process.supervisor import Supervisor
from gwm.tools.setup.found_cameras import current_joints, find_cameras

from gwm_core.geometry.kinematics import HOME_Q
from gwm_core.geometry.simulated_cameras import CAMERAS
from gwm_core.site import load_site

pytestmark = [pytest.mark.slow, pytest.mark.long, pytest.mark.timeout(200)]


def answers(cameras):
    """Lines for the questions: where each camera is, first wrong for the first one."""
    lines = ["fr3", "", "0.3 -0.3 0.01", "0.7 0.3 0.5"]
    for number, name in enumerate(cameras):
        eye, target = (" ".join(map(str, point)) for point in CAMERAS[name])
        lines += ["", "base"]
        lines += ["9 9 9", "0 0 0", "no"] * (number == 0)
        lines += [eye, target, "yes"]
    return "\n".join([*lines, "now", "desk", "0.1", ""])


def test_from_running_cameras_to_a_graph_that_starts(operator, tmp_path):
    nodes = processes(GraphConfig(policy="expert", record=str(tmp_path / "runs"), console=0))
    supervisor = Supervisor(
        [node for node in nodes if node.name == "sim"], log=open(tmp_path / "log", "w")
    )
    supervisor.start()
    try:
        assert operator.wait("joints", lambda: operator.simulation, 60, supervisor.poll)
        found = find_cameras()
        assert [camera.prefix for camera in found] == ["camera/front", "camera/side"]
        assert all(camera.image.std() > 10 and camera.K[0, 0] > 100 for camera in found)
        assert current_joints() == pytest.approx(HOME_Q.tolist(), abs=0.05)
        file = tmp_path / "site.yaml"
        words = ["setup", "--out", str(file), "--pictures", str(tmp_path / "pictures")]
        done = subprocess.run(
            [sys.executable, "-m", "gwm", *words],
            input=answers([camera.prefix.split("/")[1] for camera in found]),
            capture_output=True,
            text=True,
            cwd=ROOT,
            timeout=90,
            check=False,
        )
        assert done.returncode == 0, done.stderr
    finally:
        supervisor.stop()
    site = load_site(file)
    assert set(site.cameras) == {"front", "side"}
    assert list(site.home) == pytest.approx(HOME_Q.tolist(), abs=0.05)
    assert (tmp_path / "pictures/front_workspace.jpg").exists()
    config = GraphConfig(policy="expert", record=str(tmp_path / "runs"), site=str(file), console=0)
    supervisor = Supervisor(processes(config), log=open(tmp_path / "log", "a"))
    supervisor.start()
    try:
        ready = operator.wait("start", lambda: operator.ready, 90, supervisor.poll)
        assert ready, (tmp_path / "log").read_text()
    finally:
        supervisor.stop()
