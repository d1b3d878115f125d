"""``gwm calibrate`` on the topics of a running camera: the simulation's."""

import json
import os
import random
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import yaml

pytest.importorskip("rclpy")

from gwm.graph import command, environment, graph

from gwm_core.scene.calibrate import small_transform
from gwm_core.site import simulation_site

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]


def test_a_camera_in_its_place_is_accepted_and_one_that_was_moved_is_refused(tmp_path):
    env = {**os.environ, **environment(), "ROS_DOMAIN_ID": str(random.SystemRandom().randint(1, 100))}
    side = simulation_site().cameras["side"]
    moved = replace(side, T=side.T @ small_transform([0, np.deg2rad(3), 0, 0, 0, 0]))
    simulation = subprocess.Popen(command(graph()[0]), env=env)
    try:
        for camera, code in ((side, 0), (moved, 1)):
            site = tmp_path / f"{code}.yaml"
            site.write_text(yaml.safe_dump({"cameras": {"side": camera.to_dict()}}))
            words = ["calibrate", "--check", "--camera", "side", "--site", str(site), "--json", f"{code}.json"]
            for _ in range(10):  # the simulation may still be starting
                done = subprocess.run([sys.executable, "-m", "gwm.cli", *words], cwd=tmp_path, env=env,
                                      capture_output=True, text=True, check=False)  # fmt: skip
                if "are the robot and the camera running" not in done.stderr:
                    break
            assert done.returncode == code, done.stdout + done.stderr
            assert json.loads((tmp_path / f"{code}.json").read_text())["accepted"] == (code == 0)
        assert list(tmp_path.glob("runs/calibrate-side-*/views.json"))
    finally:
        simulation.terminate()
        simulation.wait(20)
