import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from gwm.cli.main import main

from gwm_core.errors import InputError
from gwm_core.evaluation.stats.success_rates import (
    difference_interval,
    interval,
    mcnemar,
    paired_interval,
)

PRETRAINING = "--data", ".", "--begin", "x", "--futures", "x", "--out", "x"


def gwm(*words, cwd=None, **env):
    return subprocess.run(
        [sys.executable, "-m", "gwm", *words],
        capture_output=True,
        text=True,
        cwd=cwd,
        check=False,
        env={**os.environ, **env},
        timeout=120,
    )


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["demo", "--task", "juggle"], "lift, pick_place, stack"),
        (["demo", "--episodes", "0"], "--episodes"),
        (["demo", "--policy", "/nowhere", "--episodes", "1"], "no policy in /nowhere"),
        (["demo", "--nonsense"], "--nonsense"),
        (["demo", "--out", "/proc/nothing"], "cannot write"),
        (["eval", "policy", "--task", "juggle"], "lift, pick_place, stack"),
        (["eval", "policy", "--task", "lift", "--policy", "/nowhere"], "no policy in /nowhere"),
        (["eval", "policy", "--task", "lift", "--difficulty", "mad"], "hard, nominal"),
        (["eval", "policy", "--task", "lift", "--latency", "soon"], "milliseconds"),
        (["eval", "policy", "--task", "lift", "--seed", "-1"], "0 or more"),
        (["eval", "policy", "--task", "lift", "--json", "/proc/nothing"], "cannot write"),
        (["demo", "--json", "/proc/nothing"], "cannot write"),
        (["train", "policy", "--data", ".", "--out", "x", "--batch", "0"], "--batch"),
        (["train", "policy", "--data", ".", "--out", "/proc/nothing"], "cannot write"),
        (["collect", "--task", "juggle", "--out", "x"], "lift, pick_place, stack"),
        (
            ["collect", "--task", "lift", "--out", "/proc/nothing", "--episodes", "1"],
            "cannot write",
        ),
        (
            ["collect", "--task", "lift", "--out", "x", "--seed", "3995", "--episodes", "9"],
            "0-3999 are for training",
        ),
        (["collect", "--out", "x"], "--task is missing: lift, pick_place or stack"),
        (["collect", "--out", "x", "--perturb", "y", "--task", "lift"], "of the demonstrations"),
        (["collect", "--out", "x", "--perturb", "y", "--difficulty", "hard"], "of the demonstr"),
        (["collect", "--out", "x", "--perturb", "/nowhere"], "no episodes in /nowhere"),
        (["collect", "--out", "x", "--task", "lift", "--play", "--policy", "y"], "not allowed"),
        (["collect", "--out", "x", "--task", "lift", "--policy", "/nowhere"], "no policy in"),
        (
            ["train", "policy", "--data", "/nowhere", "--out", "x"],
            "--data: /nowhere does not exist",
        ),
        (["train", "policy", "--data", ".", "--out", "x", "--config", "huge"], "demo, tiny"),
        (["train", "policy", "--data", ".", "--out", "x", "--device", "tpu"], "valid are cpu"),
        (["train", "policy", "--data", ".", "--out", "x", "--vae", "."], "go together"),
        (["train", "vae", "--data", ".", "--out", "x"], "no episodes in .;"),
        (["train", "vae", "--data", ".", "--out", "x", "--config", "huge"], "demo, paper, tiny"),
        (["train", "world", "--data", ".", "--out", "x"], "unknown kind 'world': valid are"),
        (["up", "robot:=ur5"], "fr3, panda, sim"),
        (["up", "robot:=panda", "controller:=fci"], "controller:=fci is for the FR3"),
        (["up", "colour:=red"], "unknown argument"),
        (["up", "camera_hz:=fast"], "camera_hz:=fast: a number is wanted"),
        (["up", "camera_hz:=0"], "no such camera"),
        (["up", "renderer:=magic"], "auto, egl"),
        (["up", "start_cameras:=true"], "brings its own cameras"),
        (["up", "policy:=/nowhere"], "no policy in /nowhere"),
        (["up", "task:=pick"], "was not trained on task 'pick': valid are lift, pick_place, stack"),
        (["up", "mode:=teleop", "task:=pick"], "unknown task 'pick'"),
        (["up", "shadw:=true"], "is shadow meant"),
        (["up", "record:=/proc/nothing"], "cannot write /proc/nothing"),
        (["up", "supervision:=watch", "imagination:=false"], "imagination:=false turns that off"),
        (["eval", "protocol", "/nowhere/p.yaml"], "No such file or directory"),
        (
            ["site", "check", "/nowhere"],
            "cannot read site file /nowhere: No such file or directory",
        ),
        (["demo", "--difficulty", "mad"], "hard, nominal"),
        (["demo", "--seed", "-1"], "--seed must be 0 or more"),
        (["up", "site:=/nowhere"], "no site file"),
        (["up", "policy:=expert", "task:=juggle"], "lift, pick_place, stack"),
        (["up", "robot:=fr3", "policy:=expert"], "ground truth"),
        (["calibrate", "--camera", "front", "--mount", "roof"], "valid are base, hand"),
        (
            ["calibrate", "--camera", "front", "--mount", "base", "--views", "/nowhere"],
            "cannot read",
        ),
        (["calibrate", "--camera", "front", "--mount", "base", "--board", "7x5"], "COLUMNSxROWS"),
        (["data", "export", "robomimic", ".", "x.hdf5", "--no-depth"], "are for lerobot"),
        (["data", "export", "robomimic", ".", "x.hdf5", "--images"], "are for lerobot"),
        (["juggle"], "unknown verb 'juggle': valid are demo"),
        (["colect"], "is collect meant?"),
        (
            ["demo", "--episode", "1", "--polcy", "x"],
            "unrecognized arguments: --polcy x: is --policy",
        ),
        (["eval", "policy", "--task", "pick"], "unknown task 'pick': is pick_place meant?"),
        (["up", "supervison:=watch"], "is supervision meant?"),
        ([], "required"),
    ],
)
def test_bad_input_is_one_clear_line_and_exit_2(words, named, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("os.environ", dict(os.environ))
    monkeypatch.setattr("sys.argv", ["gwm", *words])
    try:
        code = main()
    except SystemExit as ending:  # of argparse
        code = ending.code
    error = capfd.readouterr().err
    assert code == 2, error
    lines = [line for line in error.splitlines() if line.startswith("gwm:")]
    assert len(lines) == 1 and named in lines[0] and "[Errno" not in error, error
    assert not [
        p for p in tmp_path.rglob("*") if p.is_file() and p.stat().st_size and p.suffix != ".log"
    ]


def test_words_are_refused_before_anything_heavy_is_imported(tmp_path):
    code = (
        "import sys; sys.argv = ['gwm', *sys.argv[1:]]; from gwm.cli.main import main; code ="
        " main();print(code, [m for m in ('torch', 'mujoco', 'rclpy', 'scipy') if m in"
        " sys.modules])"
    )
    for words in (
        ["demo", "--task", "juggle"],
        ["demo", "--policy", "/nowhere"],
        ["up", "task:=pick"],
        ["up", "mode:=teleop", "task:=pick"],
        ["collect", "--task", "juggle", "--out", "x"],
        ["eval", "policy", "--task", "lift", "--difficulty", "mad"],
        ["eval", "pretraining", "--task", "juggle", *PRETRAINING],
        ["compile", "--backend", "magic"],
        ["compile", "--precision", "fp8"],
    ):
        done = subprocess.run(
            [sys.executable, "-c", code, *words], capture_output=True, text=True, cwd=tmp_path
        )
        assert done.stdout.strip() == "2 []", done


def test_json_goes_to_stdout_alone_for_a_dash(tmp_path):
    done = gwm("site", "check", "--robot", "sim", "--json", "-", cwd=tmp_path)
    assert (
        set(json.loads(done.stdout)["cameras"]) == {"front", "side"} and "workspace" in done.stderr
    )
    assert not list(tmp_path.iterdir())


def test_a_home_folder_that_no_shell_expanded_is_found(tmp_path):
    done = gwm(
        "site", "check", "--robot", "sim", "--json=~/found.json", cwd=tmp_path, HOME=str(tmp_path)
    )
    assert (
        done.returncode == 0 and json.loads((tmp_path / "found.json").read_text())["robot"] == "fr3"
    )
    assert [path.name for path in tmp_path.iterdir()] == ["found.json"]


def test_lines_to_type_in_name_the_command_as_it_was_called():
    done = gwm("up", "policy:=/nowhere", GWM_CALLED="./gwm")
    assert done.stderr.startswith("gwm: no policy") and "`./gwm train policy --out`" in done.stderr
    assert "example: ./gwm up" in gwm("up", "--help", GWM_CALLED="./gwm").stdout
    assert "export GWM_CALLED=$0" in (Path(__file__).parents[1] / "gwm").read_text()


def test_a_plain_line_says_how_long_is_left_by_the_pace_since_the_one_before(monkeypatch, capsys):
    from gwm.tools import terminal

    now = [0.0]
    monkeypatch.setattr(terminal.time, "monotonic", lambda: now[0])
    bar = terminal.ProgressBar(100, "work")
    bar.begin()
    for done in range(1, 101):
        now[0] += 0.01 if done <= 20 else 3.0  # a resumed run counts at once what was kept
        bar.to(done)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "work: 0/100" and lines[-1] == "work: 100/100"
    left = {line.split()[1]: line for line in lines[1:-1]}
    for done, minutes in (("30/100", "03:30"), ("50/100", "02:30"), ("90/100", "00:30")):
        assert left[done] == f"work: {done} (about {minutes} left)"


def test_what_the_system_refuses_is_one_line_with_the_file():
    from gwm.tools.terminal import said_by_system

    try:
        open("/nowhere/x")
    except OSError as error:
        assert said_by_system(error) == "/nowhere/x: No such file or directory"
    assert said_by_system(OSError(28, "No space left on device")) == "No space left on device"
    assert said_by_system(OSError("no answer")) == "no answer"


def test_up_lists_its_arguments_and_the_version_is_known():
    from gwm.graph.arguments import descriptions

    done = gwm("up", "--help")
    words = " ".join(done.stdout.split())
    for name, text in descriptions().items():
        assert f" {name}:=" in words and text in words
    assert gwm("--version").stdout.startswith("gwm 0.")


@pytest.mark.parametrize(("said", "spins"), [({}, "0"), ({"OMP_WAIT_POLICY": "ACTIVE"}, "3")])
def test_threads_that_wait_leave_the_core_to_others(said, spins):
    environment = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    done = subprocess.run(
        [sys.executable, "-c", "import gwm, torch"],
        capture_output=True,
        text=True,
        env=environment | {"OMP_DISPLAY_ENV": "verbose"} | said,
        check=True,
    )
    shown = re.findall(r"GOMP_SPINCOUNT = '(\d)", done.stderr)  # of libgomp; others have none
    assert set(shown) <= {spins}
    assert shown or "GOMP" not in done.stderr


def test_the_test_verb_passes_options_on():
    done = gwm("test", "-k", "nothing_is_called_this", "--co", "tests/test_judge.py")
    # pytest's code for: no tests were selected
    assert done.returncode == 5 and "deselected" in done.stdout


def test_a_mix_of_wheels_and_system_ros_is_refused(tmp_path):
    done = gwm("demo", "--episodes", "1", cwd=tmp_path, ROS_DISTRO="jazzy")
    assert done.returncode == 2 and "system ROS is sourced" in done.stderr


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["demo"],
        ["up"],
        ["collect"],
        ["train", "policy"],
        ["train", "vae"],
        ["train", "success"],
        ["train", "image"],
        ["eval", "policy"],
        ["eval", "world"],
        ["eval", "pretraining"],
        ["eval", "scaling"],
        ["imagine"],
        ["bench", "gate"],
        ["site", "check"],
        ["calibrate"],
        ["doctor"],
    ],
)
def test_help_has_an_example(words):
    done = gwm(*words, "--help")
    assert done.returncode == 0 and (not words or "example: gwm" in done.stdout)


def test_doctor_speaks_json_and_every_fault_has_a_remedy():
    done = gwm("doctor", "--json")
    checks = json.loads(done.stdout)
    assert done.returncode == max(c["level"] for c in checks)
    assert {"python", "ros", "renderer", "runtime torch", "gpu", "disk"} <= {
        c["what"] for c in checks
    }
    assert all(c["remedy"] for c in checks if c["level"] > 0)


@pytest.mark.parametrize("domain", ["300", "abc"])
def test_doctor_survives_a_bad_domain(domain):
    done = gwm("doctor", "--json", ROS_DOMAIN_ID=domain)
    assert done.returncode == 2 and any(domain in c["found"] for c in json.loads(done.stdout))


def test_intervals_are_clopper_pearson():
    """Published values: 18/20 -> 0.68-0.99, 40/50 -> 0.66-0.90."""
    assert [round(x, 2) for x in interval(18, 20)] == [0.68, 0.99]
    assert [round(x, 2) for x in interval(40, 50)] == [0.66, 0.90]
    assert interval(0, 0) == (0.0, 1.0)


def test_paired_intervals_hold_the_difference_and_turn_with_it():
    rng = np.random.default_rng(0)
    better, worse = rng.random((3, 100)) < 0.7, rng.random((3, 100)) < 0.4
    apart, low, high = paired_interval(better.astype(float), worse.astype(float))
    assert low < apart < high and apart == pytest.approx(better.mean() - worse.mean())
    np.testing.assert_allclose(
        paired_interval(worse.astype(float), better.astype(float)), (-apart, -high, -low)
    )
    # trials that all say the same leave the trainings' spread
    alike = rng.random((3, 1)) * np.ones((3, 100))
    assert paired_interval(alike, alike) == (0, 0, 0)


def test_paired_intervals_cover_the_truth_as_often_as_they_say():
    """100 studies of 20 trainings and 100 trials whose true difference is 0.1."""
    rng, held = np.random.default_rng(1), 0
    for _ in range(100):
        a, b = rng.random((20, 100)) < 0.6, rng.random((20, 100)) < 0.5
        _, low, high = paired_interval(a.astype(float), b.astype(float), samples=500)
        held += low < 0.1 < high
    assert held >= 90


def test_mcnemar_asks_only_the_trials_that_differ():
    a = np.array([True] * 50 + [True] * 8 + [False] * 2)
    b = np.array([True] * 50 + [False] * 8 + [True] * 2)
    assert mcnemar(a, b) == pytest.approx(2 * 56 / 1024)  # P(X <= 2 of 10), both ways: 1 + 10 + 45
    assert mcnemar(a, a) == 1.0


def test_the_difference_of_rates_has_an_interval_that_holds_its_level():
    same = np.ones(500, bool)
    low, high = difference_interval(same, same)
    z2 = 1.959964**2
    assert high == pytest.approx(z2 / (500 + z2), abs=1e-6) and low == pytest.approx(-high)
    rng, inside = np.random.default_rng(0), 0
    for _ in range(1000):  # truth: a wins where b does, and 6 % more, b 2 % more
        draw = rng.random(100)
        a, b = draw < 0.86, (draw < 0.80) | (draw > 0.98)
        low, high = difference_interval(a, b)
        inside += low <= 0.04 <= high
    assert 0.93 <= inside / 1000 <= 0.975


def test_which_side_wins_decides_the_sign_of_the_interval():
    a, b = np.array([True] * 30 + [False] * 20), np.array([False] * 50)
    low, high = difference_interval(a, b)
    assert 0 < low < 0.6 < high and np.allclose(difference_interval(b, a), (-high, -low))


def test_a_name_that_the_terminal_cannot_show_is_escaped(tmp_path):
    """As of a folder from another system, or in a terminal without UTF-8: dangerzone #768."""
    for name in (b"\xe9pisode", "épisode".encode()):
        folder = tmp_path / os.fsdecode(name)
        folder.mkdir()
        (folder / "episode.json").write_text("{")
    for encoding in ("ascii", "utf-8:strict"):
        done = gwm("data", "info", str(tmp_path), PYTHONIOENCODING=encoding)
        assert done.returncode == 0 and done.stdout.count("broken: ") == 2, done.stderr
        assert "\\udce9pisode" in done.stdout


def test_who_has_read_enough_is_no_error(tmp_path):
    """`gwm data info runs | head`: B2_Command_Line_Tool #1071."""
    (tmp_path / "episode").mkdir()
    (tmp_path / "episode/episode.json").write_text("{")
    reads, writes = os.pipe()
    os.close(reads)
    with os.fdopen(writes, "wb") as closed:
        done = subprocess.run(
            [sys.executable, "-m", "gwm", "data", "info", str(tmp_path)],
            stdout=closed,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            timeout=120,
        )
    assert (done.returncode, done.stderr) == (128 + 13, "")


@pytest.mark.parametrize("what", ["e2e", "graph"])
def test_a_live_benchmark_gives_the_demo_all_that_it_needs(monkeypatch, capsys, tmp_path, what):
    """The demo gets as far as its policy, which a benchmark's arguments must suffice for."""
    from gwm.tools import demo

    def reached(*_):
        raise InputError("the policy is checked next")

    monkeypatch.setattr(demo, "_check_policy", reached)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["gwm", "bench", what, "--policy", "expert"])
    assert main() == 2
    assert "the policy is checked next" in capsys.readouterr().err
