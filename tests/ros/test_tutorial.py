"""The tutorial's simulated path, as it is printed, at a small size."""

import os
import random
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from gwm.cli import options
from gwm.cli.main import _parser
from gwm.tools.calibrate import run_calibrate

from gwm_core.errors import InputError

ROOT = Path(__file__).parents[2]
SMALLER = {
    "--episodes 40": "--episodes 4",
    "--iterations 800": "--iterations 4",
    "--iterations 400": "--iterations 2",
    "trials: 50": "trials: 1",
    "--seed 0 --out data": "--seed 0 --processes 2 --out data",
}


def commands(page):
    """The words of each command that a page of docs/ prints, in whatever kind of block."""
    blocks = re.findall(r"^```\w*\n(.*?)^```", (ROOT / "docs" / page).read_text(), re.M | re.S)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    return [shlex.split(line, comments=True)[1:] for line in lines if re.match(r"(\./)?gwm ", line)]


@pytest.mark.parametrize("page", ["tutorial.md", "calibration.md", "teleop.md"])
def test_the_command_line_knows_every_command_of_a_page(page, monkeypatch):
    """Those for a robot too, which the test below does not run."""
    monkeypatch.setattr(options, "existing", str)  # earlier commands of the page make the folders
    found = commands(page)
    assert found
    for words in found:
        assert callable(_parser().parse_args(words).run)


@pytest.mark.parametrize("page", ["tutorial.md", "calibration.md"])
def test_calibration_as_printed_gets_as_far_as_the_camera(page, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    found = [
        words
        for words in commands(page)
        if words[0] == "calibrate" and "--print-board" not in words
    ]
    assert found
    for words in found:
        with pytest.raises(InputError, match=f"cannot read (site file )?.*{tmp_path}"):
            run_calibrate(_parser().parse_args([*words, "--views", str(tmp_path / "none")]))


@pytest.mark.long
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
    gwm = f"{sys.executable} -m gwm"
    script = "set -e\n" + re.sub(r"\./gwm doctor.*", "true", script).replace("./gwm", gwm)
    variables = os.environ | {"ROS_DOMAIN_ID": str(random.SystemRandom().randint(1, 100))}
    done = subprocess.run(
        ["bash", "-c", script],
        cwd=tmp_path,
        env=variables,
        capture_output=True,
        text=True,
        check=False,
    )

    assert (
        done.returncode == 0
        and "longer training" in (tmp_path / "runs/tutorial/report.html").read_text()
    ), done.stdout[-2000:] + done.stderr[-2000:]
    assert "episode 1/1" in done.stdout, done.stdout[-2000:] + done.stderr[-2000:]
