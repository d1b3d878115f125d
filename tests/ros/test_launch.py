"""The launch files under the real launch; where it is not installed, tests/test_bringup.py has to
do.
"""

import asyncio
import sys
from pathlib import Path

import pytest

launch = pytest.importorskip("launch")
pytest.importorskip("launch_ros")
from launch.actions import IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource

ROOT = Path(__file__).parents[2]
SITE = ROOT / "launch/site.example.yaml"


def refused(monkeypatch, capfd, file, *words):
    """What `ros2 launch gwm file words` says when it refuses; nothing may have been started."""
    monkeypatch.setattr(sys, "argv", ["ros2", "launch", "gwm", file, *words])
    asyncio.set_event_loop(asyncio.new_event_loop())
    service = launch.LaunchService(argv=list(words))
    given = [tuple(word.split(":=", 1)) for word in words]
    source = PythonLaunchDescriptionSource(str(ROOT / "launch" / file))
    service.include_launch_description(
        launch.LaunchDescription([IncludeLaunchDescription(source, launch_arguments=given)])
    )
    assert service.run() == 1
    said = "".join(capfd.readouterr())
    assert "process started" not in said
    return said


@pytest.mark.parametrize(
    ("file", "words", "named"),
    [
        ("bringup.launch.py", ["shadw:=true"], "is shadow meant"),
        ("bringup.launch.py", ["colour:=red"], "unknown argument 'colour'"),
        ("bringup.launch.py", ["supervision:=watch", "policy:=expert"], "predicts nothing"),
        ("bringup.launch.py", ["task:=pick"], "was not trained on task 'pick'"),
        ("bringup.launch.py", ["site:=/nowhere"], "no site file /nowhere"),
        (
            "bringup.launch.py",
            ["robot:=fr3", f"site:={SITE}", "start_drivers:=true"],
            "start_drivers needs",
        ),
        ("drivers.launch.py", ["robot:=pr2"], "unknown robot 'pr2': valid are fr3, panda, sim"),
        ("drivers.launch.py", ["robot:=panda"], "start the Panda's before"),
        (
            "drivers.launch.py",
            ["controller:=fci", "robot_ip:=172.16.0.2", f"site:={SITE}"],
            "robot.ip",
        ),
        ("drivers.launch.py", ["robott:=fr3"], "is robot meant"),
        ("drivers.launch.py", [f"site:={SITE}", "use_fake_hardware:=maybe"], "true"),
        ("teleop.launch.py", ["device:=gamepd"], "unknown device 'gamepd'"),
        ("teleop.launch.py", ["mode:=policy"], "unknown mode 'policy'"),
        ("teleop.launch.py", ["device:=spacemouse"], "device:=spacemouse needs spacenav"),
    ],
)
def test_bad_words_are_refused_before_anything_starts(
    monkeypatch, capfd, tmp_path, file, words, named
):
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("AMENT_PREFIX_PATH", str(tmp_path))  # no driver is installed
    assert named in refused(monkeypatch, capfd, file, *words)
