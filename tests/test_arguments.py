"""The graph's arguments as words, with both starters, and what follows when one of its processes
ends.
"""

import os
import signal
from dataclasses import fields, replace
from pathlib import Path

import pytest
from gwm.cli.main import main
from gwm.graph import arguments
from gwm.graph.config import GraphConfig
from gwm.graph.process_list import NodeSpec
from gwm.graph.restart import FIRST_DELAY, MAX_DELAY, SETTLED, Restarts

from gwm_core.errors import InputError

ROOT = Path(__file__).parents[1]


def test_each_argument_has_one_line_that_says_what_it_means():
    texts = arguments.descriptions()
    assert list(texts) == [field.name for field in fields(GraphConfig)]
    for text in texts.values():
        assert text.endswith(".") and "\n" not in text and not text.startswith(" ")
    assert texts["profile"].endswith("Empty: the site file's, or desk.")


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["shadw:=true"], "unknown argument 'shadw': is shadow meant"),
        (["sped:=0.05"], "is speed meant"),
        (["colour:=red"], "unknown argument 'colour': valid are backend"),
        (["shadow"], "not NAME:=VALUE"),
        (["speed:=0.1", "speed:=1.0"], "speed is given twice"),
        (["shadow:=yes"], "shadow:=yes: true or false is wanted"),
        (["console:=8600.5"], "a whole number is wanted"),
        (["speed:=5%"], "a number is wanted"),
    ],
)
def test_a_word_that_is_not_understood_is_refused(words, named):
    with pytest.raises(InputError, match=named):
        arguments.parse(words)


def test_the_home_folder_is_found_in_every_path_and_nowhere_else(monkeypatch):
    monkeypatch.setenv("HOME", "/home/someone")
    words = [f"{name}:=~/x" for name in arguments.PATHS] + ["operator:=~/x"]
    expanded = dict.fromkeys(arguments.PATHS, "/home/someone/x")
    assert arguments.parse(words) == GraphConfig(**expanded, operator="~/x")


def test_ros2_launch_refuses_what_gwm_up_refuses():
    ours, theirs = (
        ["ros2", "launch", "gwm", "bringup.launch.py"],
        ["ros2", "launch", "lab", "lab.launch.py"],
    )
    known = dict.fromkeys([*arguments.defaults(), *arguments.DRIVERS])
    for command in (ours, theirs):
        arguments.check_launch_arguments(known, [*command, "speed:=0.1"])
        for wrong in ("shadw", "sped", "supervison", "robot_pi"):
            with pytest.raises(InputError, match=f"unknown argument '{wrong}': is .* meant"):
                arguments.check_launch_arguments([*known, wrong], [*command, f"{wrong}:=true"])
    arguments.check_launch_arguments([*known, "colour"], [*theirs, "colour:=red"])  # the lab's own
    with pytest.raises(InputError, match="unknown argument 'colour'"):
        arguments.check_launch_arguments([*known, "colour"], [*ours, "colour:=red"])


def test_what_can_be_known_is_refused_before_anything_starts(tmp_path):
    sites = {"wrong": "cameras: {}\n", "good": (ROOT / "launch/site.example.yaml").read_text()}
    for name, text in sites.items():
        (tmp_path / f"{name}.yaml").write_text(text)
    given = GraphConfig(record=str(tmp_path / "runs"))
    arguments.preflight(given)
    assert (tmp_path / "runs").is_dir()
    with pytest.raises(InputError, match=r"^site file .*wrong\.yaml: cameras: at least one"):
        arguments.preflight(replace(given, site=str(tmp_path / "wrong.yaml")))
    own = replace(given, site=str(tmp_path / "good.yaml"), robot="fr3", mode="teleop")
    arguments.preflight(replace(own, task="sort_screws"))
    with pytest.raises(
        InputError,
        match=r"unknown task 'sort_screw': is sort_screws meant\? valid are lift, pick_place,",
    ):
        arguments.preflight(replace(own, task="sort_screw"))
    with pytest.raises(InputError, match="cannot write /proc/nothing"):
        arguments.preflight(GraphConfig(record="/proc/nothing"))


def test_a_damaged_bundle_is_refused_before_anything_starts(tmp_path):
    import shutil

    shutil.copytree(ROOT / "models/demo", tmp_path / "p")
    given = GraphConfig(record=str(tmp_path / "runs"), policy=str(tmp_path / "p"))
    arguments.preflight(given)
    (tmp_path / "p/vae.json").write_text("{}")
    with pytest.raises(InputError, match=r"vae\.json does not match"):
        arguments.preflight(given)


def test_the_shipped_bundle_is_verified_too(tmp_path, monkeypatch):
    """No policy named means the shipped one, wherever the command is called."""
    monkeypatch.chdir(tmp_path)
    verified = []
    monkeypatch.setattr(
        arguments.checksums, "verify_checksums", lambda folder, names: verified.append(folder)
    )
    arguments.preflight(GraphConfig(record=str(tmp_path / "runs")))
    assert verified == [ROOT / "models/demo"]


def test_a_protocol_decides_task_and_policy(tmp_path, monkeypatch, capsys):
    words = ["gwm", "eval", "protocol", str(tmp_path), "--live", "task:=lift"]
    monkeypatch.setattr("sys.argv", words)
    assert main() == 2
    assert "--live task:=lift: the protocol decides task" in capsys.readouterr().err


def test_a_site_is_read_by_the_environments_python(tmp_path):
    found = arguments.read_site("fr3", str(ROOT / "launch/site.example.yaml"))
    assert (
        found["robot_ip"] == "172.16.0.2" and found["cameras"]["front"]["serial"] == "048322070450"
    )
    assert found["mounts"].split("; ")[1].startswith("wrist fr3_hand_tcp 0.05")
    assert set(arguments.read_site("sim", "")["cameras"]) == {"front", "side"}


GATE, VIEWER = NodeSpec("gate", "gate_node", essential=True), NodeSpec("viewer", "viewer_node")


@pytest.mark.parametrize("code", [0, 1, 2, -signal.SIGKILL])
def test_the_end_of_an_essential_process_ends_the_graph(code):
    ending = Restarts().ended(GATE, code, 100.0)
    assert ending.over and ending.delay is None and ending.text.startswith("gate ended")


def test_another_process_is_started_again_ever_later_without_an_end():
    restarts = Restarts()
    endings = [
        restarts.ended(VIEWER, code, 1.0) for code in (1, 0, -signal.SIGSEGV, 1, 1, 1, 1, 1, 1, 1)
    ]
    delays = [ending.delay for ending in endings]
    assert delays[:3] == [FIRST_DELAY, 2 * FIRST_DELAY, 4 * FIRST_DELAY] and delays[
        -1
    ] == MAX_DELAY == max(delays)
    assert not any(ending.over for ending in endings)
    assert (
        "by SIGSEGV" in endings[2].text
        and "with exit code 1: started again in 0.5 s" in endings[0].text
    )
    assert restarts.ended(VIEWER, 1, SETTLED).delay == FIRST_DELAY  # it had recovered


def test_bad_input_is_told_and_not_tried_again_and_the_graph_goes_on():
    restarts = Restarts()
    ending = restarts.ended(VIEWER, 2, 1.0)
    assert not ending.over and ending.delay is None and "not started again" in ending.text
    assert restarts.missing() == ending.text
    restarts.forget("viewer")
    assert restarts.missing() == ""


def test_what_a_process_refuses_that_ran_before_may_pass():
    """A camera that was unplugged: its node ends, does not find it, and finds it again later."""
    restarts = Restarts()
    assert restarts.ended(VIEWER, 1, SETTLED).delay == FIRST_DELAY
    assert [restarts.ended(VIEWER, 2, 3.0).delay for _ in range(3)] == [
        FIRST_DELAY,
        2 * FIRST_DELAY,
        4 * FIRST_DELAY,
    ]
    restarts.forget("viewer")
    assert restarts.ended(VIEWER, 2, 3.0).delay is None


def test_a_run_that_needs_all_is_told_what_keeps_ending():
    restarts = Restarts()
    for _ in range(3):
        assert restarts.missing() == ""
        restarts.ended(VIEWER, 1, 1.0)
    assert restarts.missing() == "viewer ended 3 times in a row"


def test_processes_know_who_started_them():
    from gwm.graph.environment import END_WITH_PARENT, process_environment

    assert process_environment()[END_WITH_PARENT] == str(os.getpid())
