"""The tutorial's simulated path, as it is printed, at a small size."""

import os
import random
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SMALLER = {"--episodes 40": "--episodes 4", "--iterations 800": "--iterations 4", "--iterations 400": "--iterations 2",
           "trials: 50": "trials: 1", "--seed 0 --out data": "--seed 0 --processes 2 --out data"}  # fmt: skip


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_commands_of_the_tutorial_run_to_its_end(tmp_path):
    pytest.importorskip("rclpy")
    text = (ROOT / "docs/tutorial.md").read_text()
    for large, small in SMALLER.items():
        assert large in text
        text = text.replace(large, small)
    script = "\n".join(re.findall(r"^```sh\n(.*?)^```", text, re.M | re.S))
    assert script.count("./gwm") >= 11
    gwm = f"{sys.executable} -m gwm.cli"
    script = "set -e\n" + re.sub(r"\./gwm doctor.*", "true", script).replace("./gwm", gwm)
    variables = os.environ | {"ROS_DOMAIN_ID": str(random.SystemRandom().randint(1, 100))}
    done = subprocess.run(
        ["bash", "-c", script], cwd=tmp_path, env=variables, capture_output=True, text=True, check=False
    )

    assert done.returncode == 0 and "longer training" in (tmp_path / "runs/tutorial/report.html").read_text(), (
        done.stdout[-2000:] + done.stderr[-2000:]
    )
    assert "episode 1/1" in done.stdout, done.stdout[-2000:] + done.stderr[-2000:]
