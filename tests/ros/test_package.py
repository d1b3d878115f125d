"""colcon sees and builds the ROS package."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("colcon_core")
ROOT = Path(__file__).parents[2]


def colcon(*words, cwd):
    keep = {k: v for k, v in os.environ.items() if not k.startswith("COLCON")}
    return subprocess.run(
        [sys.executable, "-m", "colcon", "--log-base", str(cwd / "log"), *words],
        cwd=cwd,
        env=keep,
        capture_output=True,
        text=True,
        check=False,
        timeout=170,
    )


def test_it_is_an_ament_python_package(tmp_path):
    done = colcon("list", "--base-paths", str(ROOT / "ros2_ws"), cwd=tmp_path)
    assert "(ros.ament_python)" in done.stdout, done.stdout + done.stderr


@pytest.mark.slow
def test_it_builds_and_installs_launch_files_and_weights(tmp_path):
    shutil.copytree(
        ROOT / "ros2_ws/src/gwm",
        tmp_path / "src/gwm",
        symlinks=False,
        ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"),
    )
    done = colcon("build", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    share = tmp_path / "install/gwm/share"
    for name in (
        "gwm/launch/bringup.launch.py",
        "gwm/launch/fastdds.xml",
        "gwm/models/demo/manifest.json",
        "ament_index/resource_index/packages/gwm",
    ):
        assert (share / name).exists(), name
    assert (tmp_path / "install/gwm/lib/gwm/gate_node").exists()
    assert (tmp_path / "install/setup.bash").exists()
    (package,) = (tmp_path / "install/gwm/lib").glob("python3*/site-packages")
    code = f"import sys; sys.path.insert(0, {str(package)!r}); import gwm.graph.process_list"
    alone = subprocess.run(
        [sys.executable, "-S", "-I", "-c", code], capture_output=True, text=True, check=False
    )
    assert "gwm was built without gwm_core" in alone.stderr and "--symlink-install" in alone.stderr


def test_links_to_launch_urdf_and_models_are_relative():
    for name in ("launch", "urdf", "models"):
        assert os.readlink(ROOT / "ros2_ws/src/gwm" / name) == f"../../../{name}"
